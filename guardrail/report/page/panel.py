"""One panel of a stacked chart as inline SVG inside HTML, over the shared axis of training steps.

Only the lines are SVG, stretched to the room there is (`preserveAspectRatio="none"`, strokes do not
scale); every text is HTML placed by percent or pixel, so it stays legible at any width. No script,
no colours of its own: classes `c1` … `c4`, `muted`, `lv-LEVEL` are styled by the page.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

__all__ = ["Line", "Panel", "Point", "nice_ticks", "render_panel", "spread", "step_axis", "thinned"]

_WIDTH = 1000.0
_LABEL_PX = 16.0
_MOST_POINTS = 400
"""Points drawn of one line; of more the smallest and largest of each stretch are kept."""
_MOST_GAPS = 60

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


@dataclass(slots=True)
class Panel:
    """One chart over the step axis."""

    title: str
    """Escaped by the panel unless it is Markup."""
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


def thinned(points: Sequence[Point], at_most: int = _MOST_POINTS) -> list[Point]:
    """Return a line of at most about so many points: of each stretch its smallest and largest stay, gaps too."""
    if len(points) <= at_most:
        return list(points)
    size = 2 * len(points) / at_most
    kept: set[int] = {0, len(points) - 1}
    for k in range(at_most // 2):
        stretch = range(round(k * size), min(len(points), round((k + 1) * size)))
        known = [(y, i) for i in stretch if (y := points[i][1]) is not None]
        kept |= {min(known)[1], max(known)[1]} if known else set(stretch[:1])
    return [points[i] for i in sorted(kept)]


def render_panel(
    panel: Panel, span: float, marks: Sequence[float] = (), *, gap: str = ""
) -> Markup:
    """Return one panel.

    Args:
        panel: What to draw.
        span: The last step of the axis.
        marks: Steps of vertical lines.
        gap: What a cross on the axis means, for its title.
    """
    low, high = _bounds(panel)
    height = float(panel.height)

    def px(x: float) -> float:
        return _WIDTH * x / span

    def py(y: float) -> float:
        return height * (high - y) / (high - low)

    ticks = nice_ticks(low, high, 3 if height <= 80 else 4)
    svg = [f'<path class="grid" d="M0 {py(t):.1f}H1000"/>' for t in ticks]
    if panel.band:
        edge = [(px(x), py(b)) for x, _, b in panel.band]
        edge += [(px(x), py(a)) for x, a, _ in reversed(panel.band)]
        svg.append(f'<path class="band" d="{_path(edge, False)}Z"/>')
    svg += [f'<path class="rule" d="M0 {py(y):.1f}H1000"/>' for y, _ in panel.rules]
    svg += [f'<path class="event" d="M{px(x):.1f} 0V{height:g}"/>' for x in marks]
    for line in panel.lines:
        for run in _runs(thinned(line.points)):
            drawn = [(px(x), py(y)) for x, y in run]
            svg.append(f'<path class="line {line.style}" d="{_path(drawn, line.stepped)}"/>')
            if line.dots or len(run) == 1:
                dots = "".join(f"M{x:.1f} {y:.1f}h.01" for x, y in drawn)
                svg.append(f'<path class="dots {line.style}" d="{dots}"/>')
    tick = '<span class="tick" style="top:{:.1f}px">{}</span>'
    html = [tick.format(py(t), _shown(panel.ticks, t)) for t in ticks]
    gaps = [x for line in panel.lines for x, y in line.points if y is None][:_MOST_GAPS]
    cross = Markup('<span class="gap" style="left:{:.2f}%" title="{}">×</span>')
    crosses = [cross.format(100 * x / span, gap) for x in gaps]
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
        Markup("").join(crosses),
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
