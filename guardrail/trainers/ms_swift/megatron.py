"""The guard in Megatron-SWIFT: looks beside the training, at exported checkpoints; a rate cut; the halt. Read, not run.

`megatron` is on no machine of this project, so what this rests on is read in ms-swift 4.6 and held there by a test of its
source: callbacks are made as `cls(trainer)` from `megatron_callbacks_map`; those a user names stand before
`default_flow`, which after a step saves and ends where `args.train_iters` is reached. There is no flag to stop by, so
that number is moved. There is no KL term: no trainer of Megatron's carries one yet.
"""

from typing import Any, Protocol

from guardrail.errors import InputError
from guardrail.guard.ranks import Ranks

__all__ = ["LooksBeside", "MegatronGuard", "check_megatron", "scale_megatron_rates"]


class LooksBeside(Protocol):
    """The course of a training whose looks another process takes, from the checkpoints it saves."""

    @property
    def halted(self) -> bool:
        """Whether the guard ends the training."""

    @property
    def asks_at_save(self) -> bool:
        """Whether a checkpoint is to be saved now, for a look."""

    def begin(self, step: int, last_step: int, *, best_follows: bool) -> None:
        """Start counting."""

    def attend(self, step: int, *, saving: bool) -> None:
        """Do what is due after an optimizer step."""

    def ask(self, step: int) -> None:
        """Ask for the look that is due, now that the checkpoint of this step lies on disk."""

    def answered(self) -> bool:
        """Whether an answer has come, on the first rank; never waits."""

    def apply(self, step: int) -> None:
        """Apply it, on every rank."""

    def finish(self, step: int) -> None:
        """Close the run."""


def check_megatron(arguments: Any) -> None:
    """Refuse settings under which no checkpoint can be looked at, or a halt would not hold.

    Raises:
        InputError: named, with what to do.
    """
    if not arguments.save_safetensors:
        raise InputError(
            "`--save_safetensors false` cannot be guarded: a look reads the exported weights of a checkpoint; leave it away"
        )
    if arguments.async_save:
        raise InputError(
            "`--async_save true` cannot be guarded: a checkpoint is looked at when it is saved, and would not be whole yet; "
            "leave it away"
        )
    names = list(arguments.callbacks)
    if "default_flow" in names and names.index("guardrail") > names.index("default_flow"):
        raise InputError(
            f"`--callbacks` has `guardrail` behind `default_flow` ({' '.join(names)}), which then would not save where the guard "
            "halts; name `guardrail` alone"
        )


def scale_megatron_rates(optimizer: Any, factor: float) -> None:
    """Multiply the learning rate from the next step on.

    Megatron's scheduler computes every group's rate from the group's own bounds at each step.

    Args:
        optimizer: Megatron's, chained or not.
        factor: In (0, 1].

    Raises:
        ValueError: the factor would raise the rate or end it.
    """
    if not 0.0 < factor <= 1.0:
        raise ValueError(
            f"`factor` must lie in (0, 1], got {factor}; the guard never raises the rate"
        )
    for group in optimizer.param_groups:
        group["max_lr"] *= factor
        group["min_lr"] *= factor


class MegatronGuard:
    """Tells the course what happens in a Megatron trainer; its events have the names of ms-swift's `MegatronCallback`.

    Every rank has one and calls the same in the same order.
    """

    def __init__(self, trainer: Any, looks: LooksBeside, ranks: Ranks) -> None:
        """Keep what the events need.

        Raises:
            InputError: as `check_megatron`.
        """
        check_megatron(trainer.args)
        self.args, self.state = trainer.args, trainer.state
        self.looks, self.ranks = looks, ranks

    def on_train_begin(self) -> None:
        """Start counting at the iteration the training begins or goes on at."""
        self.looks.begin(self.state.iteration, self.args.train_iters, best_follows=False)

    def on_step_end(self) -> None:
        """Apply what has been answered, ask what is due, and end the training where the ladder halts it."""
        step, args, state = self.state.iteration, self.args, self.state
        if any(self.ranks.summed([int(self.looks.answered())])):
            self.looks.apply(step)
        if not self.looks.halted:
            saving = bool(args.save_steps) and step % args.save_steps == 0
            self.looks.attend(step, saving=saving)
        if self.looks.halted:
            args.train_iters = step
        elif self.looks.asks_at_save:
            state.should_save = True

    def on_save(self, output_dir: str) -> None:
        """Ask for the look that is due at this checkpoint, now that it is exported."""
        self.looks.ask(self.state.iteration)

    def on_train_end(self) -> None:
        """Close the run in the ledger."""
        self.looks.finish(self.state.iteration)
