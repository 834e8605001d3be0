"""Did a repair help: the run that was repaired and this one, compared on the reserved slice of the red line."""

import functools
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from guardrail.errors import InputError
from guardrail.judge.look_values import default_metric_rules, read_measured
from guardrail.judge.rule import MetricRule, unit_numbers
from guardrail.judge.statistic import FloatArray, item_harm, stream_interval, stream_statistic
from guardrail.judge.verdict import Facts, Number
from guardrail.ledger.file import FILE_NAME
from guardrail.ledger.records import LookFacts
from guardrail.recipe import Lineage
from guardrail.recipe_yaml import flat
from guardrail.report.named_items import named_items
from guardrail.report.run_data import RunData, read_run
from guardrail.sets.items import Item, items_sha256
from guardrail.sets.reserved import reserved_ids

__all__ = ["Repaired", "SliceChange", "repaired"]

_EXPECTED = (
    "name",
    "anchors",
    "sets.red_line",
    "sets.rehearsal",
    "lineage",
    "tracking.",
    "language",
    "launch.",
)
"""Keys of a recipe that a repair writes itself, that change no training, or whose content is known to be the same."""
_MOST_KEYS = 20
_LONGEST_KEY = 80


class SliceChange(Facts):
    """One metric on the reserved items of one group: the newest look of the repaired run, and of this one, item by item."""

    metric: str
    group: str
    n: int
    units: int
    """Clusters and single items."""
    start: Number
    """At look 0 of this run."""
    base: Number
    """At the newest look of the run that was repaired, when the repair was made."""
    now: Number
    harm: Number
    """Mean over items, positive where this run is worse."""
    low: Number
    high: Number
    """95 % for this one stream, over items; says nothing of what another training would give."""
    shows: Number
    """The smallest mean harm, of either sign, that so many items tell from zero: half of the interval; None for fewer than two units."""
    says: Literal["better", "worse", "not_told", "too_few"]
    """`too_few`: fewer items or clusters than the recipe lets a look test; `not_told`: the interval holds zero."""


class Repaired(Facts):
    """Before and after a repair (`guardrail data repair`)."""

    lineage: Lineage
    look: int | None
    """Number of this run's look that is compared; None where there is none after the start."""
    step: int | None
    needed_items: int
    needed_units: int
    changes: tuple[SliceChange, ...] = ()
    """The pass rate over all reserved items first: the one answer to the question. A business's own metrics are there where the same
    probe files judged both runs."""
    also_changed: tuple[str, ...] | None = None
    """Keys of the recipe that changed besides; None where the repaired run cannot be read."""
    problem: Literal["no_look", "unread", "other_items"] | None = None
    """Why nothing is compared."""
    detail: str = ""


def repaired(data: RunData) -> Repaired | None:
    """Return before and after on the reserved slice, None where a run repairs no other.

    Reads the answers of the repaired run only if they are those that its repair was made from, by digest.
    """
    try:
        lineage = Lineage.model_validate(data.recipe.get("lineage"))
    except ValidationError:
        return None
    look, drift = data.last_look, data.recipe_section("drift")
    compared = look if look is not None and look.number > 0 else None
    facts = Repaired(
        lineage=lineage,
        look=compared.number if compared else None,
        step=compared.step if compared else None,
        needed_items=_whole(drift.get("min_items"), 30),
        needed_units=_whole(drift.get("min_clusters"), 20),
        also_changed=_also_changed(data, lineage),
    )
    if compared is None:
        return facts.model_copy(update={"problem": "no_look"})
    try:
        red_line = named_items(data, "red_line")
        if items_sha256(red_line) != lineage.red_line_sha256:
            return facts.model_copy(update={"problem": "other_items"})
        kept_back = reserved_ids(red_line)
        items = [item for item in red_line if item.id in kept_back]
        rules = default_metric_rules()
        # Of a business's own metrics the values stand beside the answers: nothing is carried out here.
        own = _business_metrics(data, lineage, compared, rules)
        rules |= dict.fromkeys(own, MetricRule("higher", 0.0, 0.0, worst=1.0))
        clusters = data.started.get("probe_clusters")
        items = [_with_cluster(item, clusters) for item in items]
        ids = [item.id for item in items]
        first = data.looks[0]
        start, before, after = (
            read_measured(run, name, sha256, ids, list(rules))
            for run, name, sha256 in (
                (data.run, first.answers, first.answers_sha256),
                (Path(lineage.run), lineage.answers, lineage.answers_sha256),
                (data.run, compared.answers, compared.answers_sha256),
            )
        )
    except (OSError, ValueError) as error:
        detail = str(error)[:500]
        return facts.model_copy(update={"problem": "unread", "detail": detail})
    streams = dict.fromkeys([*_streams(lineage), *((name, "overall") for name in own)])
    changes = [
        _change(metric, group, rules[metric], items, (start, before, after), facts)
        for metric, group in streams
        if metric in rules
    ]
    return facts.model_copy(update={"changes": tuple(changes)})


