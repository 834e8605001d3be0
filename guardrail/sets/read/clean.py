"""Mend text on its way in: invisible characters, Markdown escapes, personal data. Code stays as it is."""

import re

from stdnum import luhn
from stdnum.cn import ric

__all__ = ["clean_text", "scrub_personal_data", "whole_characters"]

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_NOTHING = re.compile(r"[\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")
_INDENT = re.compile(r"^\u3000+", re.MULTILINE)
_SPACES = re.compile(r"[\u00a0\u2002-\u200a\u202f\u205f]")
_ODD = re.compile(r"[\\\u00a0\u00ad\u2002-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]")
"""One look for everything below: most texts hold nothing odd."""
_HALF = re.compile(r"[\ud800-\udfff]")
_TOUCHING = re.compile(r"[\u4e00-\u9fff]{2}")
_APART = re.compile(
    r"(?<=[\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e]) (?=[\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e])"
)
_ESCAPED = re.compile(r"\\([_*\[\]#])")

_MANY_DIGITS = re.compile(r"[0-9][0-9 -]{9}")
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
)
_PHONE = re.compile(r"(?<![\d.])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)")
_IDENTITY_CARD = re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)")
_BANK_CARD = re.compile(r"(?<!\d)\d{4}(?:[ -]?\d{4}){3}(?:[ -]?\d{1,3})?(?!\d)")


def _outside_code(text: str) -> str:
    if not _ODD.search(text):
        return text
    text = _NOTHING.sub("", text)
    text = _INDENT.sub("", text)
    text = _SPACES.sub(" ", text).replace("\u3000", " ")
    return _ESCAPED.sub(r"\1", text)


def whole_characters(text: str) -> str:
    """Return the text with halves of characters, which no file holds, as the sign for what was lost."""
    return _HALF.sub("\ufffd", text)


def clean_text(text: str) -> str:
    r"""Return the text without invisible characters, odd spaces, indents and Markdown escapes.

    Code in fences or backticks is left alone. A literal `\n` is only taken off the end of the text:
    inside, it may be code.
    """
    text = whole_characters(text).replace("\r\n", "\n").replace("\r", "\n")
    if "`" in text:
        parts = _CODE.split(text)
        parts[::2] = map(_outside_code, parts[::2])
        text = "".join(parts)
    else:
        text = _outside_code(text)
    text = text.strip()
    if not _TOUCHING.search(text):  # every character apart, as LCCC has them
        text = _APART.sub("", text)
    while text.endswith("\\n"):
        text = text.removesuffix("\\n").rstrip()
    return text


def scrub_personal_data(text: str) -> tuple[str, int]:
    """Return the text with personal data replaced by its kind in 〔〕, and how many were replaced.

    Mainland phone numbers, identity card numbers and bank card numbers with a right check digit, and
    e-mail addresses. Does not see names, addresses, number plates or account names.
    """
    found = 0

    def replace(kind: str, valid: bool) -> str | None:
        nonlocal found
        found += valid
        return f"〔{kind}〕" if valid else None

    if "@" in text:
        text = _EMAIL.sub(lambda m: replace("邮箱", True) or m[0], text)
    if not _MANY_DIGITS.search(text):
        return text, found
    text = _IDENTITY_CARD.sub(lambda m: replace("身份证号", ric.is_valid(m[0])) or m[0], text)
    text = _BANK_CARD.sub(
        lambda m: replace("银行卡号", luhn.is_valid(re.sub(r"\D", "", m[0]))) or m[0], text
    )
    return _PHONE.sub(lambda m: replace("手机号", True) or m[0], text), found
