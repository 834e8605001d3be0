"""Short real runs on the toy base: a recipe file with changes, and the command line in a subprocess."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from guardrail.sets.items import read_items, write_items
from guardrail.shipped import shipped_recipes, shipped_root


def small_recipe(folder: Path, *, items_an_ability: int = 10, **changes: Any) -> Path:
    """Write a short version of the toy recipe: few items, few steps; `changes` merge one level deep."""
    content = yaml.safe_load(shipped_recipes()["toy-sft"].read_text(encoding="utf-8"))
    content["name"] = "short"
    for key, source in (
        ("red_line", "eval_sets/toy-redline-300"),
        ("rehearsal", "rehearsal_sets/toy-general"),
    ):
        kept: dict[str, list[Any]] = {}
        for item in read_items(shipped_root() / source / "items.jsonl"):
            kept.setdefault(item.ability, []).append(item)
        path = folder / f"{key}.jsonl"
        write_items(path, [i for group in kept.values() for i in group[:items_an_ability]])
        content["sets"][key] = str(path)
    content["anchors"] = str(folder / "anchors")
    content["looks"] |= {"every_steps": 4, "tripwire_every_steps": 2, "early_look_kl": 0.0}
    content["looks"]["decoding"]["max_new_tokens"] = 64
    content["train"] = arguments()
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            content[key] |= value
        else:
            content[key] = value
    file = folder / "short.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return file


def arguments(**changes: Any) -> dict[str, Any]:
    """The toy recipe's training section with other trainer arguments."""
    content = yaml.safe_load(shipped_recipes()["toy-sft"].read_text(encoding="utf-8"))
    train: dict[str, Any] = content["train"]
    train["arguments"] |= {
        "max_steps": 12,
        "save_steps": 4,
        "per_device_train_batch_size": 4,
        "logging_steps": 2,
        "max_length": 192,
    } | changes
    return train


def guardrail(*args: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in a process of its own."""
    return subprocess.run(
        command(*args), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "guardrail", *map(str, args)]
