"""One writer a folder: who writes a run, or makes anchors, holds the folder's lock; a second one is refused by name.

The lock is the operating system's, so that it ends with its process, by `kill -9` too, and a forked child does not
inherit it. Where the file system knows no locks there is none, and the log says so.
"""

import atexit
import contextlib
import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from guardrail.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: runs are read there, and not written
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_FILE", "hold", "holding", "release", "writer_gone"]

LOCK_FILE = "writer.lock"
"""Is there while a process holds the folder, and says which; what a kill leaves of it locks nothing."""

_WAIT_S = 2.0
"""Whoever adds one record to a run that has ended holds it for milliseconds: that is waited for."""

logger = logging.getLogger(__name__)

_held: dict[str, tuple[int, int]] = {}
"""Lock file → the process that took it and its descriptor: closing another one of that file would end the lock."""
_changing = threading.Lock()


def hold(folder: Path, *, wait_s: float = _WAIT_S) -> bool:
    """Become the writer of a folder, until `release` or the end of this process.

    Returns:
        Whether the lock was taken now; False where this process has it already.

    Raises:
        InputError: another process is the writer; it is named.
        OSError: the lock file cannot be made.
    """
    path = os.path.realpath(folder / LOCK_FILE)
    with _changing:
        if _is_mine(path):
            return False
        deadline = time.monotonic() + wait_s
        while (file := _taken(path)) is None:
            if time.monotonic() > deadline:
                raise InputError(
                    f"`{folder}` is being written by {_holder(path)}; wait until it has ended, or end it, then try again"
                )
            time.sleep(0.02)
        _held[path] = (os.getpid(), file)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(file, 0)
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            os.write(
                file, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode()
            )
        return True


def release(folder: Path) -> None:
    """Let others write a folder; nothing happens where this process does not hold it."""
    path = os.path.realpath(folder / LOCK_FILE)
    with _changing:
        if _is_mine(path):
            with contextlib.suppress(OSError):
                os.unlink(
                    path
                )  # while it is locked: who waits for it sees that the name is another file's
            _close(_held.pop(path)[1])


def writer_gone(folder: Path) -> bool:
    """Return whether the writer of a folder ended without releasing it, as after `kill -9` or for want of memory.

    False too where that cannot be known: the lock file is not there, was written on another machine or by nobody, or the file system
    knows no locks.
    """
    path = os.path.realpath(folder / LOCK_FILE)
    if fcntl is None or _is_mine(path):
        return False
    try:
        # In a stranger's folder it may be a pipe, which would be waited for.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        said = os.read(file, 200).decode("utf-8", "replace")
        if f" on {socket.gethostname()} since " not in said:
            return False
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # ends with the file: nobody is kept out
        return _is_named(file, path)
    except OSError:  # it is held
        return False
    finally:
        _close(file)


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a folder for the body, where this process does not hold it already.

    Raises:
        InputError: as `hold`.
    """
    took = hold(folder)
    try:
        yield
    finally:
        if took:
            release(folder)


@atexit.register
def _release_all() -> None:
    for path, (process, _) in list(_held.items()):
        if process == os.getpid():
            release(Path(path).parent)


def _taken(path: str) -> int | None:
    """The lock file, locked; None where another process has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if _locked(file, path) and _is_named(file, path):
        return file
    _close(file)
    return None


def _holder(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            said = file.read(200).strip()
    except OSError:
        said = ""
    return "".join(c if c.isprintable() else "?" for c in said) or "another process"


def _is_named(file: int, path: str) -> bool:
    """Whether an open file is the one of that name, and was not deleted since it was opened."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


def _is_mine(path: str) -> bool:
    if path not in _held:
        return False
    process, file = _held[path]
    if process == os.getpid() and _is_named(file, path):
        return True
    del _held[path]
    if process == os.getpid():  # a fork only remembers what it does not hold
        _close(file)
    return False


def _close(file: int) -> None:
    with contextlib.suppress(OSError):
        os.close(file)


def _locked(file: int, path: str) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        logger.warning(
            "`%s`: this file system knows no locks (%s); nothing keeps a second process from writing there",
            path,
            error.strerror,
        )
    return True
