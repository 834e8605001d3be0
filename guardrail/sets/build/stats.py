"""What a set consists of: counts and prompt lengths, as data, as tables and as a picture."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from guardrail.errors import InputError
from guardrail.sets.build.stats_picture import named, stats_picture
from guardrail.sets.items import ABILITIES, Item
from guardrail.sets.wording import ABILITY_NAMES, CHECK_NAMES
from guardrail.text import count_characters

__all__ = ["EDGES", "render_stats", "set_stats", "stats_picture"]

EDGES = (0, 20, 40, 80, 160, 320, 640, 1280)
"""Where the bins of prompt lengths start, in characters; the last is open."""


def set_stats(items: Sequence[Item]) -> dict[str, Any]:
    """Return what a set consists of, ready for JSON; abilities in the order of every table.

    Lengths are 字数 over all messages of a prompt. `checks` counts the items that carry a kind.

    Raises:
        InputError: there is no item.
    """
    if not items:
        raise InputError("statistics need at least one item, got none; give a set that has items")
    known = {ability: number for number, ability in enumerate(ABILITIES)}
    names = sorted({i.ability for i in items}, key=lambda name: (known.get(name, len(known)), name))
    clusters = {item.cluster for item in items if item.cluster is not None}
    return {
        "items": len(items),
        "clustered_items": sum(item.cluster is not None for item in items),
        "clusters": len(clusters),
        "rehearsed": sum(item.rehearsed for item in items),
        "without_checks": sum(not item.checks for item in items),
        "abilities": {name: _ability([i for i in items if i.ability == name]) for name in names},
        "expects": _counted(item.expects for item in items),
        "checks": _counted(kind for item in items for kind in {c.kind for c in item.checks}),
        "sources": _counted(item.source for item in items),
        "licences": _counted(item.licence for item in items),
        "turns": _counted(str(sum(m.role == "user" for m in i.messages)) for i in items),
        "characters": _lengths(items),
        "edges": list(EDGES),
    }


def _ability(items: Sequence[Item]) -> dict[str, Any]:
    return {
        "items": len(items),
        "refuse": sum(item.expects == "refuse" for item in items),
        "without_checks": sum(not item.checks for item in items),
        "characters": _lengths(items),
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    """Value → how often, most frequent first, equal counts by name."""
    counts = Counter(values)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _lengths(items: Sequence[Item]) -> dict[str, Any]:
    counts = [sum(count_characters(m.content) for m in item.messages) for item in items]
    bins = Counter(bisect_right(EDGES, count) - 1 for count in counts)
    return {
        "mean": round(fmean(counts), 1),
        "median": float(median(counts)),
        "min": min(counts),
        "max": max(counts),
        "histogram": [bins[number] for number in range(len(EDGES))],
    }


def render_stats(stats: Mapping[str, Any]) -> Group:
    """Return the statistics as tables for a terminal."""
    abilities = Table(title=f"{stats['items']} 题 items", title_justify="left")
    abilities.add_column("能力 ability")
    for header in ("题数 items", "拒答 refuse", "无检查 unchecked"):
        abilities.add_column(header, justify="right")
    for header in ("字数 mean", "median", "min", "max"):
        abilities.add_column(header, justify="right")
    for name, row in stats["abilities"].items():
        abilities.add_row(
            escape(named(name, ABILITY_NAMES)),
            *(str(row[key]) for key in ("items", "refuse", "without_checks")),
            *_length_cells(row["characters"]),
        )
    abilities.add_section()
    abilities.add_row(
        "全部 all",
        str(stats["items"]),
        str(stats["expects"].get("refuse", 0)),
        str(stats["without_checks"]),
        *_length_cells(stats["characters"]),
    )
    checks = {named(kind, CHECK_NAMES): count for kind, count in stats["checks"].items()}
    return Group(
        abilities,
        _two_columns("检查 check", "题数 items", checks),
        _two_columns("来源 source", "题数 items", stats["sources"]),
        _two_columns("许可 licence", "题数 items", stats["licences"]),
        _two_columns("轮数 turns", "题数 items", stats["turns"]),
    )


def _length_cells(lengths: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{lengths[key]:g}" for key in ("mean", "median", "min", "max"))


def _two_columns(left: str, right: str, counts: Mapping[str, int]) -> Table:
    table = Table()
    table.add_column(left)
    table.add_column(right, justify="right")
    for name, count in counts.items():
        table.add_row(escape(name), str(count))
    return table
