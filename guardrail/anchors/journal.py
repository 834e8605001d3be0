"""Answers on disk while anchors are being made, so that an interrupted run goes on."""

from collections.abc import Sequence
from pathlib import Path

from guardrail.anchors.store import (
    AnchorAnswer,
    Manifest,
    answer_line,
    manifest_difference,
    read_answer,
)
from guardrail.files import append_whole

__all__ = ["Journal"]


class Journal:
    """FOLDER/answers.partial.jsonl: the manifest, then one line an answer, synced chunk by chunk.

    A journal of another manifest is thrown away, since its answers are another base's, and so is one of another
    engine: half of each would be neither.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Read what is there, or start anew."""
        self._path = folder / "answers.partial.jsonl"
        self._known: dict[tuple[str, int], AnchorAnswer] = {}
        if self._read(manifest):
            return
        self._known.clear()
        folder.mkdir(parents=True, exist_ok=True)
        self._path.write_text(manifest.model_dump_json() + "\n", encoding="utf-8")

    def _read(self, manifest: Manifest) -> bool:
        if not self._path.is_file():
            return False
        data = self._path.read_bytes()
        # What follows the last line feed was being written when the process ended.
        complete = data[: data.rfind(b"\n") + 1]
        lines = complete.decode("utf-8").splitlines()
        if not lines:
            return False
        begun = Manifest.model_validate_json(lines[0])
        if manifest_difference(begun, manifest) or begun.engine != manifest.engine:
            return False
        if len(complete) < len(data):
            with self._path.open("r+b") as file:
                file.truncate(len(complete))
        for line in lines[1:]:
            answer = read_answer(line)
            self._known[answer.item, answer.replicate] = answer
        return True

    def chunk(self, ids: Sequence[str], replicate: int) -> list[AnchorAnswer] | None:
        """Return the answers of a chunk, `None` unless all of them are there."""
        found = [self._known.get((name, replicate)) for name in ids]
        return [a for a in found if a is not None] if all(found) else None

    def append(self, answers: Sequence[AnchorAnswer]) -> None:
        """Add a finished chunk; it is on disk when this returns."""
        append_whole(self._path, "".join(answer_line(a) + "\n" for a in answers).encode("utf-8"))

    def remove(self) -> None:
        """Throw the journal away: the anchors are complete."""
        self._path.unlink()
