"""One guarded run from a recipe: preflight, anchors, trainer, training, domain loss."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from guardrail.build_trainer import build_trainer
from guardrail.errors import InputError
from guardrail.guard.resume import resumed_checkpoint
from guardrail.ledger.file import FILE_NAME, Record
from guardrail.preflight.preflight import preflight
from guardrail.recipe import Recipe, require_rows, write_resolved_recipe
from guardrail.track.other_trackers import reported_to
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.trl.trl_arguments import refused_without_gpu
from guardrail.writer_lock import hold

__all__ = ["Finished", "StepListener", "run_recipe"]

StepListener = Callable[[int, int], None]
"""Called with the global step and the planned number of steps."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended: its folder, whether the guard halted it, its exit code, domain losses where measured."""

    run: Path
    halted: bool
    exit_code: int
    """Of `guardrail.exit_codes`."""
    domain_loss_before: float | None
    domain_loss: float | None


def run_recipe(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool | str = False,
    changed_recipe: bool = False,
    on_record: Callable[[Record], None] | None = None,
    on_step: StepListener | None = None,
    on_anchors: Callable[[str, int, int], None] | None = None,
) -> Finished:
    """Carry out one run and return how it ended.

    Args:
        recipe: Checked, paths absolute.
        run: Run folder; must not hold a ledger unless `resume`.
        resume: Go on from the newest complete checkpoint, or from the start if there is none; with a name,
            from that checkpoint.
        changed_recipe: When resuming, the recipe was changed on purpose.
        on_record: Called with every ledger record.
        on_step: Called at every optimizer step.
        on_anchors: Called while anchors are made.

    Raises:
        InputError: the preflight refuses, the run folder is taken or, when resuming, empty, or the
            checkpoint named is none to go on from.
    """
    taken = (run / FILE_NAME).is_file()
    if taken and not resume:
        raise InputError(
            f"run folder `{run}` already holds a run; add --resume to go on, or give another --out"
        )
    if recipe.trainer == "ms-swift":
        raise InputError(
            "a recipe with `trainer: ms-swift` is launched by swift: GUARDRAIL_RECIPE=RECIPE swift sft ... "
            "--external_plugins $(guardrail plugin-path) --callbacks guardrail"
        )
    if resume and not taken:
        raise InputError(f"run folder `{run}` holds no run to resume; leave --resume away")
    resumed_checkpoint(run / "checkpoints", resume)  # refused before anything is loaded
    require_rows(recipe)
    guardrail, rows, *_ = preflight(recipe, run)
    recipe = guardrail.recipe
    refused = refused_without_gpu(recipe, ranks=int(os.environ.get("WORLD_SIZE", "1")))
    if refused is not None:  # by the trainer too, but only when the anchors are made
        raise InputError(refused)
    if not resume and not (Path(str(recipe.anchors)) / "manifest.json").is_file():
        write_resolved_recipe(
            recipe, run
        )  # says to `guardrail status` where anchors are being made
    guardrail.anchors(on_progress=on_anchors)
    trainer = build_trainer(recipe, rows, run / "checkpoints")
    run.mkdir(parents=True, exist_ok=True)
    if trainer.accelerator.is_main_process:
        hold(run)  # before anything of it is written anew
    callback = guardrail.attach(
        trainer,
        run=run,
        resume=resume,
        on_record=on_record,
        quiet=True,
        report=False,
        changed_recipe=changed_recipe,
    )
    if trainer.accelerator.is_main_process:  # the same text from each rank, but one file
        write_resolved_recipe(recipe, run)
    if on_step is not None:
        trainer.add_callback(_step_listener(on_step))
    with contextlib.closing(callback.tracking):
        before, after = _train(trainer, callback)
    return Finished(run, callback.halted, callback.exit_code, before, after)


class _DomainLossAtStart(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Measures the held-out loss when the trainer has made its model ready; DeepSpeed evaluates none before."""

    def __init__(self, trainer: Any, guard: GuardCallback) -> None:
        self._trainer, self._guard = trainer, guard
        self.loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure once, also where the trainer begins anew with smaller batches."""
        if self.loss is None:
            began = time.perf_counter()
            self.loss = float(self._trainer.evaluate()["eval_loss"])
            self._guard.guard.ledger.append("domain_loss", 0, held_out=self.loss)
            self._guard.course.not_training(time.perf_counter() - began)


def _train(trainer: Any, callback: GuardCallback) -> tuple[float | None, float | None]:
    """Train, and return the domain losses before and after where rows are held out."""
    ledger, after = callback.guard.ledger, None
    start = _DomainLossAtStart(trainer, callback)
    tensorboard = reported_to(trainer).get("tensorboard")
    if tensorboard is not None and tensorboard.logging_dir is None:
        # Left to itself it writes among the checkpoints.
        tensorboard.logging_dir = str(callback.guard.run / "tensorboard")
    if trainer.eval_dataset is not None and callback.resume_from is None:
        trainer.add_callback(start)
    checkpoint = callback.resume_from
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.eval_dataset is not None and not callback.terminated:
        after = float(trainer.evaluate()["eval_loss"])
        ledger.append("domain_loss", trainer.state.global_step, held_out=after)
    return start.loss, after


def _step_listener(on_step: StepListener) -> Any:
    class Listener(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """Tells a progress display about every optimizer step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_step(state.global_step, state.max_steps)

    return Listener()
