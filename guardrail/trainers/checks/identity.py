"""Is the model in the trainer the one the recipe names? Its own tensors against those on disk."""

import contextlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor

from guardrail.errors import InputError
from guardrail.models.fingerprint import adapter_base, is_adapter
from guardrail.trainers.kl_only.references import CHANGES_BELOW

__all__ = ["check_weights"]

_COMPARED = 24
"""Tensors compared, spread over the model; fine-tuning spares none."""
_ROWS = 64
"""Rows compared of each: a 70B model's must not be read whole."""


def check_weights(key: str, folder: Path, model: Any) -> int:
    """Compare tensors of a loaded model with those of the folder it should come from; return how many.

    In whatever precision it was loaded: what the folder holds is cast the same way. Tensors that were renamed,
    merged, resized or quantised while loading cannot be compared and are left out, so 0 means that nothing is
    known. A model folder's norms and embeddings are compared also where its matrices are quantised.

    Args:
        key: The recipe's key that names the folder, for the message.
        folder: Of a whole model, or of an adapter, whose own tensors and base's are compared.
        model: Unwrapped; with the folder's adapter or a new one on it, or none.

    Raises:
        InputError: a tensor differs.
    """
    adapters = model.peft_config.values() if isinstance(model, PeftModel) else ()
    starts = [str(getattr(one, "init_lora_weights", "")).lower() for one in adapters]
    if any(start.startswith(CHANGES_BELOW) for start in starts):
        return 0  # the weights below such an adapter are moved so that both together are the model
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    loaded = {name.replace(".base_layer.", "."): p for name, p in inner.named_parameters()}
    compared = _compare(key, folder, adapter_base(folder), loaded)
    if is_adapter(folder) and isinstance(model, PeftModel):
        adapter = {
            name.replace(f".{model.active_adapter}.", "."): p
            for name, p in model.named_parameters()
        }
        compared += _compare(key, folder, folder, adapter)
    return compared


def _compare(key: str, named: Path, folder: Path, loaded: Mapping[str, Tensor]) -> int:
    where = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            where.update({name: file for name in tensors.keys() if name in loaded})  # noqa: SIM118
    names = sorted(where)
    compared = 0
    for name in names[:: max(1, len(names) // _COMPARED)]:
        with safe_open(where[name], framework="pt") as tensors, _whole(loaded[name]) as parameter:
            stored = tensors.get_slice(name)
            if list(stored.get_shape()) != list(parameter.shape) or not parameter.shape:
                continue
            if not parameter.is_floating_point():
                continue
            compared += 1
            if not _same(stored[:_ROWS], parameter.detach()[:_ROWS].cpu()):
                raise InputError(
                    f"the trainer's model is not the recipe's `{key}` (`{named}`): tensor `{name}` differs. "
                    "Name the model that is trained in the recipe, or give the trainer the recipe's"
                )
    return compared


def _same(stored: Tensor, ours: Tensor) -> bool:
    """Equal in the precision of ours, or in bfloat16, from which QLoRA's preparation widens norms again."""
    half = torch.bfloat16
    return torch.equal(stored.to(ours.dtype), ours) or torch.equal(stored.to(half), ours.to(half))


@contextlib.contextmanager
def _whole(parameter: Any) -> Iterator[Tensor]:
    """A parameter that ZeRO-3 keeps in pieces, put together; every rank must ask."""
    if not hasattr(parameter, "ds_id"):
        yield parameter
        return
    deepspeed: Any = import_module("deepspeed")
    with deepspeed.zero.GatheredParameters([parameter]):
        yield parameter
