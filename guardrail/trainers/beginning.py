"""What comes before the first optimizer step: the plan of looks, levers, KL self-test, look 0, tripwires."""

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from guardrail.engines.in_process import InProcessEngine
from guardrail.errors import InputError
from guardrail.guard.apply_levers import hold_levers
from guardrail.guard.course import Course, record_error
from guardrail.guard.guard import Guard
from guardrail.guard.look_plan import due_looks, looks_kept, plan_looks
from guardrail.guard.ranks import failure_kind
from guardrail.guard.resume import checkpoint_step
from guardrail.guard.tripwire import no_tripwires, set_tripwires
from guardrail.models.rounding import coarser, forward_dtype
from guardrail.trainers.checks.self_test import kl_self_test
from guardrail.trainers.kl_only.samples import KlOnly
from guardrail.trainers.policy import Policy
from guardrail.trainers.task_prompts import (
    ROWS_LOOKED_AT,
    opening_tokens,
    step_tokens,
    task_prompts,
    tokenised,
)
from guardrail.trainers.trl.grpo_mixing import MixedPrompts

__all__ = ["check_beginning", "first_look", "plan_training", "watch_new_task"]


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


def plan_training(guard: Guard, trainer: Any, *, resumed: bool) -> None:
    """Plan the looks ahead; after a resume say what changed, and hold the levers where they stood at the save."""
    recipe, args, step = guard.recipe, trainer.args, trainer.state.global_step
    due, kept = due_looks(recipe, trainer.state.max_steps, args), looks_kept(recipe, args)
    changed = plan_looks(guard.state, due, kept, step=step)
    if not resumed:
        return
    if changed is not None:
        guard.ledger.append("replanned", step, **changed)
    held = hold_levers(guard.state, trainer.optimizer, trainer.lr_scheduler)
    if held is not None:
        guard.ledger.append("levers", step, **held)


def first_look(policy: Policy, course: Course, injection: KlOnly | None) -> None:
    """Test the KL term against its reference, if there is one, and take look 0, or ask the sidecar for it."""
    guard, trainer = policy.guard, policy.trainer
    anchors_dtype = getattr(torch, guard.anchors.manifest.dtype)
    with policy.gathered(course.stops) as engine:
        dtype = forward_dtype(engine.model, str(trainer.accelerator.mixed_precision))
        if injection is not None:
            kl_self_test(
                injection,
                engine.model,
                guard.ledger,
                dtype=dtype,
                anchors_dtype=anchors_dtype,
                start_is_kl_reference=guard.start_is_kl_reference,
            )
        if guard.recipe.looks.engine == "in process":
            guard.look_zero(engine, rounding=coarser(dtype, anchors_dtype))
            return
    guard.ask(0, "start", str(guard.recipe.start_model))


def watch_new_task(policy: Policy, course: Course) -> None:
    """Choose what tripwires watch, some prompts of the new task among it, and measure it once."""
    guard, trainer, tokenizer = policy.guard, policy.trainer, policy.tokenizer
    looks, thinking = guard.recipe.looks, guard.recipe.thinking
    if looks.tripwire_every_steps == 0:
        return

    def begin(engine: InProcessEngine) -> None:
        dataset = trainer.train_dataset
        if isinstance(dataset, MixedPrompts):
            dataset = dataset.tasks  # GRPO's KL-only prompts are no part of the new task
        rows = list(islice(tokenised(dataset, tokenizer, thinking=thinking), ROWS_LOOKED_AT))
        prompts: list[list[int]] = []
        if looks.tripwire_task_prompts:
            opening = opening_tokens(tokenizer, thinking=thinking)
            prompts = task_prompts(rows, opening, looks.tripwire_task_prompts)
        tokens = step_tokens(trainer, rows)
        steps = trainer.state.max_steps
        set_tripwires(guard, engine, prompts, step_tokens=tokens, steps=steps)

    try:
        policy.measure(begin, course.stops)
    except Exception as error:
        if failure_kind(error) == "stopped" or guard.recipe.on_error == "halt":
            raise  # nothing is trained yet
        no_tripwires(guard)
        record_error(guard, error, 0, "tripwire")
