"""Each line of a ledger repeats a digest of itself and of the line before it.

A line that was changed, taken out, put in or moved is told by its number. What this does not show: lines that are
gone from the end (a checkpoint's state does, up to its save), and somebody who computes all digests anew.
"""

import hashlib

from guardrail.read_back import SEAL

__all__ = ["check_line", "seal_line"]

_HEX = 32
_OPENS = f', "{SEAL}": "'.encode()
_LENGTH = len(_OPENS) + _HEX + len(b'"}')


def seal_line(line: bytes, before: str) -> tuple[bytes, str]:
    """Return a JSON object in a line with its digest as the last key, and that digest.

    Args:
        line: The object, without a line feed.
        before: The digest of the line before, empty where that has none.
    """
    body = line[:-1]
    digest = _digest(body, before)
    return body + _OPENS + digest.encode() + b'"}', digest


def check_line(line: bytes, before: str | None) -> tuple[str | None, bool]:
    """Return the digest that the next line has to follow, and whether this one is as it was written.

    Args:
        line: Without its line feed.
        before: The digest of the line before: empty where no line had one so far, as in ledgers of older versions;
            None where nobody can tell.
    """
    tail = line[-_LENGTH:]
    digest = tail[len(_OPENS) : -2].decode("ascii", "replace")
    if not tail.startswith(_OPENS) or not line.endswith(b'"}') or len(tail) < _LENGTH:
        return ("", True) if before == "" else (None, before is None)
    return digest, before is None or _digest(line[:-_LENGTH], before) == digest


def _digest(body: bytes, before: str) -> str:
    return hashlib.sha256(before.encode("ascii", "replace") + b"\n" + body).hexdigest()[:_HEX]
