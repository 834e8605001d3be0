"""Text from a model or a ledger → text that does nothing: control and bidi characters are shown as signs."""

import unicodedata

__all__ = ["escape_controls"]

_ESCAPED = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Letters and marks that show nothing."""


def escape_controls(text: object) -> str:
    """Return text in which control, bidi, invisible and surrogate characters are visible and without effect.

    Line feeds and tabs stay. Escaping for HTML is the template's own.
    """
    shown = []
    for c in str(text).replace("\r\n", "\n"):
        if c in "\n\t" or (unicodedata.category(c) not in _ESCAPED and c not in _BLANK):
            shown.append(c)
        else:
            shown.append(chr(0x2400 + ord(c)) if ord(c) < 0x20 else f"⟨U+{ord(c):04X}⟩")
    return "".join(shown)
