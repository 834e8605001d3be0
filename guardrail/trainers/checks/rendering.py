"""Does the trainer write prompts as the anchors were asked? Token by token, before the run begins."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer

from guardrail.engines.in_process import encode_prompts
from guardrail.errors import InputError
from guardrail.models.profile import Profile
from guardrail.recipe import Recipe
from guardrail.sets.items import Item
from guardrail.trainers.task_prompts import opening_tokens, tokenised

__all__ = ["check_rendering", "rows_opened_as_looks"]

Render = Callable[[list[dict[str, str]]], Sequence[int]]
"""A chat that ends with the user → the prompt's token ids, assistant opening included."""

_ROWS = 64


def check_rendering(
    recipe: Recipe,
    items: Sequence[Item],
    profile: Profile,
    tokenizer: Any,
    others: dict[str, Render],
) -> None:
    """Refuse a trainer whose prompts get other tokens than those the anchors answer.

    Args:
        recipe: The run's.
        items: Judged and injected items.
        profile: The gold base's, from the anchors' manifest.
        tokenizer: The trainer's; looks and KL-only samples are rendered with it.
        others: What else renders in this trainer, by the name a user knows it by.

    Raises:
        InputError: another tokenizer, chat template, thinking mode or end of turn; the first prompt that differs
            is shown from both sides.
    """
    own = AutoTokenizer.from_pretrained(recipe.gold_base, local_files_only=True)
    chats = [item.chat() for item in items]
    wanted = encode_prompts(own, chats, thinking=recipe.thinking)
    cause = "the trainer's tokenizer"
    if own.chat_template != tokenizer.chat_template:
        cause = "the trainer's chat template"
    given = _all(lambda chat: encode_prompts(tokenizer, [chat], thinking=recipe.thinking)[0], chats)
    _compare(cause, recipe, own, items, wanted, given)
    if tokenizer.eos_token_id not in profile.stop:
        raise InputError(
            f"the trainer's tokenizer ends sequences with {tokenizer.eos_token!r}, with which no answer of "
            f"the gold base `{recipe.gold_base}` ends ({_tokens(own, profile.stop)}); leave `eos_token` away, or "
            "train with the gold base's tokenizer"
        )
    for name, render in others.items():
        some = slice(None, None, max(1, len(chats) // _ROWS))
        _compare(name, recipe, own, items[some], wanted[some], _all(render, chats[some]))


def _all(render: Render, chats: Sequence[list[dict[str, str]]]) -> list[Sequence[int]] | InputError:
    try:
        return [list(render(chat)) for chat in chats]
    except (InputError, TemplateError) as error:
        return InputError(str(error))


def _compare(
    cause: str,
    recipe: Recipe,
    own: Any,
    items: Sequence[Item],
    wanted: Sequence[Sequence[int]],
    given: Sequence[Sequence[int]] | InputError,
) -> None:
    says = f"{cause} does not write prompts as the gold base `{recipe.gold_base}` reads them"
    then = (
        "Its answers cannot be compared with the anchors; train with the gold base's tokenizer and template, "
        f"and with thinking {'on' if recipe.thinking else 'off'} as the recipe says"
    )
    if isinstance(given, InputError):
        raise InputError(f"{says}: it refuses one ({given}). {then}")
    differ = [n for n, (a, b) in enumerate(zip(wanted, given, strict=True)) if list(a) != list(b)]
    if not differ:
        return
    first = differ[0]
    a, b = wanted[first], given[first]
    at = next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    here = slice(max(0, at - 4), at + 12)
    raise InputError(
        f"{says}: {len(differ)} of {len(items)} differ, such as {items[first].id}, from token {at} on: gold base "
        f"{own.decode(list(a[here]))!r}, here {own.decode(list(b[here]))!r}. {then}"
    )


def _tokens(tokenizer: Any, ids: Iterable[int]) -> str:
    return ", ".join(map(repr, tokenizer.convert_ids_to_tokens(list(ids))))


def rows_opened_as_looks(dataset: Any, tokenizer: Any, *, thinking: bool) -> dict[str, int]:
    """Return how many of the first training rows open the assistant's turn at all, and how many as looks do.

    Rows of a trainer that tokenises late, and rows that are no chats, count in neither. A row that opens
    the turn without the thinking block of looks, or with one of its own, teaches another way to answer than
    looks measure.
    """
    opening = opening_tokens(tokenizer, thinking=thinking)
    role = opening_tokens(tokenizer, thinking=not thinking)
    shared = [x for x, y in zip(opening, role, strict=False) if x == y] or opening
    found = {"opened": 0, "as_looks": 0}
    for row in islice(tokenised(dataset, tokenizer, thinking=thinking), _ROWS):
        ids = row.get("input_ids") if isinstance(row, dict) else None
        if ids is None:
            continue
        found["opened"] += _holds(list(ids), shared)
        found["as_looks"] += _holds(list(ids), opening)
    return found


def _holds(ids: list[int], part: Sequence[int]) -> bool:
    size = len(part)
    return any(ids[at : at + size] == list(part) for at in range(len(ids) - size + 1))
