"""Tables → rows: CSV with commas or tabs, and every sheet of a workbook."""

import csv
import io
import zipfile
from collections.abc import Iterator
from itertools import chain
from typing import Any

from openpyxl import load_workbook

from guardrail.errors import InputError
from guardrail.sets.read.json_rows import MOST_BLANK, too_blank
from guardrail.sets.read.raw_rows import (
    CHUNK,
    LONGEST_LINE,
    MOST_COLUMNS,
    MOST_RATIO,
    Given,
    Row,
    Stream,
    first_line,
    out_of_proportion,
)

__all__ = ["csv_rows", "workbook_rows"]

_MOST_SHEET_ROWS = 1 << 20
"""What a sheet can have."""


_TAGS_UNASKED, _TAGS_A_BYTE = 100_000, 4
"""Elements of XML a workbook may have, and more for each packed byte: each costs microseconds, also where a hundred
of them are packed into a byte. Real ones have less than one a byte."""


def workbook_rows(archive: zipfile.ZipFile, file: Stream, where: str) -> Iterator[Row]:
    """Yield the rows of every sheet, hidden ones among them; the first row of each names its columns.

    Args:
        archive: The workbook as a zip.
        file: The same as a file.
        where: What it is called.

    Raises:
        InputError: the workbook cannot be read (openpyxl has a dozen errors for a broken one), unpacks to far more than
            its size, or a sheet is too wide.
    """
    given = Given(file, where)
    _check_parts(archive, file.seek(0, io.SEEK_END), where)
    file.seek(0)
    try:
        sheets = load_workbook(file, read_only=True, data_only=True).worksheets
        if not sheets:
            raise ValueError("it has no sheet")
    except Exception as error:
        raise _unreadable(where, error) from error
    parts = {getattr(sheet, "_worksheet_path", "") for sheet in sheets}
    if len(parts) < len(sheets):  # a small part that is many sheets
        raise InputError(f"{where} has the same sheet more than once; save it again, or give CSV")
    for sheet in sheets:
        yield from _sheet(
            sheet, where if len(sheets) == 1 else f"{where} sheet `{sheet.title:.80}`", given
        )


def _check_parts(archive: zipfile.ZipFile, packed: int, where: str) -> None:
    """Refuse what unpacks, or makes work, out of proportion to the file's size; nothing of it is kept."""
    if out_of_proportion(sum(member.file_size for member in archive.infolist()), packed):
        raise InputError(f"{where} unpacks to more than {MOST_RATIO} times its size")
    most = _TAGS_UNASKED + _TAGS_A_BYTE * packed
    tags = 0
    for member in archive.infolist():
        with archive.open(member) as part:
            while block := part.read(CHUNK):
                tags += block.count(b"<") - block.count(b"</")
                if tags > most:
                    raise InputError(
                        f"{where} has more than {most} elements, out of proportion to its size; save it again, or give CSV"
                    )


def _sheet(sheet: Any, where: str, given: Given) -> Iterator[Row]:
    rows: Iterator[Any] | None = None
    header: list[str] = []
    number = 0
    while True:
        try:
            if rows is None:
                rows = sheet.iter_rows(values_only=True, max_row=_MOST_SHEET_ROWS)
            cells = next(rows, None)
        except Exception as error:
            raise _unreadable(where, error) from error
        if cells is None:
            return
        number += 1
        here = f"{where} row {number}"
        given.add(cells if any(cell is not None for cell in cells) else None)
        if len(cells) > MOST_COLUMNS:
            raise InputError(f"{here} has more than {MOST_COLUMNS} columns; is this one table?")
        if number == 1:
            header = [str(cell) if cell is not None else "" for cell in cells]
        elif any(cell is not None for cell in cells):
            pairs = zip(header, cells, strict=False)
            yield Row(here, {k: "" if v is None else v for k, v in pairs})


def _unreadable(where: str, error: Exception) -> InputError:
    return InputError(
        f"{where} is a workbook that cannot be read ({type(error).__name__}: {first_line(error)}); save it "
        "again, or give CSV"
    )


def csv_rows(file: Stream, where: str, encoding: str) -> Iterator[Row]:
    """Yield the rows of a table with commas or tabs; its first line names the columns."""
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    csv.field_size_limit(LONGEST_LINE)
    lines = _TextLines(text, where)
    first = next(lines, "")
    separator = "\t" if first.count("\t") > first.count(",") else ","
    rows = csv.DictReader(chain([first], lines), delimiter=separator, restkey="")
    if len(rows.fieldnames or ()) < 2:
        raise InputError(
            f"{where} is neither JSON nor a table: it opens with {first[:40]!r}; "
            "give JSONL, a JSON array, CSV, xlsx or parquet"
        )
    try:
        for value in rows:
            lines.held = 0
            yield Row(f"{where} line {rows.line_num}", {k: v or "" for k, v in value.items()})
    except csv.Error as error:
        raise InputError(f"{where} line {rows.line_num}: {error}; mend or drop the line") from error


class _TextLines(Iterator[str]):
    """The lines of a text, of which a row may be several, none of them longer than a line may be."""

    def __init__(self, text: io.TextIOWrapper, where: str) -> None:
        self._text, self._where, self._blank = text, where, 0
        self.held = 0
        """Characters since the last row, to be set back by whoever has read one."""

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE + 1)
        self.held += len(line)
        self._blank += not line.strip()
        if self.held > LONGEST_LINE:
            raise InputError(
                f"{self._where} has a row longer than {LONGEST_LINE >> 20} MiB; is a quotation mark missing?"
            )
        if self._blank > MOST_BLANK:
            raise InputError(too_blank(self._where))
        if not line:
            raise StopIteration
        return line
