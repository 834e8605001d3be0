"""Page one in words: how the run ended, why it is to go on or back, what broke, since when; each in one sentence.

Functions of the phrases `p` and the run; badge and sentence come from one level, so that they cannot disagree.
"""

from collections.abc import Sequence

from markupsafe import Markup

from guardrail.judge.verdict import UNTESTED
from guardrail.ledger.records import LookFacts
from guardrail.report.findings import Conditions, Onset, peak_learning_rate, telling_look
from guardrail.report.page.phrases import Phrases, capital, number
from guardrail.report.recommendation import NO_FAULT, Recommendation
from guardrail.report.run_data import RunData

__all__ = [
    "checkpoint_says",
    "fallen",
    "halted_because",
    "level_sentence",
    "lowest_on_the_way",
    "measured",
    "moved_before",
    "outcome",
    "since",
    "state_at",
    "sure_after",
    "why",
]

_WITHOUT_AGE = {
    "running": "running_live",
    "not_begun": "not_begun_live",
    "silent": "silent_live",
}


def outcome(p: Phrases, data: RunData, advice: Recommendation, silent_s: float | None) -> Markup:
    """Return how the run ended or where it is; without an age where a live page tells that elsewhere."""
    code = data.outcome
    if data.one_look:
        code = "look"
    elif advice.because in (
        "silent",
        "gone",
        "interrupted",
        "halted_on_failure",
        "finished_unmeasured",
    ):
        code = advice.because
    elif advice.because in ("pipeline", "inherited"):
        code = "refused"
    elif code == "running" and data.step == 0:
        code = "not_begun"
    elif code == "terminated" and data.step == 0:
        code = "terminated_at_start"
    elif code == "halted" and data.planned_steps and data.step >= data.planned_steps:
        code = "halted_at_end"
    if code not in p.t["outcome"]:
        code = "crashed"
    if silent_s is None:
        return p.say("outcome", _WITHOUT_AGE.get(code, code), step=data.step)
    return p.say("outcome", code, step=data.step, ago=p.ago(silent_s))


def why(p: Phrases, data: RunData, advice: Recommendation) -> Markup:
    """Return the one sentence that gives the recommendation's reason and what follows."""
    reason = p.say("why", advice.because, measured=measured(p, data, advice))
    ok_step = data.last_ok.step if data.last_ok else ""
    return p.sentence([reason, p.say("then", _then(advice), ok_step=ok_step)])


def measured(p: Phrases, data: RunData, advice: Recommendation) -> Markup:
    """Return what the newest valid look showed; agrees with the recommendation's level by construction."""
    look = data.last_look
    if look is None or not look.tested:
        return p.t["measured"]["nothing"]
    alarmed = p.streams(look.alarmed, 1)
    drifted, before = "drifted", "drifted_before"
    if len(look.alarmed) > 1:
        drifted, before = "drifted_several", "drifted_before_several"
    if advice.level == UNTESTED:
        key = "ok_before" if look.level == "ok" else before
        return p.say("measured", key, step=look.step, streams=alarmed)
    if advice.level == "ok":
        return p.t["measured"]["ok"]
    return p.say("measured", drifted, streams=alarmed)


def level_sentence(p: Phrases, look: LookFacts | None, level: str) -> Markup:
    """Return the sentence that stands beside a level's badge."""
    if look is None or level not in p.t["level_sentence"]:
        return p.t["level_sentence"][UNTESTED]
    worst = [s for s in look.alarmed if s.level == level]
    return p.say("level_sentence", level, count=len(worst))


def since(p: Phrases, onsets: Sequence[Onset], first_look_step: int | None) -> list[Markup]:
    """Return since when streams are above ok, those that tripped together in one sentence."""
    together: dict[tuple[int, int | None, int, bool], list[Onset]] = {}
    for o in onsets:
        together.setdefault((o.first_step, o.ok_step, o.looks, o.repeated), []).append(o)
    said = []
    for (first, ok, looks, repeated), found in together.items():
        names = [p.stream_name(o.metric, o.group) for o in found]
        key = "since_first" if not ok and first == first_look_step else "since_after"
        key = "since_unknown" if ok is None and key == "since_after" else key
        named = p.joined(names[:3])
        if len(names) > 3:
            named = p.say("page", "and_more", named=named, count=len(names))
        text = capital(p.say("say", key, stream=named, ok_step=ok, first_step=first))
        still = [p.say("say", "since_still", looks=looks)] if looks > 1 else []
        again = [p.t["say"]["since_repeat"]] if repeated else []
        said.append(Markup(" ").join([text, *still, *again]))
    return said


def moved_before(p: Phrases, data: RunData, onsets: Sequence[Onset]) -> Markup | None:
    """Return what had moved beyond its margin unproven at the last look called ok; None for nothing."""
    o = next((o for o in onsets if o.ok_step), None)
    look = next((k for k in reversed(data.looks) if o and k.step == o.ok_step), None)
    found = [look.stream(o.metric, o.group) for o in onsets] if look else []
    moved = [
        Markup("{} {} ({})").format(p.stream(s), p.amount(s.metric, s.harm), p.interval(s))
        for s in found
        if s is not None and s.standing in ("not_shown", "attention")
    ]
    if look is None or not moved:
        return None
    return p.say("say", "ok_but", step=look.step, moved=p.joined(moved[:3]))


