"""The timeline of a run: level strip, numbered actions, stacked panels over one step axis."""

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup
from scipy.stats import binomtest

from guardrail.judge.verdict import UNTESTED
from guardrail.report.page.panel import Line, Panel, Point, render_panel, step_axis
from guardrail.report.page.phrases import Phrases
from guardrail.report.run_data import RunData

__all__ = ["timeline"]

_LANE_GAP = 9.0
"""Percent of the axis that two marks in one lane must lie apart: a mark's width on a phone."""
_MANY = 60
"""Looks above which equal neighbours are one block, and marks above which chips are left out."""
_MOST_METRICS = 6
"""Logged metrics drawn; the others are counted in a note."""


def timeline(data: RunData, phrases: Phrases) -> Markup:
    """Return the stacked timeline: level strip, numbered marks of the actions, panels, step axis."""
    words = phrases.t["timeline"]
    span = float(max(1, data.step))
    at: dict[int, list[str]] = {}
    for number, action in enumerate(data.actions, start=1):
        at.setdefault(action.step, []).append(str(number))
    for rewind in data.rewinds:
        at.setdefault(max(0, rewind.step), []).append("↺")
    marks = [(float(step), "·".join(texts)) for step, texts in sorted(at.items())]
    parts = [_level_strip(data, phrases, span)]
    if 0 < len(marks) <= _MANY:
        parts.append(_mark_lane(marks, span, words["actions"]))
    lines = [step for step, _ in marks] if len(marks) <= _MANY else []
    panels = [*_judged(data, phrases), *_steered(data, phrases), *_metrics(data, phrases)]
    parts += [render_panel(panel, span, lines, gap=words["gap"]) for panel in panels]
    parts.append(step_axis(span, words["axis"]))
    return Markup('<div class="timeline">{}</div>').format(Markup("").join(parts))


def _level_strip(data: RunData, phrases: Phrases, span: float) -> Markup:
    """The looks as blocks over the training each judges: height, colour and symbol say the level."""
    at: dict[int, tuple[int, str]] = {}
    for look in data.looks:
        shown = "not_shown" if look.level == "ok" and not look.sound else look.level
        at[look.step] = (look.seq, shown)
    for failure in data.failures:
        if at.get(failure.step, (-1, ""))[0] < failure.seq:
            at[failure.step] = (failure.seq, UNTESTED)
    steps = sorted(at)
    if len(steps) > _MANY:  # blocks thinner than their border would vanish: join equal neighbours
        steps = [a for a, b in pairwise(steps) if at[a][1] != at[b][1]] + steps[-1:]
    # A block ends at its look; look 0 judged no training and gets a sliver.
    edges = [0.0, *(max(0.012 * span, float(step)) for step in steps)]
    block = Markup(
        '<div class="lv-{}" style="left:{:.2f}%;width:{:.2f}%" title="{} · {}"><i>{}</i></div>'
    )
    blocks = []
    for step, left, right in zip(steps, edges, edges[1:], strict=False):
        level, width = at[step][1], 100 * (right - left) / span
        symbol = phrases.t["symbol"].get(level, "?") if width >= 4 else ""
        name = phrases.say("timeline", "step", step=step)
        said = phrases.name("level", level)
        shown = "ok" if level == "not_shown" else level
        shown = shown if shown in phrases.t["level_sentence"] else UNTESTED
        blocks.append(block.format(shown, 100 * left / span, width, name, said, symbol))
    return Markup(
        '<div class="row strip"><div class="striplabel">{}</div><div class="canvas">{}</div><div></div></div>'
    ).format(phrases.t["timeline"]["levels"], Markup("").join(blocks))


def _mark_lane(marks: Sequence[tuple[float, str]], span: float, label: str) -> Markup:
    """The marks' chips above the panels, in as many lanes as they need not to overlap."""
    ends: list[float] = []
    chips = []
    for step, text in marks:
        at = 100 * step / span
        lane = next((i for i, end in enumerate(ends) if at - end >= _LANE_GAP), len(ends))
        ends[lane : lane + 1] = [at]
        chips.append(
            Markup('<span class="chip" style="left:{:.2f}%;top:{}px">{}</span>').format(
                at, 22 * lane, text
            )
        )
    return Markup(
        '<div class="row lane" style="height:{}px"><div class="striplabel">{}</div>'
        '<div class="canvas">{}</div><div></div></div>'
    ).format(22 * max(1, len(ends)), label, Markup("").join(chips))


def _judged(data: RunData, phrases: Phrases) -> list[Panel]:
    """What the looks measured: overall change, abilities, and the benchmark that no verdict sees."""
    panels = _change(data, phrases)
    if data.looks and data.looks[-1].groups:
        panels.append(_abilities(data, phrases))
    return panels + _benchmark(data, phrases)


