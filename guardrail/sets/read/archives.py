"""Archives → the files of rows that lie in them, each as a stream: zip, tar, gzip."""

import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryFile

from guardrail.errors import InputError
from guardrail.sets.read.raw_rows import (
    CHUNK,
    MOST_RATIO,
    Stream,
    Unpacked,
    buffered,
    out_of_proportion,
)

__all__ = ["is_tar", "is_workbook", "on_disk", "tar_members", "unpacked_gzip", "zip_members"]

_LARGEST_HEADER = 64 << 10
_MOST_GLOBAL_HEADERS = 16
"""What a tar says of a member beside its 512 bytes (long names, pax), in bytes; and of all members from there on."""
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_ROWS_IN = (
    ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather", ".xlsx",
)  # fmt: skip
_NO_ROWS_IN = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What `datasets` writes beside its rows."""

Member = tuple[Stream, str]
"""What a file in an archive unpacks to, and what to call it."""


def _has_rows(name: str) -> bool:
    """Whether a file in an archive is one of rows: not what macOS adds, a description, a licence or a read-me."""
    path = PurePosixPath(name.lower().replace("\\", "/"))
    beside = (".", "readme", "license", "licence", "changelog", "requirements")
    return (
        path.name.endswith(_ROWS_IN)
        and "__macosx" not in path.parts
        and path.name not in _NO_ROWS_IN
        and not path.name.startswith(beside)
    )


def _no_rows(where: str, names: list[str]) -> InputError:
    shown = ", ".join(f"`{name:.80}`" for name in names[:5]) or "nothing"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return InputError(
        f"{where} holds no file of rows ({' '.join(_ROWS_IN)}); it holds {shown}{more}. Unpack it and name the file"
    )


def is_workbook(archive: zipfile.ZipFile) -> bool:
    """Return whether a zip is a workbook."""
    return any(member.filename == "[Content_Types].xml" for member in archive.infolist())


def zip_members(archive: zipfile.ZipFile, where: str, packed: int) -> Iterator[Member]:
    """Yield the files of rows in a zip.

    Args:
        archive: The zip.
        where: What it is called.
        packed: Bytes of the whole file: what the members say they are packed to may be the same bytes many times.

    Raises:
        InputError: there is none, or they unpack to far more than the file's size.
    """
    members = [m for m in archive.infolist() if not m.is_dir()]
    wanted = [m for m in members if _has_rows(m.filename)]
    if not wanted:
        raise _no_rows(where, [m.filename for m in members])
    if out_of_proportion(sum(m.file_size for m in wanted), packed):
        raise InputError(f"{where} unpacks to more than {MOST_RATIO} times its size")
    for member in wanted:
        with archive.open(member) as inner:
            name = f"{where} member `{member.filename:.200}`"
            size = member.compress_size
            yield buffered(Unpacked(inner, name, lambda size=size: size)), name  # type: ignore[misc]


def is_tar(head: bytes) -> bool:
    """Return whether a file that begins so is a tar."""
    return head[257:262] == b"ustar"


def tar_members(file: Stream, where: str, packed: Callable[[], int]) -> Iterator[Member]:
    """Yield the files of rows in a tar, in its order: finding them by name would unpack it again for each.

    Args:
        file: Unpacked where it was packed.
        where: What it is called.
        packed: How many bytes of the packed file have been read so far.

    Raises:
        InputError: there is none, or one is far larger than what it came from.
    """
    found = False
    names: list[str] = []
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_bounded_header(where)) as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every one
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            if not _has_rows(member.name):
                names.append(member.name[:80])
                del names[1000:]
                continue
            found = True
            name = f"{where} member `{member.name:.200}`"
            yield buffered(Unpacked(content, name, packed)), name
    if not found:
        raise _no_rows(where, names)


def _bounded_header(where: str) -> type[tarfile.TarInfo]:
    """A kind of `TarInfo` for one tar: what it says of its members is read whole, and so is bounded."""
    shared = 0

    class Bounded(tarfile.TarInfo):
        def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
            nonlocal shared
            shared += self.type == tarfile.XGLTYPE
            if self.type in (*_LONG_NAMES, *_PAX) and self.size > _LARGEST_HEADER:
                raise InputError(
                    f"{where} says more than {_LARGEST_HEADER >> 10} KiB about a member; pack it again"
                )
            if shared > _MOST_GLOBAL_HEADERS:
                raise InputError(
                    f"{where} has more than {_MOST_GLOBAL_HEADERS} headers for all members; pack it again"
                )
            return super()._proc_member(archive)  # type: ignore[misc,no-any-return]

    return Bounded


def unpacked_gzip(file: Stream, where: str) -> Stream:
    """Return what a gzip unpacks to."""
    return buffered(Unpacked(gzip.open(file), where, file.tell))


def on_disk(file: Stream) -> Stream:
    """Return a packed file's content as a file that can be read in any order; it goes when it is closed."""
    whole = TemporaryFile()  # noqa: SIM115  closed by whoever closes the stream
    copyfileobj(file, whole, CHUNK)
    whole.seek(0)
    return buffered(whole)
