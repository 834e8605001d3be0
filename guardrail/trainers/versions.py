"""Which versions the guard was tried with, and what becomes of others: the only place that says so."""

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from packaging.version import Version

from guardrail.errors import InputError

__all__ = ["ANY_VERSION", "MS_SWIFT", "TRL", "Range", "check_versions", "named"]

logger = logging.getLogger(__name__)

Range = tuple[str, str]
"""First version that is supported and first that is not."""

TRL: Sequence[Mapping[str, Range]] = (
    {"trl": ("0.29", "0.30"), "transformers": ("5.19", "5.20")},
    {"trl": ("1.16", "1.17"), "transformers": ("5.23", "5.24")},
)
"""Sets of versions that go together: package → range."""
MS_SWIFT: Sequence[Mapping[str, Range]] = ({"ms-swift": ("4.6", "4.7")},)
"""The same for ms-swift, which stands on one of the above."""

ANY_VERSION = "GUARDRAIL_ANY_VERSION"
"""Environment variable that, set to 1, lets other versions through."""


def check_versions(supported: Sequence[Mapping[str, Range]]) -> None:
    """Let one of the supported sets pass, and any other with a warning where GUARDRAIL_ANY_VERSION=1.

    What passes so was never run: methods that are absent or take other parameters are still refused by
    name where the guard joins the trainer, but what behaves differently is not seen.

    Raises:
        InputError: other versions are installed.
    """
    found = {package: Version(version(package)) for package in supported[0]}
    for wanted in supported:
        if all(Version(a) <= found[p] < Version(b) for p, (a, b) in wanted.items()):
            return
    told = ", ".join(f"{package} {number}" for package, number in found.items())
    if os.environ.get(ANY_VERSION) == "1":
        logger.warning("%s: never tried with the guard, let through by %s=1", told, ANY_VERSION)
        return
    raise InputError(
        f"{told}: not supported; supported is {named(supported)}. Install those, or set "
        f"{ANY_VERSION}=1 to try"
    )


def named(supported: Sequence[Mapping[str, Range]]) -> str:
    """Return sets of versions in words: `trl from 0.29 below 0.30 with transformers ...`."""
    return " or ".join(
        " with ".join(f"{p} from {a} below {b}" for p, (a, b) in one.items()) for one in supported
    )
