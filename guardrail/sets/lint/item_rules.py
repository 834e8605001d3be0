"""What is wrong with one item, whatever stands beside it: findings by named rule.

Does not see whether a check measures what its prompt asks for; a person does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from guardrail.sets.item_checks import Check, Contains
from guardrail.sets.items import ABILITIES, Item
from guardrail.sets.lint.contradictions import contradictions
from guardrail.sets.lint.translationese import translation_marks
from guardrail.text import count_traditional

__all__ = ["Finding", "item_findings"]

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00a0\u00ad\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\ue000-\uf8ff\ufeff\ufffd]"
)
_PLACEHOLDER = re.compile(r"\{\{[^{}\n]*\}\}|\[[A-Z][A-Z0-9 _]{2,}\]")
_ENGLISH = re.compile(r"(?:[A-Za-z'’,.-]+\s+){3,}")

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should mend, or allow by id."""

    level: Level
    rule: str
    """Name of the rule, as `allow` takes it."""
    subject: str
    """Ids it is about, separated by a comma and a space; a set, an ability or a key otherwise."""
    message: str


def item_findings(item: Item) -> Iterator[Finding]:
    """Yield what is wrong with the item's checks, wording, characters and ability."""
    for said in contradictions(item.checks):
        yield Finding(
            "error",
            "contradictory-checks",
            item.id,
            f"no answer passes all checks: {said}; loosen or drop one of them",
        )
    demanding = [c.kind for c in item.checks if not _only_forbids(c)]
    if item.expects == "refuse" and demanding:
        yield Finding(
            "warning",
            "refusal-with-checks",
            item.id,
            f"expects a refusal, which has to pass {', '.join(demanding)} too; drop those checks or "
            "forbid words of the deed with contains.none",
        )
    text = "\n".join(m.content for m in item.messages)
    marks = translation_marks(item.question)
    english = item.ability == "translation" and _ENGLISH.search(item.question)
    if len(marks) > 1 and not english:
        yield Finding(
            "error",
            "translated-from-english",
            item.id,
            f"reads like a translation ({', '.join(marks)}): “{item.question[:30]}”; write it anew, "
            f"or allow `translated-from-english:{item.id}`",
        )
    traditional = sorted({c for c in text if count_traditional(c)})
    if traditional:
        yield Finding(
            "error",
            "traditional-characters",
            item.id,
            f"holds Traditional characters ({''.join(traditional[:10])}); convert them, or allow the id "
            "where the task is about them",
        )
    hidden = sorted({f"U+{ord(c):04X}" for s in _strings(item) for c in _INVISIBLE.findall(s)})
    if hidden:
        yield Finding(
            "error",
            "invisible-characters",
            item.id,
            f"holds characters nobody sees ({', '.join(hidden[:5])}); delete them",
        )
    if found := _PLACEHOLDER.search(text):
        yield Finding(
            "warning",
            "placeholder",
            item.id,
            f"holds “{found[0]}”, which looks like a template nobody filled in; fill it in",
        )
    if item.ability not in ABILITIES:
        yield Finding(
            "warning",
            "unknown-ability",
            item.id,
            f"ability `{item.ability}` is none of {', '.join(ABILITIES)}; it gets a stream of its own",
        )


def _only_forbids(check: Check) -> bool:
    """Whether a check only catches the deed itself behind a polite no."""
    return isinstance(check, Contains) and not (check.all or check.any)


def _strings(item: Item) -> Iterator[str]:
    """Prompt and check texts: a character nobody sees makes a check unpassable too."""
    waiting: list[Any] = [[m.content for m in item.messages]]
    waiting += [check.model_dump(by_alias=True) for check in item.checks]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
