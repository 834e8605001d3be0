"""The ledger: one JSON line a record, appended and fsynced before anything acts on it.

`pandas.read_json("ledger.jsonl", lines=True)` reads it. A record is never changed or removed; a
resumed run appends `rewound` and goes on, and `live_records` gives the branch that counts.
"""

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import append_whole

__all__ = ["Ledger", "Record", "happened_at", "live_records", "read_ledger"]

Record = dict[str, Any]

FILE_NAME = "ledger.jsonl"


class Ledger:
    """Appends records to `RUN/ledger.jsonl`. One writer at a time, which may take turns; readers need no lock."""

    def __init__(
        self,
        run: Path,
        on_record: Callable[[Record], None] | None = None,
        *,
        writes: bool = True,
    ) -> None:
        """Open or create the ledger of a run folder; a torn last line is cut off first.

        Of several processes that train together one `writes`; the others' records go nowhere.
        """
        self.path = run / FILE_NAME
        self._on_record = on_record
        self._writes = writes
        self._next = 0
        self._size = 0
        """Bytes of the file after the last own write."""
        self._torn = writes
        """Whether the file may end in what a failed write left."""
        self._mend()

    def append(self, kind: str, step: int, **fields: Any) -> Record:
        """Write one record durably and return it. Fields must be JSON values; NaN is refused.

        Raises:
            OSError: it could not be written. Nothing of it stays, and later records can be appended.
        """
        self._mend()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record: Record = {"seq": self._next, "time": now, "kind": kind, "step": step, **fields}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        if not self._writes:
            return record
        self._torn = True
        append_whole(self.path, line.encode("utf-8", errors="backslashreplace"))
        self._torn = False
        self._next += 1
        self._size = self.path.stat().st_size
        if self._on_record is not None:
            self._on_record(record)
        return record

    def _mend(self) -> None:
        there = self._writes and self.path.exists()
        size = self.path.stat().st_size if there else 0
        if self._torn:
            self._next = _cut_torn_tail(self.path) if there else 0
            self._torn = False
        elif size != self._size:  # a sidecar or a person has written since
            records, _ = _parse(self.path)
            self._next = records[-1]["seq"] + 1 if records else 0
        self._size = self.path.stat().st_size if there else 0


def _cut_torn_tail(path: Path) -> int:
    """Drop the bytes after the last complete record; return the next sequence number."""
    records, good_bytes = _parse(path)
    if good_bytes < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(good_bytes)
    return records[-1]["seq"] + 1 if records else 0


def _parse(path: Path) -> tuple[list[Record], int]:
    records: list[Record] = []
    good = 0
    data = path.read_bytes()
    for number, raw in enumerate(data.splitlines(keepends=True), start=1):
        last = good + len(raw) == len(data)
        try:
            record = json.loads(raw)
            if not isinstance(record, dict) or not raw.endswith(b"\n"):
                raise ValueError("not a complete record")
        except ValueError as error:
            if last:
                break
            raise InputError(
                f"ledger `{path}` line {number} is damaged ({error}); "
                "restore the file from a copy, later records are intact"
            ) from error
        records.append(record)
        good += len(raw)
    return records, good


def read_ledger(run: str | Path) -> list[Record]:
    """Return every complete record of a run, oldest first; a torn last line is left out.

    Raises:
        InputError: there is no ledger, or a line before the last one is damaged.
    """
    path = Path(run) / FILE_NAME
    if not path.is_file():
        raise InputError(f"`{run}` holds no {FILE_NAME}; give the folder of a guarded run")
    return _parse(path)[0]


def happened_at(record: Record) -> int:
    """Return the step of the training at which a record was made.

    It is later than the step it tells of where a look was answered beside the training.
    """
    later = record.get("applied_step")
    return later if isinstance(later, int) else int(record["step"])


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
