"""Secrets stay in memory: what arguments and texts may say on disk, to a tracker or in a terminal.

A secret is told by the name of its key (`hub_token`, `api_key`, `password` …) or by its form: a password in an
address, or a token of a known kind. What is neither is not seen.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["HIDDEN", "is_secret", "redacted", "redacted_change", "redacted_line", "redacted_text"]

HIDDEN = "***"
"""What stands in the place of a secret."""

_SECRET_KEY = re.compile(
    r"(?:^|[_.-])(?:token|password|passwd|passphrase|pass|pwd|secret|credentials?|authorization|auth|cookie|dsn"
    r"|webhook(?:[_-]?url)?|connection[_-]?string|(?:api|access|private|secret|account|auth|license|ssh|signing"
    r"|encryption|deploy)[_-]?key|apikey)s?$"
    r"|alert_urls$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_SECRET = re.compile(
    r"(?:^|[_.-])(?:eos|bos|pad|unk|sep|cls|mask|stop|start|end|image|video|audio|vision|special|extra|new|max"
    r"|min|mean|num|per|think|prompt|completion|response|boi|eoi)[_-](?:\w+[_-])?tokens?$",
    re.IGNORECASE,
)
"""Tokens of a tokenizer, which have that name too."""
_FORMS = (
    r"(?:hf_|hf_oauth_|sk-|sk_live_|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|xapp-|AKIA|ASIA|LTAI|AIza|npm_|dckr_pat_"
    r"|gsk_|r8_|tvly-|ms-(?=[0-9a-f]{8}-[0-9a-f]{4}-))[A-Za-z0-9_-]{16,}\b"
    # a JSON web token
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
)
_IN_TEXT = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    # a robot of a chat, whose address is its key
    r"|(?P<robot>\b(?i:feishu|lark|dingtalk|wecombot|slack|mailtos?|tgram|discord)://"
    r"|\b(?i:https)://hooks\.slack\.com/services/|/open-apis/bot/v\d/hook/)[^\s'\"`<>]{1,2000}"
    # user:password@ of an address, and what stands in its query
    r"|(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{1,30}://)[^\s/@'\"`<>]{1,500}@"
    r"|(?P<query>[?&](?i:[\w-]{0,40}(?:token|key|secret|password|signature|sig))=)[^\s&'\"`<>#]{1,2000}"
    r"|(?P<bearer>\b(?i:bearer|basic)\s{1,9})[\w.~+/=-]{8,}"
    rf"|\b(?:{_FORMS})"
    r"|(?P<named>(?i:(?:(?:hub|hf|auth|access|refresh|session|bearer)_?token|(?:api|access|secret|account"
    r"|private)[_-]?key|password|passwd|secret))[\"']?\s?[=:]\s?[\"']?)[^\s,;}\"'&]{3,}"
    r"|(?P<token>(?i:\btoken)[\"']?\s?[=:]\s?[\"']?)[\w.~+/=-]{16,}"
)


def is_secret(key: str) -> bool:
    """Return whether a key of this name holds a secret."""
    words = _CAMEL.sub("_", key)
    return _SECRET_KEY.search(words) is not None and _NO_SECRET.search(words) is None


def redacted(value: Any) -> Any:
    """Return JSON content with every secret replaced by `HIDDEN`; numbers, truths and names of keys stay."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, Mapping):
        return {
            name: _hidden(inner) if isinstance(name, str) and is_secret(name) else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value


def _hidden(value: Any) -> Any:
    """What stands under a secret's name: texts are hidden however deep they lie, numbers and truths are none."""
    if isinstance(value, str):
        return HIDDEN if value else value
    if isinstance(value, Mapping):
        return {name: _hidden(inner) for name, inner in value.items()}
    return [_hidden(inner) for inner in value] if isinstance(value, list | tuple) else value


def redacted_change(change: str) -> str:
    """Return a `KEY=VALUE` of `--set` without its secret."""
    key, equals, value = change.partition("=")
    return redacted_text(f"{key}{equals}{HIDDEN if value and is_secret(key) else value}")


def redacted_line(line: Sequence[str]) -> list[str]:
    """Return the words of a command line without secrets: `--hub_token X`, `--hub_token=X`, `train.x.api_key=X`."""
    said, hides = [], False
    for word in line:
        said.append(HIDDEN if hides else redacted_change(word))
        hides = word.startswith("-") and "=" not in word and is_secret(word)
    return said


def redacted_text(text: str) -> str:
    """Return a text without the secrets that its form gives away."""
    return _IN_TEXT.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    if scheme := found["scheme"]:
        return f"{scheme}{HIDDEN}@"
    kept = (found[name] for name in ("robot", "query", "bearer", "named", "token"))
    return next((text for text in kept if text), "") + HIDDEN