def _change(data: RunData, phrases: Phrases) -> list[Panel]:
    """The overall pass rate's harm, turned so that down is worse, with interval and margin."""
    words = phrases.t["timeline"]
    overall = [(k.step, k.stream("passed", "overall")) for k in data.looks]
    points: list[Point] = []
    band, margin = [], 0.0
    for x, s in overall:
        if s is None or s.harm is None:
            continue
        points.append((x, -100 * s.harm))
        if s.low is not None and s.high is not None:
            band.append((float(x), max(-100.0, -100 * s.high), min(100.0, -100 * s.low)))
            margin = 100 * (s.margin or 0.0)
    if not points:
        return []
    rules = [(-margin, str(words["margin"].format(v=f"{margin:.0f}")))] if margin else []
    line = Line("", points, label="{:+.1f}", dots=True)
    return [
        Panel(
            words["change"],
            words["points"],
            [line],
            height=150,
            ticks="{:+g}",
            band=band,
            rules=rules,
            at_least=(-margin, 0.0),
            notes=[words["band"]],
        )
    ]


def _abilities(data: RunData, phrases: Phrases) -> Panel:
    """Every ability's pass rate; the three that end lowest are coloured and named."""
    words = phrases.t["timeline"]
    points: dict[str, list[Point]] = {}
    for group in data.looks[-1].groups:
        found = [(look.step, look.stream("passed", group)) for look in data.looks]
        known = [(x, 100 * s.now) for x, s in found if s is not None and s.now is not None]
        if known:
            points[group] = [*known]
    lowest = sorted(points, key=lambda g: points[g][-1][1] or 0.0)[:3]
    lines = [Line("", points[g], "muted") for g in points if g not in lowest]
    notes = [words["others"].format(count=len(lines))] if lines else []
    lines += [
        Line(phrases.ability(g, "ability_short"), points[g], f"c{i + 2}", label="{:.0f}", dots=True)
        for i, g in enumerate(lowest)
    ]
    return Panel(words["abilities"], "%", lines, height=150, at_least=(0.0, 100.0), notes=notes)


def _benchmark(data: RunData, phrases: Phrases) -> list[Panel]:
    """Choice accuracy with the 95 % Wilson interval of one look."""
    words = phrases.t["timeline"]
    asked = [(k.step, k.benchmark) for k in data.looks if k.benchmark]
    if not asked:
        return []
    points: list[Point] = []
    band = []
    for x, b in asked:
        right = min(b.right, b.questions)
        found = binomtest(right, b.questions).proportion_ci(0.95, method="wilson")
        points.append((x, 100 * right / b.questions))
        band.append((float(x), 100 * found.low, 100 * found.high))
    line = Line("", points, label="{:.0f}", dots=True)
    guess = (25.0, str(words["guess"]))
    return [
        Panel(words["benchmark"], "%", [line], 100, band=band, rules=[guess], at_least=(0, 100))
    ]


def _steered(data: RunData, phrases: Phrases) -> list[Panel]:
    """KL, its weight, learning rate, loss and reward: what the guard moves and what follows at once."""
    words, panels = phrases.t["timeline"], []
    rehearsal: list[Point] = [
        (r.step, r.rehearsal_kl) for r in data.logs if r.rehearsal_kl is not None
    ]
    tripwire: list[Point] = [(r.step, r.kl) for r in data.tripwires]
    kl = [Line(words["rehearsal_kl"], rehearsal, "c1", label="{:.3f}")] if rehearsal else []
    kl += (
        [Line(words["tripwire_kl"], tripwire, "c2", label="{:.3f}", dots=len(tripwire) <= 30)]
        if tripwire
        else []
    )
    if kl:
        panels.append(Panel(words["kl"], words["nats"], kl))
    zero = (0.0, 0.0)
    if data.kl_weights:
        steps: list[Point] = [*data.kl_weights, (data.step, data.kl_weights[-1][1])]
        line = Line("", steps, "c3", stepped=True, label="{:.3g}")
        panels.append(Panel(words["kl_weight"], "", [line], height=80, at_least=zero))
    for key, unit, style, shape, least in (
        ("learning_rate", "", "c4", "e", zero),
        ("loss", words["nats"], "c1", "{:.3f}", zero),
        ("reward", "", "c2", "{:.3f}", None),
    ):
        points: list[Point] = [(r.step, getattr(r, key)) for r in data.logs]
        if key == "reward" and all(reward is None for _, reward in points):
            continue  # only GRPO has one
        if points:
            line = Line("", points, style, label=shape)
            ticks = shape if shape == "e" else "{:g}"
            panels.append(Panel(words[key], unit, [line], 100, ticks, at_least=least))
    return panels


def _metrics(data: RunData, phrases: Phrases) -> list[Panel]:
    """What others logged, one small panel each; those logged most often where there are many."""
    words = phrases.t["timeline"]
    series: dict[str, list[Point]] = {}
    for r in data.metrics:
        series.setdefault(r.name, []).append((r.step, r.value))
    drawable = [name for name, points in series.items() if any(y is not None for _, y in points)]
    chosen = sorted(drawable, key=lambda name: -len(series[name]))[:_MOST_METRICS]
    panels = [
        Panel(phrases.name("metric", name[:60]), "", [Line("", series[name], label="{:.4g}")], 70)
        for name in drawable
        if name in chosen
    ]
    if panels:
        notes = [words["metric_unit"]]
        if len(drawable) > len(chosen):
            notes.append(words["more_metrics"].format(count=len(drawable) - len(chosen)))
        panels[0].notes = notes
    return panels
