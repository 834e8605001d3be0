"""Load a model's folder: whole or an adapter on its base, quantised or not, onto the accelerator."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from guardrail.errors import InputError
from guardrail.models.fingerprint import adapter_base, is_adapter

__all__ = [
    "load_model",
    "load_tokenizer",
    "on_accelerator",
    "quantization_config",
    "where_there_is_room",
]


def load_model(
    folder: str | Path,
    dtype: Any = "auto",
    *,
    trainable: bool = False,
    quantization: Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[Any, Any]:
    """Return model and tokenizer of a folder, without looking at any hub.

    An adapter's folder gives its base with the adapter on it, unmerged, so that answers are those of the
    training bit for bit.

    Args:
        folder: Of a whole model, or of a PEFT adapter.
        dtype: Of the weights.
        trainable: Whether an adapter is to be trained on.
        quantization: Arguments of `BitsAndBytesConfig`, None for weights as they are.
        more: Handed to `from_pretrained`.

    Raises:
        InputError: an adapter whose base is not here, or arguments of quantization that bitsandbytes refuses.
    """
    folder = Path(folder)
    if quantization is not None:
        more["quantization_config"] = quantization_config(quantization)
    model = AutoModelForCausalLM.from_pretrained(
        adapter_base(folder), dtype=dtype, local_files_only=True, **more
    )
    if is_adapter(folder):
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    return model, load_tokenizer(folder)


def load_tokenizer(folder: str | Path) -> Any:
    """Return the tokenizer of a model's or an adapter's folder, without looking at any hub."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def on_accelerator(model: Any) -> Any:
    """Return a loaded model on this machine's accelerator, where it has one; a trainer moves its own."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    placed = getattr(model, "is_loaded_in_8bit", False)  # bitsandbytes did, and lets nobody else
    return model if accelerator is None or placed else model.to(accelerator)


def where_there_is_room(model: Any) -> Any:
    """Return a loaded model on the GPU if twice its size is free there, else where it is: a server may fill the GPU."""
    if not torch.cuda.is_available():
        return model
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return on_accelerator(model) if torch.cuda.mem_get_info()[0] > 2 * size else model


def quantization_config(arguments: Mapping[str, Any]) -> BitsAndBytesConfig:
    """Return the arguments as bitsandbytes' own.

    Raises:
        InputError: it is not installed, or refuses them.
    """
    if find_spec("bitsandbytes") is None:
        raise InputError("`train.quantization` needs bitsandbytes; run `pip install bitsandbytes`")
    try:
        return BitsAndBytesConfig(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"`train.quantization`: BitsAndBytesConfig refuses it: {error}") from error
