"""What a checkpoint belongs to, by digest: its own files and the ledger up to its save. A resume goes on from no other.

Weights are hashed whole, in pieces side by side: some 1.3 GiB/s a core, so that those of 8B parameters in bfloat16 take 12 s
of one core or two seconds of eight, less than their save did. So is everything up to 1 GiB. Of what is larger and no
weights, an optimizer's state, which is four times as much, the size and eight samples of 1 MiB are hashed: a file of
another run, an older or a cut one has another digest, one flipped bit between the samples has not.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.guard.state import STATE_FILE
from guardrail.ledger.file import FILE_NAME
from guardrail.read_back import open_regular

__all__ = ["bind", "changed_file", "check_bound", "file_digests"]

_WHOLE = 8 << 20
_SAMPLE = 1 << 20
_PIECE = 64 << 20
_LARGEST_OF_NO_WEIGHTS = 1 << 30
_WEIGHTS = (".safetensors", ".bin")
_PIECES = "pieces:"
"""Before the digest of a file that was hashed in pieces."""
_MOST_THREADS = 8


def bind(run: Path, checkpoint: Path) -> dict[str, Any]:
    """Return what the state of a checkpoint says of the ledger in the run folder and of the files beside it."""
    ledger = run / FILE_NAME
    size = ledger.stat().st_size if ledger.is_file() else 0
    return {
        "ledger": {"bytes": size, "sha256": _beginning(ledger, size)},
        "files": file_digests(checkpoint, _files(checkpoint)),
    }


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each of these files of a folder, for `changed_file`."""
    return {name: _digest(folder / name) for name in names}


def changed_file(folder: Path, digests: Mapping[str, str]) -> str | None:
    """Return the first file that is not as it was when its digest was taken, None where all are."""
    for name, wanted in digests.items():
        try:
            pieces = wanted.startswith(_PIECES)
            same = (_in_pieces if pieces else _sampled)(folder / name) == wanted
        except OSError:
            same = False
        if not same:
            return name
    return None


def check_bound(run: Path, checkpoint: Path, bound: Any) -> None:
    """Refuse a checkpoint whose files, or whose run's ledger, are not those of its save.

    Files that were added since are none of the guard's.

    Raises:
        InputError: one of them was changed, is gone or is of another run; it is named.
    """
    try:
        size, sha256 = bound["ledger"]["bytes"], bound["ledger"]["sha256"]
        files = dict(bound["files"])
        inside = all(
            not os.path.isabs(name) and ".." not in Path(name).parts and isinstance(digest, str)
            for name, digest in files.items()
        )
        if not isinstance(size, int) or size < 0 or not inside:
            raise TypeError
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"`{checkpoint / STATE_FILE}` does not say what it belongs to; {_OTHER}"
        ) from error
    try:
        found = _beginning(run / FILE_NAME, size)
    except OSError:
        found = ""
    if found != sha256:
        raise InputError(
            f"ledger `{run / FILE_NAME}` is not the one that `{checkpoint.name}/{STATE_FILE}` was saved with, or was changed since; "
            f"restore it from a copy, or {_OTHER}"
        )
    if (name := changed_file(checkpoint, files)) is not None:
        raise InputError(
            f"`{checkpoint / name}` is not as it was when the guard's state was saved beside it; restore it from a "
            f"copy, or {_OTHER}"
        )


_OTHER = "go on from another checkpoint (`--resume-from`, `attach(resume=...)`)"


def _files(checkpoint: Path) -> list[str]:
    """The files of a checkpoint but the guard's own, below folders too."""
    found = (p for p in checkpoint.rglob("*") if p.is_file() and not p.is_symlink())
    names = (str(p.relative_to(checkpoint)) for p in found)
    return sorted(n for n in names if not n.startswith(STATE_FILE))


def _beginning(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    if not size:
        return digest.hexdigest()
    with open_regular(path) as file:
        while size and (block := file.read(min(size, _SAMPLE))):
            digest.update(block)
            size -= len(block)
    return "" if size else digest.hexdigest()


def _digest(path: Path) -> str:
    size = path.stat().st_size
    whole = path.suffix in _WEIGHTS or size <= _LARGEST_OF_NO_WEIGHTS
    return _in_pieces(path) if whole and size > _WHOLE else _sampled(path)


def _in_pieces(path: Path) -> str:
    """The digest of the digests of a file's pieces, which threads compute side by side."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size

    def piece(start: int) -> bytes:
        digest, left = hashlib.sha256(), _PIECE
        with open_regular(path) as file:
            file.seek(start)
            while left and (block := file.read(min(left, _SAMPLE))):
                digest.update(block)
                left -= len(block)
        return digest.digest()

    starts = range(0, size, _PIECE)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1, len(starts) or 1)) as pool:
        whole = b"".join(pool.map(piece, starts))
    return _PIECES + hashlib.sha256(f"{size}:".encode() + whole).hexdigest()


def _sampled(path: Path) -> str:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size}:".encode())
        starts = [0] if size <= _WHOLE else [(size - _SAMPLE) * n // 7 for n in range(8)]
        for start in starts:
            file.seek(start)
            digest.update(file.read(_WHOLE if size <= _WHOLE else _SAMPLE))
    return digest.hexdigest()
