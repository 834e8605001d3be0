"""Which abilities a run lost, by the rule that judged it, asked of the items that may choose a repair."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardrail.errors import InputError
from guardrail.judge.look_values import (
    Measured,
    answer_lines,
    judge_look,
    read_business_measured,
    read_measured,
    with_business,
)
from guardrail.judge.rule import MetricRule, RuleState, unit_numbers
from guardrail.judge.statistic import half_width, item_harm, stream_statistic
from guardrail.ledger.records import LookFacts
from guardrail.probes.business_probes import BusinessProbes
from guardrail.probes.trusted_probes import trusted_probes
from guardrail.recipe import recorded_recipe
from guardrail.report.named_items import named_items
from guardrail.report.run_data import RunData, read_run
from guardrail.sets.items import Item
from guardrail.sets.reserved import reserved_ids
from guardrail.simulate import judged_against

__all__ = [
    "Drifted",
    "SliceSize",
    "answers_digest",
    "drifted_abilities",
    "read_drifted_run",
    "run_items",
]


_ASKED = "passed"
"""The metric by which a report says whether a repair helped."""


@dataclass(frozen=True, slots=True)
class SliceSize:
    """How much the reserved slice can show of a group's pass rate."""

    group: str
    """`overall` or an ability."""
    n: int
    """Reserved items that have a pass rate."""
    shows: float | None
    """About the smallest mean change that they tell from none, by the spread of the items that are not reserved; None: too few."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """What a run's newest look says without the reserved slice."""

    look: LookFacts
    level: str
    streams: tuple[str, ...]
    """Those above ok, `METRIC/GROUP` each."""
    abilities: tuple[str, ...]
    """Worst first; empty where nothing is above ok."""
    shown: bool
    """Whether each of them is above ok alone; else its mean fell beyond the margin, and only all items together are above ok."""
    items: int
    """Red-line items that had a say."""
    reserved: int
    """Items that had none."""
    probes: Mapping[str, str]
    """Files of the business's own probes that judged too, as the user named them → their digests."""
    slice_sizes: tuple[SliceSize, ...]
    """Of all of them, then of each ability that drifted."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; the look by its number and step."""
        facts = {name: getattr(self, name) for name in ("level", "streams", "abilities", "shown")}
        place = {"look": self.look.number, "step": self.look.step}
        sizes = [asdict(one) for one in self.slice_sizes]
        counts = {"items": self.items, "reserved": self.reserved, "slice": sizes}
        return {**place, **facts, **counts}


def read_drifted_run(run: Path) -> RunData:
    """Return what the ledger of a run says, which must have looked after its start.

    Raises:
        InputError: the folder holds no ledger, a damaged one, or one without such a look.
    """
    data = read_run(run)
    if data.damaged:
        raise InputError(
            f"the ledger of `{run}` is damaged (line {data.damaged[0]}); restore it from a copy"
        )
    if data.last_look is None or data.last_look.number == 0:
        raise InputError(
            f"`{run}` holds no look after its start: nothing shows what drifted; give the folder of a run that looked"
        )
    return data


def run_items(data: RunData, key: str) -> list[Item]:
    """Return the items of a run's `red_line` or `rehearsal` set, as they were when it began.

    Raises:
        InputError: they are gone, or others now.
    """
    try:
        return named_items(data, key)
    except OSError as error:
        raise InputError(
            f"the {key.replace('_', '-')} items of `{data.run}` cannot be read ({error}); put the set back"
        ) from error


def run_probes(data: RunData, given: Sequence[Path]) -> BusinessProbes:
    """Return the business's own probes that a run was judged by, of files that the user trusts.

    Raises:
        InputError: as `trusted_probes`, or it was judged by some and none is given.
    """
    recipe = recorded_recipe(data.run, data.recipe)
    if recipe.probes.files and not given:
        raise InputError(
            f"`{data.run}` was also judged by a business's own probes and cluster rule (`probes.files`: {', '.join(recipe.probes.files)}); a "
            "repair carries out no code that a run folder names, and without it would judge by other streams and clusters than the run "
            "did. Name the files yourself, if you trust them: `--probes FILE`, for each"
        )
    return trusted_probes(data.run, recipe.probes.files, data.started.get("probes_sha256"), given)


