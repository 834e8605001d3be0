"""Parquet and Arrow → rows, a batch at a time."""

from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet as parquet

from guardrail.errors import InputError
from guardrail.sets.read.parquet_pages import row_groups
from guardrail.sets.read.raw_rows import (
    LONGEST_LINE,
    MOST_RATIO,
    UNASKED,
    Given,
    Row,
    Stream,
    checked_row,
    out_of_proportion,
)

__all__ = ["ARROW_FILE", "ARROW_STREAM", "arrow_rows", "parquet_rows"]

ARROW_FILE, ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"
"""What either kind of Arrow file begins with; what `datasets` keeps on disk is a stream."""
_ROWS = 1024


def parquet_rows(file: Stream, where: str) -> Iterator[Row]:
    """Yield the rows of a parquet file; empty fields are left out.

    Raises:
        InputError: a row is too large, or the file unpacks to far more than its size.
    """
    given, number = Given(file, where), 0
    groups = list(row_groups(file, where))
    for about in groups:
        if out_of_proportion(about.unpacked, about.packed):
            raise InputError(f"{where} unpacks to more than {MOST_RATIO} times its size")
        if about.unpacked > LONGEST_LINE * max(1, about.rows):
            raise _too_large(where)
    file.seek(0)
    table = parquet.ParquetFile(file)
    for group, about in enumerate(groups):
        # One text that many rows share is stored once, and read as many times.
        at_once = max(1, min(_ROWS, 4 * UNASKED // max(1, about.largest)))
        for batch in table.iter_batches(batch_size=at_once, row_groups=[group]):
            for value in batch.to_pylist():
                number += 1
                given.add(value)
                yield _row(f"{where} row {number}", value)


def arrow_rows(file: Stream, where: str) -> Iterator[Row]:
    """Yield the rows of an Arrow file or stream, as `datasets` and `feather` write them; empty fields are left out.

    Packed batches are refused, since how large they unpack to stands inside of them, and so are types whose values
    are stored once and read many times (dictionaries, views).

    Raises:
        InputError: of those, or a row is too large.
    """
    if file.peek(len(ARROW_FILE)).startswith(ARROW_FILE):
        file.read(8)  # the file's form is a stream between its two ends
    messages = pyarrow.ipc.MessageReader.open_stream(file)
    schema = pyarrow.ipc.read_schema(messages.read_next_message())
    for field in schema:
        if not _is_plain(field.type):
            raise InputError(
                f"{where}, column `{field.name:.80}`: the type {str(field.type)[:80]} is not read; write it as parquet or JSONL"
            )
    number = 0
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        if message.type != "record batch":
            raise InputError(f"{where} holds a {message.type}; write it as parquet or JSONL")
        if _is_packed(message.metadata):
            raise InputError(f"{where} is a packed Arrow file; write it unpacked, or as parquet")
        batch = pyarrow.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        size = message.body.size
        if any(_longest(column) > 8 * size + 8 for column in batch.columns):
            raise InputError(f"{where} claims more rows than it holds; get the file again")
        if size > LONGEST_LINE * max(1, batch.num_rows):
            raise _too_large(where)
        for start in range(0, batch.num_rows, _ROWS):
            for value in batch.slice(start, _ROWS).to_pylist():
                number += 1
                yield _row(f"{where} row {number}", value)


def _row(where: str, value: dict[str, Any]) -> Row:
    row = checked_row(where, value)
    return Row(where, {k: v for k, v in row.value.items() if v is not None})


def _too_large(where: str) -> InputError:
    return InputError(
        f"{where} has rows of more than {LONGEST_LINE >> 20} MiB; is this really one text a row?"
    )


def _is_plain(kind: pyarrow.DataType) -> bool:
    """Whether its values are stored one by one, so that a file cannot give more than it holds."""
    types = pyarrow.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(kind.field(at).type) for at in range(kind.num_fields))
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_temporal(kind)
        or types.is_null(kind)
    )


def _longest(column: pyarrow.Array) -> int:
    """The most elements of a column and of what is nested in it."""
    kind = column.type
    inner: list[Any] = []
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        inner = [column.values]
    elif pyarrow.types.is_struct(kind):
        inner = [column.field(at) for at in range(kind.num_fields)]
    return max([len(column), *map(_longest, inner)])


def _is_packed(metadata: Any) -> bool:
    """Whether a record batch's header names a compression; pyarrow has checked its form, and does not say.

    The header is a flatbuffer: a table is where its fields lie, told by another table before it.
    """
    data = memoryview(metadata)

    def number(at: int, width: int) -> int:
        return int.from_bytes(data[at : at + width], "little", signed=width == 4)

    def field(table: int, index: int) -> int:
        where_fields_lie = table - number(table, 4)
        if 4 + 2 * index >= number(where_fields_lie, 2):
            return 0
        offset = number(where_fields_lie + 4 + 2 * index, 2)
        return table + offset if offset else 0

    message = number(0, 4)
    header = field(message, 2)
    return bool(field(header + number(header, 4), 3))
