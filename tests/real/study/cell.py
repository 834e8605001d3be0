"""One cell: an arm at a rate with a seed, trained and evaluated into OUT/cells/NAME.json; taken up where it was left.

Exit codes: 0 the cell is done, 75 there is more to do (run the same again), else it failed.
Run: python -m tests.real.study.cell --study runs/study --arm kl3 --rate 3e-5 --seed 0
"""

import json
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import datasets
import transformers
import typer

from guardrail.models.fingerprint import file_sha256
from tests.real.study.arms import ARMS, WATCHED
from tests.real.study.average import average_to
from tests.real.study.evaluate import curve, evaluate
from tests.real.study.plan import rate_of, rows_of, target_loss
from tests.real.study.spent import spend
from tests.real.study.train import checkpoint_of, checkpoints_of, steps_of, train

AGAIN = 75


def cell_name(arm: str, rate: float, seed: int) -> str:
    return f"{arm}-{rate:.2e}-{seed}"


def cell(
    study: Annotated[Path, typer.Option(help="folder that `material` prepared")],
    arm: Annotated[str, typer.Option(help="name in arms.py, or `base`")],
    rate: float = 0.0,
    seed: int = 0,
    minutes: Annotated[float, typer.Option(help="after which it ends with a checkpoint")] = 7.0,
    quick: Annotated[bool, typer.Option("--quick", help="evaluate without answers")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="keep the checkpoints")] = False,
) -> None:
    """Train and evaluate."""
    began = time.monotonic()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    settings: dict[str, Any] = json.loads((study / "study.json").read_text())
    out = study / "cells" / f"{cell_name(arm, rate, seed)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    row: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    if row and (quick or "passed" in row):
        return
    folder = study / "work" / out.stem
    folder.mkdir(parents=True, exist_ok=True)
    domain, watched = "medical", arm in WATCHED
    if arm == "base":
        checkpoint, trained = Path(settings["base"]), folder / "trained.json"
        trained.write_text("{}")
        domain = "finance" if seed else "medical"
    else:
        plan, trained = ARMS[arm], folder / "trained.json"
        domain = "medical" if plan.domain == "own" else plan.domain
        if trained.is_file() and checkpoint_of(folder) is None:
            shutil.rmtree(folder)
            folder.mkdir()
        if not trained.is_file():
            target = target_loss(rows_of(study), rate_of(study)) if plan.averaged else None
            if plan.averaged and target is None:
                raise SystemExit(
                    f"{arm}: its target is the loss of `nothing`, whose cell is not done"
                )
            facts = train(study, settings, plan, rate, seed, folder, began + 60 * minutes)
            spend(folder, "training", time.monotonic() - began)
            if facts is None:
                sys.exit(AGAIN)
            if target is not None:
                at = checkpoint_of(folder)
                assert at is not None
                facts["share"] = average_to(target, study, settings, at, plan.domain)
            trained.write_text(json.dumps(facts, ensure_ascii=False))
            if time.monotonic() > began + 30 * minutes and not quick:
                sys.exit(AGAIN)  # answers take minutes of their own
        found = checkpoint_of(folder)
        if found is None:
            raise SystemExit(f"{folder} holds no checkpoint; delete it and run the cell anew")
        checkpoint = found
    evaluating = time.monotonic()
    measured = evaluate(study, settings, checkpoint, domain, answers=not quick)
    if watched:
        measured["curve"] = curve(study, settings, checkpoints_of(folder))
    spent = spend(folder, "evaluating", time.monotonic() - evaluating)
    packages = ("transformers", "trl", "torch", "peft", "accelerate")
    row = {
        "arm": arm,
        "rate": rate,
        "seed": seed,
        "planned_steps": None if arm == "base" else steps_of(ARMS[arm], settings),
        "trained": json.loads(trained.read_text()),
        "spent": spent,
        "settings": {k: v for k, v in settings.items() if k != "base"},
        "base_sha256": file_sha256(Path(settings["base"]) / "model.safetensors"),
        "versions": {name: version(name) for name in packages},
        **measured,
    }
    text = json.dumps(row, ensure_ascii=False, indent=1)
    out.with_suffix(".new").write_text(text + "\n", "utf-8")
    out.with_suffix(".new").replace(out)
    print(out)
    if not keep and (watched or not quick):  # a sweep's cell may yet be asked for answers
        shutil.rmtree(folder / "run/checkpoints", ignore_errors=True)


if __name__ == "__main__":
    typer.run(cell)
