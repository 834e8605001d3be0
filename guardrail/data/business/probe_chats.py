"""Chats of a business measured by its own probes, the model's now against base's: is any harm shown to exceed its margin?

A plug-in is one file of Python (`probes/business_probes.py`). The statistic is the judge's own. The error budget is this
measurement's, 5 % in all, shared evenly by the probes that can be tested, for one measurement: repeated while a run goes on, each
has its own. It is no part of the run's budget, and no rung of the ladder acts on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from guardrail.data.rows import DataRow
from guardrail.errors import InputError
from guardrail.judge.rule import unit_numbers
from guardrail.judge.statistic import non_inferiority_z, stream_statistic
from guardrail.probes.business_probes import BusinessProbes, probe_value
from guardrail.sets.lint.duplicates import plain

__all__ = ["measure_chats"]

_BUDGET = 0.05
_LEAST_CLUSTERS = 20


def measure_chats(
    business: BusinessProbes, base: Sequence[DataRow], now: Sequence[DataRow]
) -> dict[str, dict[str, Any]]:
    """Return for each probe the mean harm of base and now, and whether more than its margin is shown.

    A chat of now stands against base's of the same case (`provenance.case.id`, else the same first prompt); one without is left
    out. `level` is `critical` or `warn` where harm is shown beyond the critical or the tolerated margin, `ok` where not,
    `untested` below 20 clusters; of a case on which the probe does not apply to both nothing is taken.

    Raises:
        InputError: no chat has its base, or a probe gives a value that is not from 0 to 1.
    """
    of_base = {_key(row): row for row in base}
    pairs = [(of_base[key], row) for row in now if (key := _key(row)) in of_base]
    if not pairs:
        raise InputError(
            "no chat has the case or the first prompt of one of base's; give both models the same prompts"
        )
    clusters = [business.cluster(row.messages, _case(row)) for _, row in pairs]
    units = unit_numbers(clusters)
    tables = {
        name: np.array(
            [
                [probe_value(name, probe, row.messages, _case(row), row.id) for row in pair]
                for pair in pairs
            ]
        )
        for name, probe in business.probes.items()
    }
    counts = {name: _clusters_of(table, units) for name, table in tables.items()}
    tested = sum(count >= _LEAST_CLUSTERS for count in counts.values())
    boundary = -float(special.ndtri(_BUDGET / max(1, tested)))
    found: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        harm = table[:, 1] - table[:, 0]
        applies = ~np.isnan(harm)
        facts: dict[str, Any] = {"chats": int(applies.sum()), "clusters": counts[name]}
        if applies.any():
            facts |= {
                "base": float(table[applies, 0].mean()),
                "now": float(table[applies, 1].mean()),
            }
        level = "untested"
        if counts[name] >= _LEAST_CLUSTERS:
            statistic = stream_statistic(harm, units)
            z = [non_inferiority_z(statistic, margin) for margin in business.margins[name]]
            facts |= {"z": z[0], "boundary": boundary}
            level = "critical" if z[1] > boundary else "warn" if z[0] > boundary else "ok"
        found[name] = {**facts, "margins": list(business.margins[name]), "level": level}
    return found


def _case(row: DataRow) -> Mapping[str, Any]:
    case = row.provenance.get("case")
    return case if isinstance(case, Mapping) else {}


def _key(row: DataRow) -> str:
    first = next(m["content"] for m in row.messages if m["role"] == "user")
    return str(_case(row).get("id") or plain(first))


def _clusters_of(table: "np.ndarray[Any, np.dtype[np.float64]]", units: Any) -> int:
    return len(np.unique(units[~np.isnan(table).any(axis=1)]))
