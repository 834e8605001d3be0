"""The small run that is made of a recipe for a rehearsal, and the command that starts it.

Model, adapter, precision, data, batch size and trainer arguments stay; only what makes a run long is cut. Not rehearsed
are evaluations of held-out rows, trackers and uploads, which would leave something behind.
"""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.ledger.file import FILE_NAME
from guardrail.recipe import MOST_FRACTION, SAFE_FRACTION, Recipe
from guardrail.redaction import is_secret
from guardrail.sets.items import Item, read_items, write_items
from guardrail.shipped import shipped_root

__all__ = [
    "EVERY_STEPS",
    "ITEMS",
    "RECIPE_NAME",
    "own_folder",
    "spread",
    "swift_options",
    "training_line",
    "write_small_recipe",
]

ITEMS = 8
"""Of either set."""
EVERY_STEPS = 2
"""Optimizer steps between two looks, two tripwires and two saves."""
_STEPS = 3 * EVERY_STEPS
"""The run is killed after the first save and halted at the next look; the last two steps are to spare."""
RECIPE_NAME = "rehearsal.yaml"
"""Its presence says that a folder is a rehearsal's."""
_OWN = (
    "anchors",
    "run",
    "halt",
    "red-line.jsonl",
    "rehearsal.jsonl",
    "rehearsal.json",
    "rehearsal.log",
    RECIPE_NAME,
)
_ARGUMENTS: dict[str, Any] = {
    "max_steps": _STEPS,
    "save_strategy": "steps",
    "save_steps": EVERY_STEPS,
    "logging_strategy": "steps",
    "logging_steps": 1,
    "eval_strategy": "no",
    "report_to": "none",
}
_TURNED_OFF = ("load_best_model_at_end", "push_to_hub", "eval_on_start")
"""Arguments that need an evaluation, or reach out of the folder."""


def own_folder(folder: Path) -> None:
    """Make the folder of a rehearsal; what an earlier one left there goes.

    Raises:
        InputError: something else is in it.
    """
    if (folder / FILE_NAME).is_file():
        raise InputError(
            f"`{folder}` holds a guarded run, which a rehearsal does not replace; give another --out"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECIPE_NAME).is_file():
        raise InputError(
            f"`{folder}` is no rehearsal's and not empty; give --out a folder of its own"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in _OWN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return so many items, the abilities by turns, in file order within each."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.ability, []).append(item)
    by_turns = [
        group[turn]
        for turn in range(max(map(len, groups.values()), default=0))
        for group in groups.values()
        if turn < len(group)
    ]
    return by_turns[:count]


def write_small_recipe(recipe: Recipe, folder: Path) -> Path:
    """Write the small run's recipe and sets into a rehearsal's folder; return the recipe's path.

    Args:
        recipe: The user's, paths absolute.
        folder: Of the rehearsal.
    """
    red_line = [item for item in read_items(recipe.sets.red_line) if not item.rehearsed]
    content = recipe.model_dump(mode="json", exclude_none=True)
    for key, items in (("red_line", red_line), ("rehearsal", read_items(recipe.sets.rehearsal))):
        path = folder / f"{key.replace('_', '-')}.jsonl"
        write_items(path, spread(items, ITEMS))
        content["sets"][key] = str(path)
    looks = recipe.looks
    content["drift"]["min_items"] = max(recipe.drift.min_items, ITEMS + 1)  # eight show nothing
    content |= {
        "name": f"{recipe.name}-rehearsal",
        "anchors": str(folder / "anchors"),
        "on_error": "halt",  # by which the halt is brought about
    }
    content["looks"] |= {
        "engine": "in process",  # what it takes to answer is what is measured
        "every_steps": EVERY_STEPS,
        "tripwire_every_steps": 0 if looks.tripwire_every_steps == 0 else EVERY_STEPS,
        "early_look_kl": 0.0,
        "replicates": min(2, recipe.replicates),
        "samples": looks.samples or 1,
        "benchmark_questions": min(ITEMS, looks.benchmark_questions),
    }
    if recipe.trainer != "ms-swift":
        fraction = max(recipe.rehearsal.fraction, _one_sample_in_time(recipe))
        large = recipe.rehearsal.allow_large_fraction or fraction > SAFE_FRACTION
        content["rehearsal"] |= {"fraction": fraction, "allow_large_fraction": large}
        left_out = [k for k in recipe.train.arguments if k in _TURNED_OFF or is_secret(k)]
        given = {k: v for k, v in recipe.train.arguments.items() if k not in left_out}
        content["train"] |= {"held_out": 0.0, "arguments": given | _ARGUMENTS}
    file = folder / RECIPE_NAME
    plain = json.loads(json.dumps(content))  # one value in two places would become an alias
    write_whole(file, yaml.safe_dump(plain, allow_unicode=True))
    return file


def _one_sample_in_time(recipe: Recipe) -> float:
    """The fraction at which a KL-only sample is due after the first step, or the most allowed."""
    given = recipe.train.arguments
    batch = int(given.get("per_device_train_batch_size", 8))
    samples = batch * int(given.get("gradient_accumulation_steps", 1))
    return min(MOST_FRACTION, 1 / (1 + samples))


def training_line(
    recipe: Path,
    run: Path,
    *,
    launcher: str = "",
    command: Sequence[str] = (),
    resume: Path | None = None,
) -> list[str]:
    """Return the command line that trains the small run, or goes on with it.

    Args:
        recipe: The small run's.
        run: Its folder.
        launcher: What stands before `guardrail run`, such as `torchrun --nproc_per_node 2 -m`; by default this Python.
        command: A `swift` command of the user's in place of `guardrail run`.
        resume: The checkpoint to go on from.
    """
    if not command:
        start = [*shlex.split(launcher), "guardrail"] if launcher else _python()
        line = [*start, "run", str(recipe), "--out", str(run)]
        return line if resume is None else [*line, "--resume"]
    line = [part for token in command for part in _split(token)]
    _add(line, "--external_plugins", str(shipped_root() / "callbacks/swift_guardrail.py"))
    _add(line, "--callbacks", "guardrail")
    last: dict[str, object] = _ARGUMENTS | {"output_dir": run, "add_version": "false"}
    if resume is not None:
        last["resume_from_checkpoint"] = resume
    return [*line, *(part for k, v in last.items() for part in (f"--{k}", str(v)))]


def _python() -> list[str]:
    return [sys.executable, "-m", "guardrail"]


def _split(token: str) -> list[str]:
    """`--option=value` as two."""
    return token.split("=", 1) if token.startswith("--") and "=" in token else [token]


def _add(line: list[str], option: str, value: str) -> None:
    """Give an option of a command one value more, beside those it has; of an option given twice the last counts."""
    if option not in line:
        line += [option, value]
        return
    at = len(line) - line[::-1].index(option)
    given = line[at:]
    end = next((k for k, token in enumerate(given) if token.startswith("--")), len(given))
    if not any(os.path.basename(token) == os.path.basename(value) for token in given[:end]):
        line.insert(at, value)


def swift_options(command: Sequence[str]) -> dict[str, Any]:
    """Return the options of a command line with one value, by name, numbers as numbers."""
    line = [part for token in command for part in _split(token)]
    found = {}
    for option, value in pairwise(line):
        if option.startswith("--") and not value.startswith("--"):
            found[option.removeprefix("--")] = yaml.safe_load(value)
    return found