def drifted_abilities(data: RunData, red_line: list[Item], probes: Sequence[Path] = ()) -> Drifted:
    """Judge the newest look again by its answers to the items that are not reserved, with a whole error budget.

    The run's own verdict is not asked: it knows the reserved slice.

    Args:
        data: The run (`read_drifted_run`).
        red_line: Its red-line items.
        probes: Files of the business's own probes, if it was judged by some; they are carried out.

    Raises:
        InputError: answers of look 0 or of the newest look are gone or are not those that were written; or as `run_probes`.
    """
    business = run_probes(data, probes)
    recipe = recorded_recipe(data.run, data.recipe)
    kept_back = reserved_ids(red_line)
    items = [item for item in red_line if not item.rehearsed and item.id not in kept_back]
    if not items:
        raise InputError(
            f"the red line of `{data.run}` has no item that may choose a repair; it needs items that are neither "
            "rehearsed nor reserved"
        )
    own = recipe.drift_config(1)
    config = with_business(own, business)
    first, look = data.looks[0], data.looks[-1]
    start, now = (
        read_measured(
            data.run, one.answers, one.answers_sha256, [i.id for i in items], list(own.metrics)
        )
        | read_business_measured(data.run, one.answers, one.answers_sha256, items, business)
        for one in (first, look)
    )
    against = judged_against(recipe, items, start, business, inherited=first.inherited)
    base = {name: against[name] for name in config.metrics}
    try:
        verdict, _ = judge_look(
            items, base, now, config, RuleState(), final=True, business=business
        )
    except ValueError as error:
        raise InputError(f"`{data.run / look.answers}`: {error}; restore it from a copy") from error
    abilities = tuple(s.group for s in verdict.fallen) if verdict.drifted else ()
    apart = [item for item in red_line if item.id in kept_back]
    sizes: tuple[SliceSize, ...] = ()
    if abilities and _ASKED in config.metrics and apart:
        ids = [item.id for item in apart]
        said = read_measured(data.run, look.answers, look.answers_sha256, ids, [_ASKED])
        # Which of them have a pass rate, and not what it is.
        apart = [i for i, v in zip(apart, said[_ASKED][:, 0], strict=True) if not np.isnan(v)]
        sizes = tuple(
            _slice_size(group, apart, items, base, now, config.metrics[_ASKED])
            for group in ("overall", *abilities)
        )
    return Drifted(
        look=look,
        level=verdict.level,
        streams=tuple(stream.name for stream in verdict.alarmed),
        abilities=abilities,
        shown=any(stream.group != "overall" for stream in verdict.alarmed),
        items=len(items),
        reserved=len(kept_back),
        probes=business.sha256,
        slice_sizes=sizes,
    )


def _slice_size(
    group: str,
    apart: Sequence[Item],
    items: Sequence[Item],
    base: Measured,
    now: Measured,
    rule: MetricRule,
) -> SliceSize:
    """What reserved items of a group can show, if their answers change as unevenly as those of the others did."""
    inside = [item for item in apart if group in ("overall", item.ability)]
    units = len(np.unique(unit_numbers([item.cluster for item in inside]))) if inside else 0
    harm = item_harm(base[_ASKED], now[_ASKED].mean(axis=1), worse=rule.worse, clip=rule.clip)
    harm = np.where([group in ("overall", item.ability) for item in items], harm, np.nan)
    of_all = unit_numbers([item.cluster for item in items])
    shows = None
    if units >= 2 and len(np.unique(of_all[~np.isnan(harm)])) >= 2:
        shows = half_width(stream_statistic(harm, of_all).sd, len(inside), units)
    return SliceSize(group, len(inside), shows)


def answers_digest(data: RunData, look: LookFacts) -> str:
    """Return the SHA-256 of a look's answers.

    Raises:
        InputError: they are gone or are not those that were written.
    """
    try:
        lines = answer_lines(data.run, look.answers, look.answers_sha256)
    except (OSError, ValueError) as error:
        raise InputError(f"`{data.run / look.answers}` cannot be read ({error})") from error
    return hashlib.sha256(b"\n".join(lines)).hexdigest()
