"""Checks of one item that no answer can pass together.

Found by rule, not by search: what is returned is a contradiction, what is not may still be one.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

from guardrail.sets.item_checks import (
    Address,
    Characters,
    Check,
    Contains,
    EndsWith,
    InOrder,
    Json,
    Language,
    ListItems,
    Members,
    OneOf,
    Paragraphs,
    Sentences,
    StartsWith,
    Table,
    Title,
)
from guardrail.text import count_characters

__all__ = ["contradictions"]

_END_MARKS = 3
"""Quotes and end punctuation that may stand around an only-the-answer."""
_LETTERS = {"zh": re.compile(r"[㐀-䶿一-鿿]"), "en": re.compile(r"[A-Za-z]")}
_JSON_OPENINGS = {"object": ("{", "```", "~~~"), "array": ("[", "```", "~~~")}


def contradictions(checks: Sequence[Check]) -> list[str]:
    """Return one sentence a contradiction, an empty list where none was found."""
    return [
        *_counts(checks),
        *_words(checks),
        *_members(checks),
        *_edges(checks),
        *_only_the_answer(checks),
        *_formats(checks),
        *_json(checks),
    ]


def _span(
    counts: Iterable[Characters | Sentences | Paragraphs | ListItems],
) -> tuple[int, float]:
    """Smallest and largest count that all bounds leave."""
    bounds = [(c.at_least or 0, math.inf if c.at_most is None else c.at_most) for c in counts]
    return max((low for low, _ in bounds), default=0), min((h for _, h in bounds), default=math.inf)


def _list_span(checks: Sequence[Check], style: str) -> tuple[int, float]:
    return _span(c for c in checks if isinstance(c, ListItems) and c.style == style)


def _lines_needed(checks: Sequence[Check]) -> int:
    """Fewest lines an answer can have: paragraphs, list items, table and rule, title and text."""
    items = max(
        _list_span(checks, "any")[0],
        _list_span(checks, "numbered")[0] + _list_span(checks, "bulleted")[0],
    )
    paragraphs = _span(c for c in checks if isinstance(c, Paragraphs))[0]
    tables = [2 + (c.rows or 0) for c in checks if isinstance(c, Table)]
    titled = [2 for c in checks if isinstance(c, Title)]
    return max(items, paragraphs, *tables, *titled, 0)


def _characters_needed(checks: Sequence[Check]) -> int:
    """Fewest characters an answer can have that holds all required words."""
    words = {word.casefold() for c in checks if isinstance(c, Contains) for word in c.all}
    words = {w for w in words if not any(w != other and w in other for other in words)}
    # Words may share characters at their seams: 武汉 and 汉口 fit into 武汉口.
    seams = sum(
        max((_seam(word, other) for other in words if other != word), default=0) for word in words
    )
    needed = [sum(map(count_characters, words)) - seams]
    for check in checks:
        match check:
            case InOrder():
                needed.append(sum(map(count_characters, check.parts)))
            case Table():
                needed.append(sum(map(count_characters, check.columns)))
            case StartsWith() | EndsWith():
                needed.append(min(map(count_characters, check.any)))
            case _:
                pass
    sentences = _span(c for c in checks if isinstance(c, Sentences))[0]
    return max(*needed, 2 * sentences - 1, _lines_needed(checks))


def _seam(left: str, right: str) -> int:
    """Most characters that the end of one word shares with the start of another."""
    sizes = range(min(len(left), len(right)), 0, -1)
    return next((count_characters(right[:n]) for n in sizes if left.endswith(right[:n])), 0)


def _counts(checks: Sequence[Check]) -> Iterator[str]:
    characters = _span(c for c in checks if isinstance(c, Characters))
    paragraphs = _span(c for c in checks if isinstance(c, Paragraphs))
    numbered, bulleted = _list_span(checks, "numbered"), _list_span(checks, "bulleted")
    either = _list_span(checks, "any")
    for name, (low, high) in {
        "characters": characters,
        "sentences": _span(c for c in checks if isinstance(c, Sentences)),
        "paragraphs": paragraphs,
        "numbered list_items": numbered,
        "bulleted list_items": bulleted,
        "list_items": (
            max(either[0], numbered[0] + bulleted[0]),
            min(either[1], numbered[1] + bulleted[1]),
        ),
    }.items():
        if low > high:
            yield f"{name} must be at least {low} and at most {high:g}"
    if paragraphs[0] <= paragraphs[1] < _lines_needed(checks):
        yield (
            f"list_items, table or title need {_lines_needed(checks)} lines, paragraphs allows {paragraphs[1]:g}"
        )
    if characters[0] <= characters[1] < _characters_needed(checks):
        yield (
            f"what must occur takes {_characters_needed(checks)} characters, "
            f"characters allows {characters[1]:g}"
        )


def _required(checks: Sequence[Check]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Groups of texts, each with where it was asked for; one text of every group must occur."""
    for check in checks:
        match check:
            case Contains():
                yield from (("contains.all", (word,)) for word in check.all)
                if check.any:
                    yield "contains.any", check.any
            case InOrder():
                yield from (("in_order", (part,)) for part in check.parts)
            case StartsWith() | EndsWith():
                yield check.kind, check.any
            case Table():
                yield from (("table", (column,)) for column in check.columns)
            case Address():
                yield "address", (check.is_,)
            case Json():
                fixed = (value for value in check.values.values() if isinstance(value, str))
                yield from (("json", (text,)) for text in (*check.keys, *check.values, *fixed))
            case _:
                pass


