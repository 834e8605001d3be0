"""What a parquet file unpacks to, told from the headers of its pages: its footer may say anything.

A reader makes room for a page by what the page's header says, so these are the numbers that count. Headers and the
footer are Thrift's compact protocol: fields with a kind and a number each, integers of seven bits a byte. The footer is
read here too: asked for a column of a damaged one, pyarrow ends the whole process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guardrail.errors import InputError
from guardrail.sets.read.raw_rows import Stream

__all__ = ["RowGroup", "row_groups"]

_LONGEST_HEADER = 1 << 20
_FIRST_READ = 1 << 10
_LARGEST_FOOTER = 16 << 20
_ENDS = b"PAR1"
_MOST_DEPTH = 12
_A_VALUE = 16
"""Bytes that are reckoned for a value of a list, of which millions may be stored in a few bytes."""
_UNCOMPRESSED, _COMPRESSED = 2, 3
_VALUES, _COLUMN_PACKED, _DATA_AT, _DICTIONARY_AT = 5, 7, 9, 11
"""Fields of a column in the footer."""
_KINDS = {5: "data", 7: "dictionary", 8: "data"}
"""Field of a page's header that holds the header of its kind."""
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_NUMBERS, _LISTS = (4, 5, 6), (9, 10)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that lie together."""

    rows: int
    packed: int
    """Bytes."""
    unpacked: int
    """Bytes, by what the pages say of themselves."""
    largest: int
    """Bytes of its largest column, unpacked."""


def row_groups(file: Stream, where: str) -> Iterator[RowGroup]:
    """Yield what the row groups of a parquet file unpack to; the file is left anywhere.

    Raises:
        InputError: its footer is too large.
        ValueError: the footer or the header of a page is none, or a page is not where the footer says.
    """
    footer = _footer(file, where)
    repeated = _repeated(_list(footer, 2))
    for group in _list(footer, 4):
        columns = [_inner(column, 3) for column in _list(group, 1)]
        if len(columns) != len(repeated):
            raise ValueError("a row group has other columns than the file")
        sizes = [_column(file, *pair) for pair in zip(columns, repeated, strict=True)]
        yield RowGroup(
            _whole(group, 3),
            sum(packed for packed, _ in sizes),
            sum(unpacked for _, unpacked in sizes),
            max((unpacked for _, unpacked in sizes), default=0),
        )


def _footer(file: Stream, where: str) -> dict[int, Any]:
    end = file.seek(0, 2)
    file.seek(max(0, end - 8))
    tail = file.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] != _ENDS or size > end - 12:
        raise ValueError("the file breaks off")
    if size > _LARGEST_FOOTER:
        raise InputError(f"{where} has a footer of more than {_LARGEST_FOOTER >> 20} MiB")
    file.seek(end - 8 - size)
    try:
        return _struct(file.read(size), 0, 0)[0]
    except IndexError:
        raise ValueError("the file's footer breaks off") from None


def _repeated(schema: list[Any]) -> list[bool]:
    """Of each column, whether it lies in a list, so that a row may have any number of values."""
    found: list[bool] = []
    open_: list[list[Any]] = []
    """Groups that have children to come, and whether they are in a list."""
    for number, element in enumerate(schema):
        in_list = bool(open_ and open_[-1][1]) or (number > 0 and element.get(3) == 2)
        if open_:
            open_[-1][0] -= 1
        children = _whole(element, 5, 0)
        if children:
            open_.append([children, in_list])
        else:
            found.append(in_list)
        while open_ and open_[-1][0] <= 0:
            open_.pop()
    return found


def _list(fields: Any, number: int) -> list[dict[int, Any]]:
    found = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("the file's footer is none")
    return found


def _inner(fields: dict[int, Any], number: int) -> dict[int, Any]:
    found = fields.get(number)
    if not isinstance(found, dict):
        raise ValueError("the file's footer is none")
    return found


def _whole(fields: dict[int, Any], number: int, otherwise: int | None = None) -> int:
    found = fields.get(number, otherwise)
    if type(found) is not int or found < 0:
        raise ValueError("the file's footer is none")
    return found


def _column(file: Stream, column: dict[int, Any], repeated: bool) -> tuple[int, int]:
    """Packed and unpacked bytes of a column of a row group."""
    packed = unpacked = values = 0
    for page, size, number, is_data in _pages(file, column):
        packed += size
        unpacked += max(page, _A_VALUE * number if repeated and is_data else 0)
        values += number if is_data else 0
        if values >= _whole(column, _VALUES):
            break
    return packed, unpacked


def _pages(file: Stream, column: dict[int, Any]) -> Iterator[tuple[int, int, int, bool]]:
    """Unpacked and packed bytes of each page, its values, and whether these are the column's."""
    at = _whole(column, _DATA_AT)
    if 0 < (dictionary := _whole(column, _DICTIONARY_AT, 0)) < at:
        at = dictionary
    end = at + _whole(column, _COLUMN_PACKED)
    while at < end:
        header, length = _header(file, at)
        unpacked, packed = header.get(_UNCOMPRESSED), header.get(_COMPRESSED)
        if (
            not isinstance(unpacked, int)
            or not isinstance(packed, int)
            or min(unpacked, packed) < 0
        ):
            raise ValueError("a page does not say how large it is")
        field = next((field for field in _KINDS if field in header), None)
        about = header[field] if field is not None else {}
        number = about.get(1, 0) if isinstance(about, dict) else 0
        if not isinstance(number, int) or number < 0:
            raise ValueError("a page does not say how many values it has")
        at += length + packed
        yield unpacked, packed, number, _KINDS.get(field or 0) == "data"


def _header(file: Stream, at: int) -> tuple[dict[int, Any], int]:
    """The fields of a page's header, and its length."""
    size = _FIRST_READ
    while True:
        file.seek(at)
        data = file.read(size)
        try:
            fields, end = _struct(data, 0, 0)
        except IndexError:
            if len(data) < size or size >= _LONGEST_HEADER:
                raise ValueError("a page's header breaks off") from None
            size *= 4
            continue
        return fields, end


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != _STOP:
        at += 1
        kind, ahead = head & 15, head >> 4
        if ahead:
            number += ahead
        else:
            number, at = _number(data, at)
        fields[number], at = _value(data, at, kind, depth, in_list=False)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int, *, in_list: bool) -> tuple[Any, int]:
    if depth > _MOST_DEPTH:
        raise ValueError("a header is nested too deeply")
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at + in_list
    if kind in _NUMBERS:
        return _number(data, at)
    if kind in (_BYTE, _DOUBLE):
        return None, at + (8 if kind == _DOUBLE else 1)
    if kind == _BINARY:
        length, at = _unsigned(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind in _LISTS:
        head, at = data[at], at + 1
        count = head >> 4
        if count == 15:
            count, at = _unsigned(data, at)
        if count > len(data):
            raise IndexError
        found = []
        for _ in range(count):
            inner, at = _value(data, at, head & 15, depth + 1, in_list=True)
            found.append(inner)
        return found, at
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    raise ValueError("a header holds what none has")


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of a header has no end")


def _number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
