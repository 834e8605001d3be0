"""Go through the plan, one cell after the other, each in processes of a few minutes; what is done is skipped.

Two of these may run at once: each cell is claimed by a lock that ends with its process. A cell that fails thrice is left out
and named at the end.
Run: nohup nice -n 10 python -m tests.real.study.run_plan --study runs/study > runs/study/plan.log 2>&1 &
"""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tests.real.study.cell import AGAIN, cell_name
from tests.real.study.plan import Cell, cells


def _is_done(study: Path, cell: Cell) -> bool:
    file = study / "cells" / f"{cell_name(cell.arm, cell.rate, cell.seed)}.json"
    return file.is_file() and (cell.quick or '"passed"' in file.read_text("utf-8"))


def _carry_out(study: Path, cell: Cell, minutes: float, failed: dict[Cell, int]) -> bool:
    """Run a cell's next process; return whether this runner got the cell."""
    name = cell_name(cell.arm, cell.rate, cell.seed)
    logs, locks = study / "logs", study / "locks"
    for folder in (logs, locks):
        folder.mkdir(parents=True, exist_ok=True)
    with (locks / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        line = [sys.executable, "-m", "tests.real.study.cell", "--study", str(study)]
        line += ["--arm", cell.arm, "--rate", repr(cell.rate), "--seed", str(cell.seed)]
        line += ["--minutes", str(minutes), *(["--quick"] if cell.quick else [])]
        began = time.monotonic()
        threads = {"OMP_NUM_THREADS": "1"} | dict(os.environ) | {"HF_HUB_OFFLINE": "1"}
        with (logs / f"{name}.log").open("a") as log:
            code = subprocess.run(line, stdout=log, stderr=log, env=threads, check=False).returncode
        print(f"{name}: exit {code} after {time.monotonic() - began:.0f} s", flush=True)
        if code not in (0, AGAIN):
            failed[cell] = failed.get(cell, 0) + 1
    return True


def run_plan(
    study: Annotated[Path, typer.Option(help="folder that `material` prepared")],
    minutes: Annotated[float, typer.Option(help="of one process's training")] = 7.0,
    one_each: Annotated[
        bool, typer.Option("--one-each", help="every arm once: a smoke test")
    ] = False,
    hours: Annotated[float, typer.Option(help="after which no further cell is begun")] = 24.0,
) -> None:
    """Run until nothing is left to do."""
    failed: dict[Cell, int] = {}
    end = time.monotonic() + 3600 * hours
    while time.monotonic() < end:
        open_cells = [c for c in cells(study, one_each=one_each) if not _is_done(study, c)]
        tried = [c for c in open_cells if failed.get(c, 0) < (1 if one_each else 3)]
        if not tried:
            break
        if not any(_carry_out(study, cell, minutes, failed) for cell in tried):
            time.sleep(20)  # another runner has all of them
    left = [c for c in cells(study, one_each=one_each) if not _is_done(study, c)]
    print(f"left: {[cell_name(c.arm, c.rate, c.seed) for c in left]}")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    typer.run(run_plan)
