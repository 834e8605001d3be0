"""Which versions the guard was tried with, and what becomes of others."""

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from packaging.version import Version

from guardrail.errors import InputError

__all__ = ["MS_SWIFT", "TRL", "Range", "check_versions", "named", "untried"]

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


def check_versions(supported: Sequence[Mapping[str, Range]]) -> None:
    """Let the versions that were tried pass, and newer ones with a warning; what is older is refused.

    A newer version proves itself: methods that are absent or take other parameters are refused by name where
    the guard joins the trainer, and what behaves differently by the checks before the first step.

    Raises:
        InputError: a package is older than any that was tried.
    """
    found = {package: Version(version(package)) for package in supported[0]}
    for package, number in found.items():
        oldest = min(Version(tried[package][0]) for tried in supported)
        if number < oldest:
            raise InputError(
                f"{package} {number} is too old to be guarded; supported is {named(supported)}. Install those"
            )
    if found_untried := untried(supported):
        logger.warning(
            "%s: newer than what the guard was tried with (%s); what behaves differently is refused before the "
            "first step",
            found_untried,
            named(supported),
        )


def untried(supported: Sequence[Mapping[str, Range]]) -> str:
    """Return the installed versions in words, empty where they are one of the sets that were tried."""
    found = {package: Version(version(package)) for package in supported[0]}
    for wanted in supported:
        if all(Version(a) <= found[p] < Version(b) for p, (a, b) in wanted.items()):
            return ""
    return ", ".join(f"{package} {number}" for package, number in found.items())


def named(supported: Sequence[Mapping[str, Range]]) -> str:
    """Return sets of versions in words: `trl from 0.29 below 0.30 with transformers ...`."""
    return " or ".join(
        " with ".join(f"{p} from {a} below {b}" for p, (a, b) in one.items()) for one in supported
    )
