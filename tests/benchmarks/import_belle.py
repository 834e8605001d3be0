"""How fast and in how much memory a BELLE-format file streams through the importer.

Run: python tests/benchmarks/import_belle.py SAMPLE.jsonl --rows 1500000
SAMPLE holds BELLE rows (`question`/`std_answer` or `instruction`/`input`/`output`). Rows are made from it by
swapping characters of the prompt at random, so that some are near duplicates and most are not. Each
stage runs in a process of its own and is timed in CPU seconds; the yardstick is a bare `json.loads` loop
over the same file, taken before and after.
"""

import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from guardrail.sets.read.importer import ImportOptions, import_files


def make_rows(sample: Path, rows: int, out: Path) -> None:
    """Write the file: each prompt with a share of its characters swapped, from none to two thirds."""
    source = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    alphabet = [
        c for row in source for c in row.get("question", row.get("instruction", "")) if c.isalpha()
    ]
    draw = random.Random(0)
    with out.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = source[number % len(source)]
            question = row.get("question", row.get("instruction", ""))
            swapped = draw.choice((0.0, 0.3, 0.5, 0.65))
            question = "".join(
                draw.choice(alphabet) if c.isalpha() and draw.random() < swapped else c
                for c in question
            )
            answer = row.get("std_answer", row.get("output", ""))
            line = {"instruction": question, "input": "", "output": answer}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def stage(name: str, path: Path, out: Path) -> None:
    """Run one stage and print seconds, memory before and at the peak, and the funnel."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    funnel = None
    if name == "json.loads":
        with path.open("rb") as file:
            for line in file:
                json.loads(line)
    else:
        options = ImportOptions(format="belle", limit=0, keep_duplicates=name == "filters")
        funnel = import_files([path], out, options).as_dict()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak, "funnel": funnel}))


def main(
    sample: Path,
    rows: Annotated[int, typer.Option()] = 1_500_000,
    only: Annotated[str, typer.Option(hidden=True)] = "",
    path: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Make the file, run the stages, print a table."""
    if only:
        stage(only, path, path.with_suffix(".out"))
        return
    with TemporaryDirectory() as folder:
        made = Path(folder) / "rows.jsonl"
        make_rows(sample, rows, made)
        print(f"{rows:,} rows, {made.stat().st_size / 1e6:,.0f} MB")

        def measure(name: str) -> dict[str, Any]:
            command = [sys.executable, __file__, str(sample), "--only", name, "--path", str(made)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            return json.loads(done.stdout)

        # The yardstick is taken before and after each stage, so that a machine that gets busier shows less.
        before = measure("json.loads")
        for name in ("filters", "de-duplication"):
            said = measure(name)
            after = measure("json.loads")
            yardstick = (before["seconds"] + after["seconds"]) / 2
            grown = (said["peak"] - said["before"]) * 1024
            print(
                f"{name}: {rows / said['seconds']:,.0f} rows/s against {rows / yardstick:,.0f} of json.loads "
                f"({said['seconds'] / yardstick:.1f} x), memory +{grown / 1e6:,.0f} MB "
                f"({grown / rows:,.0f} bytes a row)\n  {said['funnel']}",
                flush=True,
            )
            before = after


if __name__ == "__main__":
    typer.run(main)
