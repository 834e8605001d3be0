"""`guardrail status --watch`: a run's status in a terminal until it ends."""

import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from guardrail.live.anchors_status import anchors_said, anchors_status
from guardrail.live.run_reader import LiveRun
from guardrail.live.status import ENDED
from guardrail.live.status_terminal import one_line, render_status
from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.texts import Language, language_of_run

__all__ = ["follow_status"]


def follow_status(run: Path, console: Console, language: Language | None = None) -> None:
    """Show a run's status until it ends or Ctrl-C is pressed; it may not have begun."""
    live_run = LiveRun(run)
    with (
        Live(console=console, auto_refresh=False, transient=True) as screen,
        suppress(KeyboardInterrupt),
    ):
        while True:
            live_run.read_on()
            status = live_run.status()
            if status is None:
                screen.update(_waiting(run, live_run.problem, language), refresh=True)
            elif status["outcome"] in ENDED:
                break
            else:
                screen.update(render_status(status, language), refresh=True)
            time.sleep(1.0)
    if (status := live_run.status()) is not None:
        console.print(render_status(status, language))


def _waiting(run: Path, problem: str | None, language: Language | None) -> Text:
    """What is said of a run that has not begun: its anchors, what is wrong, or that it is waited for."""
    words = terminal_words(language or language_of_run(run))
    if problem is None and (before := anchors_status(run)) is not None:
        return anchors_said(before, words)
    waits = words("{run}: no ledger yet, waiting for the run to begin", run=run)
    return Text(one_line(problem or waits, 300))
