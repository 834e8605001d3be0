"""Command lines carried out by processes that begin with the trainer already loaded.

Most of a short run is its start: loading torch, transformers and TRL takes longer than twelve steps on the
toy base. A server loads them once a session, and every command line is carried out by a fork of it: a process
as any other, with arguments, folder, environment, signals and exit code of its own. What an import does, and what
a launcher starts, no fork can show: such tests start an interpreter (`tests.run_fixtures.process`).
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from typing_extensions import Self

TRL = (
    "guardrail.cli.main",
    "guardrail.run",
    "guardrail.report.report",
    "guardrail.trainers.attach",
    "transformers.models.qwen3.modeling_qwen3",
    "trl.trainer.sft_trainer",
    "trl.trainer.grpo_trainer",
)
SWIFT = (
    "swift.pipelines",
    "swift.rlhf_trainers.grpo_trainer",
    "transformers.models.qwen3.modeling_qwen3",
    "guardrail.report.report",
    "guardrail.trainers.ms_swift.plugin",
)
"""Importing `swift` patches transformers, so what it trains has a server of its own."""
PAUSE_S = 0.005


class WarmProcess:
    """What tests use of a `subprocess.Popen`; its output is in the files `stdout` and `stderr` of `folder`."""

    def __init__(
        self,
        line: Sequence[object],
        *,
        cwd: Path,
        loaded: tuple[str, ...] = TRL,
        **environment: object,
    ) -> None:
        self.args = [*map(str, line)]
        self.folder = Path(tempfile.mkdtemp(dir=_folder()))
        variables = os.environ | {name: str(value) for name, value in environment.items()}
        asked = {"folder": str(self.folder), "line": self.args, "cwd": str(cwd)}
        server = _server(loaded)
        server.stdin.write(json.dumps(asked | {"environment": variables}).encode() + b"\n")
        while not (self.folder / "pid").is_file():
            assert server.poll() is None, f"the server ended with {server.poll()}: see its output"
            time.sleep(PAUSE_S)
        self.pid = int((self.folder / "pid").read_text())

    def poll(self) -> int | None:
        """Return the exit code, the number of the signal negated, or None while it runs."""
        code = self.folder / "code"
        return int(code.read_text()) if code.is_file() else None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once there is one."""
        deadline = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(PAUSE_S)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at this instant."""
        self.send_signal(signal.SIGKILL)

    def output(self, name: str) -> str:
        """What it wrote to `stdout` or `stderr` so far."""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:  # a failed test leaves nothing behind
            self.kill()
        self.wait()


@cache
def _folder() -> str:
    held = tempfile.TemporaryDirectory(prefix="warm-")
    atexit.register(held.cleanup)
    return held.name


@cache
def _server(modules: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start the server; it ends with this process, which closes its standard input."""
    line = [sys.executable, "-m", __name__, *modules]
    server = subprocess.Popen(line, stdin=subprocess.PIPE, bufsize=0)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return server


# --- The server. ----------------------------------------------------------------------------------


def write(file: Path, number: int) -> None:
    """Write a number so that whoever sees the file sees all of it."""
    part = file.with_suffix(".part")
    part.write_text(str(number))
    part.rename(file)


def serve() -> list[str]:
    """Fork for each command line that is asked for; return, in the fork, the line to carry out."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    gc.collect()
    gc.freeze()  # the forks share what was loaded
    for asked in sys.stdin.buffer:
        if os.fork():
            continue
        # The keeper of one process: its parent, who writes down how it ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        job = json.loads(asked)
        folder = Path(job["folder"])
        child = os.fork()
        if not child:
            take_on(job, folder)
            return job["line"]
        write(folder / "pid", child)
        _, status = os.waitpid(child, 0)
        write(folder / "code", os.waitstatus_to_exitcode(status))
        os._exit(0)
    os._exit(0)


def take_on(job: dict, folder: Path) -> None:
    """Give this process the folder, the environment and the output that it was asked for with."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)


def carry_out(line: Sequence[str]) -> None:
    """Do what the interpreter does with its arguments: `-m MODULE`, `-c CODE` or a file."""
    sys.path[0] = os.getcwd()
    if line[1] == "-m":
        sys.argv = list(line[2:])
        runpy.run_module(line[2], run_name="__main__", alter_sys=True)
    elif line[1] == "-c":
        sys.argv = ["-c", *line[3:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(line[2], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = list(line[1:])
        sys.path[0] = str(Path(line[1]).parent)
        runpy.run_path(line[1], run_name="__main__")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    carry_out(serve())
