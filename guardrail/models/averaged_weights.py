"""Weights between the base's and a fine-tuned model's: general abilities come back, and some of what was learned goes.

Linear interpolation of all weights, as in WiSE-FT (Wortsman et al., arXiv 2109.01903). docs/real-study.md has what it kept on a
real model.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.models.fingerprint import (
    AVERAGED_FILE,
    is_adapter,
    own_weights_sha256,
    require_model,
    weight_files,
)

__all__ = ["average_with_base"]

_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")
_NOT_THE_MODELS = ("trainer_state", "guardrail_", "averaged")
_AVERAGED = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_LORA_A = ("lora_A.weight", "lora_embedding_A")
_LORA_B = ("lora_B.weight", "lora_embedding_B")


def average_with_base(
    model: Path,
    base: Path | None,
    share: float,
    out: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write `share` of a fine-tuned model's weights and the rest of its base's as a model folder.

    Of an adapter the change it makes is scaled by `share`, which is the same, and its base is not read. One tensor at a time is in
    memory twice and one file of weights once; sums are in float32, saved in the model's own precision.

    Args:
        model: Folder of a whole model, or of a LoRA adapter.
        base: Folder of the model that it was trained from; None for an adapter.
        share: Of the fine-tuned weights, between 0 and 1.
        out: Folder to write; must not be there.
        on_progress: Is told tensors done and all.

    Returns:
        What `averaged.json` in the folder says: model, base, their weights' hashes, share.

    Raises:
        InputError: `out` is there, a folder is no model's, or the two do not have the same tensors.

    Does not promise that what the average answers lies between what the two answer: have it judged (`guardrail look`).
    """
    if not 0 < share < 1:
        raise InputError(
            f"`--share` must lie between 0 (the base) and 1 (the model as it is), got {share:g}"
        )
    if out.exists():
        raise InputError(f"`{out}` is there already; give another --out")
    facts: dict[str, Any] = {"model": str(model.resolve()), "share": share}
    if is_adapter(model):
        if base is not None:
            raise InputError(
                f"`{model}` is an adapter, whose change alone is scaled; leave `--base` away"
            )
        plan = list(_scaled_adapter(model))
    else:
        if base is None:
            raise InputError(f"`{model}` is a whole model; give what it was trained from: --base")
        plan = list(_pairs(model, base))
        facts |= {"base": str(base.resolve()), "base_sha256": own_weights_sha256(base)}
    facts["model_sha256"] = own_weights_sha256(model)
    making = out.with_name(f"{out.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        for pattern in _COPIED:
            for file in model.glob(pattern):
                if not file.name.startswith(_NOT_THE_MODELS):
                    shutil.copyfile(file, making / file.name)
        _write_weights(plan, share, making, on_progress)
        write_whole(making / AVERAGED_FILE, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
        making.rename(out)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return facts


_Planned = tuple[str, str, Path, Path | None]
"""File to write, tensor, where it stands, and where base's does; None: it is scaled, or stays (lora_A)."""


def _names(folder: Path) -> dict[str, Path]:
    require_model(folder)
    found: dict[str, Path] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            found |= dict.fromkeys(opened.keys(), file)
    return found


def _pairs(model: Path, base: Path) -> Iterator[_Planned]:
    if is_adapter(base):
        raise InputError(f"base `{base}` is an adapter; give the whole model that was trained from")
    own, theirs = _names(model), _names(base)
    alone = [name for name in own if name not in theirs]
    alone += [name for name in theirs if name not in own and name != "lm_head.weight"]  # tied
    if alone:
        raise InputError(
            f"`{model}` and `{base}` do not have the same tensors: {len(alone)} stand in one alone, such as {alone[0]}; "
            "give the base that it was trained from"
        )
    for name, file in own.items():
        yield file.name, name, file, theirs[name]


def _scaled_adapter(model: Path) -> Iterator[_Planned]:
    own = _names(model)
    others = [name for name in own if not name.endswith((*_LORA_A, *_LORA_B))]
    if others:
        raise InputError(
            f"adapter `{model}` trains more than LoRA's two matrices, such as {others[0]}; merge it into its base, and average the "
            "merged model with that"
        )
    for name, file in own.items():
        yield file.name, name, file, None


def _write_weights(
    plan: list[_Planned],
    share: float,
    making: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    done = 0
    for target in sorted({file for file, *_ in plan}):
        made = {}
        for _, name, own, theirs in (one for one in plan if one[0] == target):
            made[name] = _averaged(name, own, theirs, share)
            done += 1
            if on_progress is not None:
                on_progress(done, len(plan))
        save_file(made, making / target, metadata={"format": "pt"})


def _averaged(name: str, own: Path, theirs: Path | None, share: float) -> torch.Tensor:
    tuned = _tensor(own, name)
    if theirs is None:
        scaled = (tuned.float() * share).to(tuned.dtype)
        return scaled if name.endswith(_LORA_B) else tuned
    base = _tensor(theirs, name)
    if tuned.shape != base.shape:
        raise InputError(
            f"tensor {name} has the shape {list(tuned.shape)} in `{own.parent}` and {list(base.shape)} in `{theirs.parent}`; "
            "give the base that it was trained from"
        )
    if tuned.dtype in _AVERAGED and base.dtype in _AVERAGED:
        return torch.lerp(base.float(), tuned.float(), share).to(tuned.dtype)
    if tuned.dtype == base.dtype and torch.equal(tuned, base):
        return tuned
    raise InputError(
        f"tensor {name} is {str(tuned.dtype).removeprefix('torch.')}, which cannot be averaged; quantised weights have to be "
        "dequantised first"
    )


def _tensor(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, framework="pt") as opened:
        found: torch.Tensor = opened.get_tensor(name)
        return found
