"""The W&B run of a guarded run: opened before the trainer asks for one, logged to, closed within a time limit.

There is one W&B run. Where none is open yet the guard opens it, so that it goes on under its id after a
resume, lies in the run folder, and falls back to offline mode where the server does not answer; transformers'
`WandbCallback` then uses it. Scalars go to it directly: through `trainer.log` they would become
`train/guardrail/*`.
"""

import json
import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.ledger.file import FILE_NAME, Record, read_ledger
from guardrail.read_back import NotAsWritten, read_json, sealed, unsealed
from guardrail.recipe import Tracking
from guardrail.redaction import redacted_text
from guardrail.report.report import build_report
from guardrail.track.alerts import Severity
from guardrail.track.event import TABLE_COLUMNS, TrackerEvent, worst_rows
from guardrail.track.scalars import AGAINST_STEP, is_detail, scalars

__all__ = [
    "HANGS",
    "RUN_FILE",
    "OpenedRun",
    "WandbSink",
    "end_service",
    "finish_run",
    "note_run",
    "noted_run",
    "open_run",
    "set_server",
]

RUN_FILE = "wandb_run.json"
"""In the run folder: id, project and entity of the W&B run, for `--resume`."""

HANGS = threading.Event()
"""Set once W&B did not close a run in time: its own hook at exit would wait for it, perhaps for hours."""

_INIT_TIMEOUT_S = 30.0
_LARGEST = 1 << 16
"""Bytes of `RUN_FILE`."""
_LONGEST_TITLE = 63
_LEVELS: dict[Severity, str] = {"info": "INFO", "warning": "WARN", "failure": "ERROR"}


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """The process's W&B run, whether the guard opened it, and what is wrong with it, if anything."""

    run: Any
    ours: bool
    trouble: str | None


def set_server(tracking: Tracking) -> None:
    """Say in the environment which W&B server is meant: the one that stands there, else the recipe's.

    The user's key goes to it, and a recipe is somebody's file: what it names alone is not asked.

    Raises:
        InputError: the recipe names a server that is neither W&B's own nor named by the environment.
    """
    if not tracking.endpoint or os.environ.get("WANDB_BASE_URL"):
        return
    try:
        address = urlsplit(tracking.endpoint)
        host = address.hostname or "" if address.scheme == "https" else ""
    except ValueError:
        host = ""
    if f".{host}".endswith((".wandb.ai", ".wandb.io")):
        os.environ["WANDB_BASE_URL"] = tracking.endpoint
        return
    shown = redacted_text(tracking.endpoint)[:200]
    raise InputError(
        f"`tracking.endpoint` is `{shown}`, and your W&B key would go there because a recipe says so; if it is your "
        "server, say so in the environment: WANDB_BASE_URL=ADDRESS, or else take the key out of the recipe"
    )


def open_run(tracking: Tracking, folder: Path) -> OpenedRun:
    """Return the W&B run of this process, opened if there is none; note its id in the run folder.

    Environment variables of W&B go before the recipe's `tracking` section.

    Args:
        tracking: The recipe's section.
        folder: The run folder; W&B's files lie in it unless WANDB_DIR says otherwise.
    """
    set_server(tracking)
    import wandb

    ours, trouble = wandb.run is None, None
    if ours:
        trouble = _init(wandb, _arguments(tracking, folder))
    note_run(folder, wandb.run)
    return OpenedRun(wandb.run, ours, trouble)


def note_run(folder: Path, run: Any) -> None:
    """Write into the run folder which W&B run it logs to."""
    known = {"id": run.id, "project": run.project, "entity": run.entity, "began": _began(folder)}
    write_whole(folder / RUN_FILE, json.dumps(sealed(known)) + "\n")


def noted_run(folder: Path) -> dict[str, Any]:
    """Return which W&B run a run folder logs to: `id`, `project`, `entity`; empty where there is none yet.

    Raises:
        InputError: what says so is not as it was written, or is another run's.
    """
    path = folder / RUN_FILE
    if not path.exists():
        return {}
    try:
        stored = unsealed(read_json(path, _LARGEST))
        if stored.get("began") not in (None, _began(folder)):
            raise NotAsWritten("it is of another run")
        return stored
    except (OSError, NotAsWritten) as error:
        raise InputError(
            f"`{path}`, which names the W&B run to go on with, is not as it was written ({error!s:.200}); remove it to "
            "begin another W&B run"
        ) from error


