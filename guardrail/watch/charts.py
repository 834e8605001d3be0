"""Charts as inline SVG inside HTML: stacked panels over one step axis, and interval bars.

Only the lines are SVG, stretched to the room there is (`preserveAspectRatio="none"`, strokes do not
scale); every text is HTML placed by percent or pixel, so it stays legible at any width. No script,
no colours of its own: classes `c1` … `c4`, `muted`, `lv-LEVEL` are styled by the page.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup
from scipy.stats import binomtest

from guardrail.watch.run_data import UNKNOWN, LookFacts, RunData, StreamFacts

__all__ = ["Line", "Panel", "interval_bar", "level_strip", "nice_ticks", "render_panel", "timeline"]

_WIDTH = 1000.0
_LABEL_PX = 16.0
_LANE_GAP = 9.0
"""Percent of the axis that two marks in one lane must lie apart: a mark's width on a phone."""
_MANY = 60
"""Looks above which equal neighbours are one block, and marks above which chips are left out."""

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line; a point whose y is None is a gap with a cross: it was measured and was no number."""

    name: str
    points: Sequence[Point]
    style: str = "c1"
    stepped: bool = False
    label: str | None = None
    """Format of the last value, written at the line's end after the name; None writes nothing."""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart over the step axis."""

    title: str
    unit: str
    lines: Sequence[Line]
    height: int = 120
    ticks: str = "{:g}"
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) of an interval around the first line."""
    rules: Sequence[tuple[float, str]] = ()
    """Horizontal lines with a label, such as a margin."""
    at_least: tuple[float, float] | None = None
    """The y range shown even where the data need less."""
    notes: Sequence[str] = field(default_factory=tuple)


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers within [low, high], which must be finite."""
    width = high - low
    if width <= 0:
        return [low]
    raw = width / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(f for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def _bounds(panel: Panel) -> tuple[float, float]:
    values = [y for line in panel.lines for _, y in line.points if y is not None]
    values += [v for _, low, high in panel.band for v in (low, high)]
    values += [y for y, _ in panel.rules] + list(panel.at_least or ())
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - abs(low) * 0.5 - 1e-9, high + abs(high) * 0.5 + 1e-9
    pad = 0.06 * (high - low)
    fixed = panel.at_least or (math.inf, -math.inf)
    return (low if low == fixed[0] else low - pad, high if high == fixed[1] else high + pad)


def _shown(shape: str, value: float) -> str:
    """A number with a real minus sign and no signed zero; `e` is a short 2.5e−4."""
    if shape == "e":
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−") if value else "0"
    text = shape.format(value + 0.0).replace("-", "−")
    return text if text.strip("+−0.") else "0"


def _path(points: Sequence[tuple[float, float]], stepped: bool) -> str:
    parts = []
    for number, (x, y) in enumerate(points):
        if number and stepped:
            parts.append(f"H{x:.1f}")
        parts.append(f"{'L' if number else 'M'}{x:.1f} {y:.1f}")
    return "".join(parts)


def _runs(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Split a line at its gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def spread(positions: Sequence[float], height: float, apart: float = _LABEL_PX) -> list[float]:
    """Move label positions so that neighbours lie `apart`, inside [0, height] where they fit."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [0.0] * len(positions)
    floor = -math.inf
    for i in order:
        floor = placed[i] = max(positions[i], floor + apart)
    ceiling = height
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - apart
    return placed


def render_panel(panel: Panel, span: float, marks: Sequence[float] = ()) -> Markup:
    """Return one panel; `span` is the last step of the axis, `marks` the steps of vertical lines."""
    low, high = _bounds(panel)
    height = float(panel.height)

    def px(x: float) -> float:
        return _WIDTH * x / span

    def py(y: float) -> float:
        return height * (high - y) / (high - low)

    ticks = nice_ticks(low, high)
    svg = [f'<path class="grid" d="M0 {py(t):.1f}H1000"/>' for t in ticks]
    if panel.band:
        edge = [(px(x), py(b)) for x, _, b in panel.band]
        edge += [(px(x), py(a)) for x, a, _ in reversed(panel.band)]
        svg.append(f'<path class="band" d="{_path(edge, False)}Z"/>')
    svg += [f'<path class="rule" d="M0 {py(y):.1f}H1000"/>' for y, _ in panel.rules]
    svg += [f'<path class="event" d="M{px(x):.1f} 0V{height:g}"/>' for x in marks]
    for line in panel.lines:
        for run in _runs(line.points):
            drawn = [(px(x), py(y)) for x, y in run]
            svg.append(f'<path class="line {line.style}" d="{_path(drawn, line.stepped)}"/>')
            if line.dots or len(run) == 1:
                dots = "".join(f"M{x:.1f} {y:.1f}h.01" for x, y in drawn)
                svg.append(f'<path class="dots {line.style}" d="{dots}"/>')
    tick = '<span class="tick" style="top:{:.1f}px">{}</span>'
    html = [tick.format(py(t), _shown(panel.ticks, t)) for t in ticks]
    gaps = [x for line in panel.lines for x, y in line.points if y is None]
    crosses = [f'<span class="gap" style="left:{100 * x / span:.2f}%">×</span>' for x in gaps]
    return Markup(
        '<figure class="panel"><figcaption>{}<span class="unit">{}</span>{}</figcaption>'
        '<div class="row"><div class="yaxis" style="height:{:g}px">{}</div>'
        '<div class="canvas"><svg viewBox="0 0 1000 {:g}" height="{:g}" preserveAspectRatio="none" '
        'role="img" aria-label="{}">{}</svg>{}</div><div class="ends">{}</div></div></figure>'
    ).format(
        panel.title,
        panel.unit,
        Markup("").join(Markup('<span class="note">{}</span>').format(n) for n in panel.notes),
        height,
        Markup("".join(html)),
        height,
        height,
        f"{panel.title} {panel.unit}",
        Markup("".join(svg)),
        Markup("".join(crosses)),
        _end_labels(panel, py, height),
    )


def _end_labels(panel: Panel, py: Callable[[float], float], height: float) -> Markup:
    labels: list[tuple[float, str, str]] = []
    for line in panel.lines:
        known = [y for _, y in line.points if y is not None]
        if line.label is not None and known:
            text = f"{line.name} {_shown(line.label, known[-1])}".strip()
            labels.append((py(known[-1]), text, line.style))
    labels += [(py(y), text, "ruled") for y, text in panel.rules]
    tops = spread([top for top, _, _ in labels], height)
    return Markup("").join(
        Markup('<span class="end {}" style="top:{:.1f}px">{}</span>').format(style, top, text)
        for top, (_, text, style) in zip(tops, labels, strict=True)
    )


def step_axis(span: float, unit: str) -> Markup:
    """Return the axis below the last panel."""
    ticks = [t for t in nice_ticks(0, span, 5) if t == int(t)]
    return Markup(
        '<div class="row xaxis"><div></div><div class="canvas">{}</div><div class="unit">{}</div></div>'
    ).format(
        Markup("").join(
            Markup('<span style="left:{:.2f}%">{:.0f}</span>').format(100 * t / span, t)
            for t in ticks
        ),
        unit,
    )


def level_strip(data: RunData, words: Mapping[str, str], span: float) -> Markup:
    """Return the looks as blocks from midpoint to midpoint: height, colour and symbol say the level."""
    at: dict[int, tuple[int, str]] = {}
    for look in data.looks:
        at[look.step] = (look.seq, look.level if look.tested else UNKNOWN)
    for failure in data.failures:
        if at.get(failure["step"], (-1, ""))[0] < failure["seq"]:
            at[failure["step"]] = (failure["seq"], UNKNOWN)
    steps = sorted(at)
    if len(steps) > _MANY:  # blocks thinner than their border would vanish: join equal neighbours
        steps = steps[:1] + [b for a, b in pairwise(steps) if at[a][1] != at[b][1]]
    # The last look says nothing about what came after it.
    end = min(span, steps[-1] + 0.04 * span) if steps else span
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(steps)), end]
    block = Markup(
        '<div class="lv-{}" style="left:{:.2f}%;width:{:.2f}%" title="{} {} · {}"><i>{}</i></div>'
    )
    blocks = []
    for step, left, right in zip(steps, edges, edges[1:], strict=False):
        level, width = at[step][1], 100 * (right - left) / span
        symbol = words.get("symbol_" + level, "") if width >= 4 else ""
        said = words.get(level, level)
        left = 100 * left / span
        blocks.append(block.format(level, left, width, words["step"], step, said, symbol))
    return Markup(
        '<div class="row strip"><div class="striplabel">{}</div><div class="canvas">{}</div><div></div></div>'
    ).format(words["levels"], Markup("").join(blocks))


def mark_lane(marks: Sequence[tuple[float, str]], span: float, label: str) -> Markup:
    """Return the marks' chips above the panels, in as many lanes as they need not to overlap."""
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


def interval_bar(stream: StreamFacts, scale: float) -> Markup:
    """Return change (harm negated) with its 95 % interval against zero and margin, on ±`scale`."""
    if stream.harm is None or stream.margin is None or scale <= 0:
        return Markup("")

    def at(harm: float) -> float:
        return min(100.0, max(0.0, 50 - 50 * harm / scale))

    low = stream.harm if stream.low is None else stream.low
    high = stream.harm if stream.high is None else stream.high
    left, right = at(high), at(low)
    return Markup(
        '<span class="bar lv-{}" aria-hidden="true"><i class="zero"></i><i class="edge" style="left:{:.1f}%"></i>'
        '<i class="whisker" style="left:{:.1f}%;width:{:.1f}%"></i><i class="mean" style="left:{:.1f}%"></i></span>'
    ).format(stream.standing, at(stream.margin), left, right - left, at(stream.harm))


def _abilities(data: RunData, words: Mapping[str, str], names: Mapping[str, str]) -> Panel:
    """Every ability's pass rate; the three that end lowest are coloured and named."""
    points: dict[str, list[Point]] = {}
    for group in data.looks[-1].groups:
        found = [(look.step, look.stream("passed", group)) for look in data.looks]
        known = [(x, 100 * s.now) for x, s in found if s is not None and s.now is not None]
        if known:
            points[group] = [*known]
    lowest = sorted(points, key=lambda g: points[g][-1][1] or 0.0)[:3]
    lines = [Line("", points[g], "muted") for g in points if g not in lowest]
    notes = [words["others"].format(len(lines))] if lines else []
    lines += [
        Line(names.get(g, g), points[g], f"c{i + 2}", label="{:.0f}", dots=True)
        for i, g in enumerate(lowest)
    ]
    return Panel(words["abilities"], "%", lines, height=150, at_least=(0.0, 100.0), notes=notes)


def _change(data: RunData, words: Mapping[str, str]) -> list[Panel]:
    """The overall pass rate's harm, turned so that down is worse, with interval and margin."""
    overall = [(k.step, k.stream("passed", "overall")) for k in data.looks]
    points = [(x, -100 * s.harm) for x, s in overall if s is not None and s.harm is not None]
    band, margin = [], 0.0
    for x, s in overall:
        if s is not None and s.low is not None and s.high is not None:
            band.append((x, -100 * s.high, -100 * s.low))
            margin = 100 * (s.margin or 0.0)
    if not points:
        return []
    return [
        Panel(
            words["change"],
            words["points"],
            [Line("", points, label="{:+.1f}", dots=True)],
            height=150,
            ticks="{:+g}",
            band=band,
            rules=[(-margin, words["margin"].format(margin))] if margin else [],
            at_least=(-margin, 0.0),
            notes=[words["band"]],
        )
    ]


def _benchmark(data: RunData, words: Mapping[str, str]) -> list[Panel]:
    """Choice accuracy with the 95 % Wilson interval of one look."""
    asked = [(k.step, k.benchmark) for k in data.looks if k.benchmark]
    if not asked:
        return []
    points = [(x, 100 * b["right"] / b["questions"]) for x, b in asked]
    band = []
    for x, b in asked:
        found = binomtest(b["right"], b["questions"]).proportion_ci(0.95, method="wilson")
        band.append((x, 100 * found.low, 100 * found.high))
    line = Line("", points, label="{:.0f}", dots=True)
    guess = (25.0, words["guess"])
    return [
        Panel(words["benchmark"], "%", [line], 100, band=band, rules=[guess], at_least=(0, 100))
    ]


def timeline_panels(
    data: RunData, words: Mapping[str, str], names: Mapping[str, str]
) -> list[Panel]:
    """Return the panels for which the ledger holds anything."""
    panels = _change(data, words)
    if data.looks and data.looks[-1].groups:
        panels.append(_abilities(data, words, names))
    panels += _benchmark(data, words)
    rehearsal = [
        (r["step"], r["rehearsal_kl"]) for r in data.logs if r.get("rehearsal_kl") is not None
    ]
    tripwire = [(r["step"], r.get("kl")) for r in data.tripwires]
    kl = [Line(words["rehearsal_kl"], rehearsal, "c1", label="{:.3f}")] if rehearsal else []
    kl += [Line(words["tripwire_kl"], tripwire, "c2", label="{:.3f}")] if tripwire else []
    if kl:
        panels.append(Panel(words["kl"], words["nats"], kl))
    zero = (0.0, 0.0)
    if data.kl_weights:
        steps: list[Point] = [*data.kl_weights, (data.step, data.kl_weights[-1][1])]
        line = Line("", steps, "c3", stepped=True, label="{:.3g}")
        panels.append(Panel(words["kl_weight"], "", [line], height=80, at_least=zero))
    for key, unit, style, shape in (
        ("learning_rate", "", "c4", "e"),
        ("loss", words["nats"], "c1", "{:.3f}"),
    ):
        points = [(r["step"], r.get(key)) for r in data.logs]
        if points:
            line = Line("", points, style, label=shape)
            ticks = shape if shape == "e" else "{:g}"
            panels.append(Panel(words[key], unit, [line], 100, ticks, at_least=zero))
    return panels


def timeline(data: RunData, words: Mapping[str, str], names: Mapping[str, str]) -> Markup:
    """Return the stacked timeline: level strip, numbered marks of the actions, panels, step axis.

    Args:
        data: The run.
        words: Titles, units, level words and symbols in the page's language.
        names: Ability → name in the page's language.
    """
    span = float(max(1, data.step))
    at: dict[int, list[str]] = {}
    for number, action in enumerate(data.actions, start=1):
        at.setdefault(action.step, []).append(str(number))
    for rewind in data.rewinds:
        at.setdefault(max(0, rewind["step"]), []).append("↺")
    marks = [(float(step), "·".join(texts)) for step, texts in sorted(at.items())]
    parts = [level_strip(data, words, span)]
    if 0 < len(marks) <= _MANY:
        parts.append(mark_lane(marks, span, words["actions"]))
    parts += [
        render_panel(panel, span, [step for step, _ in marks])
        for panel in timeline_panels(data, words, names)
    ]
    parts.append(step_axis(span, words["axis"]))
    return Markup('<div class="timeline">{}</div>').format(Markup("").join(parts))


def heat(look: LookFacts, group: str) -> int:
    """Return the shade of a heat-map cell: harm in margins, 0 (none) to 5 (beyond eight margins)."""
    stream = look.stream("passed", group)
    if stream is None or stream.harm is None or not stream.margin:
        return 0
    return sum(stream.harm / stream.margin > limit for limit in (0.25, 1, 2, 4, 8))


def shown_looks(data: RunData, at_most: int = 20) -> list[LookFacts]:
    """Return the looks of the heat map: all, or first, last, level changes and an even spread."""
    looks = list(data.looks)
    if len(looks) <= at_most:
        return looks
    changes = [b for a, b in pairwise(looks) if a.level != b.level]
    must = [looks[0], *changes[: at_most - 2], looks[-1]]
    room = at_most - len(must)
    spread = [looks[(i + 1) * len(looks) // (room + 1)] for i in range(room)]
    return sorted({k.seq: k for k in must + spread}.values(), key=lambda k: k.seq)


def detectable(stream: StreamFacts, spread: float = 0.35) -> float:
    """Return the drop in points that one look sees with a chance of 80 %.

    margin + (c + 0.84) * spread / sqrt(n), c the boundary in force; `spread` is the standard
    deviation of a pass-rate harm when 12 % of the items change sides (docs/STATISTICS.md).
    """
    boundary = 3.5 if stream.boundary_warn is None else stream.boundary_warn
    return 100 * ((stream.margin or 0.0) + (boundary + 0.84) * spread / math.sqrt(stream.n))
