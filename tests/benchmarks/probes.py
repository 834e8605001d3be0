"""How fast answers are measured on one core, with and without chrF.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/probes.py --answers 10000
Answers of 500 characters are cut from the good answers of the shipped red-line set, joined at random.
"""

import json
import random
import time
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import typer

from guardrail.probes import measure as module
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root

ROOT = Path(__file__).parent.parent
CHARACTERS = 500


def make_answers(count: int) -> list[str]:
    """Return answers of 500 characters, the same ones every time."""
    path = ROOT / "data/zh-redline-300.examples.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pieces = [text for row in rows for text in (row["passing"], *row["good"])]
    draw = random.Random(0)
    answers = []
    for _ in range(count):
        text = ""
        while len(text) < CHARACTERS:
            text += draw.choice(pieces) + "\n"
        answers.append(text[:CHARACTERS])
    return answers


def main(answers: Annotated[int, typer.Option()] = 10_000) -> None:
    """Measure the answers against the red-line items in turn and print seconds."""
    items = read_items(shipped_root() / "eval_sets/zh-redline-300/items.jsonl")
    texts = make_answers(answers)
    for name, chrf in (("without chrF", lambda answer, gold: 0.0), ("with chrF", module.chrf)):
        with patch.object(module, "chrf", chrf):
            start = time.perf_counter()
            for number, text in enumerate(texts):
                module.measure(items[number % len(items)], text, texts[number - 1])
            seconds = time.perf_counter() - start
        print(
            f"{name}: {answers:,} answers in {seconds:.1f} s, {seconds / answers * 1e3:.2f} ms each"
        )


if __name__ == "__main__":
    typer.run(main)
