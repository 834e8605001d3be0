"""The statistics of a set as one SVG file that needs nothing beside it: no script, no font, no page.

Everything is placed in units of a 960 wide canvas; labels are cut to the room they have, so that no two
texts meet whatever the names are. Colours follow the reader's light or dark setting.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from guardrail.sets.wording import ABILITY_NAMES, CHECK_NAMES

__all__ = ["named", "stats_picture"]

_WIDTH, _EDGE, _ROW = 960.0, 32.0, 26.0
_LABEL = 176.0
_SPARK = 46.0
"""Height of one ability's row in the length panel."""
_STYLE = """
text{font:13px system-ui,"PingFang SC","Hiragino Sans GB","Microsoft YaHei","Noto Sans CJK SC",sans-serif;fill:#1b1f23}
.card{fill:#fff}.h1{font-size:20px;font-weight:650}.h2{font-size:15px;font-weight:650}.soft{fill:#545c66;font-size:12px}
.bar{fill:#0b5cad}.refuse{fill:#a84300}.check{fill:#00735c}.grid{stroke:#d9dcd6}
@media(prefers-color-scheme:dark){text{fill:#e9ebed}.card{fill:#1b1f23}.soft{fill:#a9b1ba}
.bar{fill:#7cb8ff}.refuse{fill:#ff9f66}.check{fill:#5ed1af}.grid{stroke:#353b41}}
"""


def stats_picture(stats: Mapping[str, Any], title: str) -> str:
    """Return the statistics of `set_stats` as SVG: items an ability, check kinds, prompt lengths."""
    half = (_WIDTH - 3 * _EDGE) / 2
    right = 2 * _EDGE + half
    abilities, checks = stats["abilities"], stats["checks"]
    top = 108.0
    below = top + 20 + _ROW * max(len(abilities), len(checks), 1) + 34
    height = below + 48 + _SPARK * len(abilities) + 24
    parts = [
        _text(_EDGE, 42, title, "h1", _WIDTH - 2 * _EDGE, 20),
        _text(_EDGE, 66, _summary(stats), "soft", _WIDTH - 2 * _EDGE, 12),
        _text(_EDGE, top, "各能力题数 items per ability", "h2", half, 15),
        *_bars(_EDGE, top + 20, half, _ability_rows(abilities)),
        _text(right, top, "检查种类 items per check kind", "h2", half, 15),
        *_bars(right, top + 20, half, _check_rows(checks)),
        _text(_EDGE, below, "题目字数 prompt length in characters", "h2", _WIDTH / 2, 15),
        *_lengths(below + 10, stats),
    ]
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:g} {1:g}" width="{0:g}" height="{1:g}" '
            'role="img" aria-label="{2}"><style>{3}</style><rect class="card" width="100%" height="100%"/>{4}</svg>\n'
        ).format(_WIDTH, height, _clean(title), Markup(_STYLE), Markup("\n").join(parts))
    )


def _summary(stats: Mapping[str, Any]) -> str:
    several = sum(count for turns, count in stats["turns"].items() if turns != "1")
    parts = [f"{stats['items']} 题 items", f"{several} 题多轮 multi-turn"]
    parts.append(f"{stats['without_checks']} 题无检查 unchecked")
    if stats["clusters"]:
        parts.append(f"{stats['clusters']} 簇 clusters")
    for label, key in (("来源 source", "sources"), ("许可 licence", "licences")):
        first = next(iter(stats[key]))
        more = len(stats[key]) - 1
        parts.append(f"{label} {_fit(first, 170, 12)}{f' +{more}' if more else ''}")
    return " · ".join(parts)


def _ability_rows(abilities: Mapping[str, Any]) -> list[tuple[str, int, int, str]]:
    return [
        (named(name, ABILITY_NAMES), row["items"], row["refuse"], "bar")
        for name, row in abilities.items()
    ]


def _check_rows(checks: Mapping[str, int]) -> list[tuple[str, int, int, str]]:
    return [(named(kind, CHECK_NAMES), count, 0, "check") for kind, count in checks.items()]


