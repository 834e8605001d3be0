"""TRL's trainers as a recipe describes them, not guarded yet."""

import os
import random
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.fingerprint import is_adapter
from guardrail.recipe import Recipe
from guardrail.sets.read.training_rows import prompt_rows
from guardrail.trainers.grpo.reward_functions import load_reward

__all__ = ["build_trainer"]


def _split(rows: list[dict[str, Any]], held_out: float) -> tuple[list[Any], list[Any]]:
    """Split off the held-out rows; the split is fixed, so that runs with other seeds compare."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    cut = round(len(shuffled) * held_out)
    return shuffled[cut:], shuffled[:cut]


def _configured(
    kind: Any,
    recipe: Recipe,
    defaults: dict[str, Any],
    output: Path,
    loading: dict[str, Any] | None,
) -> Any:
    """The trainer's arguments; `loading` is None where the trainer is handed a model and loads none."""
    given = {**defaults, **recipe.train.arguments, "model_init_kwargs": loading}
    try:
        return kind(**{**given, "output_dir": str(output), "seed": recipe.seed})
    except (TypeError, ValueError) as error:
        raise InputError(f"`train.arguments`: {kind.__name__} refuses them: {error}") from error


def _lora(recipe: Recipe, model: Any) -> Any:
    from peft import LoraConfig, PeftModel

    if recipe.train.lora is None:
        return None
    if isinstance(model, PeftModel):
        raise InputError(
            f"`train.lora` asks for a new adapter, and the start model `{recipe.start_model}` is an adapter "
            "already; remove `train.lora` to train it on, or merge it first"
        )
    try:
        return LoraConfig(**recipe.train.lora)
    except (TypeError, ValueError) as error:
        raise InputError(f"`train.lora`: LoraConfig refuses it: {error}") from error


def _loading(recipe: Recipe) -> dict[str, Any]:
    """How the start model is loaded: the user's `model_init_kwargs`, and else the dtype the field trains in.

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

    from guardrail.engines.in_process import load_model

    defaults: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": recipe.looks.every_steps,
    }
    loading, quantization = _loading(recipe), recipe.train.quantization
    if recipe.trainer == "trl-grpo":
        rewards = [load_reward(spec) for spec in recipe.train.rewards]
        defaults |= {
            "remove_unused_columns": False,
            "chat_template_kwargs": {"enable_thinking": recipe.thinking},
        }
        data = datasets.Dataset.from_list(prompt_rows(rows))
        model: Any = str(recipe.start_model)
        if is_adapter(Path(model)) or quantization is not None:
            model, tokenizer = load_model(
                model, trainable=True, quantization=quantization, **loading
            )
        else:
            # TRL loads policy and reference alike.
            tokenizer = transformers.AutoTokenizer.from_pretrained(model, local_files_only=True)
        adapter = _lora(recipe, model)
        by_name = loading if isinstance(model, str) else None
        arguments = _configured(trl.GRPOConfig, recipe, defaults, output, by_name)
        try:
            trainer: Any = trl.GRPOTrainer(
                model=model,
                reward_funcs=rewards,
                args=arguments,
                train_dataset=data,
                processing_class=tokenizer,
                peft_config=adapter,
            )
        except ValueError as error:
            raise InputError(f"GRPOTrainer refuses the recipe's arguments: {error}") from error
    else:
        train, held_out = _split(rows, recipe.train.held_out)
        arguments = _configured(trl.SFTConfig, recipe, defaults, output, None)
        model, tokenizer = load_model(
            str(recipe.start_model), trainable=True, quantization=quantization, **loading
        )
        trainer = trl.SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(train),
            eval_dataset=datasets.Dataset.from_list(held_out) if held_out else None,
            processing_class=tokenizer,
            peft_config=_lora(recipe, model),
        )
    # The ledger holds every log and the live display shows it; printing it too would tear the display.
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer
