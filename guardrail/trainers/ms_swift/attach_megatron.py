"""The guard attached to a trainer of Megatron-SWIFT: `--callbacks guardrail` of `megatron sft`. Read, not run (megatron.py).

Looks are a sidecar's alone: a Megatron model lies in pieces over its ranks, and only an exported checkpoint can be asked.
There is no KL term, no trainer of Megatron's carries one yet, so that a raise moves nothing and the ladder begins with the
cut of the learning rate. Nor are there tripwires, trackers or a resume; a SIGTERM is not heard.
"""

import functools
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import distributed

from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.multiple_choice import draw_choices
from guardrail.errors import InputError
from guardrail.guard.apply_levers import move_rate
from guardrail.guard.course import Course
from guardrail.guard.guard import Guard
from guardrail.guard.ranks import Ranks
from guardrail.guard.resume import refuse_taken
from guardrail.guard.state import GuardState
from guardrail.judge.ladder import Action
from guardrail.ledger.file import Ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.recipe import Recipe
from guardrail.trainers.checks.versions import MS_SWIFT, check_versions, untried
from guardrail.trainers.checks.wanted_anchors import require_anchors
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.ledger_header import recipe_header
from guardrail.trainers.ms_swift.command_line import (
    another_model,
    check_order,
    check_training_data,
    swift_name,
)
from guardrail.trainers.ms_swift.megatron import (
    MegatronGuard,
    check_megatron,
    scale_megatron_rates,
)
from guardrail.trainers.script_output import end_recorded, say_records

__all__ = ["attach_megatron"]

_GO_ON = "not at all in Megatron-SWIFT: begin a run from an exported checkpoint (`start_model`)"


def attach_megatron(trainer: Any, recipe: Recipe) -> MegatronGuard:
    """Guard a trainer of `megatron sft`; call on every rank, where its callbacks are made.

    Everything is written to its output folder, the ledger's beginning when it trains: only then are its rows known.

    Args:
        trainer: A `MegatronTrainer`, constructed but for its callbacks.
        recipe: The guard's recipe.

    Raises:
        InputError: this ms-swift or one of its options cannot be guarded, recipe and command line name different
            models, looks are not a sidecar's, or the anchors do not fit.
    """
    check_versions(MS_SWIFT)
    check_megatron(trainer)
    if recipe.looks.engine != "sidecar":
        raise InputError(
            f"`looks.engine: {recipe.looks.engine}` cannot be had in Megatron-SWIFT, whose model lies in pieces over its ranks; "
            "set `looks.engine: sidecar` and start `guardrail serve OUTPUT_FOLDER` beside the training"
        )
    check_order(recipe, trainer.args)
    guarded = GuardedRecipe.from_recipe(recipe)
    recipe, folder = guarded.recipe, Path(trainer.args.output_dir)
    if differs := another_model("start_model", recipe, "--model", trainer.args.model_dir):
        raise InputError(
            f"recipe and command line disagree: {differs}. Name the same model in both"
        )
    ranks = _ranks()
    require_anchors(recipe, processes=ranks.size)
    anchors = guarded.anchors()
    refuse_taken(folder)
    start_weights = weights_sha256(Path(str(recipe.start_model)))
    header = recipe_header(guarded, anchors.manifest, start_weights, ("ms-swift",))
    header |= _header(trainer, ranks)
    guard = Guard(
        recipe,
        folder,
        Ledger(folder, say_records(recipe.language), writes=ranks.writes),
        anchors,
        guarded.red_line,
        draw_choices(map(Path, recipe.sets.benchmarks), recipe.looks.benchmark_questions, seed=0),
        GuardState(),
        ranks,
        start_weights=start_weights,
        kl_term=False,
    )

    def cut_rates(action: Action) -> None:
        move_rate(guard.state, action, functools.partial(scale_megatron_rates, trainer.optimizer))

    course = Course(guard, folder, _not_here, cut_rates, lambda step: None)
    train = trainer.train

    @functools.wraps(train)
    def guarded_train(train_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        check_training_data(guarded, train_dataset)
        ranks.summed([0])  # nobody may see a ledger that another rank began before it has looked
        guard.ledger.append("started", 0, **header)
        with end_recorded(course, lambda: trainer.state.iteration, _GO_ON):
            return train(train_dataset, *args, **kwargs)

    trainer.train = guarded_train
    return MegatronGuard(trainer, course)


def _ranks() -> Ranks:
    if not distributed.is_initialized():
        return Ranks()
    device = torch.device(swift_name("swift.utils", "get_current_device")())
    return Ranks(distributed.get_rank(), distributed.get_world_size(), device)


def _not_here(work: Callable[[InProcessEngine], Any], stop: Callable[[], bool]) -> NoReturn:
    raise RuntimeError("the weights of a Megatron trainer cannot be asked; only a sidecar looks")


def _header(trainer: Any, ranks: Ranks) -> dict[str, Any]:
    """What the ledger says of this trainer when it starts; the rest is the recipe's."""
    versions = untried(MS_SWIFT)
    found = {}
    for package in ("megatron-core", "mcore-bridge"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return {
        "trainer": type(trainer).__name__,
        "processes": ranks.size,
        "device": torch.device(ranks.device).type,
        "engine": "a sidecar",
        "kl_term": False,
        "tuning": trainer.args.tuner_type,
        "megatron": found,
        "untried_versions": [versions] if versions else [],
    }
