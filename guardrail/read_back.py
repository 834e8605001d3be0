"""What the guard wrote and reads again: regular files of a bounded size, and content that is as it was written.

A seal is a SHA-256 over the content beside it. It finds a flipped bit, a cut file, an edit by hand and a file of
another run; it is no signature, and whoever means to deceive can compute it anew.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

__all__ = [
    "SEAL",
    "NotAsWritten",
    "is_regular",
    "named_place",
    "open_regular",
    "read_bounded",
    "read_json",
    "sealed",
    "unsealed",
    "why_unreadable",
]

SEAL = "digest"
"""The key under which sealed content keeps its SHA-256."""

_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class NotAsWritten(ValueError):
    """Content that is torn, no JSON, or not what its seal says; whoever reads it names the file and the next step."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON content with its seal."""
    plain: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return plain | {SEAL: _digest(plain)}


def unsealed(content: Any) -> dict[str, Any]:
    """Return sealed content without its seal.

    Raises:
        NotAsWritten: it has no seal, or another.
    """
    if not isinstance(content, dict):
        raise NotAsWritten(f"it must be an object, got {type(content).__name__}")
    plain = {name: value for name, value in content.items() if name != SEAL}
    if SEAL not in content:
        raise NotAsWritten(f"it has no `{SEAL}`")
    try:
        found = _digest(plain)
    except (ValueError, RecursionError) as error:
        raise NotAsWritten(f"{error}"[:200] or type(error).__name__) from error
    if content[SEAL] != found:
        raise NotAsWritten(f"its content is not what its `{SEAL}` says")
    return plain


def why_unreadable(error: Exception) -> str:
    """Return what to say of a sealed line that could not be read: what its seal says, else the kind of error alone."""
    return f"{error}" if isinstance(error, NotAsWritten) else type(error).__name__


def _digest(plain: Mapping[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def named_place(folder: Path) -> str:
    """Return the last two names of a folder's path, by which a small file says whose it is.

    The rest of a path is another one where another machine sees the folder.
    """
    return "/".join(folder.resolve().parts[-2:])


def open_regular(path: Path, *, inside: Path | None = None) -> IO[bytes]:
    """Open a regular file for reading; never waits, as opening a FIFO would.

    Args:
        path: The file; symbolic links are followed.
        inside: The folder it must lie in when they have been.

    Raises:
        OSError: it is not there, no regular file, or outside of the folder.
    """
    try:
        real = path.resolve()
    except (RuntimeError, ValueError) as error:  # a loop of links, a null byte
        raise OSError(errno.EINVAL, f"{error}"[:200], str(path)) from error
    if inside is not None and not real.is_relative_to(inside.resolve()):
        raise OSError(errno.EACCES, "lies outside of the folder", str(path))
    handle = os.open(real, os.O_RDONLY | _NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def is_regular(path: Path) -> bool:
    """Return whether a path leads to a regular file; one that no file can have leads to none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, a null byte
        return False


def read_bounded(path: Path, at_most: int, *, inside: Path | None = None) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as `open_regular`, or it is larger than `at_most` bytes.
    """
    with open_regular(path, inside=inside) as file:
        # Its size first, so that nothing is read of what is too large; that of a file in /proc is 0.
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > at_most else file.read(at_most + 1)
    if max(size, len(data)) > at_most:
        raise OSError(errno.EFBIG, f"is larger than {at_most >> 20} MiB", str(path))
    return data


def read_json(path: Path, at_most: int) -> Any:
    """Return the JSON of a file.

    Raises:
        OSError: as `read_bounded`.
        NotAsWritten: it is no JSON; torn for example.
    """
    try:
        return json.loads(read_bounded(path, at_most).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotAsWritten(f"{error}"[:200] or type(error).__name__) from error
