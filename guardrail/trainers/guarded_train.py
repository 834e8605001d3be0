"""One guarded training: `trainer.train`, wrapped once on the instance, from its first step to what it leaves.

While it runs the guard is in charge of saves and SIGTERM: `save_total_limit` is None, since the Trainer would rotate
before a checkpoint is complete and spare too few (see `rotate`), and a SIGTERM ends the training with a checkpoint.
However it ends, by an exception too, limit and signal handler are the user's again, and the end is recorded, reported
and said.
"""

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guardrail.errors import HaltedByGuard, InputError
from guardrail.guard.course import Course
from guardrail.live.spoken_log import spoken_log
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.script_output import end_recorded

__all__ = ["guard_training"]


def guard_training(
    trainer: Any,
    callback: GuardCallback,
    *,
    quiet: bool,
    report: bool,
    raise_on_halt: bool,
    go_on: str,
) -> None:
    """Wrap `trainer.train`: one training an attachment, and whatever ends it is recorded, reported and said.

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
        if callback.began:
            raise InputError(
                "this guard has seen one `trainer.train()` already: its looks are taken and its error budget is "
                "spent over them. Build the trainer anew and attach again: with `resume=True` to go on, or with "
                "another `run` folder for a run of its own"
            )
        course = callback.course
        with (
            _rotation_off(trainer, callback),
            _sigterm_noted(course),
            spoken_log(course.guard.recipe.language),
            end_recorded(
                course, lambda: trainer.state.global_step, go_on, quiet=quiet, report=report
            ),
        ):
            output = train(*args, **kwargs)
        if callback.halted and raise_on_halt:
            step = trainer.state.global_step
            checkpoint = Path(trainer.args.output_dir) / f"checkpoint-{step}"
            raise HaltedByGuard(step, checkpoint, callback.guard.run)
        return output

    trainer.train = guarded_train


@contextlib.contextmanager
def _rotation_off(trainer: Any, callback: GuardCallback) -> Iterator[None]:
    args = trainer.args
    callback.save_limit, args.save_total_limit = args.save_total_limit, None
    try:
        yield
    finally:
        args.save_total_limit = callback.save_limit
        vars(trainer).pop("_run_epoch", None)  # the guard's, where no step was to be taken


@contextlib.contextmanager
def _sigterm_noted(course: Course) -> Iterator[None]:
    """Note a SIGTERM in the course while the body runs; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Any) -> None:
        course.sigterm = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        if before is not None:  # None: it was not set from Python, and cannot be set back
            signal.signal(signal.SIGTERM, before)
