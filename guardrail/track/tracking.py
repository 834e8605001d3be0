"""Ledger records to the trackers and to whoever is alerted, without ever holding up the training.

The ledger is the truth. Every record it takes is handed to background threads, one a service, that repeat
it (TensorBoard's files are written at once); a service that fails, hangs or cannot be reached is counted, told
once in the log, and told in the ledger by a record of kind `tracking`: `service`, `lost` records so far, `error`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from guardrail.exit_codes import CRASHED, FINISHED
from guardrail.ledger.file import Ledger, Record, read_ledger
from guardrail.live.status import exit_code
from guardrail.recipe import Recipe
from guardrail.redaction import redacted_text
from guardrail.report.run_data import read_run
from guardrail.track.alert_services import NotDelivered, alert_services, send_alert
from guardrail.track.alerts import Alert, AlertRule
from guardrail.track.background import Background
from guardrail.track.event import TrackerEvent
from guardrail.track.other_trackers import OTHER_TRACKERS, Tracker, reported_to
from guardrail.track.wandb_run import OpenedRun, WandbSink, finish_run, open_run

__all__ = ["Tracking"]

logger = logging.getLogger(__name__)


@dataclass
class _Other:
    """A tracker other than W&B, and the records it did not get yet because the trainer has not opened it."""

    callback: Any
    tracker: Tracker
    thread: Background[Any]
    found: Any = None
    waiting: list[TrackerEvent] = field(default_factory=list)


class Tracking:
    """Takes every record of a ledger (`on_record`) and repeats it once `begin` has said to whom."""

    def __init__(
        self, recipe: Recipe, folder: Path, on_record: Callable[[Record], None] | None = None
    ) -> None:
        """Read the addresses of alerts; contact nobody yet.

        Raises:
            InputError: an address of `GUARDRAIL_ALERT_URLS` is none, or apprise is missing.
        """
        self._recipe, self._folder, self._on_record = recipe, folder, on_record
        self._services = alert_services()
        self._rule = AlertRule(
            recipe.name, str(folder / "report.html"), getattr(recipe, "language", None)
        )
        self._early: list[Record] = []
        self._looks: list[Record] = []
        self._ledger: Ledger | None = None
        self._threads: list[Background[Any]] = []
        self._others: list[_Other] = []
        self._wandb: Background[TrackerEvent] | None = None
        self._alerts: Background[Alert] | None = None
        self._opened: OpenedRun | None = None
        self._given_up: set[str] = set()
        self._closed = False
        self._exit_code = CRASHED
        self._warned: set[str] = set()

    def begin(self, trainer: Any, ledger: Ledger) -> None:
        """Find the trainer's trackers, open the W&B run if it has that, and repeat what came so far."""
        self._ledger = ledger
        if self._services:
            self._alerts = self._start(
                "alerts", partial(send_alert, self._services), error_text=_alert_error
            )
        troubles: dict[str, str] = {}
        for name, callback in reported_to(trainer).items():
            try:
                if name == "wandb":
                    if trouble := self._begin_wandb():
                        troubles[name] = trouble
                else:
                    self._begin_other(name, callback)
            except (
                Exception
            ) as error:  # the trainer's own callback would fail likewise, and stop the training
                trainer.remove_callback(callback)
                troubles[name] = f"left out of this run: {type(error).__name__}: {error}"[:500]
        early, self._early = self._early, []
        # A resumed run was told of what lies before: it is remembered, not repeated.
        for record in read_ledger(self._folder)[: -len(early) or None]:
            self._remember(record)
            with contextlib.suppress(KeyError, ValueError):  # an older version's record
                self._rule.feed(record)
        for record in early:
            self._repeat(record)
        for name, trouble in troubles.items():
            self._report_trouble(name, early[-1]["step"] if early else 0, 0, trouble)

    def on_record(self, record: Record) -> None:
        """Repeat a record; at a run's end wait for the services, within the recipe's limit."""
        if self._on_record is not None:
            self._on_record(record)
        if record["kind"] == "tracking":
            return
        if self._ledger is None:
            self._early.append(record)
            return
        self._repeat(record)
        ends = record["kind"] in ("ended", "crashed")
        if ends or (self._closed and record["kind"] == "domain_loss"):
            self._wait(record["step"])
        if ends:
            self._closed = True
            with self._logged(record):
                self._exit_code = exit_code(read_run(self._folder)) or FINISHED
        for thread in self._threads:
            if (losses := thread.new_losses()) is not None:
                self._report_trouble(thread.name, record["step"], losses.count, losses.error)

    def close(self) -> None:
        """Close a W&B run the guard opened, within the recipe's limit; `wandb_run.HANGS` tells if it hangs."""
        if self._opened is not None and self._opened.ours:
            limit = self._recipe.tracking.end_timeout_s
            seconds = 1.0 if "wandb" in self._given_up else limit
            finish_run(self._opened.run, self._exit_code, seconds)

    def _begin_wandb(self) -> str | None:
        """Open W&B's run; return what went wrong although records will be kept."""
        self._opened = open_run(self._recipe.tracking, self._folder)
        self._wandb = self._start("wandb", WandbSink(self._opened.run, self._folder))
        return self._opened.trouble

    def _begin_other(self, name: str, callback: Any) -> None:
        tracker = OTHER_TRACKERS[name]
        tracker.open(self._folder)
        thread = self._start(name, partial(_send, tracker), at_once=tracker.local_file)
        self._others.append(_Other(callback, tracker, thread))

    def _start(self, name: str, handle: Callable[[Any], None], **settings: Any) -> Background[Any]:
        thread: Background[Any] = Background(name, handle, **settings)
        self._threads.append(thread)
        return thread

    def _remember(self, record: Record) -> None:
        if record["kind"] in ("started", "look", "rewound"):
            self._looks.append(record)

    @contextlib.contextmanager
    def _logged(self, record: Record) -> Iterator[None]:
        """A fault of ours, or of a tracker we look into, is no reason to end a training."""
        try:
            yield
        except Exception:
            logger.exception("a record of step %d was not repeated to the trackers", record["step"])

    def _repeat(self, record: Record) -> None:
        with self._logged(record):
            self._hand_over(record)

    def _hand_over(self, record: Record) -> None:
        self._remember(record)
        alerts = self._rule.feed(record)
        event = TrackerEvent(
            record, tuple(alerts), tuple(self._looks) if record["kind"] == "look" else ()
        )
        if self._alerts is not None:
            for alert in alerts:
                self._alerts.put(alert)
        if self._wandb is not None:
            self._wandb.put(event)
        for other in self._others:
            other.waiting.append(event)
            with self._logged(record):
                target = other.tracker.find(other.callback)
                if target is None and other.tracker.local_file:
                    target = other.found
                if target is not None:
                    other.found = target
                    for one in other.waiting:
                        other.thread.put((target, one, self._folder))
                    other.waiting.clear()

    def _wait(self, step: int) -> None:
        deadline = time.monotonic() + self._recipe.tracking.end_timeout_s
        for thread in self._threads:
            if thread.name in self._given_up or thread.wait(max(0.0, deadline - time.monotonic())):
                continue
            self._given_up.add(thread.name)
            limit = self._recipe.tracking.end_timeout_s
            self._report_trouble(
                thread.name, step, thread.left, f"did not take them within {limit:g} s at the end"
            )

    def _report_trouble(self, service: str, step: int, lost: int, error: str) -> None:
        assert self._ledger is not None
        error = redacted_text(error)  # it may hold an address, and goes to the log too
        if service not in self._warned:
            logger.warning(
                "%s: %s; the training goes on, the ledger has everything", service, error
            )
        self._warned.add(service)
        self._ledger.append("tracking", step, service=service, lost=lost, error=error)


def _send(tracker: Tracker, job: tuple[Any, TrackerEvent, Path]) -> None:
    tracker.send(*job)


def _alert_error(error: Exception) -> str:
    """Only our own words: those of a service may hold its address."""
    return str(error) if isinstance(error, NotDelivered) else type(error).__name__
