"""What a run's ledger begins with: recipe, weights, data, sets, versions."""

import sys
from collections import Counter
from collections.abc import Sequence, Sized
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guardrail import __version__
from guardrail.anchors.store import Manifest
from guardrail.models.fingerprint import file_sha256
from guardrail.probes.business_probes import item_clusters, read_business
from guardrail.recipe import Recipe
from guardrail.sets.items import items_sha256
from guardrail.trainers.checks.precision import describe_precision
from guardrail.trainers.checks.rendering import rows_opened_as_looks
from guardrail.trainers.checks.versions import MS_SWIFT, TRL, untried
from guardrail.trainers.grpo.choice import Form
from guardrail.trainers.guarded_recipe import GuardedRecipe

__all__ = ["recipe_header", "run_header"]


def run_header(
    guarded: GuardedRecipe,
    trainer: Any,
    manifest: Manifest,
    start_weights: str,
    packages: Sequence[str],
    *,
    form: Form | None,
    vllm: Any,
) -> dict[str, Any]:
    """Return what the ledger says of a run when it starts.

    Args:
        guarded: The run's recipe, paths absolute, with its sets.
        trainer: The trainer that is to be guarded, its data as the user gave them.
        manifest: That of the anchors.
        start_weights: Hash of the start model's weights.
        packages: What drives the run besides TRL; their versions are named too.
        form: GRPO's alone: the form of its KL-only samples.
        vllm: What answers the looks in the model's place, or None.
    """
    recipe, rows = guarded.recipe, trainer.train_dataset
    driven = [TRL, MS_SWIFT] if "ms-swift" in packages else [TRL]
    data = Path(recipe.train.data or "")
    header = {
        **recipe_header(guarded, manifest, start_weights, ("trl", *packages)),
        "trainer": type(trainer).__name__,
        "processes": trainer.accelerator.num_processes,
        "device": trainer.accelerator.device.type,
        "engine": _engine(recipe, vllm),
        "training_rows_opened": rows_opened_as_looks(
            rows, trainer.processing_class, thinking=recipe.thinking
        ),
        "precision": describe_precision(trainer),
        "training_sha256": file_sha256(data) if data.is_file() else None,
        "training_rows": len(rows) if isinstance(rows, Sized) else None,
        **guarded.reading,
        "untried_versions": [words for words in map(untried, driven) if words],
    }
    # One beside the training tells its version to nobody here.
    if vllm is not None and (loaded := getattr(sys.modules.get("vllm"), "__version__", None)):
        header["versions"]["vllm"] = str(loaded)
    if form is not None:
        header["rehearsal_form"] = form.record()
    return header


def recipe_header(
    guarded: GuardedRecipe, manifest: Manifest, start_weights: str, packages: Sequence[str]
) -> dict[str, Any]:
    """Return what a header says whoever trains: recipe, weights, sets, versions; arguments as of `run_header`."""
    recipe, red_line, rehearsal = guarded.recipe, guarded.red_line, guarded.rehearsal
    business = read_business(recipe.probes.files)
    clusters = zip(red_line, item_clusters(business, red_line), strict=True)
    return {
        "name": recipe.name,
        "mode": recipe.mode,
        "seed": recipe.seed,
        "recipe": recipe.model_dump(mode="json"),
        "profile": manifest.profile.model_dump(mode="json"),
        "weights": {
            "gold_base": manifest.gold_base["weights"],
            "kl_reference": manifest.kl_reference["weights"],
            "start_model": start_weights,
        },
        "red_line_items": len(red_line),
        "red_line_sha256": items_sha256(red_line),
        "red_line_sources": dict(Counter(i.source for i in red_line).most_common()),
        "rehearsal_items": len(rehearsal),
        "rehearsal_sources": dict(Counter(i.source for i in rehearsal).most_common()),
        "rehearsal_sha256": items_sha256(rehearsal),
        "probes_sha256": list(business.sha256.values()),
        # So that whoever reads the run need not carry the rule out.
        "probe_clusters": {i.id: name for i, name in clusters if i.cluster is None and name},
        "versions": {"redline-guardrail": __version__}
        | {name: version(name) for name in ("torch", "transformers", *packages)},
    }


def _engine(recipe: Recipe, vllm: Any) -> str:
    """Who answers the looks, in words."""
    if recipe.looks.engine == "sidecar":
        return "a sidecar"
    return "in-process" if vllm is None else "the trainer's vLLM"
