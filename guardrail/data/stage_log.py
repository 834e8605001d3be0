"""What a stage does, as lines of a file beside what it makes: for whoever started it and went away."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail.files import append_whole

__all__ = ["LOG", "say_in_log"]

LOG = "progress.jsonl"


def say_in_log(out: Path, doing: str, **facts: Any) -> None:
    """Append one line to the log of a stage's folder: when, what, and how far."""
    out.mkdir(parents=True, exist_ok=True)
    line = {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "doing": doing, **facts}
    append_whole(out / LOG, (json.dumps(line, ensure_ascii=False) + "\n").encode())
