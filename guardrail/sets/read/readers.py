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
import zlib
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

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes a line, an element or a cell may have; a longer one is taken for a broken file."""

Progress = Callable[[int], None]
"""Told how many bytes of the file have been read so far."""

_CHUNK = 1 << 16
_ROWS = 1024
_MOST_DEPTH = 100
_MOST_RATIO = 200
"""How much larger than packed an archive may be, from `_UNASKED` bytes on; text packs to a tenth."""
_UNASKED = 64 << 20
_MOST_BLANK = 100_000
"""Empty lines of a file."""
_MOST_COLUMNS = 1000
_MOST_SHEET_ROWS = 1 << 20
"""What a workbook can have."""
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
        except InputError:
            raise
        except UnicodeDecodeError as error:
            raise InputError(_not_decodable(f"`{path}`", error, encoding)) from error
        except LookupError as error:
            raise InputError(
                f"`{path}`: {_first_line(error)}; name an encoding that Python knows"
            ) from error
        except (
            zipfile.BadZipFile,
            tarfile.TarError,
            zlib.error,
            EOFError,
            OSError,
            ValueError,
            RecursionError,
            NotImplementedError,
            pyarrow.ArrowException,
        ) as error:
            raise InputError(
                f"`{path}` is damaged ({_first_line(error)}); get the file again"
            ) from error
        except RuntimeError as error:  # what zipfile says of a password
            raise InputError(f"`{path}` cannot be unpacked ({_first_line(error)})") from error


def _not_decodable(where: str, error: UnicodeDecodeError, encoding: str) -> str:
    try:
        codecs.getincrementaldecoder("gb18030")().decode(error.object)
        hint = "it reads as GB18030: add `--encoding gb18030`"
    except UnicodeDecodeError:
        hint = "name its encoding with `--encoding`"
    return f"{where} is not {encoding} ({error.reason}); {hint}"


def _rows(file: _Stream, where: str, encoding: str, *, packed: bool = False) -> Iterator[Row]:
    head = file.peek(_CHUNK)[:_CHUNK]
    if packed and head.startswith((b"PK", b"\x1f\x8b")):
        raise InputError(f"{where} is an archive inside of an archive; unpack it first")
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


class _Unpacked(io.RawIOBase):
    """What an archive unpacks to, refused where that is out of all proportion to what it is packed to."""

    def __init__(self, inner: Any, where: str, packed: Callable[[], int]) -> None:
        self._inner, self._where, self._packed, self._given = inner, where, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given > _UNASKED and self._given > _MOST_RATIO * max(1, self._packed()):
            raise InputError(
                f"{self._where} unpacks to more than {_MOST_RATIO} times its size; unpack it yourself if that is meant"
            )
        return len(data)


def _zip_or_workbook(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if not any(m.filename == "[Content_Types].xml" for m in members):
            for member in members:
                if not member.filename.lower().endswith(_ARCHIVED):
                    continue
                with archive.open(member) as inner:
                    name = f"{where} member `{member.filename:.200}`"
                    size = member.compress_size
                    unpacked = _buffered(_Unpacked(inner, name, lambda size=size: size))  # type: ignore[misc]
                    yield from _rows(unpacked, name, encoding, packed=True)
            return
        whole, packed = (
            sum(getattr(m, size) for m in members) for size in ("file_size", "compress_size")
        )
    if whole > _UNASKED and whole > _MOST_RATIO * max(1, packed):
        raise InputError(f"{where} unpacks to more than {_MOST_RATIO} times its size")
    file.seek(0)
    yield from _workbook(file, where)


def _workbook(file: _Stream, where: str) -> Iterator[Row]:
    """The rows of the first sheet; openpyxl has a dozen errors for a broken one."""
    rows: Iterator[Any] = iter(())
    header: list[str] = []
    number = 0
    while True:
        try:
            if not number:
                sheet = load_workbook(file, read_only=True, data_only=True).worksheets[0]
                rows = sheet.iter_rows(values_only=True, max_row=_MOST_SHEET_ROWS)
            cells = next(rows, None)
        except Exception as error:
            raise InputError(
                f"{where} is a workbook that cannot be read ({type(error).__name__}: {_first_line(error)}); save it "
                "again, or give CSV"
            ) from error
        if cells is None:
            return
        number += 1
        here = f"{where} row {number}"
        if len(cells) > _MOST_COLUMNS:
            raise InputError(f"{here} has more than {_MOST_COLUMNS} columns; is this one table?")
        if number == 1:
            header = [str(cell) if cell is not None else "" for cell in cells]
        elif any(cell is not None for cell in cells):
            pairs = zip(header, cells, strict=False)
            yield Row(here, {k: "" if v is None else v for k, v in pairs})


def _gzip(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    with gzip.open(file) as inner:
        is_tar = inner.read(512)[257:262] == b"ustar"
    file.seek(0)
    with gzip.open(file) as inner:
        stream = _buffered(_Unpacked(inner, where, file.tell))
        if not is_tar:
            yield from _rows(stream, where, encoding, packed=True)
            return
        # In archive order: finding members by name would unpack the archive again for each.
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and member.name.lower().endswith(_ARCHIVED):
                    name = f"{where} member `{member.name:.200}`"
                    yield from _rows(_buffered(content), name, encoding, packed=True)


def _parquet(file: _Stream, where: str) -> Iterator[Row]:
    table = parquet.ParquetFile(file)
    number = 0
    for group in range(table.num_row_groups):
        about = table.metadata.row_group(group)
        columns = [about.column(at) for at in range(about.num_columns)]
        whole = sum(c.total_uncompressed_size for c in columns)
        packed = sum(c.total_compressed_size for c in columns)
        if whole > _UNASKED and whole > _MOST_RATIO * max(1, packed):
            raise InputError(f"{where} unpacks to more than {_MOST_RATIO} times its size")
        if whole > LONGEST_LINE * max(1, about.num_rows):
            raise InputError(
                f"{where} has rows of more than {LONGEST_LINE >> 20} MiB; is this really one text a row?"
            )
        # One text that many rows share is stored once, and read as many times.
        largest = max((c.total_uncompressed_size for c in columns), default=1)
        at_once = max(1, min(_ROWS, 4 * _UNASKED // max(1, largest)))
        for batch in table.iter_batches(batch_size=at_once, row_groups=[group]):
            for value in batch.to_pylist():
                number += 1
                yield Row(
                    f"{where} row {number}", {k: v for k, v in value.items() if v is not None}
                )


def _csv(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
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
        if self._blank > _MOST_BLANK:
            raise InputError(_too_blank(self._where))
        if not line:
            raise StopIteration
        return line


def _too_blank(where: str) -> str:
    return f"{where} has more than {_MOST_BLANK} empty lines; get the file again"


class _Elements:
    """The elements of a JSON array or object, one at a time; none may be too long or too deep."""

    def __init__(self, read: Callable[[int], bytes], where: str) -> None:
        self._read, self._where, self._held = read, where, 0

    def read(self, size: int = -1) -> bytes:
        if size == 0:  # ijson asks for the kind of what it will get
            return b""
        data = self._read(_CHUNK if size < 0 else min(size, _CHUNK))
        self._held += len(data)
        if self._held > LONGEST_LINE + 2 * _CHUNK:
            raise InputError(
                f"{self._where} has an element longer than {LONGEST_LINE >> 20} MiB; is this really one row an element?"
            )
        return data

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        depth, key, builder = 0, "", ijson.ObjectBuilder()
        for event, value in ijson.basic_parse(self, use_float=True):
            if depth == 1 and event == "map_key":
                key = value
                continue
            ends = event in ("end_map", "end_array")
            depth -= ends
            if depth > _MOST_DEPTH:
                raise InputError(f"{self._where} is nested deeper than {_MOST_DEPTH} levels")
            if depth:
                builder.event(event, value)
            depth += event in ("start_map", "start_array")
            if depth == 1 and (ends or not event.startswith("start")):
                self._held = 0
                yield key, builder.value
                builder = ijson.ObjectBuilder()


def _json_array(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    number = 0
    try:
        for _, value in _Elements(_as_utf8(file, encoding), where):
            number += 1
            yield _checked(f"{where} element {number}", value)
    except (ijson.JSONError, OverflowError) as error:
        raise InputError(
            f"{where} breaks off after element {number} ({_first_line(error)}); mend the array there"
        ) from error


def _json_lines(file: _Stream, where: str, encoding: str) -> Iterator[Row]:
    """Yield JSONL rows; where the first line alone is no JSON value, the file is one object."""
    blank = 0
    while not (first := file.readline(LONGEST_LINE + 1)).strip():
        blank += 1
        if blank > _MOST_BLANK:
            raise InputError(_too_blank(where))
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
            raise InputError(_not_decodable(here, error, encoding)) from error
        if not line:
            empty += 1
            if empty > _MOST_BLANK:
                raise InputError(_too_blank(where))
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(here, {}, f"is not valid JSON ({_first_line(error)})")
            continue
        if number == blank + 1 and _is_keyed(value) and not file.peek(1):
            yield from (_checked(f"{where} entry `{key:.80}`", v) for key, v in value.items())
            return
        yield _checked(here, value)


def _after(first: bytes, file: _Stream) -> Callable[[int], bytes]:
    """A reader of what was read already and of the rest."""
    left = io.BytesIO(first)
    return lambda size: left.read(size) or file.read(size)


def _json_object(read: Callable[[int], bytes], where: str) -> Iterator[Row]:
    """Yield the values of one object keyed by id, or the object itself where it is one row."""
    fields: dict[str, Any] = {}
    number = 0
    try:
        for key, value in _Elements(read, where):
            number += 1
            if number > _MOST_COLUMNS and fields:
                raise InputError(f"{where} is one object of more than {_MOST_COLUMNS} fields")
            if fields or not isinstance(value, dict) or _ROUND.match(key):
                fields[key] = value
            else:
                yield Row(f"{where} entry `{key:.80}`", value)
    except (ijson.JSONError, OverflowError) as error:
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


def _as_utf8(file: _Stream, encoding: str) -> Callable[[int], bytes]:
    if encoding in ("utf-8", "utf8"):
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            file.read(3)
        return file.read
    text = io.TextIOWrapper(file, encoding=encoding)
    return lambda size: text.read(size // 4 or 1).encode("utf-8")


def _first_line(error: Exception) -> str:
    said = str(error).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__
