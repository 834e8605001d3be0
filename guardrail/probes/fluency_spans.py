"""Where in an answer its machine flavour stands: the words behind each named part of the score.

For a page that marks them. The score itself is `guardrail.probes.fluency`; nothing here changes it. Parts
that count how a text is built and not which words it has (bookish, monotone, frames, markdown) have no spans.
"""

import re
from dataclasses import dataclass

from guardrail.probes import fluency
from guardrail.probes.fluency import FlavourScore

__all__ = ["Span", "flavour_spans"]

_BLANK = "\x00"
"""Fills what the probe does not read, so that positions stay those of the answer; no pattern has it."""
_LEAST_CLAUSE = 5


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` counts towards a part of the flavour."""

    start: int
    end: int
    part: str


def flavour_spans(question: str, text: str, flavour: FlavourScore) -> list[Span]:
    """Return the spans of an answer's machine-flavoured parts, in order, without overlaps.

    Args:
        question: What was asked: its own words are not counted as grand.
        text: The visible answer; positions are in it.
        flavour: What `machine_flavour` says of both; parts without points have no spans.
    """
    read = text[: fluency._READ_CHARACTERS]
    for skipped in (fluency._SKIPPED, fluency._QUOTED):
        read = skipped.sub(lambda m: _BLANK * len(m.group()), read)
    scored = {name for name, points in flavour.parts.items() if points > 0}
    found: list[Span] = []
    for part, pattern in _PATTERNS.items():
        if part in scored:
            matches = pattern.finditer(read, *_limits(part, read))
            found += [Span(*m.span(), part) for m in matches if not _asked_for(part, m, question)]
    if "repeated" in scored:
        found += _said_again(read)
    return _apart(found)


_PATTERNS = {
    "opening": fluency._OPENING,
    "closing": fluency._CLOSING,
    "stutter": fluency._STUTTER,
    "antithesis": fluency._ANTITHESIS,
    "stock": fluency._STOCK,
    "sales": fluency._SELLS,
    "grand": fluency._GRAND,
    "translated": fluency._TRANSLATED,
    "vague": fluency._VAGUE,
    "skeleton": fluency._SKELETON,
}
"""Longer, more telling parts first: where two overlap the first is shown."""


def _limits(part: str, read: str) -> tuple[int, int]:
    """Openings are read in the first 60 characters, closings in the last 120."""
    end = len(read.rstrip())
    if part == "opening":
        return 0, min(end, len(read) - len(read.lstrip()) + 60)
    return (max(0, end - 120), end) if part == "closing" else (0, end)


def _asked_for(part: str, match: re.Match[str], question: str) -> bool:
    return not match.group() or (part == "grand" and match.group() in question)


def _said_again(read: str) -> list[Span]:
    """Clauses of five characters and more that occurred before."""
    seen: set[str] = set()
    found = []
    for match in re.finditer(r"[^。！？!?；;，,：:\n\x00]+", read):
        clause = fluency._MARKS.sub("", match.group())
        if len(clause) >= _LEAST_CLAUSE and clause in seen:
            found.append(Span(*match.span(), "repeated"))
        seen.add(clause)
    return found


def _apart(found: list[Span]) -> list[Span]:
    """The spans that begin first, and of those that overlap the one whose part stands first."""
    kept: list[Span] = []
    for span in found:
        if all(span.end <= k.start or span.start >= k.end for k in kept):
            kept.append(span)
    return sorted(kept, key=lambda s: s.start)
