"""Text from a model or a ledger → text that does nothing: controls visible, bidi dead."""

import unicodedata

__all__ = ["inert"]

_DEAD = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def inert(text: object) -> str:
    """Return text in which control, bidi, invisible and surrogate characters are visible and dead.

    Line feeds and tabs stay. Escaping for HTML is the template's own.
    """
    shown = []
    for c in str(text).replace("\r\n", "\n"):
        if c in "\n\t" or unicodedata.category(c) not in _DEAD:
            shown.append(c)
        else:
            shown.append(chr(0x2400 + ord(c)) if ord(c) < 0x20 else f"⟨U+{ord(c):04X}⟩")
    return "".join(shown)
