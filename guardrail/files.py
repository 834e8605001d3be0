"""Files that are whole or not there: what a full disk or a kill cuts off stays under no final name."""

import os
from pathlib import Path

__all__ = ["append_whole", "write_whole"]


def write_whole(path: Path, text: str) -> None:
    """Write a file under a name of its own and give it its final one when it is on disk.

    Raises:
        OSError: it could not be written; an older file of that name is as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append_whole(path: Path, data: bytes) -> None:
    """Append bytes that are on disk when this returns; what a failure left of them is cut off again.

    Raises:
        OSError: they could not be written, a full disk for example. Where not even the cut went through,
            the file ends in a torn record.
    """
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
