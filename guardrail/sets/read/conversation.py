"""What a row of somebody's corpus says, and how its fields are read: empty ones, encoded ones, labels."""

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardrail.errors import InputError

__all__ = [
    "MEDIA",
    "NO_INPUT",
    "NO_QUESTION",
    "ORDER",
    "TOOLS",
    "Conversation",
    "Turns",
    "WrongRow",
    "decoded",
    "field_names",
    "filled",
    "first_filled",
    "flat_text",
    "in_order",
    "label",
    "shown",
    "text",
    "thought_before",
]

TOOLS, MEDIA, ORDER = "tool calls", "image, sound or video", "turn order"
"""Why a row that is whole is no conversation in text."""
NO_QUESTION = "no question"

NO_INPUT = re.compile(
    r"[“\"`<（(]*(?:&lt;)?(?:无输入|没有输入|无需输入|无)(?:&gt;)?[”\"`>）)]*。?", re.IGNORECASE
)
_LONGEST_LITERAL = 1 << 18
"""Characters of a Python literal; to read one costs a hundred times its length."""
_LONGEST_LABEL = 80

Turns = tuple[tuple[str, str], ...]
"""(role, text); roles are system, user, assistant and tool."""


class WrongRow(InputError):
    """A row that is not of its format; the message names field, rule and value."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says: its turns and the source's own labels."""

    turns: Turns
    task: str | None = None
    """The source's name for the kind of task."""
    cluster: str | None = None
    """The source's name for rows that are variants of one."""
    translated: bool = False
    """Whether the row itself says that it was translated into Chinese."""
    choice: str | None = None
    """The letter of the right option, for multiple choice."""
    lost: str | None = None
    """Why its turns alone are not what was said: one of `TOOLS`, `MEDIA`, `ORDER`."""
    annotations: Mapping[str, float] | None = None
    """What the source's annotators gave its answer."""

    @property
    def first_question(self) -> str:
        """The user's first turn, empty if there is none."""
        return next((said for role, said in self.turns if role == "user"), "")


def filled(value: Any) -> bool:
    """Return whether a field holds anything: not None, NaN, blank text, or a container of nothing."""
    if value is None:  # most of what is asked for
        return False
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(map(filled, value.values()))
    if isinstance(value, list | tuple):
        return any(map(filled, value))
    return not (isinstance(value, float) and math.isnan(value))


def first_filled(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of these fields that holds anything."""
    return next((name for name in names if filled(row.get(name))), None)


def decoded(value: Any) -> Any:
    """Return what a text encodes where it is a list or an object, in JSON or, failing that, as Python writes it."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    if len(value) > _LONGEST_LITERAL:
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return value


def text(row: Mapping[str, Any], name: str) -> str:
    """Return a field's text, empty where it is None or NaN; numbers are written out.

    Raises:
        WrongRow: it is something else.
    """
    value = row.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if filled(value) else ""
    if not isinstance(value, str | None):
        raise WrongRow(f"field `{name}` must be text, got {shown(value)}")
    return value or ""


def _texts(value: Any) -> Iterator[str]:
    value = decoded(value)
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def flat_text(value: Any) -> str:
    """Return all texts in a field, whatever its form, a line each."""
    return "\n".join(part for part in _texts(value) if part)


def label(row: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these labels, whatever its form; nobody needs one, so that it never loses a row."""
    for name in names:
        found = "/".join(part for part in _texts(row.get(name)) if part).replace("\u00a0", " ")
        if found:
            return found[:_LONGEST_LABEL]
    return None


def field_names(row: Mapping[str, Any]) -> str:
    """Return the names of a row's fields for an error's text, not more than a line holds."""
    names = [repr(name)[:40] for name in row]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def shown(value: Any) -> str:
    """Return a value's kind and its beginning for an error's text."""
    text = json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}"


def thought_before(thinking: str, answer: str) -> str:
    """Return an answer with its thinking in a block before it, as models write it."""
    if not thinking.strip() or "<think>" in answer or not answer.strip():
        return answer
    return f"<think>\n{thinking.strip()}\n</think>\n\n{answer.strip()}"


def in_order(turns: Turns) -> bool:
    """Return whether user and assistant take turns, the user first, a system turn at most before them."""
    roles = [role for role, _ in turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    return all(role == ("user", "assistant")[at % 2] for at, role in enumerate(spoken))
