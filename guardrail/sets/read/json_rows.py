"""JSON of any layout → rows: a row a line, an array, an object keyed by id, one object over many lines."""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import ijson

from guardrail.errors import InputError
from guardrail.sets.read.raw_rows import (
    CHUNK,
    LONGEST_LINE,
    MOST_COLUMNS,
    Row,
    Stream,
    checked_row,
    first_line,
)

__all__ = ["MOST_BLANK", "json_array", "json_lines", "not_decodable", "too_blank"]

MOST_BLANK = 100_000
"""Empty lines of a file."""
_MOST_DEPTH = 100
_TURN = {"role", "from", "speaker", "content", "value", "human", "user"}
"""Fields of a turn."""
_ROUND = re.compile(r"round_\d+\Z")
"""COIG's dialogues are one object of rounds, not rows keyed by id."""


def not_decodable(where: str, error: UnicodeDecodeError, encoding: str) -> str:
    """Return what to say of bytes that are not of an encoding, with the one they seem to be of."""
    try:
        codecs.getincrementaldecoder("gb18030")().decode(error.object)
        hint = "it reads as GB18030 (GBK): save it as UTF-8 (`iconv -f gb18030 -t utf-8`); `guardrail sets import` also takes `--encoding gb18030`"
    except UnicodeDecodeError:
        hint = "save it as UTF-8; `guardrail sets import` also takes `--encoding`"
    return f"{where} is not {encoding} ({error.reason}); {hint}"


def too_blank(where: str) -> str:
    """Return what to say of a file that is mostly empty lines."""
    return f"{where} has more than {MOST_BLANK} empty lines; get the file again"


class _Elements:
    """The elements of a JSON array or object, one at a time; none may be too long or too deep."""

    def __init__(self, read: Callable[[int], bytes], where: str, *, split: bool = False) -> None:
        """`split`: what stands in a list right under a key comes one by one as well."""
        self._read, self._where, self._held, self._split = read, where, 0, split
        self.taken = 0
        """Bytes read so far."""

    def read(self, size: int = -1) -> bytes:
        if size == 0:  # ijson asks for the kind of what it will get
            return b""
        data = self._read(CHUNK if size < 0 else min(size, CHUNK))
        self._held += len(data)
        self.taken += len(data)
        if self._held > LONGEST_LINE + 2 * CHUNK:
            raise self.too_long()
        return data

    def too_long(self) -> InputError:
        """The error of an element that is longer than a row may be."""
        return InputError(
            f"{self._where} has an element longer than {LONGEST_LINE >> 20} MiB; is this really one row an element?"
        )

    def __iter__(self) -> Iterator[tuple[str, Any, bool]]:
        """Yield key, value, and whether it is one of a list's."""
        depth, floor, key, builder, empty = 0, 1, "", ijson.ObjectBuilder(), True
        for event, value in ijson.basic_parse(self, use_float=True):
            if depth == 1 and event == "map_key":
                key = value
                continue
            if self._split and depth == floor == 1 and event == "start_array":
                depth = floor = 2
                empty = True
                continue
            if depth == floor == 2 and event == "end_array":
                depth = floor = 1
                if empty:
                    yield key, [], False
                continue
            ends = event in ("end_map", "end_array")
            depth -= ends
            if depth > _MOST_DEPTH:
                raise InputError(f"{self._where} is nested deeper than {_MOST_DEPTH} levels")
            if depth >= floor:
                builder.event(event, value)
            depth += event in ("start_map", "start_array")
            if depth == floor and (ends or not event.startswith("start")):
                self._held, empty = 0, False
                yield key, builder.value, floor == 2
                builder = ijson.ObjectBuilder()


def json_array(file: Stream, where: str, encoding: str) -> Iterator[Row]:
    """Yield the elements of an array, one at a time."""
    number = 0
    try:
        for _, value, _ in _Elements(_as_utf8(file, encoding), where):
            number += 1
            yield checked_row(f"{where} element {number}", value)
    except (ijson.JSONError, OverflowError) as error:
        raise InputError(
            f"{where} breaks off after element {number} ({first_line(error)}); mend the array there"
        ) from error


