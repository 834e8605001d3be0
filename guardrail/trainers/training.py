"""One guarded training: `trainer.train` while the guard is in charge of saves and SIGTERM, and afterwards."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from guardrail.errors import InputError
from guardrail.guard.resume import checkpoint_step

__all__ = ["GuardedTraining", "check_beginning", "guard_training"]


class GuardedTraining(Protocol):
    """What is asked of the guard's callback."""

    began: bool
    """Whether a training has begun under it."""
    save_limit: int | None
    """The user's `save_total_limit`, which the guard keeps in the Trainer's place."""

    def told_to_end(self) -> None:
        """Hear of a SIGTERM."""


def guard_training(trainer: Any, callback: GuardedTraining) -> None:
    """Wrap `trainer.train` on the instance: one training an attachment, and the user's settings come back.

    While it runs `save_total_limit` is None, since the Trainer would rotate before a checkpoint is complete and
    spare too few (see `rotate`), and a SIGTERM ends the training with a checkpoint. However the training ends, by
    an exception too, limit and signal handler are the user's again.
    """
    train = trainer.train

    def guarded_train(*args: Any, **kwargs: Any) -> Any:
        if callback.began:
            raise InputError(
                "this guard has seen one `trainer.train()` already: its looks are taken and its error budget is "
                "spent over them. Build the trainer anew and attach again: with `resume=True` to go on, or with "
                "another `run` folder for a run of its own"
            )
        with _rotation_off(trainer, callback), _sigterm_heard(callback.told_to_end):
            return train(*args, **kwargs)

    trainer.train = guarded_train


def check_beginning(step: int, checkpoint: Path | None) -> None:
    """Refuse a training whose weights and the guard's state are not of one checkpoint.

    Args:
        step: The step the training begins at.
        checkpoint: The checkpoint the guard's state came from, None for a new run.

    Raises:
        InputError: the two differ.
    """
    expected = 0 if checkpoint is None else checkpoint_step(checkpoint)
    if step != expected:
        raise InputError(
            f"the training begins at step {step}, and the guard was attached for step {expected} "
            f"({checkpoint.name if checkpoint else 'a new run'}); call "
            "`trainer.train(resume_from_checkpoint=callback.resume_from)`, and attach with `resume=` to go on "
            "from a checkpoint"
        )


@contextlib.contextmanager
def _rotation_off(trainer: Any, callback: GuardedTraining) -> Iterator[None]:
    args = trainer.args
    callback.save_limit, args.save_total_limit = args.save_total_limit, None
    try:
        yield
    finally:
        args.save_total_limit = callback.save_limit
        vars(trainer).pop("_run_epoch", None)  # the guard's, where no step was to be taken


@contextlib.contextmanager
def _sigterm_heard(told: Callable[[], None]) -> Iterator[None]:
    """Let a SIGTERM be heard for the body; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: told())
    try:
        yield
    finally:
        if before is not None:  # None: it was not set from Python, and cannot be set back
            signal.signal(signal.SIGTERM, before)
