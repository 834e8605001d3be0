"""What can be checked of a recipe before a run folder is made and a model is loaded."""

from typing import Any

from guardrail.errors import InputError
from guardrail.recipe import Recipe
from guardrail.sets.read.training_rows import prompt_rows, read_training_rows
from guardrail.track.alert_services import alert_services
from guardrail.track.other_trackers import require_trackers
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.checks.contamination import check_contamination
from guardrail.trainers.grpo.reward_functions import load_reward
from guardrail.trainers.trl.grpo_form import recipe_form

__all__ = ["preflight"]


def preflight(recipe: Recipe) -> tuple[Guardrail, list[dict[str, Any]]]:
    """Check everything that can be checked before a run folder is made; reward functions are loaded.

    Returns:
        The guardrail and the training rows, none where ms-swift has the data.

    Raises:
        InputError: sets, models, reward functions or training data break a rule, the form of KL-only
            samples asked for cannot be had, or a tracker or the package that sends alerts is missing.
    """
    require_trackers(recipe.train.arguments.get("report_to"))
    alert_services()
    guardrail = Guardrail.from_recipe(recipe)
    if recipe.train.data is None:
        return guardrail, []
    rows = read_training_rows(recipe.train.data)
    if recipe.trainer == "trl-grpo":
        if not recipe.train.rewards:
            raise InputError(
                "`train.rewards` is empty, and GRPO needs a reward; name functions as `FILE.py:FUNCTION`"
            )
        for spec in recipe.train.rewards:
            load_reward(spec)
        rows = prompt_rows(rows)
        if recipe.mode == "guard":
            recipe_form(guardrail.recipe)  # refused by name before anchors are made
    check_contamination(
        guardrail.recipe, guardrail.red_line, rows, f"training data `{recipe.train.data}`"
    )
    return guardrail, rows
