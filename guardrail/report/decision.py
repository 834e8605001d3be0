"""The human decision about a run: one more record of its ledger."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, Record
from guardrail.report.recommendation import recommend
from guardrail.report.run_data import read_run

__all__ = ["record_decision"]

_MOST_CHARACTERS = 4000


def record_decision(
    run: Path, decision: Literal["accept", "rollback"], *, by: str, note: str
) -> Record:
    """Append a decision to a run's ledger and return the record.

    Args:
        run: Folder of a run that has ended, crashed or fallen silent.
        decision: `accept` takes the result, `rollback` goes back.
        by: Who decided.
        note: Why, at most 4000 characters.

    Raises:
        InputError: no ledger, a damaged one, a run that is still writing it, or no name or note.
    """
    for name, text in (("--by", by), ("--note", note)):
        if not text.strip() or len(text) > _MOST_CHARACTERS:
            raise InputError(
                f"`{name}` must have 1 to {_MOST_CHARACTERS} characters, got {len(text.strip())}"
            )
    data = read_run(run)
    silent_s = 0.0
    if data.last_time is not None:
        silent_s = (datetime.now(timezone.utc) - data.last_time).total_seconds()
    if recommend(data, silent_s).because.startswith("running"):
        raise InputError(
            f"`{run}` is still being written (last record {silent_s:.0f} s ago); decide when it has ended"
        )
    return Ledger(run).append(
        "decision", data.step, decision=decision, by=by.strip(), note=note.strip()
    )
