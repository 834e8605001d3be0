"""Take over the cells that docs/real-study.jsonl has, where they are of the base that this machine made.

The base follows from seeds, but not bit for bit on every processor: cells of another base are left out and counted.
Run: python -m tests.real.study.take_known --study runs/study
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from guardrail.models.fingerprint import file_sha256
from tests.real.study.cell import cell_name

CELLS = Path(__file__).parents[3] / "docs/real-study.jsonl"


def take_known(
    study: Annotated[Path, typer.Option(help="folder that `material` prepared")],
    cells: Annotated[Path, typer.Option(help="cells that were run before")] = CELLS,
) -> None:
    """Write each known cell into STUDY/cells, unless it is there."""
    settings = json.loads((study / "study.json").read_text("utf-8"))
    base = file_sha256(Path(settings["base"]) / "model.safetensors")
    rows = [json.loads(line) for line in cells.read_text("utf-8").splitlines()]
    own = [row for row in rows if row["base_sha256"] == base]
    (study / "cells").mkdir(exist_ok=True)
    for row in own:
        name = cell_name(row["arm"], row["rate"], row["seed"])
        out = study / "cells" / f"{name}.json"
        if not out.exists():
            out.write_text(json.dumps(row, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"{len(own)} of {len(rows)} cells are of this base")


if __name__ == "__main__":
    typer.run(take_known)
