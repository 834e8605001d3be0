"""The start model as TRL's trainers are given it: its loading, its adapter, and what either would be refused for."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.fingerprint import adapter_base, is_adapter
from guardrail.models.load import load_tokenizer, quantization_config
from guardrail.recipe import Recipe
from guardrail.trainers.checks.rendering import check_rendering
from guardrail.trainers.guarded_recipe import GuardedRecipe

__all__ = ["check_start_model", "check_start_tokenizer", "loading_arguments", "lora_config"]


def lora_config(recipe: Recipe) -> Any:
    """Return the recipe's `train.lora` as PEFT's LoraConfig, None without one.

    Raises:
        InputError: LoraConfig refuses it, or the start model is an adapter already.
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


def loading_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return how the start model is loaded: the user's `model_init_kwargs`, and else the dtype the field trains in.

    An adapter on the checkpoint's dtype; all weights in float32 whatever the checkpoint's, since half precision loses
    small updates, unless DeepSpeed keeps a float32 copy of its own.
    """
    adapter = recipe.train.lora is not None or is_adapter(Path(str(recipe.start_model)))
    given = recipe.train.arguments
    deepspeed = bool(given.get("deepspeed")) or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    dtype = "auto" if adapter or deepspeed else "float32"
    return {"dtype": dtype} | dict(given.get("model_init_kwargs") or {})


def check_start_model(recipe: Recipe) -> None:
    """Refuse an adapter, a quantisation or a way of loading that does not fit the start model; no weight is read.

    Args:
        recipe: With model folders on this machine.

    Raises:
        InputError: of these.
    """
    if recipe.train.quantization is not None:
        quantization_config(recipe.train.quantization)
    lora, given = lora_config(recipe), recipe.train.arguments.get("model_init_kwargs")
    if given is not None and not isinstance(given, Mapping):
        raise InputError(
            f"`train.arguments.model_init_kwargs` must be a mapping, got {given!r:.80}"
        )
    if lora is None and not given:
        return
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = adapter_base(Path(str(recipe.start_model)))
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    shape = {
        name: value
        for name, value in (given or {}).items()
        if (name in ("dtype", "torch_dtype") and value != "auto")  # the checkpoint's own
        or (name == "attn_implementation" and torch.accelerator.is_available())  # may need one
    }
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **shape)
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        raise InputError(
            f"`train.arguments.model_init_kwargs`: the model `{recipe.start_model}` cannot be loaded so: {error}"
        ) from error
    if lora is None:
        return
    lora.init_lora_weights = True  # others compute on weights, of which there are none here
    try:
        with torch.device("meta"):
            get_peft_model(model, lora)
    except (TypeError, ValueError) as error:
        raise InputError(f"`train.lora` does not fit the model `{folder}`: {error}") from error


def check_start_tokenizer(guarded: GuardedRecipe, arguments: Any) -> None:
    """Refuse a start model, or tokens of the trainer's arguments, with which prompts are not those the anchors answer.

    Args:
        guarded: With model folders on this machine.
        arguments: Read by SFTConfig or GRPOConfig.

    Raises:
        InputError: as `check_rendering`, or the tokenizer has no such token.
    """
    recipe = guarded.recipe
    named = {name: getattr(arguments, name, None) for name in ("eos_token", "pad_token")}
    if not any(named.values()) and recipe.start_model == recipe.gold_base:
        return
    tokenizer = load_tokenizer(str(recipe.start_model))
    for name, token in named.items():
        if token in (None, tokenizer.unk_token):
            continue
        if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
            raise InputError(
                f"`train.arguments.{name}` is `{token}`, which the tokenizer of `{recipe.start_model}` does not have; leave it away"
            )
    if named["eos_token"] is not None:
        tokenizer.eos_token = named["eos_token"]
    own = load_tokenizer(recipe.gold_base)
    profile = resolve_profile(recipe.gold_base, own, thinking=recipe.thinking)
    check_rendering(recipe, [*guarded.red_line, *guarded.rehearsal], profile, tokenizer, {})
