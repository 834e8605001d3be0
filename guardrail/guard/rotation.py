"""Which checkpoints are kept: the Trainer's limit, the user's best model, the guard's last ok."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from guardrail.guard.resume import checkpoints
from guardrail.guard.state import STATE_FILE

__all__ = ["rotate"]


def rotate(folder: Path, limit: int | None, spared: Iterable[Path]) -> None:
    """Delete the oldest checkpoints until `limit` are left, as the Trainer does, but none that is spared.

    The Trainer rotates before the guard's state completes the newest checkpoint, and it spares a single
    one beside it; so the guard rotates in its place, afterwards. A broken checkpoint, which nobody can
    resume from, goes before a complete one.

    Args:
        folder: Where the checkpoints lie, one folder a step.
        limit: How many to keep, spared ones included; None or 0 keeps all.
        spared: The newest checkpoint, the user's best and the guard's last ok; absent ones do not count.
    """
    if not limit or limit < 0:
        return
    found = checkpoints(folder)
    found.sort(key=lambda p: ((p / STATE_FILE).is_file(), p.stat().st_mtime_ns))
    kept = {p.resolve() for p in spared} & {p.resolve() for p in found}
    surplus = len(found) - max(limit, len(kept))
    for path in [p for p in found if p.resolve() not in kept][: max(0, surplus)]:
        # First what says that it is complete: a kill in between must leave nothing to resume from.
        (path / STATE_FILE).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
