"""From which checkpoint a run goes on, and what becomes of the ones beyond it."""

import re
from itertools import count
from pathlib import Path

from guardrail.errors import InputError
from guardrail.guard.bound_checkpoint import check_bound
from guardrail.guard.state import STATE_FILE, GuardState, read_bound, read_state
from guardrail.judge.ladder import decide
from guardrail.ledger.file import FILE_NAME, Ledger
from guardrail.recipe import Recipe

__all__ = [
    "checkpoint_step",
    "checkpoints",
    "last_complete_checkpoint",
    "refuse_taken",
    "resumed_checkpoint",
    "resumed_state",
    "rewind",
    "still_halted",
]


def checkpoint_step(checkpoint: Path) -> int:
    """Return the step a checkpoint's name says."""
    return int(checkpoint.name.split("-")[1])


def checkpoints(folder: Path) -> list[Path]:
    """Return the trainer's checkpoints in a folder, complete or not, by step."""
    found = [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted(found, key=checkpoint_step)


def _complete(folder: Path) -> list[Path]:
    """Those that hold a guard state.

    It is written after everything else, so a kill during a save leaves a folder without it.
    """
    return [p for p in checkpoints(folder) if (p / STATE_FILE).is_file()]


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that holds a guard state, or None."""
    return next(reversed(_complete(folder)), None)


def resumed_checkpoint(folder: Path, resume: bool | str | Path) -> Path | None:
    """Return the checkpoint that a run goes on from, or None where it begins at the start.

    Args:
        folder: Where the run's checkpoints lie.
        resume: False for a new run, True for the newest complete checkpoint, or one by name or path.

    Raises:
        InputError: the checkpoint named is not a complete one of this folder.
    """
    if isinstance(resume, bool):
        return last_complete_checkpoint(folder) if resume else None
    known = _complete(folder)
    wanted = Path(resume)
    wanted = folder / wanted if len(wanted.parts) == 1 else wanted
    if wanted.resolve() in [p.resolve() for p in known]:
        return wanted
    there = ", ".join(p.name for p in known) or "none"
    raise InputError(
        f"`{resume}` is no checkpoint that this run can go on from: it must lie in `{folder}` and hold a "
        f"{STATE_FILE}; those that do: {there}"
    )


def resumed_state(
    folder: Path, resume: bool | str | Path, run: Path
) -> tuple[Path | None, GuardState]:
    """Return the checkpoint that a run goes on from (`resumed_checkpoint`) and its state, a new one where it begins.

    Raises:
        InputError: as `resumed_checkpoint`, or state, checkpoint and the ledger in `run` are not those of one save.
    """
    checkpoint = resumed_checkpoint(folder, resume)
    if checkpoint is None:
        return None, GuardState()
    check_bound(run, checkpoint, read_bound(checkpoint))
    return checkpoint, read_state(checkpoint)


def still_halted(recipe: Recipe, state: GuardState, step: int) -> bool:
    """Return whether the ladder halts a run again that goes on with this state at this step, before anything is trained."""
    judged = bool(state.history) and (
        recipe.looks.engine == "sidecar" or state.history[-1].step == step
    )
    if recipe.mode != "guard" or not judged:
        return False
    return decide(state.history, recipe.ladder_config()).kind == "halt"


def refuse_taken(run: Path) -> None:
    """Refuse to begin a run in the folder of another.

    Raises:
        InputError: there is a ledger in it.
    """
    if (run / FILE_NAME).is_file():
        raise InputError(
            f"run folder `{run}` already holds a run; attach with `resume=True` to go on, or give "
            "another `run` folder"
        )


def _set_aside_later(checkpoint: Path) -> list[Path]:
    """Move the complete checkpoints beyond this one into a folder `undone-N` beside it; return where they are.

    They belong to a branch of the run that is left. Where they lay, the next resume would take the furthest
    of them for the newest of the new branch. The furthest goes first: whenever this is cut off, what is left
    is still one branch.
    """
    later = [
        p for p in _complete(checkpoint.parent) if checkpoint_step(p) > checkpoint_step(checkpoint)
    ]
    if not later:
        return []
    folders = (checkpoint.parent / f"undone-{number}" for number in count(1))
    aside = next(folder for folder in folders if not folder.exists())
    aside.mkdir()
    return [path.rename(aside / path.name) for path in reversed(later)]


def rewind(ledger: Ledger, checkpoint: Path | None, *, writes: bool) -> None:
    """Say in the ledger where the run goes on, the checkpoints of the branch it leaves out of the way.

    Raises:
        InputError: another process writes this run; nothing was moved.
    """
    ledger.hold()
    name, step, aside = None, -1, list[Path]()
    if checkpoint is not None:
        name, step = checkpoint.name, checkpoint_step(checkpoint)
        aside = _set_aside_later(checkpoint) if writes else []
    ledger.append("rewound", step, checkpoint=name, set_aside=[str(path) for path in aside])
