"""The stages of a rehearsal, and what a run's ledger shows of those up to its first save."""

import json
from dataclasses import dataclass
from pathlib import Path

from guardrail.ledger.file import FILE_NAME, Record, live_records, read_ledger
from guardrail.ledger.records import read_looks
from guardrail.rehearse.command import CommandResult
from guardrail.rehearse.small_run import EVERY_STEPS

__all__ = [
    "STAGES",
    "StageResult",
    "attached",
    "figure",
    "injected",
    "look_zero",
    "records_of",
    "saved_with_a_look",
    "stepped",
]

STAGES = (
    "anchors",
    "attach",
    "look 0",
    "two steps",
    "save",
    "kill -9",
    "resume",
    "forced halt",
)


@dataclass(frozen=True, slots=True)
class StageResult:
    """One thing a run must get through."""

    name: str
    passed: bool | None
    """None: it was not reached."""
    seen: str


def records_of(run: Path) -> list[Record]:
    """Return the live records of a run, none where it has no ledger."""
    return live_records(read_ledger(run)) if (run / FILE_NAME).is_file() else []


def _of(records: list[Record], kind: str) -> list[Record]:
    return [r for r in records if r["kind"] == kind]


Seen = tuple[bool, str] | None
"""Whether a stage passed and what was seen, None where the run did not get there."""


def attached(records: list[Record], result: CommandResult, run: Path) -> Seen:
    """Return what was seen of attach and KL self-test."""
    started, tests = _of(records, "started"), _of(records, "kl_self_test")
    if (
        not started
        or (started[0]["mode"] == "guard" and not tests)
        or "KL self-test:" in result.output
    ):
        return None
    if not tests:
        return True, "`mode: watch`, which has no KL term to test"
    test = tests[0]
    return True, (
        f"KL self-test: {figure(test['at_start'])} nats a token at the start (rounding explains "
        f"{figure(test['noise'])}), {figure(test['perturbed'])} when perturbed"
    )


def look_zero(records: list[Record], result: CommandResult, run: Path) -> Seen:
    """Return what was seen of look 0, which must have an answer that ended by itself."""
    looks = [k for k in read_looks(records) if k.step == 0]
    if not looks or looks[0].failed_pipeline_check:
        return None
    rows = (run / looks[0].answers).read_text(encoding="utf-8").splitlines()
    ended = sum(json.loads(row)["finish_reason"] == "stop" for row in rows)
    seen = f"{len(rows)} answers in {looks[0].seconds:.1f} s, {ended} of them ended by themselves"
    if ended:
        return True, seen
    return False, f"{seen}: raise `looks.decoding.max_new_tokens`, or mend the model's stop tokens"


def stepped(records: list[Record], result: CommandResult, run: Path) -> Seen:
    """Return what was seen of the first optimizer steps, whose losses must be finite."""
    logs = [r for r in _of(records, "log") if r["step"] <= EVERY_STEPS]
    if len(logs) < EVERY_STEPS:
        return None
    losses = [r["loss"] for r in logs]
    return None not in losses, f"loss {', '.join(map(figure, losses))}{injected(logs)}"


def injected(logs: list[Record]) -> str:
    """Return how many KL-only samples there were so far, and their KL."""
    if "rehearsal_samples" not in logs[-1]:
        return ""
    kls = [r["rehearsal_kl"] for r in logs if r.get("rehearsal_kl") is not None]
    count = logs[-1]["rehearsal_samples"]
    text = f"; KL-only samples so far: {count}"
    return text + (f", KL {', '.join(f'{kl:.1e}' for kl in kls)} nats a token" if kls else "")


def saved_with_a_look(records: list[Record], result: CommandResult, run: Path) -> Seen:
    """Return what was seen of the first checkpoint and the look at its weights."""
    looks = [k for k in read_looks(records) if k.step == EVERY_STEPS]
    checkpoints = [r for r in _of(records, "checkpoint") if r["step"] == EVERY_STEPS]
    if not looks or not checkpoints:
        return None
    files = [file for file in (run / checkpoints[0]["path"]).rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return True, (
        f"{Path(checkpoints[0]['path']).name}, {size / 1e6:.1f} MB, and its look in {looks[0].seconds:.1f} s"
    )


def figure(value: float | None) -> str:
    """Return a number in three digits."""
    return "not finite" if value is None else f"{value:.3g}"
