"""What `guardrail check` found, in a terminal: a line a fact, figures in full, sentences in the language asked for."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from guardrail.live.terminal_words import TerminalWords

__all__ = ["check_lines"]

_NAMED = {"looks": "number of looks", "share_of_the_run": "the looks' share of the run"}
"""What a fact is called where its own name says something else in a terminal."""


def check_lines(facts: Mapping[str, Any], words: TerminalWords) -> Iterator[str]:
    """Yield a line for each fact of `check_recipe`, warnings left out."""
    for name, value in facts.items():
        if name == "passes_per_prompt_and_epoch" and value is not None:
            items = facts["rehearsal_items"]
            text = "injected an epoch: about {count} rehearsal prompts (of {items})"
            count = value * items
            yield words(text, count=f"{count:.0f}" if count >= 1 else f"{count:.1g}", items=items)
            continue
        named = words.word(_NAMED.get(name, name.replace("_", " ")))
        yield words("{name}: {value}", name=named, value=_value(name, value, words))


def _value(name: str, value: Any, words: TerminalWords) -> str:
    if isinstance(value, dict):
        counted = [
            words("{count} {what}", count=count, what=words.sentence(what))
            for what, count in value.items()
        ]
        return words.joined(counted, "comma")
    if name == "share_of_the_run":
        return f"{value:.1%}"
    if isinstance(value, float):
        return format(Decimal(str(value)), "f")  # no 7e-05
    return words.sentence(value) if isinstance(value, str) else str(value)
