"""Everything the report states, as one model: `RUN/report.json`, whose schema is docs/report.schema.json."""

import functools
import json
import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from guardrail.judge.verdict import Facts
from guardrail.ledger import records
from guardrail.ledger.file import RESOLVED_FILE
from guardrail.models.fingerprint import file_sha256
from guardrail.read_back import open_regular
from guardrail.report import findings
from guardrail.report.look_engine import LookEngine, look_engine
from guardrail.report.next_steps import Place, Step, next_steps, place
from guardrail.report.page.texts import Language
from guardrail.report.recommendation import Recommendation, recommend
from guardrail.report.repaired import Repaired, repaired
from guardrail.report.run_data import LiveBranch, RunData, text_or_none
from guardrail.report.worst_items import ItemChange, Problem, worst_items

__all__ = ["Report", "gather"]

_Checked = TypeVar("_Checked", bound=Facts)

_HASH_AT_MOST_BYTES = 512 * 2**20


class KeyFigures(Facts):
    """The figures of page one."""

    passed_base: float | None
    """Pass rate over all items, of the baseline."""
    passed_now: float | None
    """At the newest look."""
    domain_loss_before: float | None
    domain_loss_after: float | None
    actions: int
    actions_carried_out: int
    kl_weight_start: float | None
    kl_weight_now: float | None
    boost: float
    lr_factor: float
    guard_seconds: dict[str, float]
    guard_share: float | None
    """Of the training time; None where the run has no end or was resumed."""
    compute: findings.Compute


class Model(Facts):
    """A model of the run."""

    name: str | None
    """Folder or hub name, as the recipe has it."""
    sha256: str | None
    """Of its weights, as hashed when the run began; None in ledgers that do not hold it."""


class DataVersion(Facts):
    """The training data."""

    path: str | None
    rows: int | None
    sha256: str | None
    """At the start of the run where the ledger holds it, else when the report was built."""
    hashed_at_start: bool
    changed_since: bool
    """Whether the file has another hash now than at the start."""
    rewritten: dict[str, int]
    """Format → rows that were turned into messages; empty where all were in the trainer's own form."""
    left_out: dict[str, int]
    """Reason → rows that were not trained on."""


class File(Facts):
    """A file the run depends on; `sha256` is of now, None where it is gone, `too large` above 512 MiB."""

    what: str
    path: str
    sha256: str | None


class Reproduce(Facts):
    """What is needed to run the same again."""

    command: str | None
    """None where the run was not launched by `guardrail run`, nor written by `guardrail look`."""
    recipe: dict[str, Any]
    versions: dict[str, str]
    seed: int | None
    trainer: str | None
    files: tuple[File, ...]
    kl_self_test: records.SelfTestFacts | None
    rehearsal_form: records.FormFacts | None
    """GRPO's alone; None where the ledger holds none."""
    precision: records.PrecisionFacts | None
    """None where the ledger does not tell."""
    red_line_items: int | None
    rehearsal_items: int | None
    red_line_sources: dict[str, int]
    rehearsal_sources: dict[str, int]


class Conclusions(Facts):
    """What the report makes of a run."""

    schema_version: int = 4
    built_at: datetime
    language: Language
    run: str
    began_at: datetime | None
    """Of the first record."""
    ended_at: datetime | None
    """Of the record that ended the run; of the last one while there is none."""
    duration_s: float | None
    """Seconds between the two, pauses before a resume included."""
    look_engine: LookEngine
    judged_by: records.LookRuleFacts | None
    """Of `guardrail look`: whose margins and error budgets; None for a run, and in ledgers that do not tell."""
    verdict: Recommendation
    last_ok_checkpoint: Place | None
    onsets: tuple[findings.Onset, ...]
    """Since when each stream that is above ok at the newest such look has been so, worst first."""
    conditions: findings.Conditions | None
    """What the training was doing when it broke."""
    inherited: tuple[findings.Inherited, ...]
    repair: Repaired | None
    """Before and after on the reserved slice, where this run repairs an earlier one."""
    key_figures: KeyFigures
    start_model: Model
    gold_base: Model
    training_data: DataVersion
    damaged_ledger_lines: tuple[int, ...]
    worst_items: tuple[ItemChange, ...]
    items_problems: tuple[Problem, ...]
    rehearsed_red_line_items: int
    """Items that stand in the rehearsal set too and are never judged."""
    next_steps: tuple[Step, ...]
    reproduce: Reproduce


