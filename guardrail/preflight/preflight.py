"""What can be checked of a recipe before a run folder is made and a model is loaded."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from guardrail.errors import InputError
from guardrail.preflight.training_plan import check_grpo_plan, check_training_plan
from guardrail.preflight.writable import require_writable
from guardrail.recipe import Recipe
from guardrail.sets.lint.contamination import check_contamination
from guardrail.sets.read.curriculum import require_order, require_stages
from guardrail.sets.read.row_forms import check_row_forms, with_all_columns
from guardrail.sets.read.row_lengths import ROWS_READ
from guardrail.sets.read.training_rows import Reading, TrainingRows, read_training_rows
from guardrail.track.alert_services import alert_services
from guardrail.track.other_trackers import require_trackers
from guardrail.track.wandb_run import set_server
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.checks.wanted_anchors import require_anchors
from guardrail.trainers.grpo.reward_functions import check_reward, load_reward
from guardrail.trainers.ms_swift.command_line import check_swift_options
from guardrail.trainers.ms_swift.swift_arguments import check_swift_arguments
from guardrail.trainers.ms_swift.written_rows import read_swift_rows
from guardrail.trainers.trl.grpo_form import recipe_form
from guardrail.trainers.trl.grpo_versions import seams_here
from guardrail.trainers.trl.start_model import check_start_model, check_start_tokenizer
from guardrail.trainers.trl.trl_arguments import check_trl_arguments

__all__ = ["Checked", "preflight"]

NO_REWARD_COLUMNS = ("prompt", "completion", "completion_ids")
"""Columns that GRPO hands to no reward function."""


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


def preflight(recipe: Recipe, run: Path | None = None) -> Checked:
    """Check everything that can be checked before a run folder is made; reward functions are loaded.

    Args:
        recipe: Checked.
        run: The run's folder; None where a script names it.

    Raises:
        InputError: sets, models, reward functions or training data break a rule, arguments, recipe and rows do not go
            together, the form of KL-only samples asked for cannot be had, a folder cannot be written to, a tracker or
            the package that sends alerts is missing, or the anchors are absent where several processes were started.
    """
    require_trackers(recipe.train.arguments.get("report_to"))
    if "wandb" in str(recipe.train.arguments.get("report_to")):
        set_server(recipe.tracking)
    alert_services()
    # Before the arguments are read, for which ranks meet each other.
    require_anchors(recipe, processes=int(os.environ.get("WORLD_SIZE", "1")))
    if run is not None:
        require_writable(run, "the run folder", "give another with --out")
    anchors = Path(str(recipe.anchors))
    if not (anchors / "manifest.json").is_file():
        require_writable(anchors, "the anchors' folder", "give the recipe another `anchors`")
    if recipe.trainer == "ms-swift":
        return _swift(recipe)
    ranks = os.environ.get("WORLD_SIZE", recipe.launch.processes * recipe.launch.nodes)
    arguments = check_trl_arguments(recipe, ranks=int(ranks))
    check_training_plan(recipe, arguments, [])
    # This may download models: what is cheap comes before it.
    guardrail = Guardrail.from_recipe(recipe)
    check_start_model(guardrail.recipe)
    check_start_tokenizer(guardrail, arguments)
    read = None if recipe.train.data is None else _rows(guardrail)
    rows = [] if read is None else read.rows
    check_training_plan(recipe, arguments, rows)
    if recipe.trainer == "trl-grpo":
        form = recipe_form(guardrail.recipe) if recipe.mode == "guard" else None
        check_grpo_plan(recipe, arguments, len(rows), form)
        _check_rewards(recipe, rows)
    if read is None:  # a script of the user's own has them
        return Checked(guardrail, [], [], arguments)
    return Checked(guardrail, rows, read.where, arguments, read.reading)


def _rows(guardrail: Guardrail) -> TrainingRows:
    """The rows of the recipe's `train.data`, every column in each."""
    recipe, data = guardrail.recipe, str(guardrail.recipe.train.data)
    read = read_training_rows(data, recipe.trainer)
    check_row_forms(read.rows, read.where, trainer=recipe.trainer)
    if recipe.train.order == "curriculum":
        require_stages(read.rows, read.where)
    _check_overlap(guardrail, read.rows)
    guardrail.reading = read.reading.facts()
    return replace(read, rows=with_all_columns(read.rows))


def _check_overlap(guardrail: Guardrail, rows: Iterable[Mapping[str, Any]]) -> None:
    train = guardrail.recipe.train
    check_contamination(
        rows,
        guardrail.red_line,
        guardrail.recipe.sets.benchmarks,
        allowed=train.allow_overlap,
        source=f"training data `{train.data}`",
    )


def _check_rewards(recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> None:
    """Every reward function is there and can be called with the rows' columns."""
    if recipe.train.data and not recipe.train.rewards:  # a script brings both
        raise InputError(
            "`train.rewards` is empty, and GRPO needs a reward; name functions as `FILE.py:FUNCTION`"
        )
    given = ("prompts", "completions", "completion_ids", *sorted(seams_here().batch_wide))
    columns = [c for c in (rows[0] if rows else ()) if c not in NO_REWARD_COLUMNS]
    for spec in recipe.train.rewards:
        function = load_reward(spec)
        if rows:
            check_reward(function, spec, given, columns)


def _swift(recipe: Recipe) -> Checked:
    arguments = None
    guardrail = Guardrail.from_recipe(recipe)
    if recipe.train.data or recipe.train.arguments:
        arguments = check_swift_arguments(recipe)
        check_swift_options(recipe, arguments, arguments.sequence_parallel_size)
    return _swift_rows(recipe, guardrail, arguments)


def _swift_rows(recipe: Recipe, guardrail: Guardrail, arguments: Any) -> Checked:
    """What is known of ms-swift's rows: all are read, the first are kept."""
    if recipe.train.data is None:
        return Checked(guardrail, [], [], arguments)
    reading, first = Reading(), list[dict[str, Any]]()
    stages, where = list[dict[str, Any]](), list[str]()
    for place, row in read_swift_rows(recipe, reading):
        if len(first) < ROWS_READ:
            first.append(row)
        if len(where) < ROWS_READ or recipe.train.order == "curriculum":
            stages.append({"stage": row.get("stage")})
            where.append(place)
    if recipe.train.order == "curriculum":
        require_order(stages, where)
    _check_overlap(guardrail, (row for _, row in read_swift_rows(recipe, Reading())))
    return Checked(guardrail, first, where[: len(first)], arguments, reading)
