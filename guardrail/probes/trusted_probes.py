"""The business's probes of a run that is over, from files that the user names: no code that a run folder names is carried out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.fingerprint import file_sha256
from guardrail.probes.business_probes import NO_BUSINESS, BusinessProbes, read_business

__all__ = ["trusted_probes"]


def trusted_probes(
    run: Path, named: Sequence[str], recorded: Any, given: Sequence[Path]
) -> BusinessProbes:
    """Return the probes a run was judged by, of files that are the very ones by digest; only then are they carried out.

    Args:
        run: Its folder, for messages.
        named: The files as its recipe names them.
        recorded: Their digests in its ledger's header (`probes_sha256`), None in older ledgers.
        given: The files that the user trusts, in any order.

    Raises:
        InputError: one is missing, is another file or one too many, or the ledger holds no digest of it.
    """
    if not named and given:
        raise InputError(
            f"`{run}` was judged by no probes of a business's own; leave `--probes {given[0]}` out"
        )
    if not named:
        return NO_BUSINESS
    if (
        not isinstance(recorded, list)
        or len(recorded) != len(named)
        or not all(isinstance(one, str) for one in recorded)
    ):
        raise InputError(
            f"the ledger of `{run}` holds no digests of its probe files ({', '.join(named)}), as older versions wrote none: nobody can tell "
            "whether a file is the one it was judged by. Run its recipe again with this version, or go on without `--probes`"
        )
    found = {_sha256(path): str(path.resolve()) for path in given}
    lacking = [
        (name, digest) for name, digest in zip(named, recorded, strict=True) if digest not in found
    ]
    strange = [(path, digest) for digest, path in found.items() if digest not in recorded]
    if lacking and strange:
        raise InputError(
            f"`{strange[0][0]}` is not the file that `{run}` was judged by: its SHA-256 is {strange[0][1]}, and that of `{lacking[0][0]}` in the "
            f"ledger is {lacking[0][1]}. Give the file as it was when the run began, from a copy or your version control"
        )
    if lacking:
        raise InputError(
            f"`{run}` was also judged by `{lacking[0][0]}` (SHA-256 {lacking[0][1]}); name that file too, if you trust it: `--probes FILE`"
        )
    if strange:
        raise InputError(
            f"`{run}` was judged by no file with the SHA-256 {strange[0][1]}; leave `{strange[0][0]}` out"
        )
    business = read_business(tuple(found[digest] for digest in recorded))
    if list(business.sha256.values()) != recorded:
        raise InputError(
            f"`{', '.join(business.sha256)}` was carried out in this process before it was changed; begin a new process"
        )
    return business


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(
            f"probes `{path}` cannot be read ({error.strerror}); give the path of a Python file"
        ) from error
