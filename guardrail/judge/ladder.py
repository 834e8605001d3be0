"""The ladder: the history of verdicts → what to do now. Pure; the constants come from the recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from guardrail.judge.verdict import UNTESTED, Verdict, rank

__all__ = ["Action", "Judged", "LadderConfig", "decide", "judged_look"]

Kind = Literal["none", "relax_kl", "raise_kl", "cut_lr", "repeat_look", "halt"]


@dataclass(frozen=True, slots=True)
class LadderConfig:
    """The ladder's constants; the defaults are those of a recipe's `ladder` section, which says what each does."""

    raise_factor: float = 1.5
    max_boost: float = 8.0
    relax_factor: float = 0.8
    clean_looks_to_relax: int = 3
    lr_factor: float = 0.5
    max_lr_cuts: int = 3
    cooldown_looks: int = 2
    persistent_serious_looks: int = 5
    max_relapses: int = 2


@dataclass(frozen=True, slots=True)
class Judged:
    """One judged look as the ladder sees it.

    `alarmed` names the streams above ok (`metric/group`); `harm_over_margin` gives, for every tested
    stream, mean harm divided by margin. `repeat` marks the second look on the same weights; `sound` is the verdict's.
    """

    step: int
    level: str
    alarmed: tuple[str, ...] = ()
    harm_over_margin: Mapping[str, float] | None = None
    repeat: bool = False
    sound: bool = True


def judged_look(step: int, verdict: Verdict, *, repeat: bool = False) -> Judged:
    """Return what the ladder needs of a verdict."""
    return Judged(
        step=step,
        level=verdict.level,
        alarmed=tuple(s.name for s in verdict.alarmed),
        harm_over_margin={
            s.name: s.harm / s.margin
            for s in verdict.streams
            if s.tested and s.harm is not None and s.margin
        },
        repeat=repeat,
        sound=verdict.sound,
    )


@dataclass(frozen=True, slots=True)
class Action:
    """What to do after a look, and where the levers stand afterwards.

    `boost` multiplies the KL weight, `lr_factor` the learning rate, both against the recipe's values.
    """

    kind: Kind
    boost: float
    lr_factor: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Standing:
    boost: float = 1.0
    lr_factor: float = 1.0
    lr_cuts: int = 0
    looks_since_raise: int | None = None
    acted_level: int = 0
    clean: int = 0
    persistent_looks: int = 0
    relaxed: bool = False
    relapses: int = 0
    watched: frozenset[str] = frozenset()


def decide(history: Sequence[Judged], config: LadderConfig) -> Action:
    """Return the action after the last look of the history.

    The history alone decides: the same looks always give the same levers, so a resumed run needs no
    further state. Guarantees: 1 <= boost <= `max_boost`; `lr_factor` never rises and never falls
    below `lr_factor ** max_lr_cuts`; no second raise within the cool-down unless the level is higher
    than the one acted upon; a first critical asks for a repeat and only a second one on the same
    weights halts. A look that tested nothing is not clean and moves no lever.

    Raises:
        ValueError: the history is empty.
    """
    if not history:
        raise ValueError("`history` must hold at least one look")
    standing = _Standing()
    action = Action("none", 1.0, 1.0, "")
    for number, look in enumerate(history):
        previous = history[number - 1] if number else None
        standing, action = _after(standing, look, previous, config)
    return action


def _after(
    s: _Standing, look: Judged, previous: Judged | None, config: LadderConfig
) -> tuple[_Standing, Action]:
    level = rank(look.level)
    named = ", ".join(look.alarmed[:3])
    if not look.repeat:
        since = None if s.looks_since_raise is None else s.looks_since_raise + 1
        s = replace(s, looks_since_raise=since)
    if look.level == UNTESTED:  # it shows nothing, so that nothing becomes better or worse by it
        return s, Action("none", s.boost, s.lr_factor, "nothing was tested")
    if level < 2:
        s = replace(s, persistent_looks=0)
    elif s.lr_cuts >= 2 and not look.repeat:
        s = replace(s, persistent_looks=s.persistent_looks + 1)
    persistent = s.persistent_looks >= config.persistent_serious_looks
    if level == 3 or persistent:
        confirmed = look.repeat and previous is not None and previous.step == look.step
        why = f"critical: {named}" if level == 3 else f"still serious after two cuts: {named}"
        return s, Action("halt" if confirmed else "repeat_look", s.boost, s.lr_factor, why)
    if level == 0:
        return _calm(s, look, config)
    s = replace(s, clean=0)
    if s.relaxed and s.watched & set(look.alarmed):
        s = replace(s, relapses=s.relapses + 1, relaxed=False)
    cooling = s.looks_since_raise is not None and s.looks_since_raise <= config.cooldown_looks
    if cooling and level <= s.acted_level:
        return s, Action("none", s.boost, s.lr_factor, f"cooling down; {look.level}: {named}")
    boost = min(config.max_boost, s.boost * config.raise_factor)
    cut = level == 2 and s.lr_cuts < config.max_lr_cuts
    s = replace(
        s,
        boost=boost,
        lr_factor=s.lr_factor * config.lr_factor if cut else s.lr_factor,
        lr_cuts=s.lr_cuts + int(cut),
        looks_since_raise=0,
        acted_level=level,
        watched=s.watched | set(look.alarmed),
    )
    kind: Kind = "cut_lr" if cut else "raise_kl"
    return s, Action(kind, s.boost, s.lr_factor, f"{look.level}: {named}")


def _calm(s: _Standing, look: Judged, config: LadderConfig) -> tuple[_Standing, Action]:
    harms = look.harm_over_margin or {}
    # No signal is not health: a watched stream that was not measured keeps the boost where it is.
    settled = all(name in harms and harms[name] <= 0.5 for name in s.watched)
    s = replace(s, clean=s.clean + 1)
    if (
        s.boost > 1.0
        and s.clean >= config.clean_looks_to_relax
        and settled
        and s.relapses < config.max_relapses
    ):
        s = replace(s, boost=max(1.0, s.boost * config.relax_factor), relaxed=True)
        reason = f"{s.clean} clean looks, harm at most half the margin"
        return s, Action("relax_kl", s.boost, s.lr_factor, reason)
    return s, Action("none", s.boost, s.lr_factor, "")
