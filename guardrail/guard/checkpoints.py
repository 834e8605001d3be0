"""The checkpoints of a run: which level each has, what makes one complete, which are kept."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from guardrail.guard.bound_checkpoint import bind
from guardrail.guard.guard import Guard
from guardrail.guard.resume import checkpoint_step, checkpoints
from guardrail.guard.state import STATE_FILE, write_state
from guardrail.judge.verdict import UNTESTED

__all__ = [
    "complete_checkpoint",
    "grade_checkpoint",
    "last_ok_checkpoint",
    "named_checkpoint",
    "rotate",
]


def grade_checkpoint(
    guard: Guard,
    folder: Path,
    step: int,
    *,
    looked_at: int | None = None,
    applied_step: int | None = None,
) -> None:
    """Write to the ledger which level a checkpoint has; remember the newest that is ok and sound (`Verdict.sound`).

    Args:
        guard: The run's.
        folder: Where the checkpoints lie.
        step: Of the checkpoint.
        looked_at: The step of its look, where it was loaded again at a later one.
        applied_step: The step of the training, where a look is applied later than at its own.
    """
    path = folder / f"checkpoint-{step}"
    last = guard.state.history[-1] if guard.state.history else None
    at = step if looked_at is None else looked_at
    level = last.level if last is not None and last.step == at else UNTESTED
    sound = level == "ok" and last is not None and last.sound
    newest_ok = guard.state.last_ok_checkpoint
    if sound and (newest_ok is None or step >= checkpoint_step(Path(newest_ok))):
        guard.state.last_ok_checkpoint = path.name
    later = {} if applied_step in (None, step) else {"applied_step": applied_step}
    record = {"path": _named(guard.run, path), "level": level, "sound": sound}
    guard.ledger.append("checkpoint", step, **record, **later)


def last_ok_checkpoint(guard: Guard, folder: Path) -> str | None:
    """Return the newest checkpoint whose look was ok and sound, below the run folder if it lies there."""
    name = guard.state.last_ok_checkpoint
    return None if name is None else _named(guard.run, folder / name)


def named_checkpoint(run: Path, folder: Path, step: int) -> str:
    """Return the folder of a step's checkpoint, below the run folder if it lies there."""
    return _named(run, folder / f"checkpoint-{step}")


def _named(run: Path, path: Path) -> str:
    """The path below the run folder, or the whole path of a checkpoint kept elsewhere."""
    return str(path.relative_to(run)) if path.is_relative_to(run) else str(path)


def complete_checkpoint(
    guard: Guard, checkpoint: Path, *, limit: int | None, best: str | None
) -> None:
    """Put the guard's state into a checkpoint that lies whole on disk, and delete those beyond the limit.

    Args:
        guard: The run's; its ledger knows the checkpoint, since who resumes from it must find it there.
        checkpoint: The newest.
        limit: How many to keep.
        best: The user's best model, which is spared.
    """
    write_state(checkpoint, guard.state, bind(guard.run, checkpoint))
    folder, spared = checkpoint.parent, [checkpoint]
    if guard.state.last_ok_checkpoint is not None:
        spared.append(folder / guard.state.last_ok_checkpoint)
    if best is not None:
        spared.append(Path(best))
    spared += [guard.run / ask.checkpoint for ask in guard.state.asked]
    rotate(folder, limit, spared)


def rotate(folder: Path, limit: int | None, spared: Iterable[Path]) -> None:
    """Delete the oldest checkpoints until `limit` are left, as the Trainer does, but none that is spared.

    The Trainer rotates before the guard's state completes the newest checkpoint, and it spares a single
    one beside it; so the guard rotates in its place, afterwards. A broken checkpoint, which nobody can
    resume from, goes before a complete one.

    Args:
        folder: Where the checkpoints lie, one folder a step.
        limit: How many to keep, spared ones included; None or 0 keeps all.
        spared: The newest checkpoint, the user's best, the guard's last ok and those a sidecar still has to look
            at; absent ones do not count.
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
