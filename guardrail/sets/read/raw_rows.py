"""A raw row of somebody's file, and the bounds that every reader keeps: what one row may cost."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardrail.errors import InputError

__all__ = [
    "CHUNK",
    "LONGEST_LINE",
    "MOST_COLUMNS",
    "MOST_RATIO",
    "UNASKED",
    "Given",
    "Row",
    "Stream",
    "Unpacked",
    "buffered",
    "checked_row",
    "first_line",
    "out_of_proportion",
]

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes a line, an element or a cell may have; a longer one is taken for a broken file."""
CHUNK = 1 << 16
"""Bytes read at once."""
MOST_COLUMNS = 1000
MOST_RATIO = 200
"""How much larger than packed an archive may be, from `UNASKED` bytes on; text packs to a tenth."""
UNASKED = 64 << 20
_A_ROW, _A_BLANK_ROW, _A_CELL = 128, 32, 8
"""Bytes that a row, an empty one and a value are reckoned at least."""


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row and where it stands: `` `FILE` line 3 ``."""

    where: str
    value: dict[str, Any]
    problem: str = ""
    """What is wrong with a line that could not be read; its value is empty then."""


if TYPE_CHECKING:
    Stream = io.BufferedReader[Any]
else:
    Stream = io.BufferedReader


def buffered(raw: Any) -> Stream:
    """Return a stream that can be looked ahead into."""
    return io.BufferedReader(raw, CHUNK)


def checked_row(where: str, value: Any) -> Row:
    """Return a value as a row, a problem where it is no object; NaN, which JSON has no word for, is empty."""
    if isinstance(value, list):
        value = _listed_row(value)
    if not isinstance(value, dict):
        return Row(where, {}, f"is a {type(value).__name__}, not an object")
    if any(isinstance(v, float) and math.isnan(v) for v in value.values()):
        value = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in value.items()}
    return Row(where, value)


def _listed_row(value: list[Any]) -> Any:
    """A row that is written as a list: a text and the questions about it (C3), or what two people said in turn (LCCC)."""
    kinds = [type(part) for part in value]
    if kinds[:2] == [list, list] and value[1] and all(isinstance(q, dict) for q in value[1]):
        return {"document": value[0], "questions": value[1]}
    return {"dialogue": value} if len(value) > 1 and set(kinds) == {str} else value


def out_of_proportion(unpacked: int, packed: int) -> bool:
    """Return whether so many bytes are far more than so many packed ones hold."""
    return unpacked > UNASKED and unpacked > MOST_RATIO * max(1, packed)


class Given:
    """What the rows of a file come to that stores a text once and gives it many times."""

    def __init__(self, file: Stream, where: str) -> None:
        """Begin with none; the file is left where it was."""
        at = file.tell()
        self._where, self._packed, self._given = where, file.seek(0, io.SEEK_END), 0
        file.seek(at)

    def add(self, value: Any = None) -> None:
        """Count a row, None for one without a filled cell.

        Raises:
            InputError: a row is too large, or all so far are far more than the file holds.
        """
        size = _A_BLANK_ROW if value is None else _A_ROW + _size(value)
        if size > LONGEST_LINE:
            raise InputError(
                f"{self._where} has a row longer than {LONGEST_LINE >> 20} MiB; is this really one text a row?"
            )
        self._given += size
        if out_of_proportion(self._given, self._packed):
            raise InputError(
                f"{self._where} gives rows of more than {MOST_RATIO} times its size; write it as JSONL if that is meant"
            )


def _size(value: Any) -> int:
    """About how many characters a value has."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _size(inner) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value)) + _A_CELL * len(value)
    return _A_CELL


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind."""
    said = str(error).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__


class Unpacked(io.RawIOBase):
    """What an archive unpacks to, refused where that is out of all proportion to what it is packed to."""

    def __init__(self, inner: Any, where: str, packed: Callable[[], int]) -> None:
        """Read `inner`; `packed` tells how many packed bytes it came from."""
        self._inner, self._where, self._packed, self._given = inner, where, packed, 0

    def readable(self) -> bool:
        """It can be read, and nothing else."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer.

        Raises:
            InputError: it unpacks to far more than it is packed to.
        """
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        if out_of_proportion(self._given, self._packed()):
            raise InputError(
                f"{self._where} unpacks to more than {MOST_RATIO} times its size; unpack it yourself if that is meant"
            )
        return len(data)
