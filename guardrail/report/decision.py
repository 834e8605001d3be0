"""The human decision about a run: one more record of its ledger."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import DecisionFacts
from guardrail.report.recommendation import recommend
from guardrail.report.run_data import read_run

__all__ = ["record_decision"]

_MOST_CHARACTERS = 4000
_PLACEHOLDERS = {"--by": "NAME", "--note": "TEXT"}
"""What the report's commands have in the place of a name and a reason."""


def record_decision(
    run: Path, decision: Literal["accept", "rollback", "abandon"], *, by: str, note: str
) -> DecisionFacts:
    """Append a decision to a run's ledger, with what the report advises now, and return it.

    Args:
        run: Folder of a run that has ended, crashed or fallen silent.
        decision: `accept` takes the result, `rollback` goes back to the last ok checkpoint, `abandon` gives the attempt up.
        by: Who decided.
        note: Why, at most 4000 characters.

    Raises:
        InputError: no ledger, a damaged one, a run that is still writing it, no name or note or the report's placeholder for
            one, or a rollback where there is no ok checkpoint.
    """
    for name, text in (("--by", by), ("--note", note)):
        if text.strip() == _PLACEHOLDERS[name]:
            raise InputError(
                f"`{name} {text.strip()}` is the report's placeholder; write your own in its place"
            )
        if not text.strip() or len(text) > _MOST_CHARACTERS:
            raise InputError(
                f"`{name}` must have 1 to {_MOST_CHARACTERS} characters, got {len(text.strip())}"
            )
    data = read_run(run)
    silent_s = 0.0
    if data.last_time is not None:
        silent_s = (datetime.now(timezone.utc) - data.last_time).total_seconds()
    advice = recommend(data, silent_s)
    if advice.because.startswith("running"):
        raise InputError(
            f"`{run}` is still being written (last record {silent_s:.0f} s ago); decide when it has ended"
        )
    if decision == "rollback" and data.last_ok is None:
        raise InputError(
            f"`{run}` has no ok checkpoint to go back to; `--abandon` gives its weights up"
        )
    record = Ledger(run).append(
        "decision",
        data.step,
        decision=decision,
        by=by.strip(),
        note=note.strip(),
        advice=advice.recommendation,
    )
    return DecisionFacts.model_validate(record)
