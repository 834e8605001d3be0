"""Tables → rows: CSV with commas or tabs, and every sheet of a workbook."""

import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any

from openpyxl import load_workbook

from guardrail.errors import InputError
from guardrail.sets.read.json_rows import MOST_BLANK, too_blank
from guardrail.sets.read.raw_rows import LONGEST_LINE, MOST_COLUMNS, Row, Stream, first_line

__all__ = ["csv_rows", "workbook_rows"]

_MOST_SHEET_ROWS = 1 << 20
"""What a sheet can have."""


def workbook_rows(file: Stream, where: str) -> Iterator[Row]:
    """Yield the rows of every sheet, hidden ones among them; the first row of each names its columns.

    Raises:
        InputError: the workbook cannot be read (openpyxl has a dozen errors for a broken one), or a sheet is too wide.
    """
    try:
        sheets = load_workbook(file, read_only=True, data_only=True).worksheets
        if not sheets:
            raise ValueError("it has no sheet")
    except Exception as error:
        raise _unreadable(where, error) from error
    for sheet in sheets:
        yield from _sheet(
            sheet, where if len(sheets) == 1 else f"{where} sheet `{sheet.title:.80}`"
        )


def _sheet(sheet: Any, where: str) -> Iterator[Row]:
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
