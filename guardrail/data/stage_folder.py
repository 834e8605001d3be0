"""What a stage leaves behind: rows, items, what was dropped and why, the funnel, the costs."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardrail.data.chat_endpoint import Costs
from guardrail.data.rows import DataRow, row_item, write_rows
from guardrail.files import write_whole
from guardrail.redaction import redacted
from guardrail.sets.items import write_items

__all__ = ["Made", "write_stage"]


@dataclass(slots=True)
class Made:
    """The rows a stage made, and those it dropped with the reason."""

    rows: list[DataRow] = field(default_factory=list)
    dropped: list[tuple[str, DataRow]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the stage has to report, ready for JSON."""
    preferences: list[dict[str, Any]] = field(default_factory=list)
    """Preference rows that came of it: prompt, chosen, rejected."""

    def drop(self, reason: str, row: DataRow) -> None:
        """Note a dropped row."""
        self.dropped.append((reason, row))

    def funnel(self) -> dict[str, Any]:
        """Return how many were made, lost for which reason, and kept."""
        lost = Counter(reason for reason, _ in self.dropped)
        return {
            "made": len(self.rows) + len(self.dropped),
            "lost": dict(lost.most_common()),
            "kept": len(self.rows),
        }


def write_stage(
    out: Path, made: Made, costs: Costs | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Write a stage's files below `out` and return its facts.

    `rows.jsonl` trains as it stands; `items.jsonl` are its prompts for `sets compose` and `sets lint`, each prompt once;
    `dropped.jsonl` has a reason a row; `preferences.jsonl` the preference rows, where there are any; `stage.json` holds funnel, costs, settings without secrets
    and what the stage reports.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "rows.jsonl", made.rows)
    items = {item.id: item for row in made.rows if (item := row_item(row)).messages}
    write_items(out / "items.jsonl", items.values())
    dropped = [
        json.dumps({"reason": r, **row.as_dict()}, ensure_ascii=False) + "\n"
        for r, row in made.dropped
    ]
    write_whole(out / "dropped.jsonl", "".join(dropped))
    if made.preferences:
        pairs = [json.dumps(one, ensure_ascii=False) + "\n" for one in made.preferences]
        write_whole(out / "preferences.jsonl", "".join(pairs))
    facts = {
        "funnel": made.funnel(),
        "costs": costs.as_dict() if costs else None,
        **made.facts,
        "settings": redacted(settings),
    }
    _write_json(out / "stage.json", facts)
    if costs is not None:
        _write_json(out / "costs.json", costs.as_dict())
    return {**facts, "out": str(out)}


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
