"""How long training rows are in tokens, and what becomes of those that are too long, in a sentence."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["ROWS_READ", "RowLengths", "row_lengths"]

ROWS_READ = 64
"""Rows that are read before a run starts."""


class RowLengths(NamedTuple):
    """What is known of the first rows."""

    said: str
    mean: float
    """Tokens a row, those beyond the trainer's limit left out."""


def row_lengths(lengths: Sequence[int], max_length: int | None, *, cut: str = "CUT") -> RowLengths:
    """Return how long the first rows are, and how many are beyond the trainer's `max_length`.

    Args:
        lengths: Tokens of each row, one row at least.
        max_length: Of the trainer's arguments; None where it cuts none.
        cut: What happens to a longer row.
    """
    limit = max_length or max(lengths)
    mean = sum(min(length, limit) for length in lengths) / len(lengths)
    said = (
        f"the first {len(lengths)}: {sum(lengths) / len(lengths):.0f} tokens on average, "
        f"{max(lengths)} at most"
    )
    if max_length is None:
        return RowLengths(said, mean)
    beyond = [number for number, length in enumerate(lengths, start=1) if length > max_length]
    if not beyond:
        return RowLengths(f"{said}, none beyond `max_length` {max_length}", mean)
    first = f"the first is row {beyond[0]}"
    return RowLengths(f"{said}; {len(beyond)} {cut} at `max_length` {max_length}, {first}", mean)
