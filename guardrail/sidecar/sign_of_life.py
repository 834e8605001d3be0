"""One sidecar a run, and what it says of itself every few seconds: `RUN/sidecar/alive.json`."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from typing_extensions import Self

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.guard.asked_looks import FOLDER
from guardrail.live.sidecar_status import ALIVE_FILE, FRESH_S, read_alive
from guardrail.read_back import named_place, sealed

__all__ = ["SignOfLife"]

_EVERY_S = 5.0
_SAY_EVERY_S = 60.0


class SignOfLife:
    """Holds the run for this sidecar and tells what it does; a context manager.

    A kill gives the run back at once on this machine. Between machines a file lock of NFS is best effort: there a sidecar
    that was heard of in the last minute keeps others out.
    """

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        """Take nothing yet.

        Args:
            run: Its folder.
            say: Told once a minute what the sidecar does.
        """
        self._path = run / FOLDER / ALIVE_FILE
        self._run, self._say = run, say
        self._told: dict[str, Any] = {
            "doing": "starting",
            "step": None,
            "waiting": 0,
            "trouble": None,
        }
        self._changed, self._over = threading.Event(), False
        self._lock: IO[str] | None = None
        self._thread = threading.Thread(target=self._keep_telling, daemon=True)

    def __enter__(self) -> Self:
        """Take the run.

        Raises:
            InputError: another sidecar has it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = (self._path.parent / "lock").open("a")
        other = read_alive(self._run)
        fresh = other is not None and other["doing"] != "ended" and other["silent_s"] < FRESH_S
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here = fresh and other is not None and other["host"] == socket.gethostname()
            taken = fresh and not here  # the lock shows that one of this machine has gone
        except BlockingIOError:
            taken = True
        except OSError:  # a file system without locks
            taken = fresh
        if taken:
            file.close()
            raise InputError(self._taken())
        self._lock = file
        self._write()
        self._thread.start()
        return self

    def _taken(self) -> str:
        other = read_alive(self._run)
        who = "another process"
        if other is not None:
            who = f"process {other['pid']} on `{other['host']}`, heard of {other['silent_s']:.0f} s ago"
        return f"a sidecar serves `{self._run}` already: {who}; end that one first, or wait a minute if it has gone"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say that it has ended, and give the run back."""
        self.tell("ended", None, self._told["waiting"])
        self._over = True
        self._changed.set()
        self._thread.join()
        if self._lock is not None:
            self._lock.close()

    def tell(self, doing: str, step: int | None, waiting: int, trouble: str | None = None) -> None:
        """Say what is done from now on.

        Args:
            doing: `judging`, `waiting` for asks, `unreachable` server, or `ended`.
            step: Of the checkpoint in hand.
            waiting: Asks behind it.
            trouble: The last error, in words.
        """
        told = {"doing": doing, "step": step, "waiting": waiting, "trouble": trouble}
        if told != self._told:
            self._told = told
            self._changed.set()

    def _write(self) -> dict[str, Any]:
        """Write what is done now, and return it."""
        told = self._told | {
            "run": named_place(self._run),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        }
        try:
            write_whole(self._path, json.dumps(sealed(told)) + "\n")
        except OSError as error:  # a full disk, or a network file system that is away for now
            self._say(f"{self._path} could not be written: {error}")
        return told

    def _keep_telling(self) -> None:
        said = time.monotonic()
        while True:
            self._changed.clear()
            over = self._over  # before what is told is read: the last word is written
            told = self._write()
            if over:
                return
            if time.monotonic() - said >= _SAY_EVERY_S:
                said = time.monotonic()
                self._say(said_of(told))
            self._changed.wait(_EVERY_S)


def said_of(told: dict[str, Any]) -> str:
    """Return what a sidecar does, in words."""
    behind = f", {told['waiting']} waiting" if told["waiting"] else ""
    if told["doing"] == "judging":
        return f"judging step {told['step']}{behind}"
    if told["doing"] == "unreachable":
        return f"cannot reach its server for step {told['step']}{behind}: {told['trouble']}"
    return f"{told['doing']}{behind}"