class Report(LiveBranch, Conclusions):
    """What `report.json` holds: conclusions, then the live branch they are drawn from.

    Numbers that could not be computed are null, shares lie in [0, 1].
    """


def gather(data: RunData, language: Language, built_at: datetime) -> Report:
    """Return the report's facts; reads the answers of two looks, the items and the files it hashes."""
    silent_s = (built_at - data.last_time).total_seconds() if data.last_time else 0.0
    advice = recommend(data, silent_s)
    telling = findings.telling_look(data)
    compared = worst_items(data)
    return Report(
        built_at=built_at,
        language=language,
        run=str(data.run.resolve()),
        began_at=data.first_time,
        ended_at=data.ended_time,
        duration_s=data.duration_s,
        look_engine=look_engine(data),
        judged_by=_checked(records.LookRuleFacts, data.started.get("rule")),
        **{name: getattr(data, name) for name in LiveBranch.model_fields},
        verdict=advice,
        last_ok_checkpoint=(
            place(data, data.last_ok.path, data.last_ok.step) if data.last_ok else None
        ),
        onsets=tuple(findings.onset(data, s, telling) for s in telling.alarmed) if telling else (),
        conditions=None if data.one_look else findings.conditions(data),
        inherited=tuple(findings.inherited_and_new(data)),
        repair=repaired(data),
        key_figures=_key_figures(data),
        start_model=_model(data, "start_model"),
        gold_base=_model(data, "gold_base"),
        training_data=_training_data(data),
        damaged_ledger_lines=data.damaged,
        worst_items=compared.items,
        items_problems=compared.problems,
        rehearsed_red_line_items=compared.rehearsed,
        next_steps=tuple(next_steps(data, advice)),
        reproduce=_reproduce(data),
    )


def _key_figures(data: RunData) -> KeyFigures:
    weights, levers = data.kl_weights, data.levers
    overall = data.last_look.stream("passed", "overall") if data.last_look else None
    before = [r.held_out for r in data.domain_loss if r.step == 0]
    after = [r.held_out for r in data.domain_loss if r.step > 0]
    guarding, share = findings.guarding_time(data)
    return KeyFigures(
        passed_base=overall.base if overall else None,
        passed_now=overall.now if overall else None,
        domain_loss_before=before[-1] if before else None,
        domain_loss_after=after[-1] if after else None,
        actions=len(data.actions),
        actions_carried_out=sum(a.carried_out for a in data.actions),
        kl_weight_start=weights[0][1] if weights else None,
        kl_weight_now=weights[-1][1] if weights else None,
        boost=levers.boost,
        lr_factor=levers.lr_factor,
        guard_seconds=guarding,
        guard_share=share,
        compute=findings.compute_spent(data),
    )


def _model(data: RunData, key: str) -> Model:
    weights = data.started.get("weights")
    found = weights.get(key) if isinstance(weights, dict) else None
    return Model(name=text_or_none(data.recipe.get(key)), sha256=text_or_none(found))


def _training_data(data: RunData) -> DataVersion:
    path = data.recipe_section("train").get("data")
    at_start = data.started.get("training_sha256")
    now = _sha256(str(path)) if path else None
    return DataVersion(
        path=text_or_none(path),
        rows=_whole(data.started.get("training_rows")),
        sha256=text_or_none(at_start) or now,
        hashed_at_start=at_start is not None,
        changed_since=at_start is not None and now not in (at_start, None, "too large"),
        rewritten=_counts(data.started.get("training_rows_rewritten")),
        left_out=_counts(data.started.get("training_rows_left_out")),
    )


