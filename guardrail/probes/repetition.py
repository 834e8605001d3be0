"""Does an answer repeat itself: it stands there twice, or it ends in a loop.

Does not see a repetition in other words, nor one with so much as a comma changed; tables, code and lists of like
lines are no loops, for their lines differ.
"""

import re

from guardrail.probes.request import read_request

__all__ = ["repeats_itself"]

_MARKS = re.compile(r"[\s|:=_*.…·~—-]+")
"""Space, rules and table borders."""
_LEAST_DOUBLED, _LEAST_LOOP, _ROUNDS = 8, 6, 4
"""Characters of an answer that stands there twice on one line; of a loop's round, and how often it goes round."""
_LOOP = re.compile(rf"(.{{{_LEAST_LOOP},120}}?)\1{{{_ROUNDS - 1},}}.{{0,120}}\Z", re.DOTALL)
_READ = 1200
"""Characters at the end of an answer where a loop is looked for."""


def repeats_itself(question: str, text: str) -> bool:
    """Return whether an answer is given twice over or ends in a loop, where no repetition was asked for."""
    if read_request(question).repeats:
        return False
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    half = len(lines) // 2
    if half and len(lines) % 2 == 0 and lines[:half] == lines[half:]:
        return True
    bare = _MARKS.sub("", text)
    half = len(bare) // 2
    if half >= _LEAST_DOUBLED and len(bare) % 2 == 0 and bare[:half] == bare[half:]:
        return True
    return _LOOP.search(bare[-_READ:]) is not None
