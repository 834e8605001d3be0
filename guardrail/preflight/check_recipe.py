"""`guardrail check`: the preflight, and what it lets one say of a run before it costs anything."""

from typing import Any

from guardrail.preflight.expected_cost import expected_cost
from guardrail.preflight.preflight import preflight
from guardrail.recipe import Recipe
from guardrail.sets.build.compose import passes_per_prompt
from guardrail.trainers.trl.first_rows import first_rows
from guardrail.trainers.trl.grpo_form import recipe_form
from guardrail.trainers.trl.trl_arguments import check_trl_arguments

__all__ = ["check_recipe"]


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what is known of a recipe's run; what ms-swift's command line says of rows is not.

    Raises:
        InputError: as `preflight`, or the model's chat template refuses a row.
    """
    guardrail, rows = preflight(recipe)
    found, items = guardrail.recipe, len(guardrail.rehearsal)
    facts: dict[str, Any] = {"recipe": recipe.name}
    steps = None
    if rows:
        arguments = check_trl_arguments(recipe, ranks=1)
        ranks = recipe.launch.processes * recipe.launch.nodes
        steps = planned_steps(arguments, len(rows) * (1 - recipe.train.held_out) / ranks)
        facts |= {
            "training_rows": len(rows),
            "first_rows": first_rows(found, rows, getattr(arguments, "max_length", None)),
            "passes_per_prompt_and_epoch": round(
                passes_per_prompt(len(rows), recipe.rehearsal.fraction, items), 2
            ),
        }
        if recipe.trainer == "trl-grpo":
            steps = None  # batches are counted in completions
    facts |= {
        "red_line_items": len(guardrail.red_line),
        "rehearsal_items": items,
        "rehearsal_fraction": recipe.rehearsal.fraction,
        "anchors": guardrail.anchors_standing(),
    }
    if recipe.trainer == "trl-grpo" and recipe.mode == "guard":
        facts["kl_only_samples"] = recipe_form(found).sentence
    return facts | expected_cost(found, len(guardrail.red_line), items, steps)


def planned_steps(arguments: Any, rows_a_rank: float) -> int:
    """Return the optimizer steps of an SFT run of these trainer arguments; packing makes them fewer."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    batch: int = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return max(1, round(float(arguments.num_train_epochs) * rows_a_rank / batch))
