"""`guardrail check`: the preflight, and what it lets one say of a run before it costs anything."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from guardrail.preflight.expected_cost import Training, expected_cost, planned_steps
from guardrail.preflight.preflight import preflight
from guardrail.recipe import Recipe
from guardrail.sets.build.compose import passes_per_prompt
from guardrail.trainers.ms_swift.swift_rows import first_swift_rows
from guardrail.trainers.trl.first_rows import first_rows
from guardrail.trainers.trl.grpo_form import recipe_form
from guardrail.trainers.trl.trl_arguments import refused_without_gpu

__all__ = ["check_recipe"]


def check_recipe(recipe: Recipe, run: Path | None = None) -> dict[str, Any]:
    """Return what is known of a recipe's run, into that folder where it is known; how many rows other datasets of ms-swift have is not.

    Raises:
        InputError: as `preflight`, or the trainer's template refuses one of the first rows.
    """
    guardrail, rows, where, arguments, reading = preflight(recipe, run)
    found, items = guardrail.recipe, len(guardrail.rehearsal)
    facts: dict[str, Any] = {"recipe": recipe.name}
    swift = recipe.trainer == "ms-swift"
    grpo = recipe.trainer == "trl-grpo" or "rlhf_type" in recipe.train.arguments
    lengths = None
    if swift and arguments is not None:
        lengths = first_swift_rows(arguments, list(zip(where, rows, strict=True)), grpo=grpo)
    elif recipe.train.data is None and not swift:
        facts["training_rows"] = (
            "none in the recipe: a script with `Guardrail.from_recipe` brings its own, `guardrail run` needs `train.data`"
        )
    elif rows:
        lengths = first_rows(found, rows, where, getattr(arguments, "max_length", None))
    count = 0
    if reading is not None and not recipe.train.arguments.get(
        "dataset"
    ):  # ms-swift's others are not counted
        count = reading.kept
        facts |= {
            "training_rows": count,
            **reading.facts(),
            "passes_per_prompt_and_epoch": round(
                passes_per_prompt(count, recipe.rehearsal.fraction, items), 2
            ),
        }
    if lengths is not None:
        facts["first_rows"] = lengths.said
    facts |= {
        "red_line_items": len(guardrail.red_line),
        "rehearsal_items": items,
        "rehearsal_fraction": recipe.rehearsal.fraction,
        "anchors": guardrail.anchors_standing(),
    }
    if recipe.trainer == "trl-grpo" and recipe.mode == "guard":
        facts["kl_only_samples"] = recipe_form(found).sentence
    gaps = _gaps(rows, where) if recipe.trainer == "trl-grpo" else []
    training = None
    if lengths is not None:
        held_out = 0 if grpo else round(count * recipe.train.held_out)
        trained, tokens = count - held_out, lengths.mean
        longest = getattr(arguments, "max_length", None)
        if getattr(arguments, "packing", False) and longest and not grpo:
            trained, tokens = ceil(trained * tokens / longest), float(longest)
        training = Training(
            arguments,
            tokens,
            steps=_steps(recipe, arguments, trained, grpo=grpo),
            lora=recipe.train.lora is not None
            or getattr(arguments, "tuner_type", "full") != "full",
            grpo=grpo,
        )
    facts |= expected_cost(found, len(guardrail.red_line), items, training)
    no_gpu = None if swift else refused_without_gpu(recipe, ranks=_ranks(recipe))
    facts["warnings"] = [
        *([f"a run on this machine would be refused: {no_gpu}"] if no_gpu else []),
        *gaps,
        *facts["warnings"],
    ]
    return facts


def _gaps(rows: Sequence[Mapping[str, Any]], where: Sequence[str]) -> list[str]:
    """A sentence for each column that holds nothing in some rows, for which rewards are handed None."""
    said = []
    for column in rows[0] if rows else ():
        empty = [place for row, place in zip(rows, where, strict=True) if row[column] is None]
        if empty:
            said.append(
                f"column `{column}` is empty in {len(empty)} of {len(rows)} training rows, the first {empty[0]}; rewards are given "
                "None there"
            )
    return said


def _steps(recipe: Recipe, arguments: Any, rows: int, *, grpo: bool) -> int | None:
    """Optimizer steps of the run as trainers count them; None where rows are not known, or are counted in completions.

    Args:
        recipe: Checked.
        arguments: Read by the trainer's own class.
        rows: That are trained on, or the sequences that packing makes of them.
        grpo: Whether it is GRPO.
    """
    if arguments.max_steps <= 0 and (grpo or not rows):
        return None
    batches = ceil(rows / _ranks(recipe) / arguments.per_device_train_batch_size)
    return planned_steps(vars(arguments), ceil(batches / arguments.gradient_accumulation_steps))


def _ranks(recipe: Recipe) -> int:
    return recipe.launch.processes * recipe.launch.nodes
