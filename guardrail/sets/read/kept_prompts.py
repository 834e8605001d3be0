"""Which prompts an import has kept so far: exact repeats by hash, near ones by MinHash and ROUGE-L."""

from array import array
from typing import IO

from guardrail.sets.lint.duplicates import NearDuplicates

__all__ = ["CONFLICT", "NEAR", "SAME", "KeptPrompts"]

SAME, CONFLICT, NEAR = "duplicate", "same question, other answer", "near duplicate"


class _Spool:
    """Lines on disk that can be read again by number, so that memory does not grow with their length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._starts = array("Q")
        self._end = 0
        self._at_end = True

    def add(self, line: str) -> None:
        data = line.encode("utf-8") + b"\n"
        if not self._at_end:
            self._file.seek(self._end)
            self._at_end = True
        self._file.write(data)
        self._starts.append(self._end)
        self._end += len(data)

    def __len__(self) -> int:
        return len(self._starts)

    def text(self, number: int) -> str:
        self._file.seek(self._starts[number])
        self._at_end = False
        return self._file.readline().decode("utf-8").removesuffix("\n")


class KeptPrompts:
    """The prompts kept so far, each with its answer; near ones are found among the text on disk."""

    def __init__(self, file: IO[bytes]) -> None:
        """Start empty; `file` takes the prompts' text."""
        self._prompts = _Spool(file)
        self._near = NearDuplicates(self._prompts.text)
        # Python's own hash will do: these keys live as long as the process.
        self._answers: dict[int, int] = {}

    def repeated(self, prompt: str, answer: str) -> str | None:
        """Why a prompt repeats a known one exactly; asked before the filters, since it costs least."""
        known = self._answers.get(hash(prompt))
        if known is None:
            return None
        return SAME if known == hash(answer) else CONFLICT

    def added(self, prompt: str, answer: str) -> str | None:
        """Why a prompt is nearly a known one, `None` if it is new and now known."""
        self._answers[hash(prompt)] = hash(answer)
        if self._near.add(len(self._prompts), prompt) is not None:
            return NEAR
        self._prompts.add(prompt)
        return None