def _reproduce(data: RunData) -> Reproduce:
    sets, anchors = data.recipe_section("sets"), data.recipe.get("anchors")
    resolved = data.run / RESOLVED_FILE
    files = {
        "ledger": data.run / "ledger.jsonl",
        "recipe": None if data.one_look else resolved,
        "red_line": sets.get("red_line"),
        "rehearsal": sets.get("rehearsal"),
        "training_data": data.recipe_section("train").get("data"),
        "anchors": Path(str(anchors)) / "manifest.json" if anchors else None,
    }
    versions, started = data.started.get("versions"), data.started
    return Reproduce(
        command=_command(data, resolved),
        recipe=data.recipe,
        versions=(
            {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
        ),
        seed=_whole(started.get("seed")),
        trainer=text_or_none(started.get("trainer")),
        files=tuple(
            File(what=what, path=str(path), sha256=_sha256(str(path)))
            for what, path in files.items()
            if path
        ),
        kl_self_test=data.kl_self_test,
        rehearsal_form=_checked(records.FormFacts, started.get("rehearsal_form")),
        precision=_checked(records.PrecisionFacts, started.get("precision")),
        red_line_items=_whole(started.get("red_line_items")),
        rehearsal_items=_whole(started.get("rehearsal_items")),
        red_line_sources=_counts(started.get("red_line_sources")),
        rehearsal_sources=_counts(started.get("rehearsal_sources")),
    )


def _command(data: RunData, resolved: Path) -> str | None:
    if data.one_look:
        model, anchors = (text_or_none(data.recipe.get(key)) for key in ("start_model", "anchors"))
        if model is None or anchors is None:
            return None
        return shlex.join(["guardrail", "look", model, "--anchors", anchors, *_look_options(data)])
    return f"guardrail run {shlex.quote(str(resolved.resolve()))}" if resolved.is_file() else None


def _look_options(data: RunData) -> list[str]:
    """What was asked of a look beside model and anchors, as its header has it."""
    margins, started = data.recipe_section("drift").get("margins"), data.started
    rule = _checked(records.LookRuleFacts, started.get("rule"))
    options = [
        ("--margin", f"{metric}={found['margin']},{found['critical']}")
        for metric, found in (margins if isinstance(margins, dict) else {}).items()
        # A ledger that does not say whose rule it was has the margins given alone.
        if rule is None or metric in rule.changed
        if isinstance(found, dict) and {"margin", "critical"} <= found.keys()
    ]
    given = {
        "--recipe": rule.path if rule is not None and rule.of == "recipe" else None,
        "--samples": _whole(started.get("samples")),
        "--seed": _whole(started.get("seed")),
        "--base": text_or_none(data.recipe.get("base")),
        "--server": text_or_none(started.get("server")),
        "--served-as": text_or_none(started.get("served_as")),
    }
    options += [(name, str(value)) for name, value in given.items() if value is not None]
    return [word for option in options for word in option]


def _checked(kind: type[_Checked], value: Any) -> _Checked | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _counts(value: Any) -> dict[str, int]:
    found = value.items() if isinstance(value, dict) else ()
    return {str(k): v for k, v in found if isinstance(v, int)}


def _sha256(path: str) -> str | None:
    """The file's digest now; None where it is gone, `too large` where it would take long."""
    try:
        with open_regular(Path(path)) as file:
            found = os.fstat(file.fileno())
    except (OSError, ValueError):
        return None
    if found.st_size > _HASH_AT_MOST_BYTES:
        return "too large"
    return _sha256_of(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=64)
def _sha256_of(path: str, changed_ns: int, size: int) -> str | None:
    """Hashed once for each state of a file, for a page that is built again every few seconds."""
    try:
        return file_sha256(Path(path))
    except OSError:
        return None


if __name__ == "__main__":
    print(json.dumps(Report.model_json_schema(mode="serialization"), indent=1, ensure_ascii=False))
