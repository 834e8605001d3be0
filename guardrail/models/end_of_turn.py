"""Find out how a model opens and ends its turns, from its files and its tokenizer; weights are not read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from guardrail.errors import InputError
from guardrail.models.fingerprint import adapter_base
from guardrail.models.profile import Profile

__all__ = ["resolve_profile"]

_ASKED, _SAID, _AGAIN = "甲", "乙", "丙"


def resolve_profile(folder: str | Path, tokenizer: Any, *, thinking: bool) -> Profile:
    """Return the profile of a model's folder under a tokenizer, whose chat template counts.

    The end of an answer is not the tokenizer's alone: Gemma, GLM-4 and InternLM2 end turns with other tokens
    than `eos_token`, which then stand in generation_config.json, in config.json, or only in the template.

    Args:
        folder: Of a whole model, or of a PEFT adapter, whose base's settings count.
        tokenizer: The model's, or the trainer's.
        thinking: Pinned for all prompts.

    Raises:
        InputError: the template cannot render a plain question, nothing ends an answer, or the template
            opens a thinking block though the recipe is without thinking.
    """
    base = adapter_base(Path(folder))
    config = _json(base / "config.json")
    text = config.get("text_config") or config
    prompt = _rendered(tokenizer, [_user(_ASKED)], thinking=thinking, prompt=True)
    if prompt is None:
        raise InputError(
            f"the chat template of `{folder}` cannot render a single question; give the model a template "
            "for chats"
        )
    settings = (_json(base / "generation_config.json"), config, text)
    found = [
        tokenizer.eos_token_id,
        *(token for one in settings for token in _ids(one.get("eos_token_id"))),
        _end_of_turn(tokenizer, thinking=thinking),
    ]
    stop = tuple(sorted({int(token) for token in found if token is not None}))
    if not stop:
        raise InputError(
            f"model `{folder}` names no token that ends an answer; set `eos_token_id` in its "
            "generation_config.json"
        )
    opened = _opened(prompt)
    if opened and not thinking:
        raise InputError(
            f"the recipe says `thinking: false`, and the chat template of `{folder}` opens a thinking block "
            f"({opened.strip()!r}) in every prompt; set `thinking: true`"
        )
    other = _rendered(tokenizer, [_user(_ASKED)], thinking=not thinking, prompt=True)
    pad = tokenizer.pad_token_id
    return Profile(
        stop=stop,
        pad=stop[0] if pad is None else int(pad),
        thinking=thinking,
        heeds_thinking=other != prompt,
        opened=opened,
        system_turns=_takes_system(tokenizer, thinking=thinking),
        alternating=_rendered(tokenizer, [_user(_ASKED), _user(_AGAIN)], thinking=thinking) is None,
        vocabulary=int(text.get("vocab_size", len(tokenizer))),
    )


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(content)


def _ids(value: Any) -> Iterable[int]:
    """A configuration names one token, several or none."""
    return [value] if isinstance(value, int) else value or []


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _rendered(
    tokenizer: Any, chat: list[dict[str, str]], *, thinking: bool, prompt: bool = False
) -> str | None:
    """The chat as text, None where the template refuses it."""
    try:
        text = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=prompt, enable_thinking=thinking
        )
    except TemplateError:
        return None
    return str(text)


def _end_of_turn(tokenizer: Any, *, thinking: bool) -> int | None:
    """The special token that follows the assistant's words where a user speaks next, if there is one."""
    chat = [_user(_ASKED), {"role": "assistant", "content": _SAID}, _user(_AGAIN)]
    text = _rendered(tokenizer, chat, thinking=thinking)
    if text is None or _SAID not in text:
        return None
    after = text.rpartition(_SAID)[2].partition(_AGAIN)[0].lstrip()
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    known = tokenizer.added_tokens_decoder
    return int(ids[0]) if ids and ids[0] in known and known[ids[0]].special else None


def _opened(prompt: str) -> str:
    """The end of a prompt from an unclosed thinking tag on."""
    start = prompt.rfind("<think>")
    return prompt[start:] if start >= 0 and "</think>" not in prompt[start:] else ""


def _takes_system(tokenizer: Any, *, thinking: bool) -> bool:
    chat = [{"role": "system", "content": _AGAIN}, _user(_ASKED)]
    text = _rendered(tokenizer, chat, thinking=thinking)
    return text is not None and _AGAIN in text
