"""A run folder read on as its ledger grows, at a bounded cost, for whoever shows it while it runs."""

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail.ledger.follow import LedgerTail
from guardrail.live.status import describe_run, heartbeat
from guardrail.report.run_data import KnownLooks, RunData, run_data

__all__ = ["LiveRun"]

_MINOR = ("log", "tripwire", "metric")
"""Records that move numbers and no verdict: what shows them may come a little later."""
_DUTY = 20.0
"""Minor records are waited for so many times longer than it takes to show them: at most 5 % of one core."""
_PAGE_EVERY_S = 5.0


class LiveRun:
    """The newest facts of a run, and a version that changes when its page would."""

    def __init__(self, run: Path) -> None:
        """Read nothing yet; the run may not exist."""
        self.run = run
        self.data: RunData | None = None
        """None while there is no ledger."""
        self.problem: str | None = None
        """Why the ledger cannot be read."""
        self.version = 0
        self.page_s = 0.0
        """Seconds the last page took, told by whoever builds it."""
        self._tail = LedgerTail(run)
        self._status: dict[str, Any] = {}
        self._looks: KnownLooks = {}
        self._unshown = self._page_unshown = False
        self._next_data = self._next_page = 0.0
        self._stale = False

    def read_on(self) -> None:
        """Take in what the ledger got since; records of looks and actions at once, others when they are due."""
        try:
            new = self._tail.read_on()
        except OSError as error:
            self._fail(f"{self._tail.path}: {error.strerror}")
            return
        now = time.monotonic()
        urgent = new is not None and (not new or any(r["kind"] not in _MINOR for r in new))
        self._unshown |= new is not None
        if self._unshown and (urgent or now >= self._next_data):
            started = time.thread_time()
            self._take_in()
            self._unshown, self._page_unshown = False, True
            self._next_data = now + _DUTY * (time.thread_time() - started)
        if self._page_unshown and (urgent or now >= self._next_page):
            self._change_page(now)

    def _take_in(self) -> None:
        self.problem = None
        self.data = None
        if self._tail.exists:
            if len(self._looks) > len(self._tail.records):  # the ledger was replaced
                self._looks.clear()
            tail = self._tail
            self.data = run_data(self.run, tail.records, tail.damaged, self._looks)
            self._status = describe_run(self.data)

    def _change_page(self, now: float) -> None:
        self.version += 1
        self._page_unshown = False
        self._next_page = now + max(_PAGE_EVERY_S, _DUTY * self.page_s)

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self.data, self.problem = None, problem
            self.version += 1

    def status(self) -> dict[str, Any] | None:
        """Return the facts of `run_status` as of now, None while there is no ledger."""
        if self.data is None:
            return None
        status = heartbeat(self._status, datetime.now(timezone.utc))
        if status["process_gone"] != self.data.process_gone:  # a killed run writes nothing more
            self.data = self.data.model_copy(update={"process_gone": status["process_gone"]})
        if status["stale"] != self._stale:
            self._stale = status["stale"]
            self.version += 1
        return status
