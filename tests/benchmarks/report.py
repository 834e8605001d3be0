"""How long a report takes to build, and how large it is: 50 looks of 300 items.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/report.py --looks 50
The shipped red-line set, answered by its own good examples; from the second look on a fifth of the answers are
those of another item. Two looks are measured and judged by the rule, the others repeat the second one's record.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from guardrail.anchors.store import AnchorAnswer
from guardrail.judge.look_values import (
    default_metric_rules,
    judge_look,
    measure_completions,
    write_answers,
)
from guardrail.judge.rule import DriftConfig, RuleState
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import LookFacts
from guardrail.report.report import build_report, render_report
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root

EXAMPLES = Path(__file__).parent.parent / "data/zh-redline-300.examples.jsonl"


def write_run(run: Path, looks: int) -> Path:
    """Write the folder of a run of so many looks, 20 steps apart, with a log a step; return it."""
    red_line = shipped_root() / "eval_sets/zh-redline-300/items.jsonl"
    items = read_items(red_line)
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    good = {row["item"]: row["passing"] for row in rows}
    golds = [good[item.id] for item in items]
    broken = [golds[k - 1] if k % 5 == 0 else gold for k, gold in enumerate(golds)]
    baseline = measure_completions(items, [[text] for text in golds], golds)
    config = DriftConfig(default_metric_rules(), planned_looks=looks)
    run.mkdir()
    ledger = Ledger(run)
    recipe = {"sets": {"red_line": str(red_line)}, "rehearsal": {"weight": 1.0}}
    ledger.append("started", 0, name="benchmark", mode="guard", recipe=recipe)
    state = RuleState()
    for number, texts in enumerate((golds, broken)):
        measured = measure_completions(items, [[text] for text in texts], golds)
        verdict, state = judge_look(items, baseline, measured, config, state)
        file = f"looks/look-{number:04d}-step-{20 * number}.jsonl"
        answers = [
            [AnchorAnswer(i.id, 0, t, (), "stop")] for i, t in zip(items, texts, strict=True)
        ]
        write_answers(run / file, items, answers, measured)
        look = LookFacts(
            step=20 * number,
            number=number,
            trigger="schedule",
            answers=file,
            seconds=60.0,
            level=verdict.level,
            streams=verdict.streams,
        )
        last = ledger.append("look", look.step, **look.to_record())
    lines = []
    for number in range(2, looks):
        for step in range(20 * number - 19, 20 * number + 1):
            log = {"kind": "log", "loss": 1 / step, "learning_rate": 1e-5, "rehearsal_kl": 0.01}
            lines.append(last | {"streams": []} | log | {"step": step})
        lines.append(last | {"look": number, "step": 20 * number})
    with ledger.path.open("a", encoding="utf-8") as file_of_lines:
        for seq, record in enumerate(lines, start=last["seq"] + 1):
            file_of_lines.write(json.dumps(record | {"seq": seq}, ensure_ascii=False) + "\n")
    return run


def main(looks: Annotated[int, typer.Option()] = 50) -> None:
    """Build the report of such a run, cold and again, and print seconds and sizes."""
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", looks)
        for name in ("first", "again"):
            start = time.perf_counter()
            page = build_report(run)
            print(f"{name}: report.html and report.json in {time.perf_counter() - start:.2f} s")
        start = time.perf_counter()
        render_report(run)
        print(f"page alone: {time.perf_counter() - start:.2f} s")
        for path in (page, page.with_suffix(".json"), run / "ledger.jsonl"):
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
