"""Seconds and memory of a cell, over all of its processes."""

import json
import resource
from pathlib import Path

import torch


def spend(folder: Path, what: str, seconds: float) -> dict[str, float]:
    """Add to the seconds that the cell's processes have spent on `what`; also their peak of memory in GB."""
    file = folder / "spent.json"
    spent: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}
    spent[what] = round(spent.get(what, 0.0) + seconds, 1)
    spent["peak_gb"] = max(
        spent.get("peak_gb", 0.0),
        round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    )
    if torch.cuda.is_available():
        spent["gpu_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    file.write_text(json.dumps(spent))
    return spent
