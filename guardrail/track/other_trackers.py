"""Which trackers a trainer reports to, and how each takes scalars. Their packages are imported on use only.

W&B is in `wandb_run`. The names are the same everywhere: `guardrail/...` beside the trainer's `train/...`.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.shipped import install_command
from guardrail.track.event import TABLE_COLUMNS, TrackerEvent, worst_rows
from guardrail.track.scalars import AGAINST_STEP, scalars

__all__ = ["OTHER_TRACKERS", "Tracker", "reported_to", "require_trackers"]

_CALLBACKS = {
    "WandbCallback": "wandb",
    "TensorBoardCallback": "tensorboard",
    "TrackioCallback": "trackio",
    "SwanLabCallback": "swanlab",
}


def require_trackers(report_to: object) -> None:
    """Raise an InputError if a tracker the trainer shall report to is not installed."""
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])  # type: ignore[call-overload]
    for name in names:
        if name in _CALLBACKS.values() and importlib.util.find_spec(name) is None:
            how = install_command("watch") if name == "wandb" else f"`pip install {name}`"
            raise InputError(
                f"`train.arguments.report_to` names {name}, which is not installed; run {how}, or take it out of `report_to`"
            )


def reported_to(trainer: Any) -> dict[str, Any]:
    """Return tracker → the trainer's callback that reports to it, for the trackers known here.

    The callbacks come from the trainer's `report_to`; one handed to the trainer counts as well.
    """
    found = {}
    for callback in trainer.callback_handler.callbacks:
        for kind in type(callback).__mro__:
            if kind.__name__ in _CALLBACKS:
                found[_CALLBACKS[kind.__name__]] = callback
    return found


@dataclass(frozen=True, slots=True)
class Tracker:
    """How a tracker other than W&B is reached.

    `find` returns what transformers' callback has opened, None before the training and after it; called on
    the training thread. `open` is called before it opens anything. `send` repeats a record to it, on another
    thread unless it writes a `local_file`: such a writer is not made for two threads, and takes records even
    after it was closed, in a file of its own.
    """

    find: Callable[[Any], Any]
    send: Callable[[Any, TrackerEvent, Path], None]
    local_file: bool = False
    open: Callable[[Path], None] = lambda folder: None


def _find_tensorboard(callback: Any) -> Any:
    """Return a writer of the guard's own below the trainer's, so that whoever reads the trainer's file finds the trainer's numbers.

    ms-swift draws a picture of every number in that file when the training is over.
    """
    return None if callback.tb_writer is None else _own_writer(callback.tb_writer)


@functools.lru_cache(maxsize=1)
def _own_writer(writer: Any) -> Any:
    return type(writer)(str(Path(writer.log_dir) / "guardrail"))


def _send_to_tensorboard(writer: Any, event: TrackerEvent, folder: Path) -> None:
    found = scalars(event.record)
    for name, value in found.items():
        writer.add_scalar(name, value, max(0, event.record["step"]))
    if found:
        writer.flush()


def _find_trackio(callback: Any) -> Any:
    return callback._trackio.context_vars.current_run.get() if callback._initialized else None


def _send_to_trackio(run: Any, event: TrackerEvent, folder: Path) -> None:
    if found := scalars(event.record):
        run.log({**found, AGAINST_STEP: max(0, event.record["step"])})


def _open_swanlab(folder: Path) -> None:
    """Open a run where none is.

    transformers 5.19 would, but asks by `get_run() is None`, which is an error from SwanLab 0.8 on and would
    end the training.
    """
    import swanlab

    try:
        swanlab.get_run()
    except RuntimeError:
        swanlab.init(name=folder.name)


def _find_swanlab(callback: Any) -> Any:
    return callback._swanlab.get_run() if callback._initialized else None


def _send_to_swanlab(run: Any, event: TrackerEvent, folder: Path) -> None:
    record = event.record
    found: dict[str, Any] = dict(scalars(record))
    if record["kind"] == "look" and record["look"] > 0:
        import swanlab

        table = swanlab.echarts.Table()
        rows = [[str(cell) for cell in row] for row in worst_rows(folder, event.looks)]
        found["guardrail/worst_items"] = table.add(TABLE_COLUMNS, rows)
    if found:
        run.log(found, step=max(0, record["step"]))


OTHER_TRACKERS = {
    "tensorboard": Tracker(_find_tensorboard, _send_to_tensorboard, local_file=True),
    "trackio": Tracker(_find_trackio, _send_to_trackio),
    "swanlab": Tracker(_find_swanlab, _send_to_swanlab, open=_open_swanlab),
}
