"""What an attached guard says while somebody else's script trains, and what it leaves when that ends.

On the rank that writes the ledger: looks, actions and the KL self-test as they happen and how the training
ended, on standard error between the trainer's own progress bars; the report, also after a crash or a halt.
"""

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from tqdm import tqdm

from guardrail.errors import InputError
from guardrail.exit_codes import BAD_INPUT, FINISHED
from guardrail.guard.course import Course
from guardrail.ledger.file import Record
from guardrail.live.closing import closing_words
from guardrail.live.status import run_status
from guardrail.live.terminal import record_lines
from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.texts import Language
from guardrail.report.report import build_report

__all__ = ["clear_errors", "end_recorded", "exit_as_it_ended", "say_records"]

logger = logging.getLogger(__name__)


def say_records(language: Language) -> Callable[[Record], None]:
    """Return what says of a ledger record what people wait for, and nothing of the others."""
    words = terminal_words(language)

    def say_record(record: Record) -> None:
        try:
            for line in record_lines(record, words):
                _say(line)
        except Exception:
            # A terminal that is gone, or a fault of ours, is no reason to end a training.
            logger.exception("a record of step %d could not be shown", record["step"])

    return say_record


def _say(text: Text) -> None:
    console = Console(stderr=True)
    with console.capture() as shown:
        console.print(text, soft_wrap=True, highlight=False)
    tqdm.write(shown.get(), file=sys.stderr, end="")


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn a user's mistake into one message and exit code 2."""
    try:
        yield
    except InputError as error:
        print(f"guardrail: error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(BAD_INPUT) from error


def exit_as_it_ended(trainer: Any, course: Course) -> None:
    """Let the process of a trainer that a launcher's command drives exit with the code of its guarded training."""
    train = trainer.train

    @functools.wraps(train)
    def exiting_train(*args: Any, **kwargs: Any) -> Any:
        with clear_errors():
            output = train(*args, **kwargs)
        if course.exit_code != FINISHED:
            raise SystemExit(course.exit_code)
        return output

    trainer.train = exiting_train


@contextlib.contextmanager
def end_recorded(
    course: Course, step: Callable[[], int], go_on: str, *, quiet: bool = False, report: bool = True
) -> Iterator[None]:
    """Record, report and say how the training in the body ends, also by an exception.

    Args:
        course: The training's.
        step: Returns the step it has got to.
        go_on: How a training that was broken off goes on.
        quiet: Say nothing.
        report: Write the report.
    """
    try:
        yield
    except BaseException as error:
        _record_crash(course, step(), error)
        raise
    finally:
        if report and course.guard.ranks.writes:
            _report_end(course.guard.run, go_on, quiet=quiet)


def _record_crash(course: Course, step: int, error: BaseException) -> None:
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


def _report_end(run: Path, go_on: str, *, quiet: bool) -> None:
    """Write the report, and say how the training ended and how it goes on."""
    try:
        page = build_report(run)
        if not quiet:
            _say(closing_words(run_status(run), page, go_on))
    except Exception:
        logger.exception("no report could be written; `guardrail report %s` tries again", run)
