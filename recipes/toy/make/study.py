"""The toy study: the demo, the reckless recipe and the untouched base, over seeds; a table of each.

Run: python -m recipes.toy.make.study --out runs/study
Results are appended to OUT/study.jsonl as they come, and what is there is not run again.
"""

import json
import shutil
import statistics
from pathlib import Path
from typing import Annotated, Any

import datasets
import transformers
import typer
from rich.console import Console

from guardrail.demo import run_demo
from guardrail.ledger.file import Record, live_records, read_ledger
from guardrail.recipe import read_recipe
from guardrail.run import run_recipe

__all__ = ["study", "table"]


def _records(run: Path, kind: str) -> list[Record]:
    return [r for r in live_records(read_ledger(run)) if r["kind"] == kind]


def _demo(out: Path, seed: int, console: Console) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    result = run_demo("toy-sft", out, seed, console)
    assert result is not None, "the demo was ended by a SIGTERM"
    return result.facts


def _single(recipe_name: str, out: Path, seed: int, **changes: Any) -> dict[str, Any]:
    """One guarded run; what its looks and actions were."""
    shutil.rmtree(out, ignore_errors=True)
    recipe = read_recipe(recipe_name, seed=seed, anchors=str((out.parent / "anchors").resolve()))
    if changes:
        arguments = recipe.train.arguments | changes
        train = recipe.train.model_copy(update={"arguments": arguments})
        recipe = recipe.model_copy(update={"train": train})
    finished = run_recipe(recipe, out)
    looks = _records(out, "look")
    return {
        "seed": seed,
        "levels": [look["level"] for look in looks],
        "actions": [[a["step"], a["action"]] for a in _records(out, "action")],
        "halted": finished.halted,
        "last_step": looks[-1]["step"],
        "checkpoint": (out / "checkpoints" / f"checkpoint-{looks[-1]['step']}").is_dir(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the demo rows as a Markdown table with the spread in its last line."""
    head = "| seed | base | unguarded | kept | guarded | kept | domain loss unguarded | guarded | ratio | actions |"
    lines = [head, "|" + "---|" * 10]
    kept: dict[str, list[float]] = {"unguarded": [], "guarded": [], "ratio": []}
    for row in rows:
        base, plain, guarded = row["base"], row["unguarded"], row["guarded"]
        for side in ("unguarded", "guarded"):
            kept[side].append(row[side]["mean"] / base["mean"])
        kept["ratio"].append(guarded["domain_loss"] / plain["domain_loss"])
        actions = ", ".join(f"{a['action']}@{a['step']}" for a in guarded["actions"]) or "none"
        lines.append(
            f"| {row['seed']} | {base['mean']:.3f} | {plain['mean']:.3f} | {kept['unguarded'][-1]:.0%} "
            f"| {guarded['mean']:.3f} | {kept['guarded'][-1]:.0%} | {plain['domain_loss']:.3f} "
            f"| {guarded['domain_loss']:.3f} | {kept['ratio'][-1]:.3f} | {actions} |"
        )
    if len(rows) > 1:
        spread = {
            side: f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}"
            for side, v in kept.items()
        }
        lines.append(
            f"| mean ± sd | | | {spread['unguarded']} | | {spread['guarded']} | | | {spread['ratio']} | |"
        )
    return "\n".join(lines)


def study(
    out: Annotated[Path, typer.Option(help="folder of runs and results")] = Path("runs/study"),
    seeds: Annotated[int, typer.Option(help="demo and reckless seeds")] = 5,
    null_seeds: Annotated[int, typer.Option(help="seeds of the untouched base")] = 10,
) -> None:
    """Run what is missing and print the tables."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    out.mkdir(parents=True, exist_ok=True)
    results = out / "study.jsonl"
    console = Console()
    done = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    for kind, count in (("demo", seeds), ("reckless", seeds), ("null", null_seeds)):
        for seed in range(1, count + 1):
            if any(row["kind"] == kind and row["seed"] == seed for row in done):
                continue
            folder = out / f"{kind}-{seed}"
            if kind == "demo":
                row = _demo(folder, seed, console)
            elif kind == "reckless":
                row = _single("toy-sft-reckless", folder, seed)
            else:
                # At rate 0 the rows do not matter: one a step saves the time.
                row = _single(
                    "toy-sft", folder, seed, learning_rate=0.0, per_device_train_batch_size=1
                )
            done.append({"kind": kind, **row})
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[-1], ensure_ascii=False) + "\n")
    print(table([row for row in done if row["kind"] == "demo"]))
    for kind in ("reckless", "null"):
        for row in done:
            if row["kind"] == kind:
                print(kind, {k: v for k, v in row.items() if k != "kind"})


if __name__ == "__main__":
    typer.run(study)
