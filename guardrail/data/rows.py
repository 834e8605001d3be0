"""Rows of the data wing: a chat that ends with an answer, where it comes from, and what it scored; and their files.

A row is a training row as it stands (`messages`); `provenance` and `scores` ride along, and `guardrail sets lint --training`
reads it like any other. As an item it loses its scores, and its answer is for reviewers only.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.sets.abilities import guess_ability
from guardrail.sets.items import Item, Message
from guardrail.sets.lint.duplicates import hash64
from guardrail.sets.read.formats import read_conversation
from guardrail.sets.read.raw_rows import Row
from guardrail.sets.read.readers import read_rows as read_raw_rows

__all__ = ["DataRow", "data_row", "made_row", "read_data_rows", "row_item", "write_rows"]


@dataclass(frozen=True, slots=True)
class DataRow:
    """One chat with its answer."""

    messages: tuple[dict[str, str], ...]
    """The last one is the assistant's."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """`method`, `source`, `licence`, `model`, `parents`, `round`, `operation` and what else its stage knows."""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """An id made of its content, the same wherever and whenever it is made."""
        text = json.dumps(self.messages, ensure_ascii=False)
        return f"{self.provenance.get('method', 'row')}-{hash64(text):016x}"

    @property
    def question(self) -> str:
        """The last user turn."""
        return next(m["content"] for m in reversed(self.messages[:-1]) if m["role"] == "user")

    @property
    def prompt(self) -> str:
        """All turns before the answer but the system's."""
        return "\n".join(m["content"] for m in self.messages[:-1] if m["role"] != "system")

    @property
    def answer(self) -> str:
        """The last turn."""
        return self.messages[-1]["content"]

    @property
    def ability(self) -> str:
        """What it was made for, or a guess from its words."""
        return str(
            self.provenance.get("ability")
            or guess_ability(self.question, self.provenance.get("task"))
        )

    def scored(self, **scores: float) -> "DataRow":
        """Return it with further scores."""
        return replace(self, scores={**self.scores, **scores})

    def as_dict(self) -> dict[str, Any]:
        """Return it as a line of a training file."""
        return {
            "messages": list(self.messages),
            "id": self.id,
            "provenance": {**self.provenance, "ability": self.ability},
            "scores": dict(self.scores),
        }


def made_row(
    question: str,
    answer: str,
    *,
    method: str,
    before: Sequence[Mapping[str, str]] = (),
    **provenance: Any,
) -> DataRow:
    """Return a row that a method made of a question and an answer, earlier turns before them."""
    turns = (
        *(dict(turn) for turn in before),
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    )
    given = {"licence": "LicenseRef-generated", "source": method}
    return DataRow(turns, {"method": method, **given, **provenance})


def read_data_rows(path: str | Path, *, answered: bool = True) -> list[DataRow]:
    """Return the rows of a file in any format that imports read; rows of the wing keep provenance and scores.

    Args:
        path: JSONL, JSON, CSV, xlsx, parquet or an archive of them.
        answered: Whether a row without an answer is refused; else its last turn is an empty answer.

    Raises:
        InputError: a line cannot be read, has no user turn or, where wanted, no answer; or there is no row.
    """
    rows = [data_row(raw, path, answered=answered) for raw in read_raw_rows(Path(path))]
    if not rows:
        raise InputError(f"`{path}` holds no row; it needs at least one")
    return rows


def data_row(raw: Row, source: str | Path, *, answered: bool = True) -> DataRow:
    """Return a raw row as one of the wing's.

    Args:
        raw: As the file has it.
        source: The file.
        answered: Whether a row without an answer is refused; else its last turn is an empty answer.

    Raises:
        InputError: it could not be read, has no user turn or, where wanted, no answer.
    """
    if raw.problem:
        raise InputError(f"{raw.where}: {raw.problem}; mend or drop the line")
    said = read_conversation(raw.value)
    turns = tuple({"role": role, "content": text} for role, text in said.turns if text.strip())
    if turns and turns[-1]["role"] != "assistant" and not answered:
        turns = (*turns, {"role": "assistant", "content": ""})
    if not turns or turns[-1]["role"] != "assistant" or all(t["role"] != "user" for t in turns):
        raise InputError(
            f"{raw.where} has no user turn followed by an answer; drop the row, or have it answered with "
            "`guardrail data generate answers`"
        )
    known = raw.value.get("provenance")
    provenance = (
        dict(known) if isinstance(known, Mapping) else {"method": "given", "source": str(source)}
    )
    for name in ("instruction", "input"):  # apart where the file has them apart
        if known is None and isinstance(raw.value.get(name), str):
            provenance[name] = raw.value[name]
    if said.task and "task" not in provenance:
        provenance["task"] = said.task
    scores = raw.value.get("scores")
    return DataRow(turns, provenance, dict(scores) if isinstance(scores, Mapping) else {})


def write_rows(path: Path, rows: Iterable[DataRow]) -> None:
    """Write rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(r.as_dict(), ensure_ascii=False) + "\n" for r in rows))


def row_item(row: DataRow) -> Item:
    """Return a row's prompt as an item for `sets compose` and `sets lint`, its answer beside it."""
    method = str(row.provenance.get("method", "row"))
    return Item(
        id=row.id,
        ability=row.ability,
        source=f"{method}: {row.provenance.get('model') or row.provenance.get('source') or 'own'}",
        licence=str(row.provenance.get("licence", "LicenseRef-own")),
        messages=tuple(
            Message(role=m["role"], content=m["content"])
            for m in row.messages[:-1]
            if m["role"] != "tool"
        ),
        task=row.provenance.get("task"),
        answer=row.answer or None,
    )
