"""What went wrong and since when, what was inherited, what it cost: read off the looks, no language."""

import math
from datetime import datetime
from itertools import pairwise

from guardrail.judge.verdict import Facts, Stream, shows_harm
from guardrail.ledger.records import LookFacts
from guardrail.report.run_data import RunData

__all__ = [
    "Compute",
    "Conditions",
    "Inherited",
    "Onset",
    "compute_spent",
    "conditions",
    "detectable",
    "guarding_time",
    "harm_step",
    "inherited_and_new",
    "mean_ability",
    "onset",
    "peak_learning_rate",
    "telling_look",
]


class Onset(Facts):
    """Since when a stream has been above ok without a break."""

    metric: str
    group: str
    first_step: int
    """Step of the first look of the stretch."""
    ok_step: int | None
    """Step of the last look before it that tested the stream and found it ok."""
    looks: int
    """Looks of the stretch; a repeat on the same weights is none of its own."""
    repeated: bool
    """Whether a repeat on the same weights said the same."""


class Conditions(Facts):
    """What the training was doing when it broke: the newest values logged up to that look."""

    step: int
    learning_rate: float | None
    """As the optimizer had it, warm-up and cuts included."""
    kl_weight: float | None
    """In force up to that look, before what the guard did there."""
    rehearsal_kl: float | None
    """Nats a token, policy against reference on rehearsal items."""
    unique_prompts: int | None
    """Different rehearsal prompts seen so far."""


class Inherited(Facts):
    """One ability's pass rate: gold base, start model and now; None where it was not measured."""

    group: str
    gold_base: float | None
    start: float | None
    now: float | None

    @property
    def inherited(self) -> float | None:
        """What the start model had lost already, as a share."""
        return None if self.gold_base is None or self.start is None else self.gold_base - self.start

    @property
    def new(self) -> float | None:
        """What this run lost, as a share."""
        return None if self.start is None or self.now is None else self.start - self.now


class Compute(Facts):
    """What the run cost so far."""

    hours: float | None
    """Wall hours of training times processes; None where the ledger does not tell."""
    processes: int
    device: str | None
    """`cpu`, `cuda` …; None where the ledger does not say."""
    exact: bool
    """Whether the trainer's own clock says so; else it is the time between the records."""


def telling_look(data: RunData) -> LookFacts | None:
    """Return the look whose streams say what broke: the newest one above ok, None where all were ok."""
    return next((k for k in reversed(data.looks) if k.drifted and k.alarmed), None)


def onset(data: RunData, stream: Stream, look: LookFacts) -> Onset:
    """Return since when a stream has been above ok, seen from a look at which it is.

    The stretch goes back as far as the mean was beyond its margin: the bar differs from look to look, and a stream that falls
    below it for a look has not recovered. Looks at the same weights are one point.
    """
    upto = [k for k in data.looks if k.seq <= look.seq]
    first, steps = look, [look.step]
    for k in reversed(upto[:-1]):
        found = k.stream(stream.metric, stream.group)
        if found is None or (not found.tested and not shows_harm(found.level)):
            continue
        if shows_harm(found.level):
            first = k
            steps.append(k.step)
        elif k.step < first.step and found.standing != "not_shown":
            break
    before = [
        k.step
        for k in upto
        if k.step < first.step and (s := k.stream(stream.metric, stream.group)) and s.tested
    ]
    return Onset(
        metric=stream.metric,
        group=stream.group,
        first_step=first.step,
        ok_step=max(before, default=None),
        looks=len(set(steps)),
        repeated=len(steps) > len(set(steps)),
    )


def conditions(data: RunData) -> Conditions | None:
    """Return what the training was doing at the first look of the newest stretch above ok; None without one."""
    telling = telling_look(data)
    if telling is None:
        return None
    step = onset(data, telling.alarmed[0], telling).first_step
    logs = [r for r in data.logs if r.step <= step]

    def newest(name: str) -> float | None:
        return next((v for r in reversed(logs) if (v := getattr(r, name)) is not None), None)

    prompts = newest("unique_prompts")
    return Conditions(
        step=step,
        learning_rate=newest("learning_rate"),
        kl_weight=next((w for at, w in reversed(data.kl_weights) if at < max(step, 1)), None),
        rehearsal_kl=newest("rehearsal_kl"),
        unique_prompts=None if prompts is None else int(prompts),
    )