def _began(folder: Path) -> str | None:
    """When the run in a folder wrote its first record, which tells it from any other; None before that."""
    records = read_ledger(folder) if (folder / FILE_NAME).is_file() else []
    return str(records[0].get("time")) if records else None


def _arguments(tracking: Tracking, folder: Path) -> dict[str, Any]:
    stored = noted_run(folder)
    wanted = {
        "WANDB_RUN_ID": ("id", stored.get("id")),
        "WANDB_RESUME": ("resume", "allow"),
        "WANDB_PROJECT": ("project", stored.get("project") or tracking.project),
        "WANDB_ENTITY": ("entity", stored.get("entity") or tracking.entity),
        "WANDB_RUN_GROUP": ("group", tracking.group),
        "WANDB_TAGS": ("tags", list(tracking.tags) or None),
        "WANDB_NAME": ("name", tracking.run_name or folder.name),
        "WANDB_DIR": ("dir", str(folder)),
    }
    return {k: v for variable, (k, v) in wanted.items() if v and not os.environ.get(variable)}


def _init(wandb: Any, arguments: dict[str, Any]) -> str | None:
    """Open the run, offline where the server does not answer or refuses; return why."""
    settings = {} if os.environ.get("WANDB_INIT_TIMEOUT") else {"init_timeout": _INIT_TIMEOUT_S}
    try:
        wandb.init(**arguments, settings=wandb.Settings(**settings))
    except Exception as error:  # no key, no network, no such entity: none may stop the training
        run = wandb.init(**arguments, mode="offline")
        return (
            f"W&B could not be reached ({type(error).__name__}: {str(error).splitlines()[0]:.200}); the run is "
            f"kept offline, send it later with `wandb sync {Path(run.dir).parent}`"
        )
    return None


def finish_run(run: Any, exit_code: int, seconds: float) -> None:
    """Close the run, failed where `exit_code` is not 0; if W&B has not taken everything within so many seconds, leave it and set `HANGS`."""
    finish = partial(run.finish, exit_code=exit_code)
    closing = threading.Thread(target=finish, name="guardrail-wandb-finish", daemon=True)
    closing.start()
    closing.join(seconds)
    if closing.is_alive():
        HANGS.set()


def end_service() -> None:
    """End W&B's helper process, which would outlive this one and keep its output open for a pipe."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        if child.name().startswith("wandb-"):
            child.kill()


class WandbSink:
    """Repeats ledger records to a W&B run. Called from one background thread."""

    def __init__(self, run: Any, folder: Path) -> None:
        """Keep the run."""
        self._run, self._folder = run, folder
        self._defined: set[str] = set()
        self._closed = False

    def __call__(self, event: TrackerEvent) -> None:
        """Log what a record says: numbers, the table of a look, alerts, the report at the end."""
        import wandb

        record, kind = event.record, event.record["kind"]
        for alert in event.alerts:
            title = alert.title[:_LONGEST_TITLE]
            text = alert.text if title == alert.title else f"{alert.title}\n{alert.text}"
            self._run.alert(title, text, _LEVELS[alert.severity], wait_duration=0.001)
        if row := scalars(record):
            self._log(record, row)
        if kind == "look" and record["look"] > 0:
            table = wandb.Table(columns=TABLE_COLUMNS, data=worst_rows(self._folder, event.looks))
            self._log(record, {"guardrail/worst_items": table})
        ends = kind in ("ended", "crashed")
        if ends or (self._closed and kind == "domain_loss"):
            self._log_report(wandb, record)
        self._closed |= ends

    def _log(self, record: Record, row: dict[str, Any]) -> None:
        for name in row.keys() - self._defined:
            self._run.define_metric(name, step_metric=AGAINST_STEP, hidden=is_detail(name) or None)
            self._defined.add(name)
        self._run.log({**row, AGAINST_STEP: max(0, record["step"])})

    def _log_report(self, wandb: Any, record: Record) -> None:
        page = build_report(self._folder)
        html = wandb.Html(page.read_text(encoding="utf-8"), inject=False)
        self._log(record, {"guardrail/report": html})
        artifact = wandb.Artifact(f"guardrail-report-{self._run.id}", type="report")
        for file in (page, page.with_suffix(".json"), self._folder / "ledger.jsonl"):
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)
