"""Training data of the user's own → rows as a trainer takes them.

Rows in the trainer's own form stay as they are. Any other form that `sets import` reads becomes `messages` (for TRL's GRPO a
`prompt`), and what of them cannot be trained on in text is left out; both are counted. A row of no known form is refused.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.sets.read.chat_shapes import OTHER_NAMES
from guardrail.sets.read.conversation import NO_QUESTION, TOOLS, Turns, field_names, filled
from guardrail.sets.read.formats import (
    CHATS,
    MEDIA_FIELDS,
    SPOKEN,
    STANDS_BEFORE,
    read_conversation,
    recognise,
    single_rows,
)
from guardrail.sets.read.raw_rows import Row
from guardrail.sets.read.readers import read_rows

__all__ = ["NEEDS", "NO_ANSWER", "Reading", "TrainingRows", "read_training_rows", "trainer_rows"]

NO_ANSWER = "no answer"

NEEDS = {
    "trl-sft": "`messages` (turns with role and content), `prompt` and `completion`, or `text`",
    "trl-grpo": "`prompt`, or `messages`, whose last assistant turn is then left out",
    "ms-swift": "`messages` (turns with role and content)",
}
"""What each trainer takes as it is."""


@dataclass(slots=True)
class Reading:
    """What became of the rows of a training file."""

    kept: int = 0
    rewritten: Counter[str] = field(default_factory=Counter)
    """Format, as `sets import` names it → rows that were turned into messages."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason → rows."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason → where the first of them stands."""

    def facts(self) -> dict[str, Any]:
        """Return it as `check` and the ledger tell it, where there is anything to tell."""
        told = {
            "training_rows_rewritten": dict(self.rewritten),
            "training_rows_left_out": dict(self.left_out),
            "training_rows_first_left_out": dict(self.first),
        }
        return {name: counts for name, counts in told.items() if counts}


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The rows of a training file."""

    rows: list[dict[str, Any]]
    where: list[str]
    """Where each stands in the file, for messages."""
    reading: Reading


def read_training_rows(
    path: str | Path, trainer: str = "trl-sft", *, grpo: bool = False
) -> TrainingRows:
    """Return the rows of a training file as its trainer takes them.

    Args:
        path: JSONL, a JSON array, CSV, a workbook, parquet or an archive of them; a byte order mark is no part of it.
        trainer: `trl-sft`, `trl-grpo` or `ms-swift`.
        grpo: Whether ms-swift trains by GRPO: a row needs no answer then, and all its columns stay for the rewards.

    Raises:
        InputError: no such file, broken, a row of no known form, or no row that can be trained on.
    """
    reading, rows, where = Reading(), [], []
    for place, row in trainer_rows(path, trainer, reading, grpo=grpo):
        rows.append(row)
        where.append(place)
    return TrainingRows(rows, where, reading)


