"""Values of a trainer's arguments that its class takes unseen and its training dies of: of another type, or out of range."""

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from guardrail.errors import InputError

__all__ = ["check_argument_values"]

_LEAST: Mapping[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 1,
    "max_completion_length": 1,
    "num_generations": 2,
    "dataset_num_proc": 1,
    "num_iterations": 1,
    "learning_rate": 0,
    "beta": 0,
}
_ABOVE: Mapping[str, float] = {"num_train_epochs": 0, "temperature": 0}


def check_argument_values(kind: type, given: Mapping[str, Any]) -> None:
    """Refuse the first value that is of no type its argument has, or below what it may be.

    Args:
        kind: The arguments' dataclass; what it says of a field's type is what counts.
        given: The recipe's `train.arguments`; names that the class does not know are its own to refuse.

    Raises:
        InputError: there is one.
    """
    hints = get_type_hints(kind)
    for name, value in given.items():
        if value is None or name not in hints:
            continue
        members = _members(hints[name])
        if not any(_fits(value, member) for member in members):
            said = " or ".join(_said(member) for member in members if member is not types.NoneType)
            as_number = isinstance(value, str) and {int, float} & set(members)
            hint = "; a number stands without quotation marks" if as_number else ""
            raise InputError(f"`train.arguments.{name}` must be {said}, got {value!r:.80}{hint}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if name in _LEAST and value < _LEAST[name]:
            raise InputError(
                f"`train.arguments.{name}` must be {_LEAST[name]} or more, got {value}"
            )
        if name in _ABOVE and value <= _ABOVE[name]:
            raise InputError(f"`train.arguments.{name}` must be above {_ABOVE[name]}, got {value}")


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, member: Any) -> bool:
    """Whether a value is of a type; of one that YAML cannot write, the class itself has to say."""
    kind = get_origin(member) or member
    if kind is Literal:
        return value in get_args(member)
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)  # fmt: skip
    if kind in (list, tuple):
        return isinstance(value, list | tuple)
    if kind is str:  # the classes read true and false as words themselves
        return isinstance(value, str | bool)
    return isinstance(value, kind) if kind in (bool, dict, types.NoneType) else True


def _said(member: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if get_origin(member) is Literal:
        return f"one of {', '.join(map(str, get_args(member)))}"
    return words.get(member) or str(getattr(member, "__name__", member))
