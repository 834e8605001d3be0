"""What the guard's callback costs a training step where a sidecar takes the looks.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/sidecar.py --anchors anchors/toy-sft
The toy SFT on one core with the shipped 300 items, a look every five steps. The sidecar is played by answers that lie there
as soon as they are asked for, so that a verdict is applied at as many steps as can be; what it measures is made up. Told are
milliseconds of the callback's `on_step_end` and of the guard's part of a save, by the clock and of this thread's CPU, tripwires
left out.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from transformers import TrainerCallback

from guardrail.build_trainer import build_trainer
from guardrail.guard.asked_looks import Measurement, answer_file, write_answer
from guardrail.judge.look_values import anchor_measurements
from guardrail.preflight.preflight import preflight
from guardrail.recipe import read_recipe
from guardrail.trainers.callback import GuardCallback

Spent = tuple[float, float, int]
"""Seconds by the clock, of CPU, and looks judged."""


class Sidecar(TrainerCallback):
    """Answers at the beginning of a step whatever is asked: what the anchors measure."""

    def __init__(self, guarded: GuardCallback) -> None:
        self.guard = guarded.guard
        self.values = self.guard.meter.only_judged(
            anchor_measurements(list(self.guard.red_line), self.guard.anchors)
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for ask in self.guard.state.asked:
            if not answer_file(self.guard.run, ask).exists():
                values = {
                    name: table[:, np.arange(ask.samples) % table.shape[1]]
                    for name, table in self.values.items()
                }
                write_answer(self.guard.run, ask, Measurement(values, "none", 0.0))


def timed(guarded: GuardCallback, name: str, seconds: list[Spent]) -> None:
    """Note how long a hook takes, and how many looks it judged."""
    hook = getattr(guarded, name)

    def around(*args: Any, **kwargs: Any) -> None:
        before = len(guarded.guard.state.history)
        began, cpu = time.perf_counter(), time.thread_time()
        hook(*args, **kwargs)
        judged = len(guarded.guard.state.history) - before
        seconds.append((time.perf_counter() - began, time.thread_time() - cpu, judged))

    setattr(guarded, name, around)


def main(
    anchors: Annotated[Path, typer.Option()] = Path("anchors/toy-sft"),
    steps: Annotated[int, typer.Option()] = 60,
) -> None:
    """Print milliseconds a step as JSON."""
    changes = [
        "looks.engine=sidecar",
        "looks.every_steps=5",
        "looks.tripwire_every_steps=0",
        f"train.arguments.max_steps={steps}",
        "train.arguments.save_steps=5",
        "train.arguments.save_total_limit=1",
        "train.held_out=0",
    ]
    recipe = read_recipe("toy-sft", changes=changes, anchors=str(anchors.resolve()))
    guardrail, rows, *_ = preflight(recipe)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        trainer = build_trainer(guardrail.recipe, rows, run / "checkpoints")
        guarded = guardrail.attach(trainer, run=run, quiet=True, report=False)
        ends: list[Spent] = []
        saves: list[Spent] = []
        timed(guarded, "on_step_end", ends)
        timed(guarded, "on_save", saves)
        trainer.add_callback(Sidecar(guarded))
        trainer.train()
        items = len(guardrail.red_line)

    def told(found: list[Spent]) -> dict[str, float]:
        return {
            "count": len(found),
            "median_ms": round(1000 * float(np.median([wall for wall, _, _ in found])), 2),
            "most_ms": round(1000 * max(wall for wall, _, _ in found), 2),
            "median_cpu_ms": round(1000 * float(np.median([cpu for _, cpu, _ in found])), 2),
            "most_cpu_ms": round(1000 * max(cpu for _, cpu, _ in found), 2),
        }

    facts = {
        "items": items,
        "step_end": told([one for one in ends if not one[2]]),
        "step_end_with_a_verdict": told([one for one in ends if one[2]]),
        "save": told(saves),
        "mean_ms_a_step": round(1000 * sum(wall for wall, _, _ in [*ends, *saves]) / len(ends), 2),
    }
    typer.echo(json.dumps(facts, indent=2))


if __name__ == "__main__":
    typer.run(main)
