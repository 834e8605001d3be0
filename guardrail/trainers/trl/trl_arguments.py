"""The arguments of TRL's trainers as a recipe gives them, read by TRL's own argument classes."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from guardrail.errors import InputError, did_you_mean
from guardrail.recipe import Recipe
from guardrail.trainers.checks.argument_values import check_argument_values
from guardrail.trainers.checks.wanted_order import require_order_arguments

__all__ = ["check_trl_arguments", "refused_without_gpu", "trl_arguments"]

_MOVED = {
    "max_seq_length": ("max_length", "`max_length` is its name now"),
    "evaluation_strategy": ("eval_strategy", "`eval_strategy` is its name now"),
    "no_cuda": ("use_cpu", "`use_cpu` is its name now"),
    "warmup_ratio": ("warmup_steps", "give the share to `warmup_steps`, which takes one below 1"),
    "max_prompt_length": ("max_completion_length", "TRL cuts no prompts any more: leave it away, and keep longer rows out"),
}  # fmt: skip
"""Arguments that older scripts have, by name: one that a version without them has, and what to write there instead."""


def trl_arguments(recipe: Recipe, output: Path) -> Any:
    """Return TRL's SFTConfig or GRPOConfig; how the model is loaded is not among them.

    Raises:
        InputError: it refuses an argument, or lacks a package that one asks for.
    """
    return _read(_kind(recipe), recipe, output)


def check_trl_arguments(recipe: Recipe, *, ranks: int, as_here: bool = False) -> Any:
    """Return the arguments as the ranks will read them, from this one process and also where there is no GPU.

    Without a GPU `use_cpu` is set for the reading alone, since the class refuses bf16 there. Nothing of it stays behind.

    Args:
        recipe: Checked.
        ranks: How many there will be; GRPO's batches are counted over all of them.
        as_here: The ranks are on this machine, so `use_cpu` is not set for them.

    Raises:
        InputError: as `trl_arguments`.
    """
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    kind = _kind(recipe)
    planned = type(kind.__name__, (kind,), {"world_size": property(lambda self: ranks)})
    substituted = {} if as_here or torch.accelerator.is_available() else {"use_cpu": True}
    # Reading arguments makes accelerate's state anew, which a trainer that is there already goes on asking.
    states = [(state, dict(state._shared_state)) for state in (PartialState, AcceleratorState)]
    try:
        return _read(planned, recipe, Path("checkpoints"), **substituted)
    finally:
        unset_hf_deepspeed_config()  # else whatever loads a model next would load it in ZeRO-3's pieces
        for state, before in states:
            if before:
                state._shared_state.clear()
                state._shared_state.update(before)


def refused_without_gpu(recipe: Recipe, *, ranks: int) -> str | None:
    """Return why a training in this process would refuse its arguments for want of a GPU; None where it would not.

    `check_trl_arguments` has accepted them before; it reads them as they are where they will be needed.

    Args:
        recipe: Checked.
        ranks: As there.
    """
    import torch

    if torch.accelerator.is_available() or recipe.train.arguments.get("use_cpu"):
        return None
    try:
        check_trl_arguments(recipe, ranks=ranks, as_here=True)
    except InputError as error:
        return (
            f"{str(error).rstrip('.')}. No GPU is seen here: start it where there is one, or set "
            "`train.arguments.use_cpu: true` and `bf16: false`"
        )
    return None


def _kind(recipe: Recipe) -> Any:
    import trl

    return trl.GRPOConfig if recipe.trainer == "trl-grpo" else trl.SFTConfig


def _read(kind: Any, recipe: Recipe, output: Path, **substituted: Any) -> Any:
    defaults: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": recipe.looks.every_steps,
    }
    if recipe.trainer == "trl-grpo":
        defaults |= {
            "remove_unused_columns": False,
            "chat_template_kwargs": {"enable_thinking": recipe.thinking},
        }
    in_order = _in_order(recipe) if recipe.train.order == "curriculum" else {}
    given = {**defaults, **recipe.train.arguments, **in_order, **substituted}
    given["model_init_kwargs"] = None
    known = [field.name for field in fields(kind) if field.init]
    unknown = [name for name in recipe.train.arguments if name not in known]
    if unknown:
        said = "; no ".join(f"`{name}`{_instead(name, known)}" for name in unknown)
        raise InputError(f"`train.arguments`: {kind.__name__} has no {said}")
    check_argument_values(kind, recipe.train.arguments)
    try:
        return kind(**{**given, "output_dir": str(output), "seed": recipe.seed})
    except ImportError as error:
        raise InputError(
            f"`train.arguments` ask for a package that is not installed: {error}"
        ) from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        raise InputError(f"`train.arguments`: {kind.__name__} refuses them: {error}") from error


def _instead(name: str, known: list[str]) -> str:
    """What to write instead of an argument that the class has not, in brackets with a space before them."""
    new, said = _MOVED.get(name, ("", ""))
    return f" ({said})" if new in known else did_you_mean(name, known)


def _in_order(recipe: Recipe) -> dict[str, Any]:
    """The arguments that let a trainer take the rows as they stand: transformers' own sequential sampler, GRPO's unshuffled one.

    Raises:
        InputError: an argument of the recipe's own would take them in another order.
    """
    given, grpo = recipe.train.arguments, recipe.trainer == "trl-grpo"
    order: dict[str, Any] = {"shuffle_dataset": False}
    if not grpo:
        order["train_sampling_strategy"] = "sequential"
    require_order_arguments(given, order)
    if not grpo and given.get("packing") and given.get("packing_strategy", "bfd") != "wrapped":
        raise InputError(
            "`train.order: curriculum` does not go with packing that fills sequences by length "
            f"(`packing_strategy: {given.get('packing_strategy', 'bfd')}`), which mixes the stages; set "
            "`packing_strategy: wrapped`, or `packing: false`"
        )
    return order
