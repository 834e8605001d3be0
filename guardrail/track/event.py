"""What every tracker is handed: a ledger record with its alerts, and a look's table of worst items."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.ledger.file import Record
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.run_data import run_data
from guardrail.report.worst_items import worst_items
from guardrail.track.alerts import Alert

__all__ = ["TABLE_COLUMNS", "TrackerEvent", "worst_rows"]

TABLE_COLUMNS = ["step", "ability", "item", "question", "base answered", "answers now", "why"]


@dataclass(frozen=True, slots=True)
class TrackerEvent:
    """One record for a tracker: itself, the alerts it gives rise to, and at a look all looks so far."""

    record: Record
    alerts: tuple[Alert, ...] = ()
    looks: tuple[Record, ...] = ()
    """With the header and rewinds, oldest first."""


def worst_rows(folder: Path, looks: Sequence[Record]) -> list[list[Any]]:
    """Return the rows of the table of worst items at the last of these looks.

    Texts are cut; control and bidi characters are made visible.
    """
    data = run_data(folder, looks)
    return [
        [
            data.looks[-1].step,
            item.ability,
            item.item,
            escape_controls(item.question),
            escape_controls(item.base),
            escape_controls(item.now),
            "; ".join(
                [f"{name} {base:.2f} → {now:.2f}" for name, (base, now) in item.lost.items()]
                + [
                    f"fails {kind} {json.dumps(asks, ensure_ascii=False)}"
                    for kind, asks in item.failed_checks
                ]
            ),
        ]
        for item in worst_items(data).items
    ]
