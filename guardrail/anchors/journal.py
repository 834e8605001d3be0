"""Answers on disk while anchors are being made, so that an interrupted run goes on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardrail.anchors.store import (
    AnchorAnswer,
    Manifest,
    answer_row,
    manifest_difference,
    read_answer,
)
from guardrail.errors import InputError
from guardrail.files import append_whole, write_whole
from guardrail.read_back import SEAL, NotAsWritten, sealed, unsealed, why_unreadable

__all__ = ["Journal"]


class Journal:
    """FOLDER/answers.partial.jsonl: the manifest, then one line an answer, synced chunk by chunk, each line sealed.

    A journal of another manifest is thrown away, since its answers are another base's, and so is one of another
    engine: half of each would be neither.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Read what is there, or start anew.

        Raises:
            InputError: a line is not as it was written.
        """
        self._path = folder / "answers.partial.jsonl"
        self._known: dict[tuple[str, int], AnchorAnswer] = {}
        self._good = 0
        """Bytes of whole lines; what lies beyond is of a write that failed."""
        self._of = ""
        """Seal of the manifest, which every line repeats."""
        if self._read(manifest):
            return
        self._known.clear()
        folder.mkdir(parents=True, exist_ok=True)
        head = sealed(manifest.model_dump(mode="json"))
        self._of = head[SEAL]
        write_whole(self._path, _line(head))
        self._good = self._path.stat().st_size

    def _read(self, manifest: Manifest) -> bool:
        if not self._path.is_file():
            return False
        data = self._path.read_bytes()
        # What follows the last line feed was being written when the process ended.
        complete = data[: data.rfind(b"\n") + 1]
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(complete.split(b"\n")[:-1], start=1):
            try:
                rows.append(unsealed(json.loads(line)))
                if number > 1:
                    if rows[-1].pop("of", None) != self._of:
                        raise NotAsWritten("it is of other anchors")
                    answer = read_answer(rows[-1])
                    self._known[answer.item, answer.replicate] = answer
                elif _another(Manifest.model_validate(rows[0]), manifest):
                    return False
                else:
                    self._of = json.loads(line)[SEAL]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(
                    f"`{self._path}` line {number} is not as it was written ({why_unreadable(error):.200}); remove the file, the anchors "
                    "begun in it are then made from the start"
                ) from error
        self._good = len(complete)
        return bool(rows)

    def chunk(self, ids: Sequence[str], replicate: int) -> list[AnchorAnswer] | None:
        """Return the answers of a chunk, `None` unless all of them are there."""
        found = [self._known.get((name, replicate)) for name in ids]
        return [a for a in found if a is not None] if all(found) else None

    def append(self, answers: Sequence[AnchorAnswer]) -> None:
        """Add a finished chunk; it is on disk when this returns."""
        if self._path.stat().st_size > self._good:
            with self._path.open("r+b") as file:
                file.truncate(self._good)
        rows = (sealed({**answer_row(a), "of": self._of}) for a in answers)
        data = "".join(map(_line, rows)).encode("utf-8", "backslashreplace")
        append_whole(self._path, data)
        self._good += len(data)

    def remove(self) -> None:
        """Throw the journal away: the anchors are complete."""
        self._path.unlink()


def _another(begun: Manifest, wanted: Manifest) -> bool:
    return bool(manifest_difference(begun, wanted)) or begun.engine != wanted.engine


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"