def _streams(lineage: Lineage) -> Sequence[tuple[str, str]]:
    """Metric and group: the pass rate over all, that of each repaired ability, then what else had drifted."""
    named = [tuple(name.split("/", 1)) for name in lineage.drifted if "/" in name]
    found = [("passed", "overall"), *(("passed", a) for a in lineage.abilities)]
    return list(dict.fromkeys([*found, *((a, b) for a, b in named)]))


def _business_metrics(
    data: RunData, lineage: Lineage, look: LookFacts, own: Container[str]
) -> list[str]:
    """The business's own metrics of a look, where the repaired run was asked them by the very same files."""
    if not lineage.probes_sha256 or list(lineage.probes_sha256) != data.started.get(
        "probes_sha256"
    ):
        return []
    return list(dict.fromkeys(s.metric for s in look.streams if s.metric not in own))


def _with_cluster(item: Item, clusters: Any) -> Item:
    """The item in the cluster that the business's rule gave it, as the header has it."""
    named = clusters.get(item.id) if isinstance(clusters, dict) else None
    if item.cluster is not None or not isinstance(named, str):
        return item
    return item.model_copy(update={"cluster": named})


def _change(
    metric: str,
    group: str,
    rule: MetricRule,
    items: Sequence[Item],
    looks: Sequence[dict[str, FloatArray]],
    facts: Repaired,
) -> SliceChange:
    inside = np.array([group in ("overall", item.ability) for item in items], dtype=bool)
    start, before, after = (look[metric].mean(axis=1) for look in looks)
    harm = item_harm(looks[1][metric], after, worse=rule.worse, clip=rule.clip)
    harm = np.where(inside, harm, np.nan)
    applies = ~np.isnan(harm)
    n = int(applies.sum())
    units = unit_numbers([item.cluster for item in items])
    count = len(np.unique(units[applies]))
    low = high = shows = None
    if count >= 2:
        low, high = stream_interval(stream_statistic(harm, units))
        shows = (high - low) / 2
    says: Literal["better", "worse", "not_told", "too_few"] = "not_told"
    if n < facts.needed_items or count < facts.needed_units or low is None or high is None:
        says = "too_few"
    elif high < 0:
        says = "better"
    elif low > 0:
        says = "worse"

    def mean(values: FloatArray) -> float | None:
        return float(values[applies].mean()) if n else None

    return SliceChange(
        metric=metric,
        group=group,
        n=n,
        units=count,
        start=mean(start),
        base=mean(before),
        now=mean(after),
        harm=mean(harm),
        low=low,
        high=high,
        shows=shows,
        says=says,
    )


def _also_changed(data: RunData, lineage: Lineage) -> tuple[str, ...] | None:
    """Names alone: the ledger of another folder is read, which nobody vouches for."""
    try:
        ledger = (Path(lineage.run) / FILE_NAME).stat()
        before = _recipe_of(lineage.run, ledger.st_mtime_ns, ledger.st_size)
        now = flat(data.recipe)
    except (InputError, OSError, ValueError, RecursionError):
        return None
    if not before:
        return None
    if lineage.probes_sha256:  # the same files may lie elsewhere, and others in their place
        same = list(lineage.probes_sha256) == data.started.get("probes_sha256")
        before = before | {"probes.files": now.get("probes.files") if same else None}
    changed = sorted(
        key
        for key in {*before, *now}
        if before.get(key) != now.get(key) and not key.startswith(_EXPECTED)
    )
    return tuple(key[:_LONGEST_KEY] for key in changed[:_MOST_KEYS])


@functools.lru_cache(maxsize=16)
def _recipe_of(run: str, changed_ns: int, size: int) -> dict[str, Any]:
    """A run's recipe, read once for each state of its ledger, for a page that is built again every few seconds."""
    recipe = read_run(Path(run)).recipe
    return flat(recipe) if recipe else {}


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and 0 < value < 1e9 else default
