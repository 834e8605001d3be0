"""A user's script whose steps take as long as they take: before one step it waits for a sidecar's answers.

Run: python -m tests.sidecar.held_training RECIPE RUN ENGINE [STEP ANSWERS]
"""

import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from guardrail.build_trainer import build_trainer
from guardrail.guard.asked_looks import answer_file
from guardrail.guard.course import Course
from guardrail.preflight.preflight import preflight
from guardrail.recipe import read_recipe


class Held(TrainerCallback):
    """Waits before a step until so many answers lie in the run folder, and from then on until those are judged."""

    def __init__(self, course: Course, step: int, answers: int) -> None:
        self.course, self.step, self.answers = course, step, answers

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        guard, deadline = self.course.guard, time.monotonic() + 240
        if not self.step or state.global_step + 1 < self.step:
            return
        while len(list(guard.run.glob("sidecar/step-*.json"))) < self.answers:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        come = [answer_file(guard.run, ask).is_file() for ask in guard.state.asked[:1]]
        while any(come) and not self.course.answered():
            time.sleep(0.01)


def main(recipe: str, run: str, engine: str, step: str = "0", answers: str = "0") -> None:
    guardrail, rows, *_ = preflight(read_recipe(recipe, changes=[f"looks.engine={engine}"]))
    trainer = build_trainer(guardrail.recipe, rows, Path(run) / "checkpoints")
    guarded = guardrail.attach(trainer, run=run, quiet=True)
    trainer.add_callback(Held(guarded.course, int(step), int(answers)))
    trainer.train()
    raise SystemExit(guarded.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
