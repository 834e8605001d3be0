"""What a stage leaves behind: rows, items, what was dropped and why, the funnel, the costs."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardrail.data.chat_endpoint import Costs
from guardrail.data.preference_pairs import swift_pair
from guardrail.data.rows import DataRow, row_item, write_rows
from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.read_back import why_unreadable
from guardrail.redaction import redacted
from guardrail.sets.items import write_items

__all__ = ["Made", "read_stage", "take_away_earlier", "write_stage"]


@dataclass(slots=True)
class Made:
    """The rows a stage made, and those it dropped with the reason."""

    rows: list[DataRow] = field(default_factory=list)
    dropped: list[tuple[str, DataRow]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the stage has to report, ready for JSON."""
    preferences: list[dict[str, Any]] = field(default_factory=list)
    """Preference pairs that came of it, in TRL's form (`data/preference_pairs.py`)."""

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
    `dropped.jsonl` has a reason a row; `preferences.jsonl` the preference pairs, where there are any, as TRL's DPO reads them, `preferences.swift.jsonl`
    as ms-swift's; `stage.json` holds funnel, costs, settings without secrets and what the stage reports. Pairs and costs of an
    earlier call are taken away where this one has none.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "rows.jsonl", made.rows)
    items = {item.id: item for row in made.rows if (item := row_item(row)).messages}
    write_items(out / "items.jsonl", items.values())
    dropped = ({"reason": reason, **row.as_dict()} for reason, row in made.dropped)
    write_whole(out / "dropped.jsonl", _lines(dropped))
    take_away_earlier(out, "preferences.jsonl", "preferences.swift.jsonl", "costs.json")
    if made.preferences:
        for name, pairs in (
            ("preferences.jsonl", made.preferences),
            ("preferences.swift.jsonl", map(swift_pair, made.preferences)),
        ):
            write_whole(out / name, _lines(pairs))
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


def take_away_earlier(out: Path, *names: str) -> None:
    """Take away files that an earlier call left in a stage's folder; in a folder that is none they are the user's and stay."""
    if (out / "stage.json").is_file():
        for name in names:
            (out / name).unlink(missing_ok=True)


def read_stage(out: Path, settings: dict[str, Any]) -> tuple[Made, Costs] | None:
    """Return what a finished stage kept, dropped and cost; None where none is finished there. Its preferences are not read.

    People may have edited its rows since, and what must not get in is looked for anew by whoever reads them.

    Raises:
        InputError: it had other settings, or its files do not read.
    """
    try:
        if not (out / "stage.json").is_file():
            return None
        facts = json.loads((out / "stage.json").read_text(encoding="utf-8"))
        wanted = redacted(settings)  # as they were written
        if facts["settings"] != wanted:
            other = [k for k in wanted if wanted[k] != facts["settings"].get(k)]
            raise InputError(
                f"`{out}` was made with other {', '.join(other) or 'settings'}; give a new `--out`, or take the folder away"
            )
        made = Made(rows=[_row(line) for line in _json_lines(out / "rows.jsonl")])
        made.dropped = [(line["reason"], _row(line)) for line in _json_lines(out / "dropped.jsonl")]
        costs = Costs()
        for purpose, counted in ((facts["costs"] or {}).get("by_purpose") or {}).items():
            costs.by_purpose[purpose] = dict(counted)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"`{out}` is no stage as it was written ({why_unreadable(error):.200}); take the folder away to make it anew"
        ) from error
    return made, costs


def _json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _row(line: Any) -> DataRow:
    return DataRow(tuple(line["messages"]), line["provenance"], line["scores"])


def _lines(values: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in values)


def _write_json(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
