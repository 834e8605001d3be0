"""Write the toy red-line and rehearsal sets from the task generator.

Run: python -m recipes.toy.make.build_sets
"""

import random
from collections.abc import Mapping
from pathlib import Path

from guardrail.sets.build.compose import QUOTAS
from guardrail.sets.items import Item, write_items
from guardrail.shipped import shipped_root
from recipes.toy.make.tasks import Task, draw_task

__all__ = ["REHEARSAL_QUOTAS", "build_set"]

REHEARSAL_QUOTAS = {
    "instruction": 100,
    "writing": 55,
    "translation": 65,
    "long_text": 45,
    "reasoning": 40,
    "format": 50,
    "refusal": 45,
}


def _item(task: Task, number: int, prefix: str) -> Item:
    return Item.model_validate(
        {
            "id": f"{prefix}-{task.ability}-{number:03d}",
            "ability": task.ability,
            "source": "guardrail toy generator",
            "licence": "Apache-2.0",
            "messages": [{"role": "user", "content": task.question}],
            "expects": task.expects,
            "checks": list(task.checks),
            "cluster": task.template,
        }
    )


_DRAWS = 3000
"""Of tasks, to see every template of an ability."""


def build_set(bucket: str, quotas: Mapping[str, int], prefix: str, seed: int) -> list[Item]:
    """Return items of one bucket, as many of each ability as asked, no question twice, every template as often."""
    rng = random.Random(seed)
    items, seen = [], set()
    for ability, quota in quotas.items():
        used = {draw_task(rng, ability, bucket).template: 0 for _ in range(_DRAWS)}
        count = 0
        while count < quota:
            task = draw_task(rng, ability, bucket)
            if task.question in seen or used[task.template] > min(used.values()):
                continue
            seen.add(task.question)
            used[task.template] += 1
            count += 1
            items.append(_item(task, count, prefix))
    return items


def main(root: Path) -> None:
    """Write both sets below the folder that holds `eval_sets` and `rehearsal_sets`."""
    for folder, bucket, quotas, prefix, seed in (
        ("eval_sets/toy-redline-300", "redline", QUOTAS, "toy-red", 300),
        ("rehearsal_sets/toy-general", "rehearsal", REHEARSAL_QUOTAS, "toy-reh", 400),
    ):
        path = root / folder / "items.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_items(path, build_set(bucket, quotas, prefix, seed))
        print(path)


if __name__ == "__main__":
    main(shipped_root())
