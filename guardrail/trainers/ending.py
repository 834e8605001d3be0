"""What an attached guard says while somebody else's script trains, and what it leaves when that ends.

On the rank that writes the ledger: looks, actions and the KL self-test as they happen and how the training
ended, on standard error between the trainer's own progress bars; the report, also after a crash or a halt.
"""

import functools
import logging
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from tqdm import tqdm

from guardrail.errors import HaltedByGuard
from guardrail.ledger.file import Record
from guardrail.live.closing import closing_words
from guardrail.live.status import run_status
from guardrail.live.terminal import record_lines
from guardrail.report.report import build_report
from guardrail.trainers.callback import GuardCallback

__all__ = ["end_with_the_training", "say_record"]

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


def end_with_the_training(
    trainer: Any,
    callback: GuardCallback,
    *,
    quiet: bool,
    report: bool,
    raise_on_halt: bool,
    go_on: str,
) -> None:
    """Wrap `trainer.train` on the instance, so that whatever ends it is recorded, reported and said.

    Args:
        trainer: The guarded trainer.
        callback: Its guard.
        quiet: Say nothing.
        report: Write the report when training ends.
        raise_on_halt: Raise `HaltedByGuard` from `train` where the guard halted it.
        go_on: How a training that was broken off goes on.
    """
    train = trainer.train

    @functools.wraps(train)
    def guarded_train(*args: Any, **kwargs: Any) -> Any:
        try:
            output = train(*args, **kwargs)
        except BaseException as error:
            _record_crash(trainer, callback, error)
            raise
        finally:
            if report and callback.guard.ranks.writes:
                _close(callback.guard.run, go_on, quiet=quiet)
        if callback.halted and raise_on_halt:
            step = trainer.state.global_step
            checkpoint = Path(trainer.args.output_dir) / f"checkpoint-{step}"
            raise HaltedByGuard(step, checkpoint, callback.guard.run)
        return output

    trainer.train = guarded_train


def _record_crash(trainer: Any, callback: GuardCallback, error: BaseException) -> None:
    try:
        callback.guard.ledger.append(
            "crashed",
            trainer.state.global_step,
            error=f"{type(error).__name__}: {error}"[:2000],
            last_ok_checkpoint=callback.last_ok_checkpoint(),
        )
    except OSError:  # a full disk, say; what is raised is what ended the training
        logger.exception("the ledger did not take the end of the training")


def _close(run: Path, go_on: str, *, quiet: bool) -> None:
    try:
        page = build_report(run)
        if not quiet:
            _say(closing_words(run_status(run), page, go_on))
    except Exception:
        logger.exception("no report could be written; `guardrail report %s` tries again", run)
