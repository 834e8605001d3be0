"""A user's script whose steps take as long as they take: before one step it waits for a sidecar's answers.

Run: python -m tests.sidecar.held_training RECIPE RUN ENGINE [STEP ANSWERS]
"""

import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from guardrail.build_trainer import build_trainer
from guardrail.preflight.preflight import preflight
from guardrail.recipe import read_recipe


class Held(TrainerCallback):
    """Waits before a step until so many answers lie in the run folder."""

    def __init__(self, run: Path, step: int, answers: int) -> None:
        self.run, self.step, self.answers = run, step, answers

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        deadline = time.monotonic() + 240
        while state.global_step + 1 == self.step and time.monotonic() < deadline:
            if len(list(self.run.glob("sidecar/step-*.json"))) >= self.answers:
                return
            time.sleep(0.05)


def main(recipe: str, run: str, engine: str, step: str = "0", answers: str = "0") -> None:
    guardrail, rows = preflight(read_recipe(recipe, changes=[f"looks.engine={engine}"]))
    trainer = build_trainer(guardrail.recipe, rows, Path(run) / "checkpoints")
    guarded = guardrail.attach(trainer, run=run, quiet=True)
    trainer.add_callback(Held(Path(run), int(step), int(answers)))
    trainer.train()
    raise SystemExit(guarded.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