def state_at(p: Phrases, data: RunData, at: Conditions) -> Markup | None:
    """Return what the training was doing when it broke; None where nothing was logged."""
    parts = []
    rate, total = peak_learning_rate(data), data.started.get("rehearsal_items")
    if at.learning_rate is not None and rate:
        share = f"{100 * at.learning_rate / rate:.0f}"
        parts.append(p.say("say", "state_lr", v=f"{at.learning_rate:.3g}", share=share))
    if at.kl_weight is not None:
        parts.append(p.say("say", "state_weight", v=number(round(at.kl_weight, 6))))
    if at.rehearsal_kl is not None:
        parts.append(p.say("say", "state_kl", v=f"{at.rehearsal_kl:.3g}"))
    if at.unique_prompts is not None and isinstance(total, int):
        parts.append(p.say("say", "state_prompts", seen=at.unique_prompts, total=total))
    named = p.joined(parts, "clause")
    return p.say("say", "state_at", step=at.step, named=named) if parts else None


def checkpoint_says(p: Phrases, data: RunData, step: int) -> Markup | None:
    """Return what the look of a checkpoint measured: overall and the lowest ability."""
    look = next((k for k in reversed(data.looks) if k.step == step), None)
    overall = look.stream("passed", "overall") if look else None
    if look is None or overall is None:
        return None
    parts = [s for g in look.groups if (s := look.stream("passed", g)) and s.now is not None]
    lowest = min(parts, key=lambda s: s.now or 0.0, default=overall)
    change = p.say("page", "to", a=p.percent(overall.base), b=p.percent(overall.now))
    return p.say(
        "say",
        "checkpoint_says",
        overall=change,
        standing=p.name("level", overall.standing),
        ability=p.ability(lowest.group),
        lowest=p.percent(lowest.now, 0),
    )


def fallen(p: Phrases, data: RunData, at_most: int = 3) -> tuple[Markup, Markup] | None:
    """Return the abilities that fell furthest, none of them above ok alone, and what keeps each from a level of its own."""
    look = telling_look(data)
    if look is None or any(s.group != "overall" for s in look.alarmed):
        return None
    below = look.fallen[:at_most]
    if not below:
        return None
    named = [
        Markup("{} {}").format(
            p.ability(s.group),
            p.say("page", "to", a=p.percent(s.base, 0), b=p.percent(s.now, 0)),
        )
        if s.metric == "passed"
        else Markup("{} {}").format(p.stream(s), p.amount(s.metric, s.harm))
        for s in below
    ]
    tested = {s.tested for s in below}
    key = "not_shown_alone" if tested == {True} else "not_tested_alone"
    key = "no_level_alone" if len(tested) > 1 else key
    return p.say("say", "others_fell", named=p.joined(named)), p.t["say"][key]


def halted_because(p: Phrases, data: RunData) -> Markup | None:
    """Return which rule of the ladder halted the run; None where none of them did."""
    halt = next((a for a in data.actions if a.kind == "halt" and a.carried_out), None)
    looks = [k for k in data.looks if halt is not None and k.seq < halt.seq]
    if len(looks) < 2 or looks[-1].trigger != "repeat":
        return None
    first, again = looks[-2:]
    level = p.name("level", again.level)
    if first.level == "critical":
        return p.say("say", "halt_critical", level=level)
    cuts = sum(a.kind == "cut_lr" for a in data.moves)
    return p.say("say", "halt_persistent", cuts=cuts, level=level)


def lowest_on_the_way(p: Phrases, data: RunData) -> Markup | None:
    """Return which look after the start had the lowest overall pass rate, if more than a margin below the last."""
    overall = [(k.step, k.stream("passed", "overall")) for k in data.looks if k.number > 0]
    known = [(s.now, step, s.margin or 0.0) for step, s in overall if s and s.now is not None]
    if not known:
        return None
    low, step, margin = min(known)
    last = known[-1][0]
    return p.say("say", "lowest", step=step, value=p.percent(low)) if last - low > margin else None


def sure_after(p: Phrases, data: RunData, onset: Onset) -> Markup:
    """Return what a guard that has acted does to the promise, where the same was shown before it did."""
    look = next((k for k in data.looks if k.step == onset.first_step), None)
    first = look.stream(onset.metric, onset.group) if look else None
    telling = telling_look(data)
    now = telling.stream(onset.metric, onset.group) if telling else None
    # A warning has a promise of its own; a look comes before what is done about it.
    same = first and now and (first.level == "warn") == (now.level == "warn")
    if same and look and data.moves and look.seq < data.moves[0].seq:
        return p.say("say", "sure_first", step=onset.first_step)
    return p.t["say"]["sure_after"]


def _then(advice: Recommendation) -> str:
    because, what = advice.because, advice.recommendation
    if what in ("roll_back", "abandon"):
        return what
    if because == "damaged":
        return "repair"
    if because in NO_FAULT:
        return "resume_now"
    table = {
        "nothing_recorded": "nothing",
        "pipeline": "pipeline",
        "inherited": "inherited",
        "running": "wait",
        "running_unmeasured": "wait" if what == "continue" else "repair",
        "running_drifted": "ladder",
        "finished_unmeasured": "measure",
        "look_ok": "use",
        "look_drifted": "reject",
        "look_untested": "measure",
        "finished_ok": "use",
        "finished_recovered": "use",
        "silent": "check_process",
    }
    if because in table:
        return table[because]
    return "repair" if what == "undecided" else "resume"
