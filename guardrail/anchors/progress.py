"""How far anchors are that are being made: a file beside their journal, for whoever asks from another process."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

from guardrail.files import write_whole
from guardrail.read_back import named_place, read_json, sealed, unsealed

__all__ = ["PROGRESS_FILE", "AnchorsProgress", "read_progress"]

PROGRESS_FILE = "progress.json"
_LARGEST = 64 << 10
_NUMBERS = ("answers", "answered", "found", "began", "written")


class AnchorsProgress:
    """Writes FOLDER/progress.json as answers come; what cannot be written is left out."""

    def __init__(self, folder: Path, answers: int) -> None:
        """Begin with none of so many answers."""
        self._path = folder / PROGRESS_FILE
        self._answers, self._answered, self._found = answers, 0, 0
        self._began = time.time()
        self.tell("loading")

    def tell(self, part: str, *, made: int = 0, found: int = 0) -> None:
        """Write what is in hand, and count answers: made now, or found in the journal of an interrupted call."""
        self._answered += made + found
        self._found += found
        facts = {
            "folder": named_place(self._path.parent),
            "part": part,
            "answers": self._answers,
            "answered": self._answered,
            "found": self._found,
            "began": self._began,
            "written": time.time(),
        }
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps(sealed(facts)) + "\n")

    def remove(self) -> None:
        """Throw the file away: the anchors are complete."""
        self._path.unlink(missing_ok=True)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Return how far the anchors in a folder are, None where none are being made or nobody can tell.

    A file that is not as it was written, or another folder's, tells nothing; it is written anew with every few answers.

    Returns:
        `part` in hand; `answers` in all, `answered` of them, `found` of those in an earlier call's journal; `began` and
        `written`, Unix seconds; `left_s`, seconds to the last answer at the pace so far, None while there is none.
    """
    try:
        told = unsealed(read_json(folder / PROGRESS_FILE, _LARGEST))
        if told["folder"] != named_place(folder):
            return None
        facts: dict[str, Any] = {"part": str(told["part"])} | {n: told[n] for n in _NUMBERS}
        if not all(math.isfinite(facts[name]) and abs(facts[name]) < 2**53 for name in _NUMBERS):
            return None
        made = facts["answered"] - facts["found"]
        took = facts["written"] - facts["began"]
        left = took / made * (facts["answers"] - facts["answered"]) if made else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return facts | {"left_s": left}
