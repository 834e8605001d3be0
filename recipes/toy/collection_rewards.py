"""Rewards of the recipe toy-grpo: what a polite payment reminder must say, checked by a program."""

from typing import Any


def says_you_politely(completions: list[Any], **columns: Any) -> list[float]:
    """Return 1 where the debtor is addressed as 您."""
    return [float("您" in turns[-1]["content"]) for turns in completions]


def names_a_way_to_pay(completions: list[Any], **columns: Any) -> list[float]:
    """Return 1 where a way to pay is named."""
    ways = ("App", "分期", "还款", "还清", "结清")
    return [float(any(way in turns[-1]["content"] for way in ways)) for turns in completions]


def keeps_it_short(completions: list[Any], **columns: Any) -> list[float]:
    """Return 1 for 8 to 40 characters, less the farther the length is from that."""
    lengths = [len(turns[-1]["content"]) for turns in completions]
    return [1.0 - min(1.0, max(8 - n, n - 40, 0) / 20) for n in lengths]
