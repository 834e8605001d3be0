"""One cell of the matrix: a family, a precision and a way to train, as a recipe that is run for real."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from guardrail.recipe import Recipe, read_recipe
from guardrail.sets.items import Item, read_items, write_items
from guardrail.shipped import shipped_root
from tests.contracts.families import FAMILIES, Family
from tests.contracts.tiny_models import make_model, make_tokenizer, save
from tests.run_fixtures import as_yaml

PRECISIONS = ("float32", "autocast", "bf16-lora", "qlora")
KINDS = ("sft", "grpo")


@dataclass(frozen=True, slots=True)
class Cell:
    """A family in a precision under a trainer."""

    family: Family
    precision: str
    kind: str

    def __str__(self) -> str:
        return f"{self.family.name}-{self.precision}-{self.kind}"


ALL = [Cell(f, p, k) for f in FAMILIES.values() for p in PRECISIONS for k in KINDS]


@cache
def _items(name: str, an_ability: int) -> tuple[Item, ...]:
    """The shortest items of each ability, and one that holds a system turn."""
    items = sorted(
        read_items(shipped_root() / name / "items.jsonl"),
        key=lambda item: sum(len(turn["content"]) for turn in item.chat()),
    )
    kept: dict[str, list[Item]] = {}
    for item in items:
        kept.setdefault(item.ability, []).append(item)
    kept.pop("long_text")
    chosen = [item for group in kept.values() for item in group[:an_ability]]
    chosen += [item for item in items if item.chat()[0]["role"] == "system"][:1]
    return tuple({item.id: item for item in chosen}.values())


def write_base(folder: Path, cell: Cell, *, seed: int = 1) -> Path:
    """Write the cell's model folder, in the precision its weights are released in."""
    tokenizer = make_tokenizer(cell.family)
    model = make_model(cell.family, tokenizer, seed=seed)
    if cell.precision in ("bf16-lora", "qlora"):
        model = model.to(torch.bfloat16)
    if cell.kind == "sft" and hasattr(model.config, "output_router_logits"):
        # Off as released. TRL's SFT adds the router loss only where it is on; its GRPO cannot generate then.
        model.config.output_router_logits = True
    return save(folder, model, tokenizer)


def write_recipe(folder: Path, cell: Cell, base: Path, **changes: Any) -> Recipe:
    """Write the cell's recipe and return it as read; `changes` replace top-level keys."""
    sets = {}
    for key, name in (
        ("red_line", "eval_sets/zh-redline-300"),
        ("rehearsal", "rehearsal_sets/zh-general"),
    ):
        sets[key] = str(folder / f"{key}.jsonl")
        write_items(Path(sets[key]), _items(name, 2 if key == "red_line" else 1))
    dialogues = (shipped_root() / "recipes/toy/collections.jsonl").read_text("utf-8").splitlines()
    data = folder / "data.jsonl"
    data.write_text("\n".join(dialogues[:36]) + "\n", encoding="utf-8")
    arguments: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 12,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 2,
        "use_cpu": True,
        "bf16": cell.precision != "float32",
    }
    train: dict[str, Any] = {"data": str(data), "arguments": arguments}
    if cell.precision == "qlora":
        train["quantization"] = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        train["quantization"] |= {"bnb_4bit_compute_dtype": "bfloat16"}
    if cell.precision in ("bf16-lora", "qlora"):
        train["lora"] = {"r": 4, "target_modules": "all-linear"}
    if cell.kind == "grpo":
        reward = "shipped:recipes/toy/collection_rewards.py:keeps_it_short"
        train["rewards"] = [reward]
        arguments |= {"num_generations": 2, "max_completion_length": 12}
        arguments["per_device_train_batch_size"] = 24
        if cell.precision == "float32":
            arguments["beta"] = 0.02  # elsewhere TRL's default, 0: no reference model
    content: dict[str, Any] = {
        "name": str(cell),
        "trainer": f"trl-{cell.kind}",
        "gold_base": str(base),
        "thinking": cell.family.thinking == "opens",
        "anchors": str(folder / "anchors"),
        "sets": sets,
        "train": train,
        "rehearsal": {"fraction": 0.1, "allow_large_fraction": True, "weight": 0.3},
        "looks": {
            "every_steps": 2,
            "tripwire_every_steps": 2,
            "tripwire_task_prompts": 4,
            "early_look_kl": 0.0,
            "replicates": 2,
            "batch_size": 8,
            "decoding": {"mode": "sampled", "max_new_tokens": 12},
        },
        "drift": {"min_items": 8, "min_clusters": 4},
    } | changes
    file = folder / "recipe.yaml"
    file.write_text(as_yaml(content), encoding="utf-8")
    return read_recipe(file)
