"""A look that was answered beside the training: its answer judged, and applied where the training has got to since."""

from pathlib import Path

from guardrail.guard.asked_looks import Asked, read_answer
from guardrail.guard.checkpoints import grade_checkpoint
from guardrail.guard.guard import Guard, LookFailed
from guardrail.guard.judge_measured import Judgement
from guardrail.judge.ladder import Action

__all__ = ["apply_late", "judged_answer"]


def judged_answer(guard: Guard, ask: Asked) -> Judgement:
    """Return what the rule says of the answer to the oldest ask; changes nothing, so that a thread may do it.

    Raises:
        LookFailed: the sidecar could not measure, and says why; or there is no baseline.
        InputError: the file is not the answer to this ask.
    """
    measured = read_answer(guard.run, ask)
    if isinstance(measured, str):
        raise LookFailed(f"the sidecar could not measure the look: {measured}")
    return guard.judge(measured, ask.trigger, final=_is_final(guard, ask))


def _is_final(guard: Guard, ask: Asked) -> bool:
    return ask.step >= guard.state.due[-1]


def apply_late(
    guard: Guard,
    checkpoints: Path,
    ask: Asked,
    judged: Judgement,
    step: int,
    *,
    after_end: bool = False,
) -> Action:
    """Record a look that was asked for, grade its checkpoint, ask again where the ladder wants it repeated.

    Args:
        guard: The run's.
        checkpoints: Where they lie.
        ask: The oldest, already left out of the state.
        judged: Its answer.
        step: The training's.
        after_end: Whether it has ended.

    Returns:
        The action to carry out; a repeat is asked for already.

    Raises:
        InputError: as `Guard.record`.
    """
    action = guard.record(
        judged,
        ask.step,
        ask.trigger,
        number=ask.look,
        final=_is_final(guard, ask),
        applied_step=step,
        after_end=after_end,
    )
    if action.kind == "repeat_look" and guard.recipe.mode == "guard":
        guard.ask(ask.step, "repeat", ask.checkpoint, applied_step=step)
    elif ask.trigger != "start":
        grade_checkpoint(guard, checkpoints, ask.step, applied_step=step)
    return action
