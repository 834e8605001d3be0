"""Files that are whole or not there: what a full disk or a kill cuts off stays under no final name."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["append_whole", "whole_file", "write_whole"]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write a file under; it gets its final one when the body ends and it is on disk.

    The name is this thread's own, so that two who write the same file at once leave one of the two, whole. A kill
    leaves a `*.partial` behind, which nobody reads.

    Raises:
        OSError: it could not be written; an older file of that name is as it was.
    """
    mine = f"{path.name}.{os.getpid()}-{threading.get_native_id()}.partial"
    partial = path.with_name(mine)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a text file; see `whole_file` for what that promises and raises."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_whole(path: Path, data: bytes) -> None:
    """Append bytes that are on disk when this returns; what a failure left of them is cut off again.

    Raises:
        OSError: they could not be written, a full disk for example. Where not even the cut went through,
            the file ends in a torn record.
    """
    new = not path.exists()
    with path.open("ab", buffering=0) as file:  # a buffer would try again what has failed
        before = file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise
    if new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Put a file's new name on disk too, where the file system can do that for a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
