"""Whether what a run writes can be written where it is to stand, asked before anything is made."""

import os
from pathlib import Path

from guardrail.errors import InputError

__all__ = ["require_writable"]


def require_writable(folder: Path, what: str, instead: str) -> None:
    """Refuse a folder that cannot be made or written into; nothing is made.

    Args:
        folder: Which need not exist.
        what: Whose it is, for the message.
        instead: What to do.

    Raises:
        InputError: something else than a folder stands in its way, or it may not be written to. A full disk shows later.
    """
    there = folder = folder.resolve()
    while not there.exists() and there != there.parent:
        there = there.parent
    why = None
    if not there.is_dir():
        why = f"`{there}` is no folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = f"`{there}` may not be written to"
    if why is not None:
        raise InputError(f"{what} `{folder}` cannot be written: {why}; {instead}")
