"""The anchors a recipe asks for: what their manifest must say, and where they must be made beforehand."""

import json
from importlib.metadata import version
from pathlib import Path

from transformers import AutoTokenizer

from guardrail.anchors.store import Manifest
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.fingerprint import model_fingerprint
from guardrail.recipe import Recipe
from guardrail.sets.items import Item, items_sha256

__all__ = ["require_anchors", "wanted_manifest"]


def wanted_manifest(recipe: Recipe, red_line: list[Item], rehearsal: list[Item]) -> Manifest:
    """Return the manifest the recipe's anchors must carry.

    Raises:
        InputError: the gold base lacks files, or its chat template does not fit the recipe (`resolve_profile`).
    """
    tokenizer = AutoTokenizer.from_pretrained(recipe.gold_base, local_files_only=True)
    config = json.loads((Path(recipe.gold_base) / "config.json").read_text(encoding="utf-8"))
    return Manifest(
        gold_base=model_fingerprint(recipe.gold_base),
        kl_reference=model_fingerprint(str(recipe.kl_reference)),
        red_line=items_sha256(red_line),
        rehearsal=items_sha256(rehearsal),
        profile=resolve_profile(recipe.gold_base, tokenizer, thinking=recipe.thinking),
        decoding=recipe.looks.decoding,
        replicates=recipe.replicates,
        seed=0,
        top_k=recipe.rehearsal.top_k,
        batch_size=recipe.looks.batch_size,
        engine="in-process",
        quantization=recipe.train.quantization,
        dtype=str(config.get("dtype", config.get("torch_dtype", "float32"))),
        versions={name: version(name) for name in ("torch", "transformers")},
    )


def require_anchors(recipe: Recipe, *, processes: int, zero3: bool = False) -> None:
    """Refuse a run that would have to make its anchors where that cannot be done.

    Raises:
        InputError: the anchors are absent, and there are several processes or ZeRO-3.
    """
    unfit = f"{processes} processes cannot make them together" if processes > 1 else ""
    if zero3:
        unfit = "they cannot be made under ZeRO-3, which loads every model in pieces"
    if unfit and not (Path(str(recipe.anchors)) / "manifest.json").is_file():
        raise InputError(
            f"anchors `{recipe.anchors}` are absent, and {unfit}; run `guardrail anchor RECIPE` before "
            "the launch"
        )
