"""The arguments under which a trainer takes the rows of `train.order: curriculum` as they stand."""

from collections.abc import Mapping
from typing import Any

from guardrail.errors import InputError

__all__ = ["require_order_arguments"]


def require_order_arguments(given: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
    """Refuse an argument of the recipe's own that would take the rows in another order.

    Args:
        given: The recipe's `train.arguments`.
        needed: Argument → the value it must have, or be left out.

    Raises:
        InputError: one has another value.
    """
    for name, value in needed.items():
        if given.get(name, value) != value:
            raise InputError(
                f"`train.order: curriculum` needs `{name}` to be {str(value).lower()}, and `train.arguments.{name}` is "
                f"{given[name]!r}; remove it"
            )
