"""The course of one guarded training: what is due after a step, what becomes of it, and how the training ends.

Whoever trains says what happens (a step, a save, a SIGTERM) and asks afterwards whether the training has `ended`.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from guardrail import exit_codes
from guardrail.engines.in_process import InProcessEngine
from guardrail.errors import InputError
from guardrail.guard.asked_looks import Asked, answer_file
from guardrail.guard.checkpoints import grade_checkpoint, last_ok_checkpoint, named_checkpoint
from guardrail.guard.guard import Guard
from guardrail.guard.judge_measured import Judgement
from guardrail.guard.late_looks import apply_late, judged_answer
from guardrail.guard.ranks import failure_kind
from guardrail.guard.resume import still_halted
from guardrail.guard.tripwire import tripwire
from guardrail.judge.ladder import Action
from guardrail.judge.verdict import UNTESTED

__all__ = ["Course", "Measure", "record_error"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Measure(Protocol):
    """How the course gets at the weights that are trained."""

    def __call__(
        self, work: Callable[[InProcessEngine], Result], stop: Callable[[], bool]
    ) -> Result:
        """Return what `work` returns for the current weights; `stop` cuts their answers off."""


@dataclass(slots=True)
class Course:
    """One training under guard, from its first step to its end. Holds what a checkpoint need not."""

    guard: Guard
    checkpoints: Path
    """Where the training saves them."""
    measure: Measure
    move_levers: Callable[[Action], None]
    before_look: Callable[[int], None]
    """Given the step: what else is wanted in the ledger before a look."""
    halted: bool = False
    """Whether the guard halted the training."""
    terminated: bool = False
    """Whether a SIGTERM ended the training, as a cluster sends before it takes a machine away."""
    sigterm: bool = False
    """Whether this rank has heard a SIGTERM; it ends the training after the step or answer in progress."""
    tested_end: bool | None = None
    """Whether the weights at the end were tested; None until training has ended."""
    _first_step: int = 0
    _last_step: int = 0
    _best_follows: bool = False
    """Whether the best model is loaded at the end, which then gets a look of its own."""
    _failed_since: bool = False
    """Whether a look failed after the newest one that did not."""
    _due_at_save: str = ""
    """Trigger of a look that is asked of the sidecar once its checkpoint is saved."""
    _judging: "Future[Judgement] | None" = None
    """The oldest answer of the sidecar, which a thread of the first rank judges: that takes longer than a step may."""
    _counted_until: float = field(default_factory=time.perf_counter)

    @property
    def ended(self) -> bool:
        """Whether the training is to stop here, with a checkpoint."""
        return self.halted or self.terminated

    @property
    def exit_code(self) -> int:
        """How the training ended, as a code of `guardrail.exit_codes`; that of a crash until it has ended."""
        if self.tested_end is None:
            return exit_codes.CRASHED
        if self.ended:
            return exit_codes.HALTED if self.halted else exit_codes.TERMINATED
        return exit_codes.FINISHED if self.tested_end else exit_codes.UNTESTED_END

    def begin(self, step: int, last_step: int, *, best_follows: bool) -> None:
        """Start counting at the step the training begins or goes on at."""
        self._first_step, self._last_step, self._best_follows = step, last_step, best_follows
        self._counted_until = time.perf_counter()

    def stops(self) -> bool:
        """Whether an answer in progress is to be cut off."""
        return self.sigterm

    def go_on(self, step: int) -> None:
        """Take up a run where its checkpoint left it: what is due after its step, a look, a halt."""
        guard, state = self.guard, self.guard.state
        if state.owed:
            saving, state.owed = state.owed == "save", ""
            self.attend(step, saving=saving)
            self.ask(step)
            self.grade(step)
        elif state.owed_look:
            trigger, state.owed_look = state.owed_look, ""
            self.look(step, trigger)
            self.grade(step)
        self.halted |= still_halted(guard.recipe, state, step)

    def attend(self, step: int, *, saving: bool) -> None:
        """Do what is due after an optimizer step: a tripwire, a look."""
        every = self.guard.state.tripwire_every
        early = bool(every) and step % every == 0 and self._tripwire(step)
        if self.halted:
            return
        trigger = ""
        if step >= self._last_step:
            trigger = "end"
        elif saving:
            trigger = "save"
        elif step % self.guard.recipe.looks.every_steps == 0:
            trigger = "schedule"
        elif early:
            trigger = "tripwire"
        if trigger:
            self.look(step, trigger)

    def attend_epoch(self, step: int, epoch: float) -> None:
        """Look where the end of an epoch asks for a save, which no step's end has seen."""
        if self._looked_at(step) or any(ask.step == step for ask in self.guard.state.asked):
            return
        if not self.terminated:
            self.look(step, "save")
        elif not self.guard.state.owed_look and math.isclose(epoch, round(epoch), abs_tol=1e-9):
            self.guard.state.owed = "save"

    def terminate(self, *, saving: bool) -> None:
        """End after a step because of a SIGTERM; what is due after the step is owed."""
        self.guard.state.owed = "save" if saving else "step"
        self.terminated = True

    @property
    def _beside(self) -> bool:
        """Whether a sidecar answers the looks."""
        return self.guard.recipe.looks.engine == "sidecar"

    @property
    def asks_at_save(self) -> bool:
        """Whether a checkpoint is to be saved now, for a sidecar to look at."""
        return bool(self._due_at_save)

    def ask(self, step: int) -> None:
        """Ask the sidecar for the look that is due, now that the checkpoint of this step lies whole on disk."""
        trigger, self._due_at_save = self._due_at_save, ""
        if trigger:
            self.guard.ask(step, trigger, named_checkpoint(self.guard.run, self.checkpoints, step))

    def answered(self) -> bool:
        """Return whether the sidecar's oldest answer has come and is judged; never waits.

        On the first rank alone: `apply` is then for all of them.
        """
        guard = self.guard
        if not guard.state.asked or not guard.ranks.writes:
            return False
        if self._judging is None:
            try:
                come = answer_file(guard.run, guard.state.asked[0]).is_file()
            except OSError:  # a network file system that is away for now; nobody waits for it
                come = False
            if not come:
                return False
            pool = ThreadPoolExecutor(max_workers=1)
            self._judging = pool.submit(judged_answer, guard, guard.state.asked[0])
            pool.shutdown(wait=False)
        return self._judging.done()

    def apply(self, step: int) -> None:
        """Apply the sidecar's oldest answer at a step's end, on every rank: as `look`, but late."""
        guard = self.guard
        ask, judging, self._judging = guard.state.asked[0], self._judging, None

        def told(mine: Sequence[Asked]) -> list[Judgement]:
            return [judging.result() for _ in mine if judging is not None]  # on the first rank

        guard.forget(ask)
        try:
            judged = guard.ranks.shared([ask], told)[0]
            action = apply_late(guard, self.checkpoints, ask, judged, step)
        except Exception as error:
            guard.state.failures += 1
            self._failed_since = True
            self._failed(error, step, "look", ask)
            # What refuses look 0 refuses the run; nobody else is there to raise it to.
            self.halted |= ask.trigger == "start" and isinstance(error, InputError)
            return
        self._failed_since = False
        if guard.recipe.mode == "guard":
            self.move_levers(action)
            self.halted |= action.kind == "halt"

    def look(self, step: int, trigger: str) -> None:
        """Take a look, and carry out what the ladder says; the boundary at which an error while looking is caught.

        Where a sidecar answers, it is asked at the save of this step, and what it says comes later.
        """
        if self._beside:
            self.before_look(step)
            self._due_at_save = trigger
            return
        guard, acts = self.guard, self.guard.recipe.mode == "guard"
        final = trigger == "best" or (step >= self._last_step and not self._best_follows)
        self.before_look(step)
        self.count_seconds()  # what the steps took may settle how much the look asks
        try:
            action = self._measured_look(step, trigger, final=final)
            if action.kind == "repeat_look" and acts:
                action = self._measured_look(step, "repeat", final=final)
            self._failed_since = False
        except Exception as error:
            if failure_kind(error) == "stopped":
                guard.state.owed_look = trigger
                self.terminated = True
                return
            guard.state.failures += 1
            self._failed_since = True
            self._failed(error, step, "look")
            return
        if acts:
            self.move_levers(action)
            self.halted |= action.kind == "halt"
        if not (self.halted or final) and guard.ranks.summed([int(self.sigterm)]) != [0]:
            self.terminated = True

    def look_at_best(self, step: int, saved_at: int) -> None:
        """Look at the best model where it stands in the place of the last, for it is what is left.

        Its look is the run's final one; its checkpoint then stands last in the ledger.
        """
        if self.ended or saved_at == step:
            return
        failures = self.guard.state.failures
        self.look(step, "best")
        if self.guard.state.failures == failures:
            self.grade(saved_at, looked_at=step)

    def _measured_look(self, step: int, trigger: str, *, final: bool) -> Action:
        # Nobody could take up a repeat where it was left.
        stop = self.stops if trigger != "repeat" else lambda: False
        return self.measure(
            lambda engine: self.guard.look(engine, step, trigger, final=final), stop
        )

    def _tripwire(self, step: int) -> bool:
        """Measure how far the policy has moved; return whether to look early. Errors go the way of a look's."""
        try:
            return self.measure(lambda engine: tripwire(self.guard, engine, step), self.stops)
        except Exception as error:
            self._failed(error, step, "tripwire")
            return False

    def _failed(self, error: Exception, step: int, during: str, ask: Asked | None = None) -> None:
        record_error(self.guard, error, step, during, ask)
        self.halted |= self.guard.recipe.on_error == "halt"

    def _looked_at(self, step: int) -> bool:
        history = self.guard.state.history
        return bool(history) and history[-1].step == step

    def grade(self, step: int, *, looked_at: int | None = None) -> None:
        """Write to the ledger which level a checkpoint has (`grade_checkpoint`)."""
        grade_checkpoint(self.guard, self.checkpoints, step, looked_at=looked_at)

    def last_ok_checkpoint(self) -> str | None:
        """Return the newest checkpoint whose look was ok, below the run folder if it lies there."""
        return last_ok_checkpoint(self.guard, self.checkpoints)

    def count_seconds(self) -> None:
        """Count the seconds since the last call as trained."""
        now = time.perf_counter()
        self.guard.state.spend("train", now - self._counted_until)
        self._counted_until = now

    def not_training(self, seconds: float) -> None:
        """Leave seconds that went into something else out of those trained."""
        self._counted_until += seconds

    def finish(self, step: int) -> None:
        """Close the run in the ledger."""
        guard = self.guard
        untested = not self._looked_at(step) or guard.state.history[-1].level == UNTESTED
        self.tested_end = not untested and not self._failed_since
        outcome = "halted" if self.halted else "terminated" if self.terminated else "finished"
        guard.ledger.append(
            "ended",
            step,
            outcome=outcome,
            last_ok_checkpoint=self.last_ok_checkpoint(),
            failures=guard.state.failures,
            steps=step - self._first_step,
            seconds=guard.state.rounded_seconds(),
        )


def record_error(
    guard: Guard, error: Exception, step: int, during: str, ask: Asked | None = None
) -> None:
    """Write an error while looking to the ledger and the log.

    Args:
        guard: The run's.
        error: What was raised.
        step: Of the training.
        during: Such as `look`.
        ask: What the sidecar was asked, where it is its look that failed.
    """
    policy = guard.recipe.on_error
    told: dict[str, Any] = {"during": during, "error": f"{type(error).__name__}: {error}"[:2000]}
    if ask is not None:
        told |= {"look": ask.look, "applied_step": step}
    at = step if ask is None else ask.step
    guard.ledger.append("error", at, **told, then=policy)
    logger.error("the %s at step %d failed; on_error is `%s`", during, at, policy, exc_info=error)
