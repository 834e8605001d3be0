"""What must never get into anything the wing makes: the text of judged items and benchmarks, also where it is escaped or encoded.

It is kept out where text comes in: rows and documents as they are read, replies before they are kept. What is put together
of harmless parts is looked at once more before it is written, whatever was dropped included. It sees what the overlap rule
of `guardrail.sets.lint.overlap` sees, and a light rewording (`data/light_paraphrase.py`), here also in every line of a text and every
quotation, in Traditional characters, and behind JSON, HTML, URL, base64 and hexadecimal escapes. Does not see what is said in other words
altogether, Taiwan's and Hong Kong's own words, translations, pinyin, or other encodings.
"""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from guardrail.data.light_paraphrase import LightParaphrases
from guardrail.sets.lint.overlap import GuardedPrompts
from guardrail.text import simplified

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import Reply
    from guardrail.data.rows import DataRow

__all__ = ["WITHHELD", "JudgedText"]

WITHHELD = "shares text with a judged item"
"""Why a row is dropped; its words are not written then."""

_MARK = re.compile(r"\A\s*(?:[-•*#>]+|\d{1,3}\s*[.、．)）:：]|[一-鿿]{1,6}\s*\d*\s*[:：])\s*")
_QUOTED = re.compile(r"[“\"「『](.+?)[”\"」』]")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\([nrt\"/\\])")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){24,}")
_DEPTH = 3
"""Encodings inside one another that are opened."""


class JudgedText:
    """The judged prompts, asked whether a text shares anything with them."""

    def __init__(self, known: Mapping[str, str]) -> None:
        """Index the prompts, id → text; none means that nothing is withheld."""
        plain = {name: simplified(text) for name, text in known.items()}
        self._guarded = GuardedPrompts(plain) if plain else None
        self._reworded = LightParaphrases(plain.values())
        self.counts = {"rows read": 0, "documents": 0, "replies": 0, "rows made": 0}
        """What was withheld so far, told in the stage's record."""

    def inside(self, value: Any) -> bool:
        """Return whether any text of a value, nested as JSON is, shares text with a judged prompt."""
        if self._guarded is None:
            return False
        if isinstance(value, str):
            return any(self._meets(form) for form in _opened(value))
        if isinstance(value, Mapping):
            return any(self.inside(one) for one in (*value.keys(), *value.values()))
        return isinstance(value, list | tuple | set) and any(self.inside(one) for one in value)

    def _meets(self, text: str) -> bool:
        assert self._guarded is not None
        text = simplified(text)
        parts = dict.fromkeys([text, *(p for line in text.splitlines() for p in _bare(line))])
        return any(
            self._reworded.meets(part) or any(True for _ in self._guarded.meets(part))
            for part in parts
        )

    def without_judged_rows(self, rows: "Sequence[DataRow]") -> "list[DataRow]":
        """Return the rows that share nothing, and count the others."""
        kept = [row for row in rows if not self.inside([row.messages, row.provenance])]
        self.counts["rows read"] += len(rows) - len(kept)
        return kept

    def without_judged_texts(
        self, things: "Sequence[Any]", text_of: Callable[[Any], str]
    ) -> list[Any]:
        """Return the documents or passages that share nothing, and count the others."""
        kept = [one for one in things if not self.inside(text_of(one))]
        self.counts["documents"] += len(things) - len(kept)
        return kept

    def cleared(self, reply: "Reply") -> "Reply":
        """Return the reply as it may be kept: as it is, or without the lines that share text, and then never whole.

        Its finish reason is `withheld` then, so that no stage takes it for an answer; of a list the other lines count.
        """
        if not self.inside([reply.text, reply.thinking]):
            return reply
        self.counts["replies"] += 1
        lines = [line for line in reply.text.splitlines() if not self.inside(line)]
        text = "\n".join(lines)
        return replace(
            reply, text="" if self.inside(text) else text, thinking="", finish_reason="withheld"
        )


def _bare(line: str) -> Iterator[str]:
    """A line, what it quotes, and what is left of it without the mark or the label it opens with."""
    yield line
    yield from _QUOTED.findall(line)
    rest = _MARK.sub("", line)
    if rest != line:
        yield rest


def _opened(text: str) -> set[str]:
    """A text as it stands, and what is behind its escapes and encodings."""
    known, fresh = set[str](), {"".join(c for c in text if unicodedata.category(c) != "Cf")}
    for _ in range(_DEPTH):
        known |= fresh
        fresh = {form for one in fresh for form in _decoded(one)} - known
    return known | fresh


def _decoded(text: str) -> Iterator[str]:
    if "\\" in text:
        units = _ESCAPE.sub(_unescaped, text).encode("utf-16", "surrogatepass")
        yield units.decode("utf-16", "replace")
    if "&" in text:
        yield html.unescape(text)
    if "%" in text:
        yield unquote(text)
    for pattern, decode in ((_BASE64, _from_base64), (_HEX, _from_hex)):
        for match in pattern.finditer(text):
            try:
                yield decode(match.group()).decode("utf-8")
            except (ValueError, binascii.Error):
                continue


def _unescaped(match: "re.Match[str]") -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else {"n": "\n", "r": "\n", "t": "\t"}.get(match[3], match[3])


def _from_base64(text: str) -> bytes:
    whole = text.rstrip("=")
    return base64.urlsafe_b64decode(
        whole.replace("+", "-").replace("/", "_") + "=" * (-len(whole) % 4)
    )


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"[\s:]", "", text))