def named(name: str, names: Mapping[str, str]) -> str:
    """Return a name in Chinese with its own beside it, once where both are the same."""
    chinese = names.get(name, name)
    return chinese if chinese.lower() == name else f"{chinese} {name}"


def _bars(
    left: float, top: float, width: float, rows: Sequence[tuple[str, int, int, str]]
) -> Iterator[Markup]:
    """Horizontal bars of (label, count, part that expects a refusal, style)."""
    if not rows:
        yield _text(left, top + 16, "没有 none", "soft", width, 12)
        return
    number = 96.0
    label = _LABEL
    room = width - label - number
    most = max(count for _, count, _, _ in rows)
    for position, (name, count, refuse, style) in enumerate(rows):
        y = top + position * _ROW
        long, dark = room * count / most, room * refuse / most
        yield _text(left + label - 10, y + 13, name, "", label - 10, 13, end=True)
        yield _rect(style, left + label, y, long, 17)
        if refuse:
            yield _rect("refuse", left + label, y, dark, 17)
        said = f"{count}" + (f"（拒答 {refuse}）" if 0 < refuse < count else "")
        said += "（全拒答）" if refuse and refuse == count else ""
        yield _text(left + label + long + 8, y + 13, said, "soft", number - 8, 12)


def _lengths(top: float, stats: Mapping[str, Any]) -> Iterator[Markup]:
    """One row of bins an ability, each scaled to its own highest bin."""
    edges = stats["edges"]
    label, side = _LABEL, 160.0
    room = _WIDTH - 2 * _EDGE - label - side
    step = room / len(edges)
    head = "median（min–max）"
    yield _text(_EDGE + label + room + 12, top - 10, head, "soft", side - 12, 12)
    for number, (name, row) in enumerate(stats["abilities"].items()):
        lengths = row["characters"]
        base = top + (number + 1) * _SPARK
        yield _text(
            _EDGE + label - 10, base - 6, named(name, ABILITY_NAMES), "", label - 10, 13, end=True
        )
        yield Markup('<path class="grid" d="M{:.1f} {:.1f}h{:.1f}"/>').format(
            _EDGE + label, base, room
        )
        highest = max(lengths["histogram"])
        for place, count in enumerate(lengths["histogram"]):
            if count:
                x, tall = _EDGE + label + place * step, max(1.5, (_SPARK - 20) * count / highest)
                yield _rect("bar", x + 2, base - tall, step - 4, tall)
                yield _middle(x + step / 2, base - tall - 3, str(count))
        said = f"{lengths['median']:g}（{lengths['min']}–{lengths['max']}）"
        yield _text(_EDGE + label + room + 12, base - 6, said, "soft", side - 12, 12)
    base = top + len(stats["abilities"]) * _SPARK + 18
    for place, edge in enumerate(edges):
        shown = f"{edge}–{edges[place + 1] - 1}" if place + 1 < len(edges) else f"≥ {edge}"
        yield _middle(_EDGE + label + (place + 0.5) * step, base, shown)


def _rect(style: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>'
    ).format(style, x, y, width, height)


def _middle(x: float, y: float, text: str) -> Markup:
    return Markup('<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
        x, y, text
    )


def _text(
    x: float, y: float, text: str, style: str, room: float, size: float, *, end: bool = False
) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}"{}>{}</text>').format(
        style, x, y, Markup(' text-anchor="end"') if end else "", escape(_fit(text, room, size))
    )


def _clean(text: str) -> str:
    """The text without characters that no XML file may hold."""
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cs", "Cn") else "�" for c in text)


def _fit(text: str, room: float, size: float) -> str:
    """The text, cut with … where it would be wider than the room at this font size."""
    text, used = _clean(text), 0.0
    for position, character in enumerate(text):
        used += size * (1.02 if unicodedata.east_asian_width(character) in "WFA" else 0.6)
        if used > room:
            return text[: max(0, position - 1)] + "…"
    return text
