"""Start a training's processes: the check, the anchors, then the launcher, each a process of its own.

So whatever holds a GPU has given it back before the ranks begin, and this process never touches one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from guardrail.errors import InputError
from guardrail.exit_codes import CRASHED
from guardrail.launchers.launch_command import LAUNCHED, launch_command, this_node
from guardrail.ledger.file import FILE_NAME
from guardrail.live.status import run_status
from guardrail.live.terminal_words import TerminalWords, terminal_words
from guardrail.recipe import Recipe, write_resolved_recipe
from guardrail.recipe_yaml import set_options
from guardrail.trainers.ms_swift.written_rows import with_written_rows

__all__ = ["start_run"]

_POLL_S = 5.0
_SAY_EVERY_S = 60.0


def start_run(
    recipe: Recipe,
    name: str,
    run: Path,
    *,
    changes: Sequence[str] = (),
    resume: bool | str = False,
    say: Callable[[str], None],
) -> int:
    """Check the recipe, make its anchors if they are absent, start its launcher and wait; return the exit code.

    It is the run's own (`guardrail.exit_codes`), which torchrun, accelerate and swift would make 1 of. SIGTERM and
    Ctrl-C are passed on. On several nodes the first makes the anchors, and the others wait for the file.

    Args:
        recipe: Checked, paths absolute.
        name: Its file or shipped name, as it was typed.
        run: Run folder; must not hold a ledger unless `resume`.
        changes: What was given as `--set`.
        resume: Go on from the newest complete checkpoint, or with a name from that one.
        say: Told in a sentence of the recipe's language what begins.

    Raises:
        InputError: what the command line cannot be made of.
    """
    node = this_node(recipe, os.environ)
    launch_command(recipe, name, run, changes=changes, resume=resume, node=node)  # what it refuses
    guardrail = [sys.executable, "-m", "guardrail"]
    words = terminal_words(recipe.language)
    say(words("checking the recipe"))
    checked = _carry_out(
        [*guardrail, "check", name, "--out", str(run), *set_options(changes)], quiet=True
    )
    if checked:
        return checked
    manifest = Path(str(recipe.anchors)) / "manifest.json"
    if node.rank == 0 and not manifest.is_file():
        say(words("making the anchors"))
        write_resolved_recipe(recipe, run)  # says to `guardrail status` where they are made
        made = _carry_out([*guardrail, "anchor", "make", name, *set_options(changes)], quiet=True)
        if made:
            return made
    _wait_for(manifest, say, words)
    say(
        words(
            "starting {launcher}: {count} process(es) on this node",
            launcher=recipe.launcher,
            count=recipe.launch.processes,
        )
    )
    command = launch_command(
        with_written_rows(recipe, run), name, run, changes=changes, resume=resume, node=node
    )
    written = _written(run)
    code = _carry_out(command.line, environment=command.environment)
    told = run_status(run)["exit_code"] if _written(run) != written else None
    return int(told) if told else max(code, CRASHED) if code else code


def _written(run: Path) -> int:
    ledger = run / FILE_NAME
    return ledger.stat().st_size if ledger.is_file() else 0


def _wait_for(manifest: Path, say: Callable[[str], None], words: TerminalWords) -> None:
    said = -_SAY_EVERY_S
    while not manifest.is_file():
        if time.monotonic() - said >= _SAY_EVERY_S:
            say(words("waiting for node 0 to make the anchors ({folder})", folder=manifest.parent))
            said = time.monotonic()
        time.sleep(_POLL_S)


def _carry_out(
    line: Sequence[str], *, environment: dict[str, str] | None = None, quiet: bool = False
) -> int:
    """Run a command to its end and return its exit code, negative for a signal.

    Args:
        line: The command.
        environment: Variables beside those of this process.
        quiet: Keep its standard output; errors and progress go to standard error and are seen.
    """
    variables = {k: v for k, v in os.environ.items() if k != LAUNCHED} | (environment or {})
    output = subprocess.DEVNULL if quiet else None
    try:
        # A session of its own: what a terminal or a cluster sends to all of a group comes here alone.
        process = subprocess.Popen(line, env=variables, stdout=output, start_new_session=True)
    except OSError as error:
        raise InputError(f"`{line[0]}` cannot be started: {error}") from error

    def pass_on(number: int, frame: object) -> None:
        heard_by = _training(process.pid) if number == signal.SIGTERM else []
        for one in heard_by or [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)

    told = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    # What is ignored stays so, as SIGHUP under nohup.
    heard = [number for number in told if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heard}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _training(launcher: int) -> list[int]:
    """Return the processes that train, none where /proc does not tell.

    A SIGTERM goes to them and not to the launcher: torchrun kills what has not ended 30 seconds later, and a large
    model's checkpoint takes longer; `swift` is gone at once and leaves what it started behind. Those that train are the
    ranks, or without any what the launcher started, and not what they started in their turn.
    """
    ranks, below = [], _children(launcher)
    started = list(below)
    while below:
        one = below.pop()
        with contextlib.suppress(OSError):
            environment = b"\0" + Path(f"/proc/{one}/environ").read_bytes()
            if b"\0LOCAL_RANK=" in environment:
                ranks.append(one)
            else:
                below += _children(one)
    return ranks or started


def _children(process: int) -> list[int]:
    """Return those of its main thread, none where it has ended or this is no Linux."""
    try:
        return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]
    except OSError:
        return []
