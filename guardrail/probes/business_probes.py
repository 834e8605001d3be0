"""A business's own probes, one file of Python: probe functions, their margins, and which chats count as one.

The file has `MARGINS` (probe → tolerated and critical mean harm beyond base's), a function of that name for each, and `cluster`; the
worked example is guardrail/data/business/collection_agent.py. A probe is asked (chat, case) and returns the harm of the agent's turns, 0
to 1, or None where it does not apply. In a recipe (`probes.files`) each becomes a metric of looks, on the red-line items that carry a
`case`; whether it applies must then depend on prompt and case alone, so that base and now are compared on the same items.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.fingerprint import file_sha256
from guardrail.probes.metrics import METRICS, SHOWN
from guardrail.python_file import python_file
from guardrail.sets.items import Item

__all__ = [
    "NO_BUSINESS",
    "BusinessProbes",
    "business_values",
    "check_business_probes",
    "item_clusters",
    "probe_value",
    "read_business",
    "read_probes",
]

Chat = Sequence[Mapping[str, str]]
Probe = Callable[[Chat, Mapping[str, Any]], "float | None"]

_TAKEN = {*(metric.name for metric in METRICS), *SHOWN} | {
    "item",
    "replicate",
    "text",
    "finish_reason",
    "thinking_characters",
}


@dataclass(frozen=True, slots=True)
class BusinessProbes:
    """What one file, or several together, hold."""

    probes: Mapping[str, Probe]
    margins: Mapping[str, tuple[float, float]]
    clusters: tuple[Callable[[Chat, Mapping[str, Any]], "str | None"], ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Path of each file, in the recipe's order → digest of what was carried out."""

    def cluster(self, chat: Chat, case: Mapping[str, Any]) -> str | None:
        """Return the cluster that the first file which has one gives a chat; None where it stands alone.

        Raises:
            InputError: a rule fails, or gives something else than a name or None.
        """
        for rule in self.clusters:
            try:
                found = rule(chat, case)
            except Exception as error:
                raise InputError(
                    f"`cluster` of the business probes fails on case {_short(case)} ({type(error).__name__}: {error}); mend it"
                ) from error
            if found is not None:
                if not isinstance(found, str):
                    raise InputError(
                        f"`cluster` of the business probes gives {_short(found)}; it must return a name or None"
                    )
                return found
        return None


NO_BUSINESS = BusinessProbes({}, {})
"""Of a recipe that names no file."""


def read_probes(path: Path) -> BusinessProbes:
    """Return the probes of a file, which is carried out: take none from whom you do not trust.

    Raises:
        InputError: it cannot be carried out, lacks one of its parts, or a margin is not two rising numbers.
    """
    sha256 = file_sha256(path) if path.is_file() else ""
    module = python_file(path, "probes")
    pattern = "take guardrail/data/business/collection_agent.py as the pattern"
    margins: dict[str, tuple[float, float]] = {}
    given = getattr(module, "MARGINS", None)
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"probes `{path}` have no MARGINS, a dictionary of probe and margins; {pattern}"
        )
    for name, pair in given.items():
        try:
            low, high = (float(one) for one in pair)
        except (TypeError, ValueError):
            low, high = 1.0, 0.0
        if not 0 <= low <= high < 1:
            raise InputError(
                f"probes `{path}`: margins of {name} must be two numbers from 0 to 1, the critical one not below, got {_short(pair)}"
            )
        margins[str(name)] = low, high
    for name in (*margins, "cluster"):
        if not callable(getattr(module, name, None)):
            raise InputError(f"probes `{path}` have no function `{name}`; {pattern}")
    probes = {name: getattr(module, name) for name in margins}
    return BusinessProbes(probes, margins, (module.cluster,), {str(path): sha256})


@cache
def read_business(files: tuple[str, ...]) -> BusinessProbes:
    """Return the probes of a recipe's files together, each file carried out once a process.

    Raises:
        InputError: as `read_probes`, or a name is a metric's of every look or stands in two files.
    """
    probes: dict[str, Probe] = {}
    margins: dict[str, tuple[float, float]] = {}
    rules: list[Callable[[Chat, Mapping[str, Any]], str | None]] = []
    sha256: dict[str, str] = {}
    for file in files:
        one = read_probes(Path(file))
        for name in one.probes:
            if name in probes or name in _TAKEN or "/" in name:
                raise InputError(
                    f"probes `{file}`: the name `{name}` is taken; give the probe another name"
                )
        probes |= one.probes
        margins |= one.margins
        rules += one.clusters
        sha256 |= one.sha256
    return BusinessProbes(probes, margins, tuple(rules), sha256)


def probe_value(name: str, probe: Probe, chat: Chat, case: Mapping[str, Any], where: str) -> float:
    """Return a probe's harm of a chat, NaN where it does not apply.

    Raises:
        InputError: the probe fails, or returns something else than a number from 0 to 1 or None.
    """
    try:
        value = probe(chat, case)
    except Exception as error:
        raise InputError(
            f"probe `{name}` fails on `{where}` ({type(error).__name__}: {error}); mend it"
        ) from error
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"probe `{name}` gives {_short(value)} for `{where}`; it must return harm from 0 to 1, or None where it does not apply"
        )
    return float(value)


def business_values(business: BusinessProbes, item: Item, text: str) -> dict[str, float]:
    """Return each probe's harm of one answer to a red-line item, NaN on items without a case.

    Raises:
        InputError: as `probe_value`, or whether a probe applies depends on the answer.
    """
    if item.case is None:
        return dict.fromkeys(business.probes, math.nan)
    found = {}
    for name, probe in business.probes.items():
        value, due = (
            probe_value(name, probe, _answered(item, said), item.case, item.id)
            for said in (text, "")
        )
        if math.isnan(value) != math.isnan(due):
            raise InputError(
                f"probe `{name}` applies to `{item.id}` or not by what is answered; let prompt and case decide, and return 0.0 where an "
                "answer has no harm"
            )
        found[name] = value
    return found


def item_clusters(business: BusinessProbes, items: Sequence[Item]) -> list[str | None]:
    """Return the cluster of each item: its own, else what the business's rule says of its prompt and case."""
    return [
        item.cluster
        if item.cluster is not None or item.case is None
        else business.cluster(item.chat(), item.case)
        for item in items
    ]


def check_business_probes(business: BusinessProbes, items: Sequence[Item]) -> None:
    """Ask every probe of every item with a case, with no answer and with the prompt for one, before anything is trained.

    Raises:
        InputError: a probe or a rule is wrong in what these show, or applies to no item.
    """
    item_clusters(business, items)
    measured = [business_values(business, item, item.prompt) for item in items]
    for name in business.probes:
        if all(math.isnan(values[name]) for values in measured):
            cases = sum(item.case is not None for item in items)
            raise InputError(
                f"probe `{name}` applies to none of the {cases} red-line items that have a `case`, and would cost error budget for nothing; "
                "give items it applies to, or take it out of MARGINS"
            )


def _answered(item: Item, text: str) -> list[dict[str, str]]:
    return [*item.chat(), {"role": "assistant", "content": text}]


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:80]}…"