def _forbidden(checks: Sequence[Check]) -> list[str]:
    return [word for c in checks if isinstance(c, Contains) for word in c.none]


def _holds(text: str, words: Iterable[str]) -> str | None:
    folded = text.casefold()
    return next((word for word in words if word.casefold() in folded), None)


def _words(checks: Sequence[Check]) -> Iterator[str]:
    forbidden = _forbidden(checks)
    for where, alternatives in _required(checks):
        banned = [_holds(text, forbidden) for text in alternatives]
        if all(word is not None for word in banned):
            needed = " or ".join(f"“{text}”" for text in alternatives[:3])
            yield f"{where} needs {needed}, contains.none forbids “{banned[0]}”"
    languages = {c.is_ for c in checks if isinstance(c, Language)}
    if len(languages) > 1:
        yield "language must be zh and en"
    if len({c.is_ for c in checks if isinstance(c, Address)}) > 1:
        yield "address must be 您 and 你"


def _members(checks: Sequence[Check]) -> Iterator[str]:
    members = [c for c in checks if isinstance(c, Members)]
    forbidden = _forbidden(checks)
    needed = [group[0] for _, group in _required(checks) if len(group) == 1]
    for check in members:
        options = set(check.options)
        free = {option for option in options if _holds(option, forbidden) is None}
        forced = {option for option in options if any(option in text for text in needed)}
        if check.count > len(options):
            yield f"members wants {check.count} of {len(options)} options"
        elif check.count > len(free):
            yield f"members wants {check.count} options, contains.none leaves {len(free)}"
        if check.count < len(forced):
            yield f"members wants {check.count} options, other checks demand {len(forced)} of them"
    for one, other in combinations(members, 2):
        if set(one.options) == set(other.options) and one.count != other.count:
            yield f"members wants {one.count} and {other.count} of the same options"


def _edges(checks: Sequence[Check]) -> Iterator[str]:
    for a, b in combinations([c for c in checks if isinstance(c, StartsWith)], 2):
        if not any(x.startswith(y) or y.startswith(x) for x in a.any for y in b.any):
            yield f"starts_with wants “{a.any[0]}” and “{b.any[0]}”"
    for c, d in combinations([c for c in checks if isinstance(c, EndsWith)], 2):
        if not any(x.endswith(y) or y.endswith(x) for x in c.any for y in d.any):
            yield f"ends_with wants “{c.any[0]}” and “{d.any[0]}”"