def peak_learning_rate(data: RunData) -> float | None:
    """Return the highest learning rate of the run; None where nothing says it.

    The recipe's where `guardrail run` handed it to the trainer; a script or framework of one's own has its
    arguments elsewhere, and there the logged rates are all there is.
    """
    logged = max((r.learning_rate for r in data.logs if r.learning_rate is not None), default=None)
    given = data.trainer_arguments.get("learning_rate")
    if not data.run_by_recipe or not isinstance(given, float | int):
        return logged
    return max(float(given), logged or 0.0)


def inherited_and_new(data: RunData) -> list[Inherited]:
    """Return every ability's pass rate at the gold base, the start and now; empty from the gold base itself."""
    if not data.inherited:
        return []
    start, now = data.looks[0], data.looks[-1]
    rows = []
    for group in ["overall", *start.groups]:
        before, after = start.stream("passed", group), now.stream("passed", group)
        if before is not None:
            current = after.now if after is not None and now.number > 0 else None
            rows.append(
                Inherited(group=group, gold_base=before.base, start=before.now, now=current)
            )
    return rows


def mean_ability(look: LookFacts | None, value: str) -> float | None:
    """Return the mean pass rate over abilities, each counting once; `value` is `base` or `now`."""
    groups = (look.groups or ["overall"]) if look else []
    streams = [look.stream("passed", group) for group in groups] if look else []
    rates = [getattr(s, value) for s in streams if s is not None]
    known = [r for r in rates if r is not None]
    return math.fsum(known) / len(known) if known else None


def guarding_time(data: RunData) -> tuple[dict[str, float], float | None]:
    """Return the seconds the guard took, by what, and their share of the training time.

    The share is None where the run has no end or was resumed: then the training seconds cover only the last
    stretch.
    """
    seconds = {k: s for k, s in data.closing.seconds.items() if s} if data.closing else {}
    train = seconds.pop("train", None)
    if not seconds:  # no closing record: what looks and tripwires say of themselves
        here = [] if data.beside else data.looks  # a sidecar's seconds are not the training's
        seconds["looks"] = math.fsum(look.seconds or 0.0 for look in here)
        seconds["tripwires"] = math.fsum(r.seconds or 0.0 for r in data.tripwires)
    spent = {what: s for what, s in seconds.items() if s}
    return spent, math.fsum(spent.values()) / train if train and not data.rewinds else None


def harm_step(harm: float, margin: float) -> int:
    """Return how many margins a harm is, in the steps of heat map and sparkline: 0 (none) to 5 (beyond eight)."""
    return sum(harm / margin > limit for limit in (0.25, 1, 2, 4, 8))


def compute_spent(data: RunData) -> Compute:
    """Return device-hours: wall time of training times the processes that trained together."""
    processes = data.started.get("processes")
    device = data.started.get("device")
    if device is None and data.trainer_arguments.get("use_cpu") is True:
        device = "cpu"
    train = data.closing.seconds.get("train") if data.closing else None
    if train is None and data.logs:
        train = data.logs[-1].seconds.get("train")  # the same clock, while the run goes on
    exact = train is not None
    if train is None:
        train = _recorded_seconds(data)
    count = processes if isinstance(processes, int) and processes > 0 else 1
    return Compute(
        hours=None if train is None else train * count / 3600,
        processes=count,
        device=None if device is None else str(device),
        exact=exact,
    )


def _recorded_seconds(data: RunData) -> float | None:
    """Seconds between first and last record, the pauses before resumes left out."""
    rows = [*data.looks, *data.logs, *data.tripwires, *data.checkpoints, *data.rewinds]
    times: list[tuple[datetime, bool]] = sorted(
        ((r.time, r in data.rewinds) for r in rows if r.time is not None), key=lambda t: t[0]
    )
    if len(times) < 2 or len({t.tzinfo is None for t, _ in times}) > 1:
        return None
    gaps = [(b - a).total_seconds() for (a, _), (b, back) in pairwise(times) if not back]
    return math.fsum(gaps)


def detectable(stream: Stream, spread: float = 0.35) -> float:
    """Return the drop in points that one look sees with a chance of 80 %.

    margin + (c + 0.84) * s, c the boundary in force and s the stream's own standard error, which knows its templates, but no less
    than spread / sqrt(n); `spread` is the standard deviation of a pass-rate harm when 12 % of the items change sides
    (docs/drift-simulation.md has what a whole run sees, which is more).
    """
    boundary = 3.5 if stream.boundary_warn is None else stream.boundary_warn
    error = max(stream.se or 0.0, spread / math.sqrt(max(1, stream.n)))
    return 100 * ((stream.margin or 0.0) + (boundary + 0.84) * error)
