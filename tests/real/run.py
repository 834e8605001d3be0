"""Guard the SFT of a real language model on CPU from anchors to report, and write what it took as JSON.

The base is `make_base`'s. The red line is small and so are the answers: generating decides the time on a CPU.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from guardrail.sets.items import Item, read_items, write_items
from guardrail.shipped import shipped_root
from tests.run_fixtures import as_yaml, command, records

Way = Literal["full", "lora"]


def short_items(name: str, an_ability: int) -> list[Item]:
    """Return the shortest items of each ability but `long_text`."""
    items = read_items(shipped_root() / name / "items.jsonl")
    items.sort(key=lambda item: sum(len(turn["content"]) for turn in item.chat()))
    kept: dict[str, list[Item]] = {}
    for item in items:
        kept.setdefault(item.ability, []).append(item)
    kept.pop("long_text")
    return [item for group in kept.values() for item in group[:an_ability]]


def write_recipe(folder: Path, base: Path, way: Way, steps: int, items: int, tokens: int) -> Path:
    """Write sets and recipe: LoRA on the weights in bfloat16, full fine-tuning on those in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    write_items(folder / "red_line.jsonl", short_items("eval_sets/zh-redline-300", items // 6))
    write_items(folder / "rehearsal.jsonl", short_items("rehearsal_sets/zh-general", 4))
    train: dict[str, Any] = {
        "data": "shipped:recipes/toy/collections.jsonl",
        "arguments": {
            "max_steps": steps,
            "per_device_train_batch_size": 8,
            "learning_rate": 2e-5 if way == "full" else 2e-4,
            "logging_steps": 1,
            "save_steps": steps,
            "save_only_model": False,
            "max_length": 512,
            "use_cpu": True,
            "bf16": True,
        },
    }
    if way == "lora":
        train["lora"] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    content = {
        "name": f"real-{way}",
        "gold_base": str(base if way == "full" else base.with_name(base.name + "-bf16")),
        "anchors": str(folder / "anchors"),
        "sets": {"red_line": "red_line.jsonl", "rehearsal": "rehearsal.jsonl"},
        "train": train,
        "rehearsal": {"fraction": 0.05},
        "looks": {
            "every_steps": steps // 2,
            "tripwire_every_steps": 2,
            "tripwire_task_prompts": 8,
            "replicates": 1,
            "batch_size": 48,
            "decoding": {"mode": "sampled", "max_new_tokens": tokens},
        },
    }
    file = folder / "recipe.yaml"
    file.write_text(as_yaml(content), encoding="utf-8")
    return file


def timed(*args: object) -> dict[str, Any]:
    """Run a guardrail command; return its seconds, those of CPU, the peak so far, and what a failure said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command(*args), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    taken = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_resident_gb_so_far": round(after.ru_maxrss / 2**20, 2),
        "exit_code": done.returncode,
    }
    return taken | ({"said": (done.stdout + done.stderr)[-3000:]} if done.returncode else {})


def figures_of(run: Path) -> dict[str, Any]:
    """Return what the ledger says of cost, self-test and looks."""
    looks, wires, logs = (records(run, kind) for kind in ("look", "tripwire", "log"))
    kept = ("step", "trigger", "level", "seconds")
    return {
        "kl_self_test": [
            {k: v for k, v in r.items() if k not in ("kind", "time")}
            for r in records(run, "kl_self_test")
        ],
        "looks": [{k: r[k] for k in kept} for r in looks],
        "tripwires": [{k: r.get(k) for k in ("step", "kl", "task_kl", "seconds")} for r in wires],
        "last_log": logs[-1] if logs else None,
        "actions": [r["action"] for r in records(run, "action")],
        "ended": records(run, "ended"),
    }


def real(
    base: Annotated[Path, typer.Option(help="what `make_base` wrote; BASE-bf16 beside it")],
    out: Annotated[Path, typer.Option(help="folder of anchors, run, report and figures.json")],
    way: Annotated[Way, typer.Option(help="full fine-tuning, or LoRA")] = "full",
    steps: int = 8,
    items: Annotated[int, typer.Option(help="red-line items")] = 36,
    tokens: Annotated[int, typer.Option(help="of an answer, at most")] = 48,
) -> None:
    """Make anchors where they are absent, train under guard anew, and write OUT/figures.json; the exit code is the run's."""
    shutil.rmtree(out / "run", ignore_errors=True)
    recipe = write_recipe(out, base.resolve(), way, steps, items, tokens)
    figures: dict[str, Any] = {"way": way, "steps": steps, "items": items, "tokens": tokens}
    code = 0
    for what, args in {
        "anchors": ("anchor", recipe),
        "run": ("run", recipe, "--out", out / "run"),
    }.items():
        figures[what] = timed(*args)
        if code := figures[what]["exit_code"]:
            break
    if (out / "run/ledger.jsonl").is_file():
        figures |= figures_of(out / "run")
        figures["report"] = (out / "run/report.html").is_file()
    text = json.dumps(figures, ensure_ascii=False, indent=2)
    (out / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    sys.exit(code)


if __name__ == "__main__":
    typer.run(real)
