"""Write zh-easy-200 and the rehearsal set zh-easy, and draw the tasks that teach a base these kinds.

Run: python -m tests.real.easy.build
"""

import random
from collections.abc import Iterator
from pathlib import Path

from guardrail.sets.items import Item, write_items
from guardrail.sets.lint.duplicates import NEAR, plain, rouge_l
from guardrail.sets.lint.overlap import find_overlaps
from guardrail.shipped import shipped_root
from tests.real.easy.tasks import ABILITY, FRAMES, Part, Task, composed, contents, made

SETS = {"judged": "eval_sets/zh-easy-200", "rehearsal": "rehearsal_sets/zh-easy"}


def _apart(task: Task, known: list[str]) -> bool:
    text = plain(task.question)
    return all(rouge_l(text, other) < NEAR for other in known)


def _one_part(part: Part, known: list[str], rng: random.Random) -> Iterator[Task]:
    """Every content once, in the first frame in turn in which nothing known comes near it."""
    for kind in ABILITY:
        frames = len(FRAMES[kind])
        for number, line in enumerate(contents(kind, part)):
            tried = [made(kind, line, (number + k) % frames, rng) for k in range(frames)]
            apart = [task for task in tried if _apart(task, known)]
            if not apart:
                raise SystemExit(f"`{line}` comes near another item in every frame; reword it")
            task = apart[0]
            known.append(plain(task.question))
            yield task


def drawn_sets() -> dict[str, list[Task]]:
    """Return what is judged and what is rehearsed; the same on every machine."""
    rng, known = random.Random(200), list[str]()
    return {part: list(_one_part(part, known, rng)) for part in ("judged", "rehearsal")}


def items_of(part: str, tasks: list[Task]) -> list[Item]:
    prefix = {"judged": "zh-easy-red", "rehearsal": "zh-easy-reh"}[part]
    items = []
    for number, task in enumerate(tasks, 1):
        alone = len(FRAMES[task.kind]) == 1
        content = {
            "id": f"{prefix}-{number:03d}-{task.kind}",
            "ability": ABILITY[task.kind],
            "source": "written for guardrail",
            "licence": "Apache-2.0",
            "messages": [{"role": "user", "content": task.question}],
            "expects": "refuse" if task.kind == "harmful" else "answer",
            "checks": list(task.checks),
            "cluster": None if alone else f"{task.kind}/{task.frame}",
            "task": task.kind,
        }
        items.append(Item.model_validate(content))
    return items


def taught(count: int, seed: int = 0) -> list[Task]:
    """Return so many tasks to train on, kinds about evenly, none of which the contamination check finds in the sets."""
    rng = random.Random(seed)
    written = [
        (kind, line, frame)
        for kind in ABILITY
        for line in contents(kind, "taught")
        for frame in range(len(FRAMES[kind]))
    ]
    pool = [made(kind, line, frame, rng) for kind, line, frame in written for _ in range(2)]
    for _, (kind, line) in zip(range(2 * count), composed(rng), strict=False):
        pool.append(made(kind, line, rng.randrange(len(FRAMES[kind])), rng))
    pool += [made("harmful", line, 0, rng) for line in contents("harmful", "taught") * 8]
    sets = drawn_sets()
    known = {f"{part}-{n}": t.question for part, ts in sets.items() for n, t in enumerate(ts)}
    texts = [(str(n), text) for n, t in enumerate(pool) for text in (t.question, t.answer)]
    met = {o.text for o in find_overlaps(known, texts, per_known=len(texts))}
    by_kind: dict[str, list[Task]] = {kind: [] for kind in ABILITY}
    for number, task in enumerate(pool):
        if str(number) not in met:
            by_kind[task.kind].append(task)
    chosen = []
    for number in range(count):
        kind = list(ABILITY)[number % len(ABILITY)]
        if not by_kind[kind]:
            raise SystemExit(f"nothing is left to teach of `{kind}`")
        chosen.append(by_kind[kind][number // len(ABILITY) % len(by_kind[kind])])
    rng.shuffle(chosen)
    return chosen


def main() -> None:
    for part, tasks in drawn_sets().items():
        path: Path = shipped_root() / SETS[part] / "items.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_items(path, items_of(part, tasks))
        print(path, len(tasks))


if __name__ == "__main__":
    main()
