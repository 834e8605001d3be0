"""A model trained on preference pairs by TRL's DPOTrainer, its start the reference: an iteration of self-play."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from guardrail.data.trained_model import is_trained, note_trained
from guardrail.errors import InputError
from guardrail.models.fingerprint import is_adapter
from guardrail.recipe import Recipe
from guardrail.sets.lint.duplicates import hash64
from guardrail.trainers.trl.start_model import loading_arguments, lora_config

__all__ = ["require_trainable", "train_on_pairs", "training_settings"]

_NOT_EVALUATED = {"eval_strategy": "no", "eval_on_start": False, "load_best_model_at_end": False}
"""No pairs are held out, and the trainer refuses to evaluate on none."""


def require_trainable(recipe: Recipe) -> None:
    """Refuse a recipe whose start model this process cannot train on pairs.

    Raises:
        InputError: another trainer than TRL's SFT, quantised weights, into which no adapter merges, or a start model that
            is an adapter.
    """
    faults = {
        "trainer": recipe.trainer != "trl-sft",
        "train.quantization": recipe.train.quantization is not None,
        "start_model": is_adapter(Path(str(recipe.start_model))),
    }
    if key := next((key for key, wrong in faults.items() if wrong), None):
        raise InputError(
            f"recipe `{recipe.name}`: its `{key}` does not go with training on pairs in this process; take one with "
            "`trainer: trl-sft`, whole weights and a start model that is no adapter, or ask a server with `--server` and train "
            "on the exported pairs yourself"
        )


def training_settings(recipe: Recipe, beta: float, learning_rate: float | None) -> dict[str, Any]:
    """Return what besides pairs and start makes the model that `train_on_pairs` trains, of the recipe a hash."""
    train = recipe.train
    told = [train.arguments, train.lora, recipe.seed, recipe.thinking]
    hashed = hash64(json.dumps(told, sort_keys=True, default=str))
    return {"beta": beta, "learning_rate": learning_rate, "recipe": f"{hashed:016x}"}


def train_on_pairs(
    recipe: Recipe,
    pairs: Sequence[dict[str, Any]],
    start: Path,
    folder: Path,
    *,
    beta: float,
    learning_rate: float | None,
) -> tuple[Path, list[str]]:
    """Train a model on pairs against itself as it starts, and return its folder; one that is finished there is not trained again.

    An adapter is merged when it is trained, so that the next iteration's reference is this one's model and nothing else.

    Args:
        recipe: Gives `train.lora`, `seed`, `thinking`, and of `train.arguments` what DPOConfig knows too.
        pairs: In TRL's form.
        start: The model's folder.
        folder: Where it is saved.
        beta: Of DPO, SPIN's λ.
        learning_rate: In place of the recipe's; None keeps that.

    Returns:
        The folder, and the recipe's arguments that DPO does not have, or that evaluate, and that were left out.

    Raises:
        InputError: the folder holds a model of other pairs or settings, or DPOConfig refuses an argument.
    """
    import datasets
    import transformers
    import trl

    from guardrail.models.load import load_model

    known = {field.name for field in fields(trl.DPOConfig)}
    given = recipe.train.arguments
    without = sorted(name for name in given if name not in known or name in _NOT_EVALUATED)
    settings = json.dumps(training_settings(recipe, beta, learning_rate), sort_keys=True)
    ids = [settings, *(f"{pair['iteration']} {pair['id']}" for pair in pairs)]
    if is_trained(folder, ids):
        return folder, without
    changes = {} if learning_rate is None else {"learning_rate": learning_rate}
    chosen = {name: value for name, value in given.items() if name in known}
    try:
        arguments = trl.DPOConfig(
            **{
                "report_to": "none",
                "disable_tqdm": True,
                "save_strategy": "no",
                **chosen,
                **changes,
                **_NOT_EVALUATED,
                "model_init_kwargs": None,
                "beta": beta,
                "seed": recipe.seed,
                "output_dir": str(folder / "checkpoints"),
            }
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"`train.arguments`: DPOConfig refuses them: {error}") from error
    loading = loading_arguments(recipe)
    model, tokenizer = load_model(start, **loading)
    adapter = lora_config(recipe)
    # With an adapter the reference is the model below it.
    reference = load_model(start, **loading)[0] if adapter is None else None
    rows = [
        {**pair, "chat_template_kwargs": {"enable_thinking": recipe.thinking}} for pair in pairs
    ]
    trainer: Any = trl.DPOTrainer(
        model=model,
        ref_model=reference,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    whole = trainer.accelerator.unwrap_model(trainer.model)
    whole = whole.merge_and_unload() if adapter is not None else whole
    whole.save_pretrained(str(folder))
    trainer.processing_class.save_pretrained(str(folder))
    trainer.state.save_to_json(str(folder / "trainer_state.json"))
    note_trained(folder, ids)
    return folder, without
