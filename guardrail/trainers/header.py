"""What a run's ledger begins with: recipe, weights, data, sets, versions."""

from collections import Counter
from collections.abc import Sequence, Sized
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guardrail import __version__
from guardrail.anchors.store import Manifest
from guardrail.models.fingerprint import file_sha256
from guardrail.recipe import Recipe
from guardrail.sets.items import Item, items_sha256
from guardrail.trainers.checks.precision import describe_precision
from guardrail.trainers.checks.rendering import rows_opened_as_looks
from guardrail.trainers.checks.versions import MS_SWIFT, TRL, untried

__all__ = ["run_header"]


def run_header(
    recipe: Recipe,
    red_line: list[Item],
    rehearsal: list[Item],
    trainer: Any,
    manifest: Manifest,
    start_weights: str,
    packages: Sequence[str],
) -> dict[str, Any]:
    """Return what the ledger says of a run when it starts.

    Args:
        recipe: The run's, paths absolute.
        red_line: The judged items.
        rehearsal: The injected items.
        trainer: The trainer that is to be guarded.
        manifest: That of the anchors.
        start_weights: Hash of the start model's weights.
        packages: What drives the run besides TRL; their versions are told too.
    """
    rows = trainer.train_dataset
    driven = [TRL, MS_SWIFT] if "ms-swift" in packages else [TRL]
    data = Path(recipe.train.data or "")
    return {
        "name": recipe.name,
        "mode": recipe.mode,
        "seed": recipe.seed,
        "recipe": recipe.model_dump(mode="json"),
        "trainer": type(trainer).__name__,
        "processes": trainer.accelerator.num_processes,
        "device": trainer.accelerator.device.type,
        "profile": manifest.profile.model_dump(mode="json"),
        "training_rows_opened": rows_opened_as_looks(
            rows, trainer.processing_class, thinking=recipe.thinking
        ),
        "precision": describe_precision(trainer),
        "weights": {
            "gold_base": manifest.gold_base["weights"],
            "kl_reference": manifest.kl_reference["weights"],
            "start_model": start_weights,
        },
        "training_sha256": file_sha256(data) if data.is_file() else None,
        "training_rows": len(rows) if isinstance(rows, Sized) else None,
        "red_line_items": len(red_line),
        "red_line_sha256": items_sha256(red_line),
        "red_line_sources": dict(Counter(i.source for i in red_line).most_common()),
        "rehearsal_items": len(rehearsal),
        "rehearsal_sources": dict(Counter(i.source for i in rehearsal).most_common()),
        "rehearsal_sha256": items_sha256(rehearsal),
        "untried_versions": [told for told in map(untried, driven) if told],
        "versions": {"redline-guardrail": __version__}
        | {name: version(name) for name in ("torch", "transformers", "trl", *packages)},
    }
