"""How many rows a fine-tuning needs: each rule with its source and the range it was stated for.

None of these is theory. They are the field's working figures as the project's data notes state them; a rule that is asked
outside its range says so, and is then an extrapolation.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from guardrail.errors import InputError

__all__ = [
    "BANDS",
    "Figure",
    "alignment_rows",
    "general_share",
    "grpo_general_share",
    "hand_written_rows",
    "high_quality_rows",
    "least_rows",
    "most_unproven_rows",
    "parameters",
    "refusal_share",
    "sft_rows",
    "stage_rows",
    "varied_rows",
]

BANDS: Mapping[float, tuple[int, int]] = {
    7: (20_000, 100_000),
    8: (30_000, 150_000),
    14: (100_000, 500_000),
    32: (300_000, 1_000_000),
}
"""Billions of parameters → rows of an SFT within which more rows still help."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bBmM]?)")


@dataclass(frozen=True, slots=True)
class Figure:
    """What a rule gives: a number, or a span from low to high."""

    value: float | tuple[float, float]
    source: str
    """Who states the rule."""
    holds: str
    """For what it is stated."""
    outside: bool = False
    """Whether it was asked outside of that."""


def parameters(size: str) -> float:
    """Return billions of parameters of `8B`, `0.6B`, `350M` or `8`.

    Raises:
        InputError: it is none of these.
    """
    match = _SIZE.fullmatch(size.strip())
    value = float(match[1]) / (1000 if match[2] in tuple("mM") else 1) if match else 0.0
    if match is None or value == 0:
        raise InputError(
            f"model size `{size}` must be billions or millions of parameters; write 8B, 0.6B or 350M"
        )
    return value


def high_quality_rows(billions: float) -> Figure:
    """Return how many high-quality rows a model of a size needs: 2,000 · log2(size / 1B), at least 1,000."""
    return Figure(
        max(1000, round(2000 * math.log2(billions))),
        "rows ≈ 2k · log2(parameters / 1B): experience, no theory; floor of 1,000 rows: LIMA (arXiv 2305.11206)",
        "7B to 32B: about 6k, 8k, 10k for 7B, 14B, 32B",
        not 7 <= billions <= 32,
    )


def sft_rows(billions: float) -> Figure:
    """Return the rows of an SFT, in all, within which more rows still help; between listed sizes interpolated.

    Both ends go by the logarithm of size. Outside the list its nearest size counts.
    """
    sizes = sorted(BANDS)
    at = min(max(billions, sizes[0]), sizes[-1])
    below = max(size for size in sizes if size <= at)
    above = min(size for size in sizes if size >= at)
    part = 0.0 if below == above else math.log(at / below) / math.log(above / below)
    low, high = (
        round(BANDS[below][end] * (BANDS[above][end] / BANDS[below][end]) ** part) for end in (0, 1)
    )
    return Figure(
        (low, high),
        "bands of the field for chat and assistant models; beyond them little is gained",
        "7B 20k–100k, 8B 30k–150k, 14B 100k–500k, 32B 300k–1M; between them interpolated",
        billions != at,
    )


def stage_rows() -> Figure:
    """Return the rows of any SFT."""
    return Figure((10_000, 2_000_000), "stages of post-training", "SFT of any size")


def alignment_rows() -> Figure:
    """Return the rows of an alignment stage (preferences)."""
    return Figure((3_000, 100_000), "some thousands to a hundred thousand", "alignment of any size")


def least_rows() -> Figure:
    """Return the rows from which a 7B model is steady, and where gains flatten."""
    return Figure(
        (2_000, 16_000),
        "steady from 2k on, good at 10k, flat from 16k on: LIMA (arXiv 2305.11206), DEITA (arXiv 2312.15685)",
        "curated rows, 7B",
    )


def hand_written_rows(billions: float) -> Figure:
    """Return the rows by hand or of that quality: 5k–10k at 7B and 8B; elsewhere around the size's high-quality figure."""
    if 7 <= billions <= 8:
        return Figure((5_000, 10_000), "LIMA-style core of a 7B/8B plan", "7B and 8B")
    middle = float(high_quality_rows(billions).value)  # type: ignore[arg-type]
    return Figure(
        (round(middle * 5 / 6), round(middle * 10 / 6)),
        "the 5k–10k of 7B/8B, scaled by 2k · log2(size)",
        "stated for 7B and 8B only",
        True,
    )


def varied_rows(billions: float) -> Figure:
    """Return the varied rows beside them, self-generated and cleaned: 20k–50k at 7B and 8B, scaled by the bands elsewhere."""
    if 7 <= billions <= 8:
        return Figure((20_000, 50_000), "self-generated and cleaned, of a 7B/8B plan", "7B and 8B")
    low, high = sft_rows(billions).value  # type: ignore[misc]
    return Figure(
        (round(low * 20 / 30), round(high * 50 / 150)),
        "the 20k–50k of 7B/8B, scaled by the bands of SFT rows",
        "stated for 7B and 8B only",
        True,
    )


def most_unproven_rows() -> Figure:
    """Return the rows above which quality must have been proven first."""
    return Figure(
        100_000,
        "1,000 curated rows beat 100k poor ones: LIMA (arXiv 2305.11206)",
        "7B and 8B",
    )


def refusal_share() -> Figure:
    """Return the share of training rows on safety and refusals: over-sampled, 1 % of traffic though they be."""
    return Figure((0.10, 0.30), "behaviour coverage before class balance", "SFT for a chat model")


def general_share() -> Figure:
    """Return the share of general rows in an SFT; never above 10 %."""
    return Figure((0.01, 0.03), "what keeps general abilities in an SFT; never above 10 %", "SFT")


def grpo_general_share() -> Figure:
    """Return the share of general prompts in a GRPO; never above 10 %."""
    return Figure((0.01, 0.05), "general prompts under KL alone; never above 10 %", "GRPO prompts")
