"""What a parquet file unpacks to, told from the headers of its pages: its footer may say anything.

A reader makes room for a page by what the page's header says, so these are the numbers that count. Headers are Thrift's
compact protocol: fields with a kind and a number each, integers of seven bits a byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guardrail.sets.read.raw_rows import Stream

__all__ = ["Unpacking", "column_unpacks_to"]

_LONGEST_HEADER = 1 << 20
_FIRST_READ = 1 << 10
_MOST_DEPTH = 8
_A_VALUE = 16
"""Bytes that are reckoned for a value of a list, of which millions may be stored in a few bytes."""
_UNCOMPRESSED, _COMPRESSED = 2, 3
_KINDS = {5: "data", 7: "dictionary", 8: "data"}
"""Field of a page's header that holds the header of its kind."""
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_NUMBERS, _LISTS = (4, 5, 6), (9, 10)


@dataclass(frozen=True, slots=True)
class Unpacking:
    """What a column of a row group is packed and unpacked to, in bytes."""

    packed: int
    unpacked: int


def column_unpacks_to(file: Stream, column: Any, *, repeated: bool) -> Unpacking:
    """Return what the pages of a column of a row group say of themselves.

    Args:
        file: The parquet file; it is left anywhere.
        column: What the footer says of the column.
        repeated: Whether it lies in a list, so that a row may have any number of values.

    Raises:
        ValueError: the pages are not where the footer says, or a header is none.
    """
    packed = unpacked = values = 0
    for page, size, number, is_data in _pages(file, column):
        packed += size
        unpacked += max(page, _A_VALUE * number if repeated and is_data else 0)
        values += number if is_data else 0
        if values >= column.num_values:
            break
    return Unpacking(packed, unpacked)


def _pages(file: Stream, column: Any) -> Iterator[tuple[int, int, int, bool]]:
    """Unpacked and packed bytes of each page, its values, and whether these are the column's."""
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < at:
        at = column.dictionary_page_offset
    end = at + column.total_compressed_size
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
        raise ValueError("a page's header is nested too deeply")
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
        for _ in range(count):
            _, at = _value(data, at, head & 15, depth + 1, in_list=True)
        return None, at
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    raise ValueError("a page's header holds what none has")


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of a page's header has no end")


def _number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at
