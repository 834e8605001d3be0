"""The guard's events in Megatron-SWIFT: looks beside the training, at exported checkpoints; a rate cut; the halt.

`megatron` is on no machine of this project, so what this rests on is read in ms-swift 4.6 and held there by a test of its
source, whose training loop drives these events in another: callbacks are made as `cls(trainer)` from
`megatron_callbacks_map`; those a user names stand before `default_flow`, which after a step saves and ends where
`args.train_iters` is reached. There is no flag to stop by, so that number is moved.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from guardrail.errors import InputError
from guardrail.guard.checkpoints import complete_checkpoint
from guardrail.guard.course import Course
from guardrail.guard.look_plan import due_looks, plan_looks
from guardrail.trainers.callback import finite

__all__ = ["MegatronGuard", "check_megatron", "scale_megatron_rates"]

_ANOTHER_START = ("mcore_model", "mcore_adapter", "adapters")
"""Options that start from other weights than those of `--model`."""


def check_megatron(trainer: Any) -> None:
    """Refuse what cannot be guarded: another training, a resume, checkpoints no look can read, a halt that would not hold.

    Raises:
        InputError: named, with what to do.
    """
    args = trainer.args
    if args.rlhf_type is not None or args.task_type != "causal_lm" or args.is_multimodal:
        kind = args.rlhf_type or ("multimodal" if args.is_multimodal else args.task_type)
        raise InputError(
            f"Megatron-SWIFT is guarded in `megatron sft` of a text model alone, and this is `{kind}`; leave "
            "`--callbacks guardrail` away"
        )
    for option in _ANOTHER_START:
        if getattr(args, option):
            raise InputError(
                f"`--{option}` starts from weights that no recipe can name; export them as a model folder and name that in "
                "`--model` and in the recipe's `start_model`"
            )
    if trainer.state.iteration:
        raise InputError(
            f"this training goes on at iteration {trainer.state.iteration}, and the guard cannot go on in Megatron-SWIFT: "
            "nobody has seen its optimizer put a cut of the learning rate back. Begin a run from the exported checkpoint "
            "(`--model`, the recipe's `start_model`, `--finetune true`)"
        )
    if not args.save_safetensors:
        raise InputError(
            "`--save_safetensors false` cannot be guarded: a look reads the exported weights of a checkpoint; leave it away"
        )
    if args.tuner_type != "full" and args.merge_lora:
        raise InputError(
            f"`--merge_lora true`, the default of `--tuner_type {args.tuner_type}`, exports the model beside its checkpoint, "
            "where no look finds it; set `--tuner_type lora --merge_lora false`"
        )
    if args.async_save:
        raise InputError(
            "`--async_save true` cannot be guarded: a checkpoint is looked at when it is saved, and would not be whole yet; "
            "leave it away"
        )
    if args.streaming and args.num_train_epochs:
        raise InputError(
            "`--streaming true` with `--num_train_epochs` ends where the rows end, and looks are planned to a step; set "
            "`--train_iters` alone"
        )
    names = list(args.callbacks)
    if "default_flow" in names and names.index("guardrail") > names.index("default_flow"):
        raise InputError(
            f"`--callbacks` has `guardrail` behind `default_flow` ({' '.join(names)}), which then would not save where the guard "
            "halts; name `guardrail` alone"
        )


def scale_megatron_rates(optimizer: Any, factor: float) -> None:
    """Multiply the learning rate from the next step on.

    Megatron's scheduler computes every group's rate from the group's own bounds, at the end of the step before.

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
        for rate in ("max_lr", "min_lr", "lr"):
            group[rate] *= factor


class MegatronGuard:
    """Tells the course what happens in a Megatron trainer; its events have the names of ms-swift's `MegatronCallback`.

    Every rank has one and calls the same in the same order. It rotates checkpoints in the trainer's place, which would
    take those away that a sidecar still has to look at.
    """

    def __init__(self, trainer: Any, course: Course) -> None:
        """Keep what the events need; the trainer is one that `check_megatron` let pass."""
        self.args, self.state, self.course = trainer.args, trainer.state, course
        self.save_limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None

    def on_train_begin(self) -> None:
        """Plan the looks, ask for the one at the start, and start counting."""
        guard, last = self.course.guard, int(self.args.train_iters)
        saves = SimpleNamespace(
            save_strategy="steps" if self.args.save_steps else "no", save_steps=self.args.save_steps
        )
        # None is kept beside those: there are no tripwires here that would bring one forward.
        plan_looks(guard.state, due_looks(guard.recipe, last, saves), 0, step=0)
        guard.ask(0, "start", str(guard.recipe.start_model))
        self.course.begin(0, last, best_follows=False)

    def on_step_end(self) -> None:
        """Apply what has been answered, ask what is due, and end the training where the ladder halts it."""
        step, args, course = self.state.iteration, self.args, self.course
        if any(course.guard.ranks.summed([int(course.answered())])):
            course.apply(step)
        if not course.halted:
            saving = bool(args.save_steps) and step % args.save_steps == 0
            course.attend(step, saving=saving)
        if course.halted:
            args.train_iters = step
        elif course.asks_at_save:
            self.state.should_save = True

    def on_save(self, output_dir: str) -> None:
        """Ask for the look that is due at this exported checkpoint, and put the guard's state into it."""
        course, step = self.course, self.state.iteration
        guard = course.guard
        guard.ranks.summed([0])  # every rank's part of it is on disk
        # Before the state, which makes it complete: who reads that finds it in the ledger.
        course.ask(step)
        course.grade(step)
        course.count_seconds()
        if guard.ranks.writes:
            best = self.state.best_model_checkpoint
            complete_checkpoint(guard, Path(output_dir), limit=self.save_limit, best=best)

    def on_log(self, logs: dict[str, Any]) -> None:
        """Write the training numbers of the last interval to the ledger; the first pipeline stage knows no loss."""
        if "learning_rate" not in logs:
            return  # those of an evaluation
        guard = self.course.guard
        self.course.count_seconds()
        guard.ledger.append(
            "log",
            self.state.iteration,
            loss=finite(logs.get("loss")),
            learning_rate=finite(logs["learning_rate"]),
            lr_factor=guard.state.lr_factor,
            seconds=guard.state.rounded_seconds(),
        )

    def on_train_end(self) -> None:
        """Close the run in the ledger."""
        self.course.count_seconds()
        self.course.finish(self.state.iteration)