def _option_meets(option: str, check: Check) -> bool:
    """Whether an only-the-answer can pass another check, marks around it allowed."""
    count = count_characters(option)
    folded = option.casefold()
    match check:
        case Characters():
            most = math.inf if check.at_most is None else check.at_most
            return count <= most and count + _END_MARKS >= (check.at_least or 0)
        case Contains():
            return (
                all(word.casefold() in folded for word in check.all)
                and (not check.any or _holds(option, check.any) is not None)
                and _holds(option, check.none) is None
            )
        case InOrder():
            return all(part in option for part in check.parts)
        case StartsWith():
            return any(option in text or option.startswith(text) for text in check.any)
        case EndsWith():
            return any(option in text or option.endswith(text) for text in check.any)
        case OneOf():
            return option in check.options
        case Language():
            return _LETTERS[check.is_].search(option) is not None
        case _:
            return True


def _only_the_answer(checks: Sequence[Check]) -> Iterator[str]:
    chosen = next((c for c in checks if isinstance(c, OneOf)), None)
    if chosen is None:
        return
    others = [c for c in checks if c is not chosen]
    if not any(all(_option_meets(o, check) for check in others) for o in chosen.options):
        kinds = sorted(
            {c.kind for c in others if not all(_option_meets(o, c) for o in chosen.options)}
        )
        yield f"no option of one_of meets {', '.join(kinds)}"
    lines = max(sum(bool(x.strip()) for x in o.splitlines()) for o in chosen.options)
    if lines < _lines_needed(checks):
        yield f"one_of leaves {lines} line, other checks need {_lines_needed(checks)}"


def _formats(checks: Sequence[Check]) -> Iterator[str]:
    whole = [c for c in checks if isinstance(c, Json)]
    if whole:
        excluded: list[str] = [c.kind for c in checks if isinstance(c, Table | OneOf | Title)]
        if any(_list_span(checks, style)[0] for style in ("any", "numbered", "bulleted")):
            excluded.append("list_items")
        yield from (f"json is the whole answer, {kind} cannot pass beside it" for kind in excluded)
        for check in checks:
            if isinstance(check, StartsWith) and not any(
                text.strip()[:1] == "" or text.strip().startswith(_JSON_OPENINGS[whole[0].root])
                for text in check.any
            ):
                yield f"starts_with wants “{check.any[0]}”, json opens with {_JSON_OPENINGS[whole[0].root][0]}"
    for one, other in combinations([c for c in checks if isinstance(c, Table)], 2):
        if one.columns and other.columns and one.columns != other.columns:
            yield "table wants two different headers"
        if None not in (one.rows, other.rows) and one.rows != other.rows:
            yield f"table wants {one.rows} and {other.rows} rows"


def _types_of(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int):
        return ("integer", "number")
    names = {float: "number", str: "string", list: "array", tuple: "array", dict: "object"}
    return (names.get(type(value), "null"),)


def _json(checks: Sequence[Check]) -> Iterator[str]:
    whole = [c for c in checks if isinstance(c, Json)]
    for check in whole:
        for key, value in check.values.items():
            if check.root == "array":
                yield f"json fixes the value of “{key}”, but its root is an array"
            elif check.keys and check.only_these_keys and key not in check.keys:
                yield f"json fixes the value of “{key}”, but only_these_keys refuses the key"
            elif check.keys.get(key, _types_of(value)[0]) not in _types_of(value):
                yield f"json wants “{key}” to be {check.keys[key]} and fixes it to {value!r}"
        if check.length is not None and check.root == "object":
            yield "json gives a length, but its root is an object"
    for one, other in combinations(whole, 2):
        if one.root != other.root:
            yield f"json must be {one.root} and {other.root}"
        if {one.fence, other.fence} == {"required", "forbidden"}:
            yield "json requires and forbids a fence"
        if None not in (one.length, other.length) and one.length != other.length:
            yield f"json must have {one.length} and {other.length} elements"
        for key in one.keys.keys() & other.keys.keys():
            pair = {one.keys[key], other.keys[key]}
            if len(pair) > 1 and pair != {"integer", "number"}:
                yield f"json wants “{key}” to be {' and '.join(sorted(pair))}"
        for key in one.values.keys() & other.values.keys():
            if one.values[key] != other.values[key]:
                yield f"json fixes “{key}” to {one.values[key]!r} and {other.values[key]!r}"
        for closed, wider in ((one, other), (other, one)):
            further = sorted((wider.keys | wider.values).keys() - closed.keys.keys())
            if closed.keys and closed.only_these_keys and further:
                yield f"json wants “{further[0]}”, another json check refuses further keys"
