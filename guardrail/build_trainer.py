"""TRL's trainers as a recipe describes them, not guarded yet."""

import os
import random
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.fingerprint import is_adapter
from guardrail.recipe import Recipe
from guardrail.sets.read.curriculum import curriculum
from guardrail.trainers.grpo.reward_functions import load_reward
from guardrail.trainers.trl.trl_arguments import trl_arguments

__all__ = ["build_trainer", "lora", "model_loading"]


def _split(rows: list[dict[str, Any]], held_out: float) -> tuple[list[Any], list[Any]]:
    """Split off the held-out rows; the split is fixed, so that runs with other seeds compare."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    cut = round(len(shuffled) * held_out)
    return shuffled[cut:], shuffled[:cut]


def lora(recipe: Recipe) -> Any:
    """Return peft's LoraConfig as the recipe has it, None without one.

    Raises:
        InputError: it is refused, or the start model is an adapter already.
    """
    from peft import LoraConfig

    if recipe.train.lora is None:
        return None
    if is_adapter(Path(str(recipe.start_model))):
        raise InputError(
            f"`train.lora` asks for a new adapter, and the start model `{recipe.start_model}` is an adapter "
            "already; remove `train.lora` to train it on, or merge it first"
        )
    try:
        return LoraConfig(**recipe.train.lora)
    except (TypeError, ValueError) as error:
        raise InputError(f"`train.lora`: LoraConfig refuses it: {error}") from error


def model_loading(recipe: Recipe) -> dict[str, Any]:
    """Return how the start model is loaded: the user's `model_init_kwargs`, and else the dtype the field trains in.

    An adapter on the checkpoint's dtype; all weights in float32 whatever the checkpoint's, since half precision loses
    small updates, unless DeepSpeed keeps a float32 copy of its own.
    """
    adapter = recipe.train.lora is not None or is_adapter(Path(str(recipe.start_model)))
    given = recipe.train.arguments
    deepspeed = bool(given.get("deepspeed")) or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    dtype = "auto" if adapter or deepspeed else "float32"
    return {"dtype": dtype} | dict(given.get("model_init_kwargs") or {})


def build_trainer(recipe: Recipe, rows: list[dict[str, Any]], output: Path) -> Any:
    """Return TRL's SFTTrainer or GRPOTrainer with the recipe's arguments handed through untouched.

    Raises:
        InputError: the trainer refuses an argument, or a reward function is not to be had.
    """
    import datasets
    import transformers
    import trl

    from guardrail.models.load import load_model

    grpo = recipe.trainer == "trl-grpo"
    arguments = trl_arguments(recipe, output)
    train, held_out = (list(rows), []) if grpo else _split(rows, recipe.train.held_out)
    if recipe.train.order == "curriculum":
        train = curriculum(train, recipe.seed)
    rewards = [load_reward(spec) for spec in recipe.train.rewards] if grpo else []
    parts: dict[str, Any] = {"args": arguments, "train_dataset": datasets.Dataset.from_list(train)}
    parts["peft_config"] = lora(recipe)
    folder, loading = str(recipe.start_model), model_loading(recipe)
    quantization = recipe.train.quantization
    if grpo and quantization is None and not is_adapter(Path(folder)):
        # TRL loads policy and reference alike.
        parts["model"], arguments.model_init_kwargs = folder, loading
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    else:
        parts["model"], tokenizer = load_model(
            folder, trainable=True, quantization=quantization, **loading
        )
    parts["processing_class"] = tokenizer
    if grpo:
        try:
            trainer: Any = trl.GRPOTrainer(reward_funcs=rewards, **parts)
        except ValueError as error:
            raise InputError(f"GRPOTrainer refuses the recipe's arguments: {error}") from error
    else:
        evaluated = datasets.Dataset.from_list(held_out) if held_out else None
        trainer = trl.SFTTrainer(eval_dataset=evaluated, **parts)
    # The ledger holds every log and the live display shows it; printing it too would tear the display.
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer
