"""In which precision a run trains: dtype of weights and forwards, adapter or all weights, quantised or not."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from guardrail.errors import InputError
from guardrail.models.quantization import quantization_of_folder, quantization_words
from guardrail.recipe import Recipe

__all__ = ["check_quantization", "describe_precision", "keep_backward_of_4bit"]

_HALVES = (torch.bfloat16, torch.float16)
_KEEPS_WHAT_IS_SMALL = ("adamw_anyprecision",)
"""Optimizers that carry what a half-precision weight cannot take; the others round it away."""
_FORWARDS = {"bf16": "bfloat16", "fp16": "float16", "fp8": "float8"}


def describe_precision(trainer: Any) -> dict[str, Any]:
    """Return what the ledger's header says of a trainer's precision.

    `weights` is the dtype of most of the model's weights that are numbers (a quantised model's norms and embeddings),
    those below an adapter where there is one, `trained` that of most that are trained, `forwards` that of a training forward, `autocast` whether it is cast from
    the weights. `updates_lost` says that weights in half precision are trained as they are, without a copy
    in float32 that takes small updates: in bfloat16 at a learning rate of 1e-5, 84 % of a 270M model's weights had
    not moved after 20 steps.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = isinstance(model, PeftModel)
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in model.parameters() if not p.requires_grad] if adapter else trained
    mixed = str(trainer.accelerator.mixed_precision)
    deepspeed = trainer.accelerator.state.deepspeed_plugin is not None
    most_weights, most_trained = _most(weights), _most(trained)
    forwards = _FORWARDS.get(mixed) or str(most_weights).removeprefix("torch.")
    return {
        "weights": str(most_weights).removeprefix("torch."),
        "trained": str(most_trained).removeprefix("torch."),
        "forwards": forwards,
        "autocast": mixed in _FORWARDS and not deepspeed,
        "tuning": _tuning(model),
        "quantization": _of_model(model) or None,
        "masters": "DeepSpeed" if deepspeed else None,
        "updates_lost": (
            not adapter
            and not deepspeed
            and most_trained in _HALVES
            and trainer.args.optim not in _KEEPS_WHAT_IS_SMALL
        ),
    }


def check_quantization(recipe: Recipe, trainer: Any) -> None:
    """Refuse a model that is quantised otherwise than the one that makes the anchors.

    Raises:
        InputError: both are named.
    """
    found = _of_model(trainer.accelerator.unwrap_model(trainer.model))
    given = recipe.train.quantization
    anchored = (
        quantization_words(given) if given else quantization_of_folder(Path(recipe.gold_base))
    )
    if found != anchored:
        raise InputError(
            f"the trainer's model is {found or 'not quantised'}, and the anchors are made by a model that is "
            f"{anchored or 'not quantised'}: the difference would pass for drift. Give the recipe's "
            "`train.quantization` the BitsAndBytesConfig arguments the trainer's model is loaded with, or leave both "
            "away, and run `guardrail anchor RECIPE`"
        )


def keep_backward_of_4bit(model: Any) -> None:
    """Keep bitsandbytes from packing a model's 4-bit weights for CPUs with AVX512-BF16 at the next look.

    It packs in the first forward outside of training, and that format has no backward pass: adapters below the
    last layer would train on without gradients, and nothing would say so (bitsandbytes 0.50, `Linear4bit.forward`).
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False


def _tuning(model: Any) -> str:
    if not isinstance(model, PeftModel):
        return "full"
    kinds = {str(c.peft_type).rpartition(".")[2] for c in model.peft_config.values()}
    return ", ".join("LoRA" if kind == "LORA" else kind for kind in sorted(kinds))


def _of_model(model: Any) -> str:
    config = getattr(model.config, "quantization_config", None)
    return quantization_words(
        config if config is None or isinstance(config, dict) else config.to_dict()
    )


def _most(parameters: list[Any]) -> Any:
    """The dtype of most of these numbers; a parameter that ZeRO-3 cut up counts as what it is when whole."""
    counted: Counter[Any] = Counter()
    for p in parameters:
        if p.is_floating_point():
            counted[p.dtype] += getattr(p, "ds_numel", p.numel())
    return counted.most_common(1)[0][0] if counted else torch.float32
