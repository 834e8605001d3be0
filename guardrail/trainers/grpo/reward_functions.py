"""Reward functions named in a recipe: `FILE.py:FUNCTION` or `MODULE:FUNCTION`."""

import importlib
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.python_file import python_file

__all__ = ["check_reward", "load_reward"]


def load_reward(spec: str) -> Callable[..., Any]:
    """Return the function that `FILE.py:FUNCTION` or `MODULE:FUNCTION` names; its module is run.

    Args:
        spec: Checked by the recipe to hold a colon and a name. A module is looked up where Python looks.

    Raises:
        InputError: no such file, module or function, or the module fails while it is read.
    """
    place, _, name = spec.rpartition(":")
    try:
        module = (
            python_file(Path(place), "reward file")
            if place.endswith(".py")
            else importlib.import_module(place)
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"reward function `{spec}`: `{place}` cannot be read ({type(error).__name__}: {error}); mend it, "
            "or put its folder on PYTHONPATH"
        ) from error
    function = vars(module).get(name)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(
            f"`{place}` holds no function `{name}`; it holds {', '.join(known) or 'none'}"
        )
    return function  # type: ignore[no-any-return]


def check_reward(
    function: Callable[..., Any], spec: str, given: Collection[str], columns: Collection[str]
) -> list[str]:
    """Return which of the rows' columns a reward function asks for by name.

    Args:
        function: As `load_reward` returns it.
        spec: As the recipe names it.
        given: What the trainer hands it besides columns.
        columns: Of the rows.

    Raises:
        InputError: it cannot be called with these: it asks for a column that no row has, or takes no further ones.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin, which tells nobody
        return []
    try:
        signature.bind(**dict.fromkeys([*given, *columns]))
    except TypeError as error:
        raise InputError(
            f"reward function `{spec}` cannot be called: {error}. It is given {', '.join(given)} and a list for each column "
            f"of the rows ({', '.join(columns) or 'none'}); name what it needs and end its parameters with `**kwargs`"
        ) from error
    return [name for name in signature.parameters if name in columns]
