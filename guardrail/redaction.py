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
    r"(?:^|[_.-])(?:token|password|passwd|passphrase|pwd|secret|credentials?|authorization|cookie|webhook"
    r"|(?:api|access|private|secret|account|auth|license)[_-]?key|apikey)s?$"
    r"|alert_urls$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(
    r"(?:^|[_.-])(?:eos|bos|pad|unk|sep|cls|mask|stop|start|end|image|video|audio|vision|special|extra|new|max"
    r"|min|mean|num|per|think|prompt|completion|response|boi|eoi)[_-](?:\w+[_-])?tokens?$",
    re.IGNORECASE,
)
"""Tokens of a tokenizer, which have that name too."""
_IN_TEXT = re.compile(
    # user:password@ of an address, and what stands in its query
    r"(?P<scheme>\b[a-z][a-z0-9+.-]{1,30}://)[^\s/@'\"`<>]{1,500}@"
    r"|(?P<query>[?&](?:[\w-]*(?:token|key|secret|password|signature|sig))=)[^\s&'\"`<>#]{1,2000}"
    r"|(?P<bearer>\bBearer\s+)[\w.~+/=-]{8,}"
    r"|\b(?:hf_|hf_oauth_|sk-|sk_live_|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ms-(?=[0-9a-f]{8}-[0-9a-f]{4}-))[A-Za-z0-9_-]{16,}\b"
    r"|(?P<named>(?i:\b[\w.-]*(?:hub_token|api_?key|access_?key|password|passwd|secret))[\"']?\s?[=:]\s?[\"']?)"
    r"[^\s,;}\"'&]{3,}"
)


def is_secret(key: str) -> bool:
    """Return whether a key of this name holds a secret."""
    return _SECRET_KEY.search(key) is not None and _NO_SECRET.search(key) is None


def redacted(value: Any) -> Any:
    """Return JSON content with every secret replaced by `HIDDEN`; numbers, truths and names of keys stay."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN
            if isinstance(inner, str) and inner and isinstance(name, str) and is_secret(name)
            else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value


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
    return (found["query"] or found["bearer"] or found["named"] or "") + HIDDEN
