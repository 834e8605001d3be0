"""Two answers → pieces to show side by side: which characters differ, which words sound machine-made."""

import difflib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Piece", "Window", "difference", "pieces", "window"]

_LEAST_RATIO = 1 / 3
"""Texts that share less are left unmarked: there the marks would say nothing."""
_LEAST_EQUAL = 2
"""Equal stretches between two marks that are shorter are marked too, or the text is confetti."""
_LEAD = 60
"""Characters shown before the first difference where it lies beyond the window."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text: `text[start : start + length]`, and how many characters it leaves out."""

    start: int
    text: str
    left_out: int
    """Characters after it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text of one look."""

    text: str
    changed: bool
    part: str
    """Name of the machine-flavoured part it belongs to, empty for none."""


def window(base: str, now: str, at_most: int) -> tuple[Window, Window]:
    """Return the parts of two texts to show: from the start, or from shortly before they differ."""
    first = _common_prefix(base, now)
    start = 0 if first < at_most // 2 else first - _LEAD
    cut = (Window(start, t[start : start + at_most], len(t) - start - at_most) for t in (base, now))
    a, b = (Window(w.start, w.text, max(0, w.left_out)) for w in cut)
    return a, b


def _common_prefix(a: str, b: str) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:  # equal slices compare at the speed of memory, characters one by one do not
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def difference(base: str, now: str) -> tuple[list[Range], list[Range]]:
    """Return the ranges of either text that the other lacks; empty where they share less than a third.

    Quadratic in the length: hand in windows, not whole texts.
    """
    matcher = difflib.SequenceMatcher(None, base, now, autojunk=False)
    if matcher.ratio() < _LEAST_RATIO:
        return [], []
    sides: tuple[list[Range], list[Range]] = ([], [])
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            for side, span in zip(sides, ((a, b), (c, d)), strict=True):
                if span[0] < span[1]:
                    side.append(span)
    return _joined(sides[0]), _joined(sides[1])


def _joined(ranges: Sequence[Range]) -> list[Range]:
    found: list[Range] = []
    for start, end in ranges:
        if found and start - found[-1][1] < _LEAST_EQUAL:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def pieces(
    text: str, changed: Sequence[Range], flavoured: Sequence[tuple[int, int, str]] = ()
) -> list[Piece]:
    """Return a text cut wherever a mark begins or ends, in order; joined they are the text."""
    cuts = {0, len(text)}
    for start, end in [*changed, *((a, b) for a, b, _ in flavoured)]:
        cuts |= {min(max(0, start), len(text)), min(max(0, end), len(text))}
    edges = sorted(cuts)
    starts = [start for start, _ in changed]
    found = []
    for a, b in pairwise(edges):
        k = bisect_right(starts, a) - 1
        inside = k >= 0 and changed[k][0] <= a < changed[k][1]
        part = next((name for start, end, name in flavoured if start <= a < end), "")
        found.append(Piece(text[a:b], inside, part))
    return found
