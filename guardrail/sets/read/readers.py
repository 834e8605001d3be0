"""Files of any shape → raw rows, streamed: JSONL, JSON arrays and objects, CSV, xlsx, parquet, zip, gzip, tar.

The shape is told from the content, never from the suffix: BELLE's and COIG's `.json` files are JSONL.
"""

import codecs
import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ijson
import pyarrow
import pyarrow.parquet as parquet
from openpyxl import load_workbook

from guardrail.errors import InputError

__all__ = ["LONGEST_LINE", "Progress", "Row", "read_rows"]

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes a line may have; a longer one is taken for a broken file."""

Progress = Callable[[int], None]
"""Told how many bytes of the file have been read so far."""

_CHUNK = 1 << 16
_ROWS = 1024
_ROUND = re.compile(r"round_\d+\Z")
"""COIG's dialogues are one object of rounds, not rows keyed by id."""
_ARCHIVED = (".json", ".jsonl", ".csv", ".txt")


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row and where it stands: `` `FILE` line 3 ``."""

    where: str
    value: dict[str, Any]
    problem: str = ""
    """What is wrong with a line that could not be read; its value is empty then."""


if TYPE_CHECKING:
    _Stream = io.BufferedReader[Any]
else:
    _Stream = io.BufferedReader


def _buffered(raw: Any) -> _Stream:
    return io.BufferedReader(raw, _CHUNK)


class _Counted(io.RawIOBase):
    """A file that tells how far it has been read."""

    def __init__(self, file: IO[bytes], tell: Progress) -> None:
        self._file, self._tell = file, tell

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._tell(self._file.tell())
        return len(data)


def read_rows(
    path: Path, encoding: str = "utf-8", progress: Progress | None = None
) -> Iterator[Row]:
    """Yield the rows of a file in file order, in constant memory.

    A line that cannot be read is yielded as a row with a `problem`; the caller decides whether that
    is an error. What makes the rest of a file unreadable is raised.

    Raises:
        InputError: no such file, empty, not of the encoding, a truncated array or archive.
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist; give the path of a data file")
    if not path.stat().st_size:
        raise InputError(f"`{path}` is empty; give a file with at least one row")
    with path.open("rb") as raw:
        file = _buffered(_Counted(raw, progress or (lambda done: None)))
        try:
            yield from _rows(file, f"`{path}`", encoding)
        except UnicodeDecodeError as error:
            raise InputError(_not_decodable(f"`{path}`", error, encoding)) from error
        except (
            zipfile.BadZipFile,
            tarfile.TarError,
            EOFError,
            OSError,
            pyarrow.ArrowException,
        ) as error:
            raise InputError(f"`{path}` is damaged ({error}); get the file again") from error


def _not_decodable(where: str, error: UnicodeDecodeError, encoding: str) -> str:
    try:
        codecs.getincrementaldecoder("gb18030")().decode(error.object)
        hint = "it reads as GB18030: add `--encoding gb18030`"
    except UnicodeDecodeError:
        hint = "name its encoding with `--encoding`"
    return f"{where} is not {encoding} ({error.reason}); {hint}"


