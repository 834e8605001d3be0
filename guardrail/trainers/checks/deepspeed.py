"""DeepSpeed: what a guarded run cannot do under it, said before it begins, and what looks keep it from."""

import contextlib
from collections.abc import Iterator
from typing import Any

from guardrail.errors import InputError
from guardrail.recipe import Recipe

__all__ = ["check_deepspeed", "each_rank_alone", "under_zero3"]


def under_zero3(trainer: Any) -> bool:
    """Return whether DeepSpeed cuts the trainer's parameters in pieces, one a rank."""
    plugin = trainer.accelerator.state.deepspeed_plugin
    return plugin is not None and bool(plugin.zero_stage == 3)


def check_deepspeed(recipe: Recipe, trainer: Any) -> None:
    """Refuse what would break later, or break unseen, in a run that the guard may act on.

    Raises:
        InputError: reentrant gradient checkpointing, a scheduler of DeepSpeed's own, or under ZeRO-3 a frozen
            reference, or checkpoints in pieces that a sidecar is to read.
    """
    plugin = trainer.accelerator.state.deepspeed_plugin
    if plugin is None:
        return
    if recipe.looks.engine == "sidecar" and under_zero3(trainer):
        section = plugin.deepspeed_config.get("zero_optimization", {})
        if not section.get("stage3_gather_16bit_weights_on_model_save"):
            raise InputError(
                "`looks.engine: sidecar` reads the checkpoints, and under ZeRO-3 they hold the model in pieces; set "
                "`stage3_gather_16bit_weights_on_model_save: true` in the DeepSpeed config's `zero_optimization`, take "
                "ZeRO-2, or leave `looks.engine` away"
            )
    if recipe.mode == "watch":
        return
    if recipe.rehearsal.reference == "frozen" and under_zero3(trainer):
        raise InputError(
            "`rehearsal.reference: frozen` does not go with ZeRO-3, under which a second model is loaded in "
            "pieces that no engine puts together; use `stored`, the default"
        )
    checkpointing = trainer.args.gradient_checkpointing_kwargs or {}
    if trainer.args.gradient_checkpointing and checkpointing.get("use_reentrant"):
        # Each checkpointed part has a backward of its own, so a parameter of two forwards is told twice.
        raise InputError(
            "gradient checkpointing with `use_reentrant` (TRL sets it for LoRA under ZeRO-3) does not go with "
            "DeepSpeed, which takes each gradient once a step, and KL-only samples have a forward of their own; "
            "set `gradient_checkpointing: false` in the trainer's arguments, or below ZeRO-3 "
            "`gradient_checkpointing_kwargs: {use_reentrant: false}`"
        )
    scheduler = plugin.deepspeed_config.get("scheduler")
    if scheduler is not None:
        raise InputError(
            f"the DeepSpeed config has a `scheduler` ({scheduler.get('type')}), whose rate the guard cannot "
            "cut: it is computed anew from that section at every step and after a resume; remove the section, "
            "and set `lr_scheduler_type` in the trainer's arguments"
        )


@contextlib.contextmanager
def each_rank_alone(model: Any) -> Iterator[None]:
    """Let every rank go its own way through a model that ZeRO-3 has put together whole.

    Until it knows the order of a training step's modules, the engine compares it between the ranks at the
    start of each forward (`PartitionedParameterCoordinator.reset_step`, DeepSpeed 0.19), and a rank that has
    more forwards than another waits for ever. TRL's `unwrap_model_for_generation` leaves that hook on.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    offload: Any = getattr(optimizer, "parameter_offload", optimizer)
    handle = getattr(offload, "fwd_pre_hook", None)
    if handle is None:
        yield
        return
    hooks = offload.module._forward_pre_hooks
    hook = hooks.pop(handle.id)
    try:
        yield
    finally:
        hooks[handle.id] = hook