def json_lines(file: Stream, where: str, encoding: str) -> Iterator[Row]:
    """Yield JSONL rows; where the first line alone is no JSON value, the file is one object."""
    blank = 0
    while not (first := file.readline(LONGEST_LINE + 1)).strip():
        blank += 1
        if blank > MOST_BLANK:
            raise InputError(too_blank(where))
    opens = first.strip()[-1:] in (b"{", b"[", b",")
    if opens or (len(first) > LONGEST_LINE and not first.endswith(b"\n")):
        yield from _json_object(_after(first, file), where)
        return
    empty = 0
    lines = chain([first], iter(lambda: file.readline(LONGEST_LINE + 1), b""))
    for number, raw in enumerate(lines, start=blank + 1):
        here = f"{where} line {number}"
        if len(raw) > LONGEST_LINE:
            raise InputError(
                f"{here} is longer than {LONGEST_LINE >> 20} MiB; is this really one row a line?"
            )
        try:
            line = raw.decode(encoding).strip().lstrip("\ufeff")
        except UnicodeDecodeError as error:
            raise InputError(not_decodable(here, error, encoding)) from error
        if not line:
            empty += 1
            if empty > MOST_BLANK:
                raise InputError(too_blank(where))
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(here, {}, f"is not valid JSON ({first_line(error)})")
            continue
        if number == blank + 1 and isinstance(value, dict) and not file.peek(1):
            if _is_keyed(value):
                yield from (checked_row(f"{where} entry `{k:.80}`", v) for k, v in value.items())
                return
            if _is_grouped(value):
                yield from _grouped(where, value, {})
                return
        yield checked_row(here, value)


def _after(first: bytes, file: Stream) -> Callable[[int], bytes]:
    """A reader of what was read already and of the rest."""
    left = io.BytesIO(first)
    return lambda size: left.read(size) or file.read(size)


def _json_object(read: Callable[[int], bytes], where: str) -> Iterator[Row]:
    """Yield the values of one object keyed by id, what stands in its lists, or the object itself where it is one row.

    Lists are rows where the object is longer than a row may be (CMRC's `data`), or holds nothing else.
    """
    fields: dict[str, Any] = {}
    elements = _Elements(read, where, split=True)
    number, began, apart = 0, 0, False
    try:
        for key, value, listed in elements:
            number += 1
            if len(fields) > MOST_COLUMNS:
                raise InputError(f"{where} is one object of more than {MOST_COLUMNS} fields")
            if listed:
                began = began if key in fields else elements.taken
                fields.setdefault(key, []).append(value)
                if apart or elements.taken - began > LONGEST_LINE:
                    lists = {k: fields.pop(k) for k in list(fields) if _are_rows(fields[k])}
                    if not lists and elements.taken - began > LONGEST_LINE:
                        raise elements.too_long()
                    apart = apart or bool(lists)
                    yield from _grouped(where, lists, fields)
                continue
            if fields or not isinstance(value, dict) or _ROUND.match(key):
                fields[key] = value
            else:
                yield checked_row(f"{where} entry `{key:.80}`", value)
    except (ijson.JSONError, OverflowError) as error:
        raise InputError(
            f"{where} breaks off after entry {number} ({first_line(error)}); mend the object there"
        ) from error
    if _is_grouped(fields):
        yield from _grouped(where, fields, {})
    elif fields and not apart:
        yield checked_row(where, fields)


def _grouped(where: str, lists: dict[str, Any], around: dict[str, Any]) -> Iterator[Row]:
    """Yield what stands in lists as rows, each with the fields around them."""
    for key, values in lists.items():
        for value in values:
            row = {**around, **value} if isinstance(value, dict) else value
            yield checked_row(f"{where} entry `{key:.80}`", row)


def _are_rows(value: Any) -> bool:
    """Whether a list holds rows, and no turns of a dialogue."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(v, dict | list) and not _TURN & set(v if isinstance(v, dict) else ())
            for v in value
        )
    )


def _is_grouped(value: dict[str, Any]) -> bool:
    """Whether an object holds nothing but lists of rows (Safety-Prompts by kind, LCCC by split)."""
    return bool(value) and all(map(_are_rows, value.values()))


def _is_keyed(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 1
        and all(isinstance(v, dict) and not _ROUND.match(k) for k, v in value.items())
    )


def _as_utf8(file: Stream, encoding: str) -> Callable[[int], bytes]:
    if encoding in ("utf-8", "utf8"):
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        return file.read
    text = io.TextIOWrapper(file, encoding=encoding)
    return lambda size: text.read(size // 4 or 1).encode("utf-8")
