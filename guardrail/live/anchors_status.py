"""Before a run's first record: how far its anchors are, for `guardrail status` of the run's or the anchors' folder."""

import time
from pathlib import Path
from typing import Any

from rich.text import Text

from guardrail.anchors.progress import read_progress
from guardrail.ledger.file import FILE_NAME, RESOLVED_FILE
from guardrail.live.status_terminal import one_line, spoken_seconds
from guardrail.live.terminal import anchor_part
from guardrail.live.terminal_words import TerminalWords
from guardrail.read_back import read_json

__all__ = ["anchors_said", "anchors_status"]

_LARGEST = 4 << 20


def anchors_status(folder: Path) -> dict[str, Any] | None:
    """Return how far the anchors are that a run waits for, None where none are being made or the run has begun.

    Args:
        folder: The run's, or the anchors' own.

    Returns:
        `run`, the folder; `outcome`, `anchors`; `anchors`, their `folder` and what `read_progress` gives, with
        `silent_s`, seconds since anything was written.
    """
    if (folder / FILE_NAME).exists():
        return None
    place = folder
    found = read_progress(folder)
    if found is None:
        try:
            resolved = read_json(folder / RESOLVED_FILE, _LARGEST)
            place = Path(str(resolved["anchors"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        found = read_progress(place)
    if found is None:
        return None
    silent = {"silent_s": max(0.0, time.time() - found["written"])}
    anchors = {"folder": str(place)} | found | silent
    return {"schema": 2, "run": str(folder), "outcome": "anchors", "anchors": anchors}


def anchors_said(status: dict[str, Any], words: TerminalWords) -> Text:
    """Return it in a sentence or two."""
    found = status["anchors"]
    left = found["left_s"]
    said = words(
        "making the anchors: {answered} of {answers} answers, at {part}",
        answered=found["answered"],
        answers=found["answers"],
        part=one_line(anchor_part(found["part"], words), 60),
    )
    if left is not None:
        said = words.joined(
            [said, words("about {time} left", time=spoken_seconds(left, words))], "semicolon"
        )
    heard = words(
        "last sign of life {time} ago, in {folder}",
        time=spoken_seconds(found["silent_s"], words),
        folder=one_line(found["folder"], 300),
    )
    return Text(f"{said}\n{heard}")
