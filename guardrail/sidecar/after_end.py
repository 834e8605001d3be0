"""What a sidecar does when the training has ended: nobody else writes now, so it judges what is left itself."""

from collections.abc import Callable
from pathlib import Path

from guardrail.errors import InputError
from guardrail.guard.asked_looks import Asked, answer_file
from guardrail.guard.checkpoints import complete_checkpoint
from guardrail.guard.course import record_error
from guardrail.guard.guard import Guard
from guardrail.guard.late_looks import apply_late, judged_answer
from guardrail.guard.measure_look import Meter
from guardrail.guard.resume import checkpoint_step, last_complete_checkpoint, resumed_state
from guardrail.ledger.file import Ledger, Record, live_records

__all__ = ["judge_rest"]


def judge_rest(
    meter: Meter,
    records: Callable[[], list[Record]],
    start_weights: str,
    answer: Callable[[Asked, int], None],
) -> bool:
    """Answer and judge the looks that a training left open, from the state of its last checkpoint.

    Each is recorded and graded as in the training, marked `after_end`, and the checkpoint's state is as after it:
    whoever resumes goes on from there.

    Args:
        meter: The run's.
        records: Returns the ledger's records as they are now.
        start_weights: Hash of the weights the run started from.
        answer: Answers an ask, given how many wait behind it.

    Returns:
        Whether nothing is left; False where the run was taken up again meanwhile.

    Raises:
        InputError: there is no checkpoint of the training's last step, or it, its state or the ledger are not those of
            one save.
    """
    step = _ended_at(records())
    assert step is not None
    checkpoint = _last_checkpoint(meter.run, records(), step)
    if checkpoint is None:
        return True
    recipe, run = meter.recipe, meter.run
    _, state = resumed_state(checkpoint.parent, checkpoint, run)
    guard = Guard(
        recipe,
        run,
        Ledger(run),
        meter.anchors,
        meter.red_line,
        meter.choices,
        state,
        start_weights=start_weights,
    )
    told, silent = guard.ledger, Ledger(run, writes=False)
    while guard.state.asked:
        ask = guard.state.asked[0]
        if not answer_file(run, ask).is_file():
            answer(ask, len(guard.state.asked) - 1)
        now = records()
        if _ended_at(now) != step:
            return False
        # A kill may have come between the ledger and the checkpoint's state.
        closed = {r.get("look") for r in live_records(now) if r["kind"] in ("look", "error")}
        guard.ledger = silent if ask.look in closed else told
        guard.forget(ask)
        try:
            judged = judged_answer(guard, ask)
            apply_late(guard, checkpoint.parent, ask, judged, step, after_end=True)
        except Exception as error:
            guard.state.failures += 1
            record_error(guard, error, step, "look", ask)
        complete_checkpoint(guard, checkpoint, limit=None, best=None)
    return True


def _ended_at(records: list[Record]) -> int | None:
    """The step at which the training has ended for good, None where it goes on or is to go on."""
    live = [r for r in live_records(records) if r["kind"] in ("ended", "crashed", "rewound")]
    last = live[-1] if live else None
    if last is None or last["kind"] != "ended" or last.get("outcome") == "terminated":
        return None
    return int(last["step"])


def _last_checkpoint(run: Path, records: list[Record], step: int) -> Path | None:
    """The checkpoint of the training's last step; None where nothing was ever asked of one."""
    asked = [r for r in live_records(records) if r["kind"] == "asked" and r["step"] > 0]
    if not asked:
        return None
    folder = (run / asked[-1]["checkpoint"]).parent
    newest = last_complete_checkpoint(folder)
    if newest is None or checkpoint_step(newest) != step:
        raise InputError(
            f"the training ended at step {step}, and the newest complete checkpoint in `{folder}` is "
            f"{newest.name if newest else 'none'}; what is left cannot be judged without the guard's state of the end. "
            "`guardrail look CHECKPOINT --anchors ...` judges one alone"
        )
    return newest
