"""The command line of `swift` as a recipe gives it, read by ms-swift's own argument classes."""

import json
import os
import tempfile
from math import ceil
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.hub import is_hub_name
from guardrail.recipe import Recipe
from guardrail.shipped import shipped_root
from guardrail.trainers.checks.wanted_order import require_order_arguments
from guardrail.trainers.ms_swift.command_line import swift_name

__all__ = ["check_swift_arguments", "swift_arguments"]

_SET_BY_THE_RECIPE = {"model": "start_model", "model_revision": "start_model"}
"""Flag → the recipe's key that it is made of."""
_ROWS_A_STEP = 16
"""What `swift sft` accumulates to, over all ranks, where `gradient_accumulation_steps` is left out."""


def swift_arguments(recipe: Recipe, run: Path, *, resume: Path | None = None) -> list[str]:
    """Return what follows `swift`: `rlhf` for GRPO, else `sft`, and the flags.

    Model, seed, folder and the guard itself come from the recipe, the rest from `train.arguments`: a list is several
    values, a mapping is JSON, true and false are words, null leaves a flag out.

    Raises:
        InputError: the recipe names no data to train on, or an argument that the recipe has a key for.
    """
    given = dict(recipe.train.arguments)
    for flag, key in _SET_BY_THE_RECIPE.items():
        if flag in given:
            raise InputError(f"`train.arguments.{flag}` is set by the recipe's `{key}`; remove it")
    datasets = [] if recipe.train.data is None else [recipe.train.data]
    datasets += _several(given.pop("dataset", []))
    if not datasets and not given.get("cached_dataset"):
        raise InputError(
            "a recipe with `trainer: ms-swift` is started by `guardrail run` where it names the rows: set `train.data` "
            "(JSONL) or `train.arguments.dataset`, or type the command yourself: GUARDRAIL_RECIPE=RECIPE swift sft "
            "... --external_plugins $(guardrail plugin-path) --callbacks guardrail"
        )
    model, _, revision = str(recipe.start_model).partition("@")
    flags: dict[str, Any] = {"model": model}
    if recipe.hub and is_hub_name(str(recipe.start_model)):
        flags |= {"use_hf": recipe.hub == "huggingface"}
        flags |= {"model_revision": revision} if revision else {}
    if datasets:
        flags["dataset"] = datasets
    if recipe.train.order == "curriculum":
        flags |= _in_order(given, datasets)
    plugins = _several(given.pop("external_plugins", []))
    callbacks = _several(given.pop("callbacks", []))
    flags |= given
    flags |= {
        "seed": recipe.seed,
        "output_dir": run,
        "add_version": False,
        "external_plugins": [*plugins, shipped_root() / "callbacks/swift_guardrail.py"],
        "callbacks": [*callbacks, "guardrail"],
    }
    if resume is not None:
        flags["resume_from_checkpoint"] = resume
    command = "rlhf" if "rlhf_type" in given else "sft"
    return [command, *(part for name, value in flags.items() for part in _flag(name, value))]


def check_swift_arguments(recipe: Recipe) -> Any:
    """Return ms-swift's arguments as the ranks will read the flags, also where there is no GPU.

    There `use_cpu` is set for the reading alone. ms-swift reads the model's configuration while it does so, from the
    hub where the recipe names one, and leaves variables of the environment behind: a process that trains should not have
    called this.

    Raises:
        InputError: it refuses a flag or a value, or does not know it.
    """
    import torch

    os.environ.setdefault("LOG_LEVEL", "ERROR")  # ms-swift's: what it does is no answer here
    on_cpu = [] if torch.accelerator.is_available() else ["--use_cpu", "true"]
    with tempfile.TemporaryDirectory() as folder:  # the class makes the output folder
        command, *flags = swift_arguments(recipe, Path(folder))
        arguments = _read(command, [*flags[: flags.index("--external_plugins")], *on_cpu])
    if arguments.gradient_accumulation_steps is None:  # ms-swift fills it in when it trains
        a_step = (
            arguments.per_device_train_batch_size * recipe.launch.processes * recipe.launch.nodes
        )
        arguments.gradient_accumulation_steps = max(1, ceil(_ROWS_A_STEP / a_step))
    return arguments


def _read(command: str, flags: list[str]) -> Any:
    kind = swift_name("swift.arguments", "RLHFArguments" if command == "rlhf" else "SftArguments")
    try:
        arguments, unknown = swift_name("swift.utils", "parse_args")(kind, flags)
    except SystemExit as error:  # argparse has said what is wrong on standard error
        raise InputError("`train.arguments`: swift refuses a value, said above") from error
    except (AssertionError, ImportError, TypeError, ValueError, OSError) as error:
        raise InputError(f"`train.arguments`: {kind.__name__} refuses them: {error}") from error
    if unknown:
        raise InputError(
            f"`train.arguments`: {kind.__name__} does not know {' '.join(unknown)}; remove it or mend its spelling"
        )
    return arguments


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    return [f"--{name}", *map(str, _several(value))]


def _in_order(given: dict[str, Any], datasets: list[Any]) -> dict[str, Any]:
    """The flags that let ms-swift take a file's rows as they stand.

    Raises:
        InputError: a flag of the recipe's own would take them in another order, or there is not one file.
    """
    order = {"dataset_shuffle": False, "train_dataloader_shuffle": False}
    mixes = {
        "packing": False,
        "group_by_length": False,
        "split_dataset_ratio": 0,
        "streaming": False,
    }
    require_order_arguments(given, order | mixes)
    if len(datasets) != 1 or given.get("cached_dataset"):
        raise InputError(
            f"`train.order: curriculum` takes the order from one file, and there are {len(datasets)} datasets; put them into "
            "one with `guardrail data curriculum FILE... --out NEW` and name it as `train.data`"
        )
    return order
