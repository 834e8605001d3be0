"""Kinds of TRL trainers, and which of a recipe's keys each of them heeds."""

from typing import Any

from guardrail.errors import InputError
from guardrail.recipe import BEST_BESIDE, Recipe

__all__ = ["check_grpo_keys", "check_trainer_fits", "is_grpo"]


def is_grpo(trainer: Any) -> bool:
    """Return whether a trainer is TRL's GRPOTrainer or made from it."""
    from trl import GRPOTrainer  # loads slowly; whoever trains with SFT does without

    return isinstance(trainer, GRPOTrainer)


def check_trainer_fits(recipe: Recipe, trainer: Any, *, grpo: bool) -> None:
    """Refuse keys of the recipe that this kind of trainer would not heed, and batches it cannot cut smaller.

    Raises:
        InputError: such a key is set, GRPO is to find its batch size, or a best model is to be loaded at the end
            where a sidecar looks at what is saved.
    """
    if recipe.looks.engine == "sidecar" and trainer.args.load_best_model_at_end:
        raise InputError(BEST_BESIDE)
    if recipe.train.order == "curriculum" and not _takes_rows_in_order(trainer, grpo=grpo):
        key = "shuffle_dataset=False" if grpo else "train_sampling_strategy='sequential'"
        raise InputError(
            f"the recipe says `train.order: curriculum`, and the trainer would shuffle the rows; make it with {key} on rows "
            "in that order, or remove the key"
        )
    rehearsal, name = recipe.rehearsal, type(trainer).__name__
    if not grpo and (rehearsal.grpo is not None or recipe.ladder.beta == "raise"):
        key = "ladder.beta" if rehearsal.grpo is None else "rehearsal.grpo"
        raise InputError(f"`{key}` is for GRPO, and the trainer is a {name}; remove it")
    if not grpo and recipe.trainer == "trl-grpo":
        raise InputError(
            f"the recipe says `trainer: trl-grpo`, and the trainer is a {name}; make them agree"
        )
    if not grpo:
        return
    check_grpo_keys(recipe, trainer.args, beta=trainer.beta)


def check_grpo_keys(recipe: Recipe, arguments: Any, *, beta: float) -> None:
    """Refuse keys of the recipe that GRPO under these arguments would not heed.

    Args:
        recipe: The run's.
        arguments: Of the trainer, TRL's or ms-swift's.
        beta: The weight of the trainer's own KL.

    Raises:
        InputError: there is one, or GRPO is to find its batch size.
    """
    if arguments.auto_find_batch_size:
        raise InputError(
            "`auto_find_batch_size` cuts GRPO's groups of completions apart, whose size is set when the trainer is "
            "made; leave it away and lower `per_device_train_batch_size`"
        )
    if recipe.mode == "watch":
        return
    rehearsal = recipe.rehearsal
    if rehearsal.grpo == "literal" and (rehearsal.loss != "kl" or rehearsal.reference != "stored"):
        raise InputError(
            "`rehearsal.loss` and `rehearsal.reference` are for golds, and `rehearsal.grpo: literal` has none: "
            "leave them away, or set `rehearsal.grpo: anchored` or `both`"
        )
    if recipe.ladder.beta == "raise" and not (beta > 0 and not arguments.use_liger_kernel):
        raise InputError(
            "`ladder.beta: raise` needs a `beta` above 0, and no Liger loss, which keeps the beta it began "
            f"with; got beta {beta:g} and use_liger_kernel {arguments.use_liger_kernel}"
        )


def _takes_rows_in_order(trainer: Any, *, grpo: bool) -> bool:
    if grpo:
        return not trainer.shuffle_dataset
    return bool(trainer.args.train_sampling_strategy == "sequential")
