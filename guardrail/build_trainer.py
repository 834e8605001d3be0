"""TRL's trainers as a recipe describes them, not guarded yet."""

from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.fingerprint import is_adapter
from guardrail.recipe import Recipe
from guardrail.sets.read.curriculum import curriculum
from guardrail.sets.read.row_forms import split_rows
from guardrail.trainers.grpo.reward_functions import load_reward
from guardrail.trainers.trl.start_model import loading_arguments, lora_config
from guardrail.trainers.trl.trl_arguments import trl_arguments

__all__ = ["build_trainer"]


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
    train, held_out = (list(rows), []) if grpo else split_rows(rows, recipe.train.held_out)
    if recipe.train.order == "curriculum":
        train = curriculum(train, recipe.seed)
    rewards = [load_reward(spec) for spec in recipe.train.rewards] if grpo else []
    parts: dict[str, Any] = {"args": arguments, "train_dataset": datasets.Dataset.from_list(train)}
    parts["peft_config"] = lora_config(recipe)
    folder, loading = str(recipe.start_model), loading_arguments(recipe)
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
