"""Files of any shape → raw rows, streamed; the shape is told from the content, never from the suffix.

JSONL, JSON arrays and objects (`json_rows`), CSV and workbooks (`table_rows`), parquet and Arrow (`columnar_rows`), and
what lies of them in a zip, tar or gzip (`archives`). BELLE's and COIG's `.json` files are JSONL.
"""

import codecs
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow

from guardrail.errors import InputError
from guardrail.read_back import is_regular
from guardrail.sets.read.archives import (
    is_tar,
    is_workbook,
    on_disk,
    tar_members,
    unpacked_gzip,
    zip_members,
)
from guardrail.sets.read.columnar_rows import ARROW_FILE, ARROW_STREAM, arrow_rows, parquet_rows
from guardrail.sets.read.json_rows import json_array, json_lines, not_decodable
from guardrail.sets.read.raw_rows import CHUNK, Row, Stream, buffered, first_line
from guardrail.sets.read.table_rows import csv_rows, workbook_rows

__all__ = ["Progress", "read_rows"]

Progress = Callable[[int], None]
"""Told how many bytes of the file have been read so far."""

_ZIP, _GZIP, _PARQUET = b"PK", b"\x1f\x8b", b"PAR1"
_NOT_UNPACKED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
_WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order marks of encodings in which a line's end is more than one byte."""


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


class _AsUtf8(io.RawIOBase):
    """A text of another encoding as UTF-8, so that its lines end with one byte."""

    def __init__(self, file: Stream, encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding=encoding, newline="")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = self._text.read(CHUNK).encode("utf-8", "surrogatepass")
        given, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def read_rows(
    path: Path, encoding: str = "utf-8", progress: Progress | None = None
) -> Iterator[Row]:
    """Yield the rows of a file in file order, in constant memory.

    A line that cannot be read is yielded as a row with a `problem`; the caller decides whether that
    is an error. What makes the rest of a file unreadable is raised. A byte order mark wins over `encoding`.

    Raises:
        InputError: no such file, empty, not of the encoding, a truncated array or archive.
    """
    if not is_regular(path):
        raise InputError(f"`{path!s:.300}` does not exist; give the path of a data file")
    if not path.stat().st_size:
        raise InputError(f"`{path}` is empty; give a file with at least one row")
    with path.open("rb") as raw:
        file = buffered(_Counted(raw, progress or (lambda done: None)))
        try:
            yield from _rows(file, f"`{path}`", encoding)
        except InputError:
            raise
        except UnicodeDecodeError as error:
            raise InputError(not_decodable(f"`{path}`", error, error.encoding)) from error
        except LookupError as error:
            raise InputError(
                f"`{path}`: {first_line(error)}; name an encoding that Python knows"
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
                f"`{path}` is damaged ({first_line(error)}); get the file again"
            ) from error
        except RuntimeError as error:  # what zipfile says of a password
            raise InputError(f"`{path}` cannot be unpacked ({first_line(error)})") from error


def _rows(file: Stream, where: str, encoding: str, *, packed: bool = False) -> Iterator[Row]:
    head = file.peek(CHUNK)[:CHUNK]
    if packed and head.startswith((_ZIP, _PARQUET)):  # they are read from their end
        with on_disk(file) as whole:
            if head.startswith(_ZIP):
                yield from _zip_rows(whole, where, encoding, packed=True)
            else:
                yield from parquet_rows(whole, where)
    elif packed and (head.startswith(_GZIP) or is_tar(head)):
        raise _nested(where)
    elif head.startswith(_ZIP):
        yield from _zip_rows(file, where, encoding)
    elif head.startswith(_GZIP):
        inner = unpacked_gzip(file, where)
        if not is_tar(inner.peek(512)):
            yield from _rows(inner, where, encoding, packed=True)
            return
        for member, name in tar_members(inner, where, file.tell):
            yield from _rows(member, name, encoding, packed=True)
    elif is_tar(head):
        for member, name in tar_members(file, where, file.tell):
            yield from _rows(member, name, encoding, packed=True)
    elif head.startswith(_PARQUET):
        yield from parquet_rows(file, where)
    elif head.startswith((ARROW_FILE, ARROW_STREAM)):
        yield from arrow_rows(file, where)
    elif kind := next((kind for mark, kind in _NOT_UNPACKED.items() if head.startswith(mark)), ""):
        raise InputError(f"{where} is packed with {kind}; unpack it first")
    else:
        yield from _text_rows(file, where, _WIDE.get(head[:2], encoding))


def _zip_rows(file: Stream, where: str, encoding: str, *, packed: bool = False) -> Iterator[Row]:
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        if is_workbook(archive):
            yield from workbook_rows(archive, file, where)
            return
        if packed:
            raise _nested(where)
        for inner, name in zip_members(archive, where, size):
            yield from _rows(inner, name, encoding, packed=True)


def _text_rows(file: Stream, where: str, encoding: str) -> Iterator[Row]:
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        file, encoding = buffered(_AsUtf8(file, encoding)), "utf-8"
    text = file.peek(CHUNK)[:CHUNK].removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"["):
        yield from json_array(file, where, encoding)
    elif text.startswith(b"{"):
        yield from json_lines(file, where, encoding)
    else:
        yield from csv_rows(file, where, encoding)


def _nested(where: str) -> InputError:
    return InputError(f"{where} is an archive inside of an archive; unpack it first")
