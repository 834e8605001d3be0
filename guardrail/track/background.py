"""Work for slow or silent services, done off the training thread: a bounded queue and a daemon thread."""

import contextvars
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Background", "Losses"]

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Losses:
    """What a service did not take: how many things in all, and the newest error."""

    count: int
    error: str


class Background(Generic[Thing]):
    """Hands things to a function in a thread of its own, in order; giving them costs the caller nothing.

    The thread is a daemon: a service that never answers holds up neither the caller nor the exit.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Thing], None],
        error_text: Callable[[Exception], str] = lambda error: f"{type(error).__name__}: {error}"[
            :300
        ],
        at_most: int = 2000,
        at_once: bool = False,
    ) -> None:
        """Start the thread.

        `handle` may fail and may hang. `error_text` turns its error into text that may be shown. More than
        `at_most` waiting things are dropped and counted. With `at_once` there is no thread: `put` handles the
        thing itself, which is for files on a disk, written from one thread only.
        """
        self.name = name
        self._handle, self._error_text, self._at_once = handle, error_text, at_once
        self._waiting: queue.Queue[tuple[contextvars.Context, Thing]] = queue.Queue(at_most)
        self._failed = self._dropped = 0
        self._error = ""
        self._reported = 0
        if not at_once:
            threading.Thread(target=self._work, name=f"guardrail-{name}", daemon=True).start()

    def put(self, thing: Thing) -> None:
        """Hand a thing over and return at once; with `at_once` when it has been handled."""
        if self._at_once:
            self._do(contextvars.copy_context(), thing)
            return
        try:
            # Some trackers keep their run in a context variable, which a thread does not inherit.
            self._waiting.put_nowait((contextvars.copy_context(), thing))
        except queue.Full:
            self._dropped += 1

    def wait(self, seconds: float) -> bool:
        """Return whether everything handed over was dealt with, after at most so many seconds."""
        deadline = time.monotonic() + seconds
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._waiting.all_tasks_done.wait(left)
        return True

    @property
    def left(self) -> int:
        """How many things were handed over and are not dealt with yet."""
        return self._waiting.unfinished_tasks

    def new_losses(self) -> Losses | None:
        """Return all losses so far if there are more of them than at the last call, else None."""
        count = self._failed + self._dropped
        if count == self._reported:
            return None
        self._reported = count
        return Losses(
            count, self._error or f"more than {self._waiting.maxsize} records were waiting"
        )

    def _work(self) -> None:
        while True:
            context, thing = self._waiting.get()
            self._do(context, thing)
            self._waiting.task_done()

    def _do(self, context: contextvars.Context, thing: Thing) -> None:
        try:
            context.run(self._handle, thing)
        except Exception as error:  # whatever a tracker raises, training goes on
            self._error = self._error_text(error)
            self._failed += 1
