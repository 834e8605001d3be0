"""A command of a rehearsal, in processes of its own, its output kept, killed with all it started."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from guardrail.redaction import redacted_line, redacted_text

__all__ = ["CommandResult", "failure_reason", "run_command"]

_POLL_S = 0.05
_SAID = re.compile(r"^(?:guardrail: )?error: (.+)|^(?:[\w.]+\.)?InputError: (.+)", re.MULTILINE)
_RAISED = re.compile(
    r"^(?:\[rank\d+\]: ?)?((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt): .+)", re.M
)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    code: int
    """Its exit code, negative for a signal."""
    seconds: float
    output: str
    killed: int = 0
    """Processes that were killed when the moment had come."""
    timed_out: bool = False


def run_command(
    line: Sequence[str],
    log: Path,
    *,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    kill_when: Callable[[], bool] = lambda: False,
) -> CommandResult:
    """Run a command to its end, or kill it with SIGKILL, and everything it started, when the moment has come.

    Args:
        line: The command.
        log: The command, its secrets hidden, and what it prints are appended here.
        limit_s: Seconds after which it is killed as hung.
        environment: Variables beside those of this process.
        kill_when: Asked all the time whether the moment has come.
    """
    started = time.monotonic()
    with log.open("ab") as file:
        file.write(f"\n$ {' '.join(redacted_line(line))}\n".encode())
        file.flush()
        begins = file.tell()
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        killed, timed_out = 0, False
        try:
            while process.poll() is None:
                timed_out = time.monotonic() - started > limit_s
                if timed_out or kill_when():
                    killed = _kill_all(process)
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                _kill_all(process)
    output = log.read_bytes()[begins:].decode("utf-8", errors="replace")
    seconds = time.monotonic() - started
    return CommandResult(process.returncode, seconds, output, 0 if timed_out else killed, timed_out)


def _kill_all(process: "subprocess.Popen[bytes]") -> int:
    """Kill a process and its descendants; launchers give their workers sessions of their own.

    It stands still meanwhile, so that none is started behind our back.
    """
    process.send_signal(signal.SIGSTOP)
    everyone = [
        psutil.Process(process.pid),
        *psutil.Process(process.pid).children(recursive=True),
    ]
    for one in everyone:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(everyone[1:], timeout=30)
    return len(everyone)


def failure_reason(result: CommandResult, *, verbose: bool) -> str:
    """Return why a command failed: what was said for people, else what was raised, else its last line.

    With `verbose` the last lines it printed. Secrets are hidden.
    """
    if result.timed_out:
        return f"nothing came of it within {result.seconds:.0f} s, and it was killed"
    output = redacted_text(result.output)
    lines = [line for line in output.splitlines() if line.strip()]
    if verbose:
        return "\n".join(lines[-40:])
    said = [a or b for a, b in _SAID.findall(output)] or _RAISED.findall(output)
    last = said[-1] if said else (lines[-1] if lines else "it printed nothing")
    return f"exit code {result.code}: {last.strip()[:600]}"