def trainer_rows(
    path: str | Path, trainer: str, reading: Reading, *, grpo: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each row stands and the row as its trainer takes it, in constant memory; `reading` counts as they come.

    Raises:
        InputError: as `read_training_rows`, at the row that is wrong.
    """
    grpo = grpo or trainer == "trl-grpo"
    try:
        for raw in read_rows(Path(path)):
            if raw.problem:
                raise InputError(f"{raw.where} {raw.problem:.300}; mend or drop it")
            for place, row in _made(raw, trainer, reading, grpo=grpo):
                reading.kept += 1
                yield place, row
    except InputError as error:
        raise InputError(f"training data {error}") from error
    if not reading.kept:
        lost = "; ".join(f"{n} {why} (first {reading.first[why]})" for why, n in reading.left_out.items())  # fmt: skip
        raise InputError(
            f"training data `{path}` holds no row to train on: {lost or 'it is empty'}; `trainer: {trainer}` needs {NEEDS[trainer]}"
        )


def _made(
    raw: Row, trainer: str, reading: Reading, *, grpo: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    if _in_own_form(raw.value, trainer):
        yield raw.where, _as_asked(_without_empty_media(raw.value), trainer)
        return
    for one in single_rows(raw.value):
        lost, turns = _spoken(one, raw.where, trainer)
        if lost == NO_ANSWER and grpo:  # it is the policy that answers
            lost = None
        if lost is None:
            kept = {k: v for k, v in one.items() if _stays(k, v, grpo=grpo)}
            made = [{"role": role, "content": text} for role, text in turns]
            reading.rewritten[str(recognise(one))] += 1
            yield raw.where, _as_asked({**kept, "messages": made}, trainer)
        elif lost == TOOLS and trainer == "ms-swift" and _chat(one):  # it trains on those
            reading.rewritten[str(recognise(one))] += 1
            yield raw.where, _named_as_messages(one, str(_chat(one)))
        elif (
            lost in (NO_QUESTION, NO_ANSWER) and trainer == "trl-sft" and _is_text(one.get("text"))
        ):
            yield (
                raw.where,
                {k: v for k, v in one.items() if k == "text" or _stays(k, v, grpo=grpo)},
            )
        else:
            reading.left_out[lost] += 1
            reading.first.setdefault(lost, raw.where)


def _spoken(row: Mapping[str, Any], where: str, trainer: str) -> tuple[str | None, Turns]:
    """Why a row cannot be trained on, and its turns."""
    if recognise(row) is None:
        if trainer == "trl-sft" and _is_text(row.get("text")):
            return NO_QUESTION, ()
        raise InputError(
            f"{where} has the columns {field_names(row)}; `trainer: {trainer}` needs {NEEDS[trainer]}, or a form that "
            "`guardrail sets import` reads (Alpaca, ShareGPT, query and response). Rewrite the rows: "
            '{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}'
        )
    try:
        said = read_conversation(row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{where}: {' '.join(str(error).split()):.300}; mend or drop it"
        ) from error
    if said.lost is not None:
        return said.lost, said.turns
    answered = said.turns[-1:] if said.turns and said.turns[-1][0] == "assistant" else ()
    asked = said.turns[: len(said.turns) - len(answered)]
    if not asked or asked[-1][0] != "user" or not all(text.strip() for _, text in asked):
        return NO_QUESTION, said.turns
    if not answered or not answered[0][1].strip():
        return NO_ANSWER, asked
    return None, said.turns


def _in_own_form(row: Mapping[str, Any], trainer: str) -> bool:
    """Whether the trainer takes a row as it is, so that nothing of it may change."""
    if trainer != "ms-swift" and any(filled(row.get(name)) for name in MEDIA_FIELDS):
        return False
    if trainer == "trl-grpo" and filled(row.get("prompt")):
        return _is_said(row["prompt"])
    if any(filled(row.get(name)) for name in STANDS_BEFORE):  # a system, a history: no trainer's
        return False
    if filled(row.get("messages")):
        return isinstance(row["messages"], list) and _is_said(row["messages"])
    if trainer == "trl-sft":
        return all(filled(row.get(c)) and _is_said(row[c]) for c in ("prompt", "completion"))
    return trainer == "ms-swift" and _is_text(row.get("text")) and recognise(row) is None


def _is_said(value: Any) -> bool:
    """Whether it is text, or turns that are not in parts and have the usual names."""
    return isinstance(value, str) or (
        isinstance(value, list)
        and all(
            isinstance(turn, dict)
            and isinstance(turn.get("role"), str)
            and turn["role"].lower() not in OTHER_NAMES
            and isinstance(turn.get("content"), str | None)
            for turn in value
        )
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _without_empty_media(row: dict[str, Any]) -> dict[str, Any]:
    """The row without columns of pictures or sound that hold none, for which a trainer would look for a model that sees."""
    if not any(name in row for name in MEDIA_FIELDS):
        return row
    return {k: v for k, v in row.items() if k not in MEDIA_FIELDS or filled(v)}


def _stays(name: str, value: Any, *, grpo: bool) -> bool:
    """Whether a column stays beside the messages that were made: in GRPO rewards may want what was answered."""
    low = name.strip().lower()
    if low in CHATS or low == "prompt" or (low in MEDIA_FIELDS and not filled(value)):
        return False
    return low not in (STANDS_BEFORE if grpo else SPOKEN)


def _chat(row: Mapping[str, Any]) -> str | None:
    """The column of a chat whose turns are all in text."""
    name = next((name for name in CHATS if isinstance(row.get(name), list) and row[name]), None)
    if name is None:
        return None
    known = all(
        isinstance(turn, dict)
        and any(isinstance(turn.get(key), str) for key in ("role", "from"))
        and any(isinstance(turn.get(key), str) for key in ("content", "value"))
        for turn in row[name]
    )
    return name if known else None


def _named_as_messages(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The row with its chat under the names that ms-swift's `messages` have."""
    new = {"from": "role", "value": "content"}
    turns = [{new.get(key, key): value for key, value in turn.items()} for turn in row[name]]
    return {k: v for k, v in row.items() if k != name} | {"messages": turns}


def _as_asked(row: dict[str, Any], trainer: str) -> dict[str, Any]:
    """For TRL's GRPO the row with a `prompt`: its messages without the assistant's last turn; else as it is."""
    if trainer != "trl-grpo" or row.get("prompt") is not None:
        return row
    messages = list(row.get("messages") or ())
    if messages and isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
        messages.pop()
    return {k: v for k, v in row.items() if k not in ("messages", "prompt")} | {"prompt": messages}
