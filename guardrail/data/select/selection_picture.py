"""A selection as a picture: the funnel, where the chosen lie among all by score, abilities before and after."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from guardrail.data.rows import DataRow
from guardrail.data.stage_folder import Made

__all__ = ["selection_picture"]

_WIDTH, _EDGE, _LABEL, _ROW = 860, 28, 230, 24
_BINS = 24
_STYLE = """text{font:13px system-ui,'PingFang SC','Microsoft YaHei',sans-serif;fill:#15191c}.h1{font-size:20px;font-weight:600}.h2{font-size:15px;font-weight:600}
.card{fill:#fff}.soft{fill:#5c6670}.all{fill:#c9d3dc}.kept{fill:#2f6fb0}.lost{fill:#c9622f}
@media(prefers-color-scheme:dark){text{fill:#e9ebed}.card{fill:#1b1f23}.soft{fill:#a9b1ba}.all{fill:#414b55}.kept{fill:#7cb8ff}.lost{fill:#ff9f66}}"""


def selection_picture(made: Made, by: str, title: str) -> str:
    """Return the picture as SVG.

    Args:
        made: What a selection kept and dropped.
        by: The score it went by.
        title: Its first line.
    """
    every = [*made.rows, *(row for _, row in made.dropped)]
    lost = Counter(reason for reason, _ in made.dropped).most_common()
    abilities = Counter(row.ability for row in every).most_common()
    parts: list[Markup] = [_text(_EDGE, 40, title, "h1")]
    y = 76
    parts.append(_text(_EDGE, y, "漏斗 funnel", "h2"))
    for name, count, style in [
        ("读入 read", len(every), "all"),
        *((f"− {reason}", count, "lost") for reason, count in lost),
        ("留下 kept", len(made.rows), "kept"),
    ]:
        y += _ROW
        parts += _bar(y, name, count, len(every), style)
    y += 44
    parts.append(_text(_EDGE, y, f"{by} 的分布：全部与留下的 distribution, all and kept", "h2"))
    parts += _histogram(y + 12, by, every, made.rows)
    y += 190
    parts.append(_text(_EDGE, y, "各能力：全部与留下的 abilities, all and kept", "h2"))
    kept = Counter(row.ability for row in made.rows)
    for name, count in abilities:
        y += _ROW
        parts += _bar(y, name, count, abilities[0][1], "all", kept[name])
    height = y + 40
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" '
            'aria-label="{2}"><style>{3}</style><rect class="card" width="100%" height="100%"/>{4}</svg>\n'
        ).format(_WIDTH, height, title, Markup(_STYLE), Markup("\n").join(parts))
    )


def _bar(
    y: float, name: str, count: int, most: int, style: str, kept: int | None = None
) -> Iterator[Markup]:
    room = _WIDTH - 2 * _EDGE - _LABEL - 110
    left = _EDGE + _LABEL
    long = room * count / max(1, most)
    yield _text(left - 8, y + 13, name, "", end=True)
    yield _rect(style, left, y, long, 16)
    said = f"{count:,}"
    if kept is not None:
        yield _rect("kept", left, y, room * kept / max(1, most), 16)
        said = f"{kept:,} / {count:,}"
    yield _text(left + long + 8, y + 13, said, "soft")


def _histogram(
    top: float, by: str, every: Sequence[DataRow], kept: Sequence[DataRow]
) -> Iterator[Markup]:
    values = [row.scores[by] for row in every if by in row.scores]
    if not values:
        yield _text(_EDGE, top + 20, "没有分数 no scores", "soft")
        return
    low, high = min(values), max(values)
    width = (high - low) / _BINS or 1.0
    edges = [low + width * n for n in range(1, _BINS)]
    bins = [
        Counter(bisect_right(edges, row.scores[by]) for row in rows if by in row.scores)
        for rows in (every, kept)
    ]
    most = max(bins[0].values())
    step = (_WIDTH - 2 * _EDGE) / _BINS
    for style, counts in zip(("all", "kept"), bins, strict=True):
        for place, count in counts.items():
            tall = 120 * count / most
            yield _rect(style, _EDGE + place * step + 1, top + 124 - tall, step - 2, tall)
    yield _text(_EDGE, top + 142, f"{low:.3g}", "soft")
    yield _text(_WIDTH - _EDGE, top + 142, f"{high:.3g}", "soft", end=True)


def _rect(style: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>'
    ).format(style, x, y, width, height)


def _text(x: float, y: float, text: str, style: str, *, end: bool = False) -> Markup:
    anchor = Markup(' text-anchor="end"') if end else ""
    shown = "".join(c if c.isprintable() else "�" for c in text)
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}"{}>{}</text>').format(
        style, x, y, anchor, shown
    )
