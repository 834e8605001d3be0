"""Magpie-style turns: the model writes the user's turn itself, given nothing but the template's opening of one.

Xu et al. (2024), "Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned LLMs with Nothing" (arXiv 2406.08464).
Further turns are made alike: the chat so far, and the opening of the next user turn. Needs an endpoint that completes raw
text (vLLM's `/v1/completions`) and the model's own chat template.
"""

from collections.abc import Callable, Sequence
from typing import Any

from guardrail.data.chat_endpoint import ChatEndpoint, ChatRequest
from guardrail.data.diversity import diversity
from guardrail.data.rows import DataRow, made_row
from guardrail.data.select.row_faults import drop_faulty
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import plain

__all__ = ["magpie", "user_opening"]

_MARK = "甲乙丙丁戊己庚辛"


def user_opening(tokenizer: Any, chat: Sequence[dict[str, str]], *, thinking: bool) -> str:
    """Return the chat as the template writes it, up to where the next user turn's words would begin.

    Raises:
        InputError: the template does not show a user's words as they are.
    """
    turns = [*chat, {"role": "user", "content": _MARK}]
    text = str(
        tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=False, enable_thinking=thinking
        )
    )
    before, mark, _ = text.rpartition(_MARK)
    if not mark:
        raise InputError(
            "the chat template does not show the user's words as they are; Magpie cannot open a user's turn with it"
        )
    return before


def magpie(
    endpoint: ChatEndpoint,
    opening: Callable[[Sequence[dict[str, str]]], str],
    *,
    stop: Sequence[str],
    rows: int,
    turns: Sequence[float] = (1.0,),
    systems: Sequence[str] = ("",),
    seed: int = 0,
    temperature: float = 1.0,
) -> Made:
    """Return chats whose every turn the model wrote, and what was dropped with the reason.

    Args:
        endpoint: The model, which writes after raw text and answers chats.
        opening: `user_opening` of the model's template.
        stop: Texts that end a turn.
        rows: Chats that are begun; fewer are kept.
        turns: Shares of chats with one exchange, two, and so on; they sum to 1.
        systems: System turns that chats are begun under in rotation, to steer what is asked; an empty one is none.
        seed: Of the first request.
        temperature: Of the user's turns.

    Raises:
        InputError: the shares of turns do not sum to 1.
    """
    if not turns or abs(sum(turns) - 1) > 0.001:
        raise InputError(f"shares of turns must sum to 1, got {list(turns)}")
    wanted = _exchanges(rows, turns)
    chats: list[list[dict[str, str]]] = [
        [{"role": "system", "content": systems[n % len(systems)]}]
        if systems[n % len(systems)]
        else []
        for n in range(rows)
    ]
    faults: dict[int, str] = {}
    for exchange in range(len(turns)):
        going = [n for n in range(rows) if wanted[n] > exchange and n not in faults]
        # The first completion of a chat has its own seed: the same text would give the same words.
        asked = endpoint.complete(
            [opening(chats[n]) for n in going],
            "user turns",
            seed=seed + exchange * rows,
            temperature=temperature,
            max_tokens=512,
            stop=stop,
        )
        for n, reply in zip(going, asked, strict=True):
            if reply.whole and plain(reply.text):
                chats[n].append({"role": "user", "content": reply.text.strip()})
            else:
                faults[n] = "user turn empty or cut"
        going = [n for n in going if n not in faults]
        said = endpoint(
            [
                ChatRequest(tuple(chats[n]), "answers", seed + exchange, max_tokens=2048)
                for n in going
            ]
        )
        for n, reply in zip(going, said, strict=True):
            if reply.whole:
                chats[n].append({"role": "assistant", "content": reply.text})
            else:
                faults[n] = "answer empty or cut"
    whole = [_row(chat, endpoint.model) for n, chat in enumerate(chats) if n not in faults]
    made = drop_faulty(whole)
    for n, reason in faults.items():
        made.drop(reason, _row(_closed(chats[n]), endpoint.model))
    made.facts = {"diversity": diversity(made.rows)}
    return made


def _exchanges(rows: int, turns: Sequence[float]) -> list[int]:
    """How many exchanges each chat is to have; shares are met to one chat."""
    wanted: list[int] = []
    reached = 0.0
    for number, share in enumerate(turns, start=1):
        reached += share * rows
        wanted += [number] * (round(reached) - len(wanted))
    return wanted


def _closed(chat: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A chat that broke off, with an empty answer."""
    asked = (
        list(chat)
        if any(m["role"] == "user" for m in chat)
        else [*chat, {"role": "user", "content": "…"}]
    )
    return (
        asked
        if asked[-1]["role"] == "assistant"
        else [*asked, {"role": "assistant", "content": ""}]
    )


def _row(chat: Sequence[dict[str, str]], model: str) -> DataRow:
    return made_row(
        chat[-2]["content"],
        chat[-1]["content"],
        method="magpie",
        before=chat[:-2],
        source="magpie",
        model=model,
    )
