"""What an attached guard says while somebody else's script trains, and what it leaves when that ends.

On the rank that writes the ledger: looks, actions and the KL self-test as they happen and how the training
ended, on standard error between the trainer's own progress bars; the report, also after a crash or a halt.
"""

import logging
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tqdm import tqdm

from guardrail.errors import InputError
from guardrail.guard.course import Course
from guardrail.ledger.file import Record
from guardrail.live.closing import closing_words
from guardrail.live.status import run_status
from guardrail.live.terminal import record_lines
from guardrail.report.report import build_report

__all__ = ["record_crash", "report_end", "say_record"]

logger = logging.getLogger(__name__)


def say_record(record: Record) -> None:
    """Say what a ledger record tells, if it is one that people wait for."""
    try:
        for line in record_lines(record):
            _say(line)
    except Exception:  # a terminal that is gone, or a fault of ours, is no reason to end a training
        logger.exception("a record of step %d could not be shown", record["step"])


def _say(text: Text) -> None:
    console = Console(stderr=True)
    with console.capture() as shown:
        console.print(text, soft_wrap=True, highlight=False)
    tqdm.write(shown.get(), file=sys.stderr, end="")


def record_crash(course: Course, step: int, error: BaseException) -> None:
    """Write to the ledger that the training was broken off, and what is left of it."""
    try:
        course.guard.ledger.append(
            "crashed",
            step,
            error=f"{type(error).__name__}: {error}"[:2000],
            last_ok_checkpoint=course.last_ok_checkpoint(),
        )
    except (OSError, InputError):  # a full disk, say; what is raised is what ended the training
        logger.exception("the ledger did not take the end of the training")


def report_end(run: Path, go_on: str, *, quiet: bool) -> None:
    """Write the report, and say how the training ended and how it goes on."""
    try:
        page = build_report(run)
        if not quiet:
            _say(closing_words(run_status(run), page, go_on))
    except Exception:
        logger.exception("no report could be written; `guardrail report %s` tries again", run)
