"""What can be checked of a recipe before a run folder is made and a model is loaded."""

import os
from typing import Any, NamedTuple

from guardrail.errors import InputError
from guardrail.recipe import Recipe
from guardrail.sets.lint.contamination import check_contamination
from guardrail.sets.read.curriculum import require_order, require_stages
from guardrail.sets.read.row_forms import check_row_forms, with_all_columns
from guardrail.sets.read.row_lengths import ROWS_READ
from guardrail.sets.read.training_rows import Reading, read_training_rows
from guardrail.track.alert_services import alert_services
from guardrail.track.other_trackers import require_trackers
from guardrail.track.wandb_run import set_server
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.checks.wanted_anchors import require_anchors
from guardrail.trainers.grpo.reward_functions import load_reward
from guardrail.trainers.ms_swift.swift_arguments import check_swift_arguments
from guardrail.trainers.ms_swift.written_rows import read_swift_rows
from guardrail.trainers.trl.grpo_form import recipe_form
from guardrail.trainers.trl.trl_arguments import check_trl_arguments

__all__ = ["Checked", "preflight"]


class Checked(NamedTuple):
    """What a recipe's preflight has read."""

    guardrail: Guardrail
    rows: list[dict[str, Any]]
    """Of the training; of ms-swift's, which reads them itself, the first; none where a script of the user's own has them."""
    where: list[str]
    """Where each of them stands."""
    arguments: Any
    """The trainer's, read by its own class; None for ms-swift where the recipe gives none."""
    reading: Reading | None = None
    """What became of the rows of `train.data`; None where a script of the user's own has the data."""


def preflight(recipe: Recipe) -> Checked:
    """Check everything that can be checked before a run folder is made; reward functions are loaded.

    Raises:
        InputError: sets, models, reward functions or training data break a rule, the form of KL-only
            samples asked for cannot be had, a tracker or the package that sends alerts is missing, or
            the anchors are absent where several processes were started.
    """
    require_trackers(recipe.train.arguments.get("report_to"))
    if "wandb" in str(recipe.train.arguments.get("report_to")):
        set_server(recipe.tracking)
    alert_services()
    # Before the arguments are read, for which ranks meet each other.
    require_anchors(recipe, processes=int(os.environ.get("WORLD_SIZE", "1")))
    grpo, swift = recipe.trainer == "trl-grpo", recipe.trainer == "ms-swift"
    arguments = None
    if not swift:
        ranks = os.environ.get("WORLD_SIZE", recipe.launch.processes * recipe.launch.nodes)
        arguments = check_trl_arguments(recipe, ranks=int(ranks))
    # This may download models: what is cheap comes before it.
    guardrail = Guardrail.from_recipe(recipe)
    checked = guardrail.recipe
    if grpo:
        if recipe.train.data and not recipe.train.rewards:  # a script brings both
            raise InputError(
                "`train.rewards` is empty, and GRPO needs a reward; name functions as `FILE.py:FUNCTION`"
            )
        for spec in recipe.train.rewards:
            load_reward(spec)
        if recipe.mode == "guard":
            recipe_form(checked)
    if swift:
        if recipe.train.data or recipe.train.arguments:
            arguments = check_swift_arguments(recipe)
        return _swift_rows(recipe, guardrail, arguments)
    if recipe.train.data is None:  # a script of the user's own has them
        return Checked(guardrail, [], [], arguments)
    read = read_training_rows(recipe.train.data, recipe.trainer)
    check_row_forms(read.rows, read.where, trainer=recipe.trainer)
    if recipe.train.order == "curriculum":
        require_stages(read.rows, read.where)
    rows = with_all_columns(read.rows)
    check_contamination(
        rows,
        guardrail.red_line,
        recipe.sets.benchmarks,
        allowed=recipe.train.allow_overlap,
        source=f"training data `{recipe.train.data}`",
    )
    guardrail.reading = read.reading.facts()
    return Checked(guardrail, rows, read.where, arguments, read.reading)


def _swift_rows(recipe: Recipe, guardrail: Guardrail, arguments: Any) -> Checked:
    """What is known of ms-swift's rows: all are read, the first are kept."""
    if recipe.train.data is None:
        return Checked(guardrail, [], [], arguments)
    reading, first, stages, where = Reading(), [], [], []
    for place, row in read_swift_rows(recipe, reading):
        if len(first) < ROWS_READ:
            first.append(row)
        if len(where) < ROWS_READ or recipe.train.order == "curriculum":
            stages.append({"stage": row.get("stage")})
            where.append(place)
    if recipe.train.order == "curriculum":
        require_order(stages, where)
    return Checked(guardrail, first, where[: len(first)], arguments, reading)