def _rows(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    head = file.peek(_CHUNK)[:_CHUNK]
    if head.startswith(b"PK"):
        yield from _zip_or_workbook(file, where, encoding)
    elif head.startswith(b"\x1f\x8b"):
        yield from _gzip(file, where, encoding)
    elif head.startswith(b"PAR1"):
        yield from _parquet(file, where)
    else:
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith(b"["):
            yield from _json_array(file, where, encoding)
        elif text.startswith(b"{"):
            yield from _json_lines(file, where, encoding)
        else:
            yield from _csv(file, where, encoding)


def _zip_or_workbook(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    with zipfile.ZipFile(file) as archive:
        names = [n for n in archive.namelist() if n.lower().endswith(_ARCHIVED)]
        if "[Content_Types].xml" not in archive.namelist():
            for name in names:
                with archive.open(name) as member:
                    inner = _buffered(member)
                    yield from _rows(inner, f"{where} member `{name}`", encoding)
            return
    file.seek(0)
    sheet = load_workbook(file, read_only=True, data_only=True).worksheets[0]
    rows = sheet.iter_rows(values_only=True)
    header = [str(cell) if cell is not None else "" for cell in next(rows, ())]
    for number, cells in enumerate(rows, start=2):
        if any(cell is not None for cell in cells):
            yield Row(
                f"{where} row {number}",
                {k: "" if v is None else v for k, v in zip(header, cells, strict=False)},
            )


def _gzip(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    with gzip.open(file) as inner:
        is_tar = inner.read(512)[257:262] == b"ustar"
    file.seek(0)
    if not is_tar:
        with gzip.open(file) as inner:
            yield from _rows(_buffered(inner), where, encoding)
        return
    # In archive order: finding members by name would unpack the archive again for each.
    with tarfile.open(fileobj=file, mode="r|gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and member.name.lower().endswith(_ARCHIVED):
                name = f"{where} member `{member.name}`"
                yield from _rows(_buffered(content), name, encoding)


def _parquet(file: _Stream, where: str) -> Iterator[Row]:
    number = 0
    for batch in parquet.ParquetFile(file).iter_batches(batch_size=_ROWS):
        for value in batch.to_pylist():
            number += 1
            yield Row(f"{where} row {number}", {k: v for k, v in value.items() if v is not None})


def _csv(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    csv.field_size_limit(LONGEST_LINE)
    first = text.readline()
    separator = "\t" if first.count("\t") > first.count(",") else ","
    rows = csv.DictReader(chain([first], text), delimiter=separator, restkey="")
    if len(rows.fieldnames or ()) < 2:
        raise InputError(
            f"{where} is neither JSON nor a table: it opens with {first[:40]!r}; "
            "give JSONL, a JSON array, CSV, xlsx or parquet"
        )
    try:
        for value in rows:
            yield Row(f"{where} line {rows.line_num}", {k: v or "" for k, v in value.items()})
    except csv.Error as error:
        raise InputError(f"{where} line {rows.line_num}: {error}; mend or drop the line") from error


def _json_array(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    number = 0
    try:
        for value in ijson.items(_as_utf8(file, encoding), "item", use_float=True):
            number += 1
            yield _checked(f"{where} element {number}", value)
    except ijson.JSONError as error:
        raise InputError(
            f"{where} breaks off after element {number} ({_first_line(error)}); mend the array there"
        ) from error


def _json_lines(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    """Yield JSONL rows; where the first line alone is no JSON value, the file is one object."""
    blank = 0
    while not (first := file.readline(LONGEST_LINE + 1)).strip():
        blank += 1
    opens = first.strip()[-1:] in (b"{", b"[", b",")
    if opens or (len(first) > LONGEST_LINE and not first.endswith(b"\n")):
        yield from _json_object(chain([first], iter(lambda: file.read(_CHUNK), b"")), where)
        return
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
            raise InputError(_not_decodable(here, error, encoding)) from error
        if not line:
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield Row(here, {}, f"is not valid JSON ({error})")
            continue
        if number == blank + 1 and _is_keyed(value) and not file.peek(1):
            yield from (_checked(f"{where} entry `{key}`", v) for key, v in value.items())
            return
        yield _checked(here, value)


def _json_object(chunks: Iterator[bytes], where: str) -> Iterator[Row]:
    """Yield the values of one object keyed by id, or the object itself where it is one row."""
    fields: dict[str, Any] = {}
    number = 0
    try:
        for key, value in ijson.kvitems(ijson.from_iter(chunks), "", use_float=True):
            number += 1
            if fields or not isinstance(value, dict) or _ROUND.match(key):
                fields[key] = value
            else:
                yield Row(f"{where} entry `{key}`", value)
    except ijson.JSONError as error:
        raise InputError(
            f"{where} breaks off after entry {number} ({_first_line(error)}); mend the object there"
        ) from error
    if fields:
        yield Row(where, fields)


def _is_keyed(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 1
        and all(isinstance(v, dict) and not _ROUND.match(k) for k, v in value.items())
    )


def _checked(where: str, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    return Row(where, {}, f"is a {type(value).__name__}, not an object")


def _as_utf8(file: _Stream, encoding: str) -> Any:
    if encoding in ("utf-8", "utf8"):
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        return file
    text = io.TextIOWrapper(file, encoding=encoding)
    return ijson.from_iter(iter(lambda: text.read(_CHUNK).encode("utf-8"), b""))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
