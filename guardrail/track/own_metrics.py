"""Numbers of the user's own, a recovery rate for example, on the run's timeline.

`RUN/metrics.jsonl` takes lines `{"step": 120, "name": "recovery_rate", "value": 0.31}` from any script while
the run goes on. At each look, and at the end, the guard writes the new ones to the ledger as records of kind
`metric`: field `step` is the line's own, `value` a finite number. A line that breaks a rule becomes one record
of kind `metric_refused`; the run goes on.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import append_whole
from guardrail.ledger.file import Ledger, Record, live_records, read_ledger
from guardrail.read_back import read_bounded

__all__ = ["METRICS_FILE", "add_metric", "take_metrics"]

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
_LONGEST_NAME = 100
_LONGEST_LINE = 500
_LARGEST_FILE = 256 << 20
"""Bytes of `metrics.jsonl`."""
_LARGEST = 1e300


def take_metrics(ledger: Ledger, step: int, *, final: bool = False) -> None:
    """Write the lines of `metrics.jsonl` that the ledger does not hold yet to the ledger.

    Lines of steps the run has not reached wait for a later call. So does a last line without a line feed,
    which somebody may be writing just now.

    Args:
        ledger: The run's; `metrics.jsonl` lies beside it.
        step: The run's global step.
        final: Nothing comes after this call: what waits is taken or refused.
    """
    path = ledger.path.parent / METRICS_FILE
    if not path.exists():
        return
    known = {
        (r["line"], r.get("name"), r.get("value"))
        for r in live_records(read_ledger(ledger.path.parent))
        if r["kind"] in ("metric", "metric_refused")
    }
    try:
        lines = read_bounded(path, _LARGEST_FILE).splitlines(keepends=True)
    except OSError as error:
        if (0, None, None) not in known:
            logger.warning("%s cannot be read: %s", path, error)
            ledger.append(
                "metric_refused", step, line=0, why=f"the file cannot be read: {error}"[:300]
            )
        return
    for number, raw in enumerate(lines, start=1):
        torn = number == len(lines) and not raw.endswith(b"\n")
        if not raw.strip() or (torn and not final):
            continue
        try:
            found = _read(raw)
            if found["step"] > step:
                if not final:
                    continue
                raise ValueError(f"step {found['step']} lies beyond the run, which is at {step}")
        except ValueError as error:
            if (number, None, None) not in known:
                logger.warning("%s line %d is left out: %s", path, number, error)
                ledger.append("metric_refused", step, line=number, why=str(error)[:300])
            continue
        if (number, found["name"], found["value"]) not in known:
            ledger.append(
                "metric", found["step"], name=found["name"], value=found["value"], line=number
            )


def add_metric(run: Path, name: str, value: float, step: int | None = None) -> Record:
    """Append a line to the run's `metrics.jsonl` and return it; a run that has ended takes it at once.

    Args:
        run: Folder of a guarded run, going on or over.
        name: What is measured.
        value: A finite number.
        step: Global step it belongs to; by default the newest in the ledger.

    Raises:
        InputError: no ledger, a value that is not finite, or a step the run has not reached.
    """
    records = live_records(read_ledger(run))
    reached = max((r["step"] for r in records), default=0)
    line: dict[str, Any] = {"step": reached if step is None else step, "name": name, "value": value}
    try:
        _read(json.dumps(line).encode())
    except ValueError as error:
        raise InputError(f"metric of `{run}`: {error}") from error
    if line["step"] > reached:
        raise InputError(f"`--step {step}` lies beyond the run, which is at step {reached}")
    path = run / METRICS_FILE
    # A last line that somebody left without its line feed stays a line of its own.
    open_line = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
    append_whole(path, b"\n" * open_line + (json.dumps(line, ensure_ascii=False) + "\n").encode())
    if any(r["kind"] in ("ended", "crashed") for r in records):  # nobody else writes the ledger now
        take_metrics(Ledger(run), reached)
    return line


def _read(raw: bytes) -> dict[str, Any]:
    """The step, name and value of a line; a ValueError says which rule it breaks."""
    if len(raw) > _LONGEST_LINE:
        raise ValueError(f"a line must not be longer than {_LONGEST_LINE} bytes, got {len(raw)}")
    try:
        found = json.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict) or set(found) != {"step", "name", "value"}:
        raise ValueError('a line must read {"step": 120, "name": "recovery_rate", "value": 0.31}')
    step, name, value = found["step"], found["name"], found["value"]
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ValueError(f"`step` must be a whole number from 0 on, got {step!r:.80}")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(
            f"`name` must be 1 to {_LONGEST_NAME} printable characters, got {name!r:.80}"
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"`value` must be a finite number, got {value!r:.80}")
    if abs(value) > _LARGEST:
        raise ValueError(f"`value` must lie within ±{_LARGEST:g}, got {value!r:.80}")
    return {"step": step, "name": name, "value": float(value)}
