"""The items a run's ledger names, read for its page.

A run folder may be a stranger's. Items may lie outside of it; then they are read only if they are the very items the
run began with, by digest, so that a page can show nothing else of this machine.
"""

from pathlib import Path

from guardrail.errors import InputError
from guardrail.read_back import open_regular
from guardrail.report.run_data import RunData
from guardrail.sets.items import Item, items_sha256, read_items

__all__ = ["named_items"]

_LARGEST_ITEMS = 64 << 20


def named_items(data: RunData, key: str) -> list[Item]:
    """Return the items of the run's `red_line` or `rehearsal` set.

    Raises:
        OSError: there is no such regular file, or it is too large.
        InputError: they are no items, or lie outside of the run folder and are not those the run began with.
    """
    named = str(data.recipe_section("sets").get(key) or "")
    if not named:
        raise InputError(f"the ledger names no {key} items")
    path = Path(named)
    with open_regular(path) as file:
        size = file.seek(0, 2)
    if size > _LARGEST_ITEMS:
        raise InputError(f"`{path}` is larger than {_LARGEST_ITEMS >> 20} MiB")
    if path.resolve().is_relative_to(data.run.resolve()):
        return read_items(path)
    foreign = (
        f"`{path}` lies outside of the run folder and does not hold the items the run began with"
    )
    try:
        items = read_items(path)
    except InputError:
        raise InputError(foreign) from None  # what it does hold is nobody's business
    if items_sha256(items) != data.started.get(f"{key}_sha256"):
        raise InputError(foreign)
    return items
