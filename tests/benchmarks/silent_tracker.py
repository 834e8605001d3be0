"""What a W&B server that falls silent costs the training: step time with it against no tracker at all.

Run: python -m tests.benchmarks.silent_tracker [REPEATS]

Runs of both kinds take turns, so that a busy machine disturbs both alike. Wall-clock seconds are of the steps
alone (the ledger's training seconds less looks and tripwires); `in the guard's hand-over` is the time the training
thread itself spends in giving records to the trackers, the wait at the end left out.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from guardrail.ledger.file import read_ledger
from tests.run_fixtures import arguments, small_recipe
from tests.track.silent_wandb import SilentWandb

STEPS = 60
MEASURED = """
import json, sys, time
from guardrail.track import tracking
spent = [0.0]
inner = tracking.Tracking._repeat
def timed(self, record):
    started = time.perf_counter()
    inner(self, record)
    spent[0] += time.perf_counter() - started
tracking.Tracking._repeat = timed
import atexit, os
from guardrail.cli import common
leave = os._exit
def told(code):
    open(sys.argv[-1] + ".spent", "w").write(json.dumps(spent[0]))
    leave(code)
os._exit = told
atexit.register(lambda: open(sys.argv[-1] + ".spent", "w").write(json.dumps(spent[0])))
from guardrail.cli.main import app
app()
"""


def one_run(
    folder: Path, anchors: Path, report_to: str, environment: dict[str, str]
) -> tuple[float, float]:
    """Return seconds a step and the share of them spent in the hand-over."""
    folder.mkdir()
    recipe = small_recipe(
        folder,
        items_an_ability=2,
        train=arguments(max_steps=STEPS, save_steps=STEPS, logging_steps=1, report_to=report_to),
        looks={"every_steps": 20, "tripwire_every_steps": 10},
        tracking={"end_timeout_s": 2, "project": "p"},
    )
    text = recipe.read_text(encoding="utf-8").replace(str(folder / "anchors"), str(anchors))
    recipe.write_text(text, encoding="utf-8")
    run = folder / "run"
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            [sys.executable, "-c", MEASURED, "run", recipe, "--out", run],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=output,
            stderr=output,
            check=True,
        )
    seconds = next(r["seconds"] for r in read_ledger(run) if r["kind"] == "ended")
    steps = seconds["train"] - seconds["looks"] - seconds["tripwires"]
    return steps / STEPS, json.loads(Path(f"{run}.spent").read_text()) / steps


def main(repeats: int) -> None:
    """Print both step times, their ratio and the hand-over's share."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, list[tuple[float, float]]] = {"none": [], "wandb": []}
        for number in range(repeats):
            for report_to in found:
                with SilentWandb() as server:
                    environment = server.environment if report_to == "wandb" else {}
                    place = Path(folder) / f"{report_to}-{number}"
                    one = one_run(place, Path(folder) / "anchors", report_to, environment)
                found[report_to].append(one)
                print(
                    f"{report_to:<6} {1000 * one[0]:6.1f} ms a step, hand-over {one[1]:.3%}",
                    flush=True,
                )
        ratios = [w[0] / n[0] for n, w in zip(found["none"], found["wandb"], strict=True)]
        print(
            f"step time with the silent server over without: median {statistics.median(ratios):.3f}, ",
            end="",
        )
        print(f"from {min(ratios):.3f} to {max(ratios):.3f}")
        print(
            f"in the guard's hand-over: at most {max(w[1] for w in found['wandb']):.3%} of the step time"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
