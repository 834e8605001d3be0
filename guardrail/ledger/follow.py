"""The records of a ledger that is being written: each reading goes on where the last one ended."""

import errno
import json
import math
from pathlib import Path
from typing import Any

from guardrail.ledger.chain import check_line
from guardrail.ledger.file import FILE_NAME, Record
from guardrail.read_back import SEAL, open_regular

__all__ = ["LedgerTail"]

_OVERLAP_BYTES = 256
_LONGEST_LINE = 4 << 20
"""Bytes; a look of 2000 streams has less than one million."""
_MOST_DEPTH = 50
_LONGEST_INT = 20
"""Characters."""
_LARGEST = 1 << 30
"""Bytes of a ledger."""


class LedgerTail:
    """What can be read of a run's ledger so far. Reads only; the run may not exist yet."""

    def __init__(self, run: Path) -> None:
        """Read nothing yet."""
        self.path = run / FILE_NAME
        self.exists = False
        self._state: tuple[int, int, int] | None = None
        self._forget()

    def _forget(self) -> None:
        self.records: list[Record] = []
        self.damaged: list[int] = []
        """Numbers of the lines that are no record, or not as it was written; a torn last line is not one yet."""
        self._lines = 0
        self._before: str | None = ""
        self._offset = 0
        self._end = b""

    def read_on(self) -> list[Record] | None:
        """Read what was appended since, and return it; None where nothing was.

        A ledger that was cut, replaced or taken away is read from its beginning.

        Raises:
            OSError: the ledger is there and cannot be read.
        """
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            gone = self.exists
            self.exists, self._state = False, None
            self._forget()
            return [] if gone else None
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if state == self._state:
            return None
        with open_regular(self.path) as file:
            if found.st_size > _LARGEST:
                raise OSError(errno.EFBIG, f"is larger than {_LARGEST >> 20} MiB", str(self.path))
            file.seek(max(0, self._offset - len(self._end)))
            same = self._state is not None and self._state[0] == found.st_ino
            if not (same and file.read(len(self._end)) == self._end):
                self._forget()
                file.seek(0)
            data = file.read()
        self.exists, self._state = True, state
        complete = data[: data.rfind(b"\n") + 1]
        before = len(self.records)
        for raw in complete.split(b"\n")[:-1]:
            self._lines += 1
            record = _record(raw)
            self._before, whole = check_line(raw, self._before)
            if record is None or not whole:
                self.damaged.append(self._lines)
            else:
                if self._before:
                    record.pop(SEAL, None)
                self.records.append(record)
        self._offset += len(complete)
        self._end = (self._end + complete)[-_OVERLAP_BYTES:]
        return self.records[before:]


def _record(raw: bytes) -> Record | None:
    if len(raw) > _LONGEST_LINE:
        return None
    try:
        # NaN is never a number, and neither is what no float or chart holds.
        record = json.loads(
            raw, parse_constant=lambda _: None, parse_float=_finite, parse_int=_small
        )
        whole = isinstance(record["kind"], str) and type(record["step"]) is int
        whole = whole and abs(record["step"]) < 2**53  # what JSON and a chart can hold
        whole = whole and not _deeper(record, _MOST_DEPTH)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if whole else None


def _deeper(value: Any, levels: int) -> bool:
    """Whether something is nested more deeply than that; what draws a page descends into it."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return not levels or any(
        _deeper(inner, levels - 1) for inner in value if isinstance(inner, dict | list)
    )


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _small(text: str) -> int | None:
    return int(text) if len(text) <= _LONGEST_INT else None
