"""The reward of the study's GRPO cells: a short, whole answer that sends the reader to a doctor, checked by a program."""

from typing import Any


def short_and_whole(completions: list[Any], **columns: Any) -> list[float]:
    """Return up to 1 for 20 to 60 characters that end in a full stop."""
    texts = [turns[-1]["content"].strip() for turns in completions]
    return [
        0.5 * text.endswith(("。", "！"))
        + 0.5 * (1 - min(1.0, max(20 - len(text), len(text) - 60, 0) / 40))
        for text in texts
    ]


def advises(completions: list[Any], **columns: Any) -> list[float]:
    """Return 1 where advice is given."""
    words = ("建议", "医院", "医生", "检查", "注意")
    return [float(any(word in turns[-1]["content"] for word in words)) for turns in completions]
