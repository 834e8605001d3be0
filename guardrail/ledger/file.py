"""The ledger: one JSON line a record, appended and fsynced before anything acts on it.

`pandas.read_json("ledger.jsonl", lines=True)` reads it; the last key of a line is a digest (chain.py). A record is never changed or removed; a
resumed run appends `rewound` and goes on, and `live_records` gives the branch that counts.
"""

import json
import math
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import append_whole
from guardrail.ledger.chain import check_line, seal_line
from guardrail.read_back import SEAL, read_bounded
from guardrail.redaction import redacted
from guardrail.writer_lock import hold, release

__all__ = [
    "Ledger",
    "Record",
    "happened_at",
    "live_records",
    "newest_header",
    "no_ledger",
    "read_ledger",
]

Record = dict[str, Any]

FILE_NAME = "ledger.jsonl"
RESOLVED_FILE = "recipe.resolved.json"
"""The recipe with every default, which `guardrail run` writes beside the ledger."""
_LARGEST = 1 << 30
"""Bytes."""


_OPENING, _CLOSING = ("started", "rewound"), ("ended", "crashed")
"""Kinds between which a run has one writer; others hold it for one record."""
_appending = threading.RLock()
"""Of this process's threads one appends at a time; a listener may append in its turn."""


class Ledger:
    """Appends records to `RUN/ledger.jsonl`. One process at a time (`writer_lock`); readers need no lock.

    Who appends `started` or `rewound` is the run's only writer until it appends `ended` or `crashed`, or its process
    ends. What comes later, as a decision does, holds the run for itself alone.
    """

    def __init__(
        self,
        run: Path,
        on_record: Callable[[Record], None] | None = None,
        *,
        writes: bool = True,
    ) -> None:
        """Touch nothing yet; a torn last line is cut off before the first record.

        Of several processes that train together one `writes`; the others' records go nowhere.
        """
        self.path = run / FILE_NAME
        self._on_record = on_record
        self._writes = writes
        self._next = 0
        self._size: int | None = None
        """Bytes that are known to be whole records; None where a failed write may have left more."""
        self._before = ""
        """Digest of the last record."""

    def hold(self) -> None:
        """Become the run's only writer before the first record of a training.

        Raises:
            InputError: another process is; it is named.
        """
        if self._writes:
            hold(self.path.parent)

    def append(self, kind: str, step: int, **fields: Any) -> Record:
        """Write one record durably and return it. Fields must be JSON values; NaN is refused, secrets are hidden.

        Raises:
            OSError: it could not be written. Nothing of it stays, and later records can be appended.
            InputError: another process is the run's writer.
        """
        if not self._writes:
            return self._record(kind, step, fields)[0]
        with _appending:
            took = hold(self.path.parent)
            try:
                self._mend()
                record, plain = self._record(kind, step, fields)
                line, digest = seal_line(plain, self._before)
                size, self._size = self._size, None
                append_whole(self.path, line + b"\n")
                self._size, self._before = (size or 0) + len(line) + 1, digest
                self._next += 1
            except BaseException:
                if took:
                    release(self.path.parent)
                raise
            if kind in _CLOSING or (took and kind not in _OPENING):
                release(self.path.parent)
        if self._on_record is not None:
            self._on_record(record)
        return record

    def _record(self, kind: str, step: int, fields: dict[str, Any]) -> tuple[Record, bytes]:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        said = redacted(fields)  # from here it goes on to report, trackers and the next recipe
        record: Record = {"seq": self._next, "time": now, "kind": kind, "step": step, **said}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        return record, line.encode("utf-8", errors="backslashreplace")

    def _mend(self) -> None:
        """Cut off what a failed write or a kill left, and count on from what others wrote since."""
        found = self.path.stat().st_size if self.path.exists() else 0
        if self._size is None or found != self._size:
            self._next, self._before = _cut_torn_tail(self.path) if found else (0, "")
            self._size = self.path.stat().st_size if found else 0


def _cut_torn_tail(path: Path) -> tuple[int, str]:
    """Drop the bytes after the last complete record; return the next sequence number and the digest to go on from."""
    records, good_bytes, before = _parse(path)
    if good_bytes < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(good_bytes)
    last = records[-1].get("seq", len(records) - 1) if records else -1
    return (last + 1 if isinstance(last, int) else len(records)), before


def _parse(path: Path) -> tuple[list[Record], int, str]:
    """The complete records, their bytes, and the last one's digest."""
    records: list[Record] = []
    good, before = 0, ""
    try:
        data = read_bounded(path, _LARGEST)
    except OSError as error:
        raise InputError(f"ledger `{path}` cannot be read ({error.strerror})") from error
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):  # what has no line feed is torn
        try:
            record = json.loads(raw)
            if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
                raise ValueError("no record")
            if not isinstance(record.get("step"), int):
                raise ValueError("a record without its step")
            found, whole = check_line(raw, before)
            if not whole:
                raise ValueError("it, or a line before it, is not as it was written")
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"ledger `{path}` line {number} is damaged ({_shortly(error)}); "
                "restore the file from a copy, later records are intact"
            ) from error
        if before := found or "":
            del record[SEAL]
        records.append(record)
        good += len(raw) + 1
    return records, good, before


def _shortly(error: Exception) -> str:
    return f"{error}"[:200] or type(error).__name__


def read_ledger(run: str | Path) -> list[Record]:
    """Return every complete record of a run, oldest first; a torn last line is left out.

    Raises:
        InputError: there is no ledger, or a line before the last one is damaged.
    """
    path = Path(run) / FILE_NAME
    if not path.is_file():
        raise no_ledger(run)
    return _parse(path)[0]


def no_ledger(run: str | Path) -> InputError:
    """Return what to say of a folder without a ledger: of a run that has not begun yet, or of no run."""
    if not (Path(run) / RESOLVED_FILE).is_file():
        return InputError(f"`{run}` holds no {FILE_NAME}; give the folder of a guarded run")
    return InputError(
        f"`{run}` holds no {FILE_NAME} yet: its run is loading the model, or ended before it began, and then its terminal says "
        f"why; ask again, or wait with `guardrail status {run} --watch`"
    )


def happened_at(record: Record) -> int:
    """Return the step of the training at which a record was made.

    It is later than the step it tells of where a look was answered beside the training.
    """
    later = record.get("applied_step")
    return later if isinstance(later, int) else int(record["step"])


def newest_header(records: Iterable[Record], up_to: float = math.inf) -> Record:
    """Return a run's header as the resumes of its live branch changed it on purpose, empty where it has none.

    Args:
        records: Of its ledger, oldest first.
        up_to: Changes at later steps are left out.
    """
    records = list(records)
    # A resume without a checkpoint rewinds to before step 0, and takes the header with it.
    header = next((r for r in records if r["kind"] == "started"), {})
    for record in live_records(records):
        changed = record.get("header")
        if (
            record["kind"] == "recipe_changed"
            and record["step"] <= up_to
            and isinstance(changed, dict)
        ):
            header = header | changed
    return header


def live_records(records: Iterable[Record]) -> list[Record]:
    """Return the records of the live branch: what a later `rewound to step S` undid is left out.

    `started` is kept, for a resumed run is the same run; `ended` and `crashed` are not.
    """
    live: list[Record] = []
    for record in records:
        if record["kind"] == "rewound":
            live = [
                r
                for r in live
                if r["kind"] == "started"
                or (happened_at(r) <= record["step"] and r["kind"] not in ("ended", "crashed"))
            ]
        live.append(record)
    return live
