"""`guardrail status` in a terminal: the facts of `run_status` at 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.exit_codes import UNTESTED_END
from guardrail.judge.verdict import UNTESTED, rank
from guardrail.live.sidecar_status import sidecar_said
from guardrail.live.status import shown_state
from guardrail.report.findings import harm_step
from guardrail.report.page.escape_controls import escape_controls

__all__ = [
    "LEVEL_STYLE",
    "cost_said",
    "one_line",
    "render_status",
    "sparkline",
    "spoken_seconds",
    "untested_said",
]

LEVEL_STYLE = {
    "ok": "green",
    "warn": "yellow",
    "serious": "dark_orange",
    "critical": "bold red",
    UNTESTED: "bold magenta",
}
"""Terminal colour of each level; the word always stands beside it."""
_SYMBOL = {"ok": "✓", "warn": "▲", "serious": "◆", "critical": "■", UNTESTED: "?"}
_STANDING = {
    "few_items": "few items",
    "few_clusters": "few templates",
    "no_budget": "no budget left",
    "untested": "not tested",
    "not_shown": "not shown",
}
_BLOCKS = "▁▂▃▅▆█"
_SPARK_CELLS = 24
_LEVEL_CELLS = 56
_LOOKS_SHOWN = 8
_ACTIONS_SHOWN = 6


def one_line(text: object, at_most: int = 160) -> str:
    """Return text from a run on one line, cut, its control characters visible and dead."""
    cut = str(text)[: at_most + 1]
    shown = escape_controls(cut[:at_most]).replace("\n", " ").replace("\t", " ")
    return shown + ("…" if len(cut) > at_most else "")


def spoken_seconds(seconds: float) -> str:
    """Return a length of time as a person says it: `40 s`, `12 min`, `3.5 h`, `2 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 129600 else f"{seconds / 86400:.0f} days"


def cost_said(cost: Mapping[str, Any]) -> str:
    """Return what guarding took, and its share of the training time where that is known."""
    spent = cost["seconds"].items()
    said = ", ".join(f"{one_line(what, 20)} {spoken_seconds(s)}" for what, s in spent)
    return said if cost["share"] is None else f"{said}: {cost['share']:.0%} of the training time"


def untested_said(look: Mapping[str, Any]) -> str:
    """Return how many of a look's streams were not tested, and why; nothing where all were."""
    kinds = look["untested"]
    if not kinds:
        return ""
    why = ", ".join(f"{count} {_STANDING.get(kind, kind)}" for kind, count in kinds.items())
    return f"{sum(kinds.values())} of {look['streams']} streams not tested: {why}"


def named_streams(names: Sequence[str]) -> str:
    """Return the worst two of a look's streams above ok by name, and how many more there are."""
    named = ", ".join(one_line(name, 40) for name in names[:2])
    return named + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _buckets(values: Sequence[Any], cells: int) -> list[Sequence[Any]]:
    """Split values into at most so many neighbours' groups of nearly equal size, order kept."""
    count = min(cells, len(values))
    return [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]


def sparkline(
    harms: Sequence[float | None], margin: float | None, cells: int = _SPARK_CELLS
) -> str:
    """Return harm over looks as blocks, higher is worse; where looks share a cell, the worst of them.

    ▁ up to a quarter of the margin, ▂ up to the margin, ▃ ▅ ▆ █ beyond 1, 2, 4 and 8 margins, · unknown.
    """
    shown = []
    for group in _buckets(harms, cells):
        known = [h for h in group if h is not None]
        if not known or not margin or margin < 0:
            shown.append("·")
        else:
            shown.append(_BLOCKS[harm_step(max(known), margin)])
    return "".join(shown)


def _level_strip(looks: Sequence[Mapping[str, Any]]) -> Text:
    strip = Text()
    for group in _buckets(looks, _LEVEL_CELLS):
        level = max((k["level"] for k in group if k["tested"]), key=rank, default=UNTESTED)
        strip.append(_SYMBOL.get(level, "?"), LEVEL_STYLE.get(level, ""))
    return strip


def _state(status: Mapping[str, Any]) -> tuple[str, str]:
    """The word for where a run stands, and its colour."""
    words = {
        "stale": ("STALE", "bold red"),
        "interrupted": ("interrupted by hand", "bold yellow"),
        "running": ("running", "bold"),
        "finished": ("finished", "bold green"),
        "halted": ("HALTED by the guard", "bold red"),
        "terminated": ("terminated (SIGTERM)", "bold yellow"),
        "crashed": ("CRASHED", "bold red"),
        "empty": ("nothing recorded yet", "bold yellow"),
    }
    state = shown_state(status)
    return words.get(state, (one_line(state, 40), "bold"))


def _headline(status: Mapping[str, Any]) -> Text:
    word, style = _state(status)
    if status["exit_code"] == UNTESTED_END:
        word, style = "finished, its end NOT TESTED", "bold magenta"
    of = f" of {status['planned_steps']}" if status["planned_steps"] else ""
    level = status["level"] or "no look yet"
    return Text.assemble(
        (one_line(status["name"] or status["run"], 60), "bold"),
        "  ",
        (word, style),
        f", step {status['step']}{of}, level ",
        (one_line(level, 20), LEVEL_STYLE.get(level, "")),
    )


def _heartbeat_lines(status: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    pace, lines = status["pace"], list[tuple[str, str | Text]]()
    if status["outcome"] == "running" and pace["last_record_s"] is not None:
        pulse = f"last record {spoken_seconds(pace['last_record_s'])} ago"
        if pace["step_s"] is not None:
            pulse += f", a step takes {pace['step_s']:.2g} s"
        if status["stale"]:
            limit = spoken_seconds(pace["silence_limit_s"])
            pulse += f"; silent for longer than {limit}: the process has probably gone"
        lines.append(("heartbeat", Text(pulse, "red" if status["stale"] else "")))
    ahead = status["next_look_step"]
    if ahead is not None and not status["stale"]:
        due = "due now" if ahead <= status["step"] else f"at step {ahead}"
        if status["next_look_s"] is not None and ahead > status["step"]:
            due += f", in about {spoken_seconds(status['next_look_s'])}"
        lines.append(("next look", due))
    return lines


def _head_lines(status: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    lines = _heartbeat_lines(status)
    if status["looks"]:
        lines.append(("looks", _level_strip(status["looks"])))
        if said := untested_said(status["looks"][-1]):
            lines.append(("last look", said))
    if sidecar := status["sidecar"]:
        lines.append(
            (
                "sidecar",
                Text(one_line(sidecar_said(sidecar)), "bold red" if sidecar["trouble"] else ""),
            )
        )
    if status["mode"] == "watch":
        lines.append(("levers", "watch only: nothing is injected, no action is carried out"))
    else:
        lines.append(
            (
                "levers",
                f"KL weight ×{status['boost']:.3g}, learning rate ×{status['lr_factor']:.3g}",
            )
        )
    lines.append(("last ok", one_line(status["last_ok_checkpoint"] or "no checkpoint yet", 300)))
    if status["cost"]["seconds"]:
        lines.append(("guard cost", cost_said(status["cost"])))
    if status["rewound"]:
        step = status["rewound_to"]
        where = "the start" if step < 0 else f"step {step}"
        lines.append(
            ("resumed", f"{status['rewound']} ×, last from {where}; what it undid is left out")
        )
    if status["failures"]:
        last = status["last_failure"]
        said = f"{status['failures']} looks could not be measured, last at step {last['step']}: "
        lines.append(("failures", Text(said + one_line(last["error"]), "bold red")))
    if status["tripwire_failures"]:
        last = status["last_tripwire_failure"]
        said = f"{status['tripwire_failures']} could not be measured, last at step {last['step']}: "
        lines.append(("tripwires", Text(said + one_line(last["error"]), "bold red")))
    for service, trouble in status["tracking"].items():
        lost = f"{trouble['lost']} records lost: " if trouble["lost"] else ""
        lines.append((service, Text(lost + one_line(trouble["error"]), "yellow")))
    if status["error"] and shown_state(status) != "interrupted":
        lines.append(("error", Text(one_line(status["error"], 300), "red")))
    if status["damaged_lines"]:
        numbers = ", ".join(map(str, status["damaged_lines"][:5]))
        more = " …" if len(status["damaged_lines"]) > 5 else ""
        said = f"ledger lines {numbers}{more} cannot be read; what they said is missing here"
        lines.append(("damage", Text(said, "bold red")))
    return lines


def percent(value: float | None) -> str:
    """Return a share in percent, a dash where it is not known."""
    return "–" if value is None else f"{value:.1%}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{-100 * value + 0.0:+.1f}"


def _abilities_table(status: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("pass rate", "base", "now", "change", "harm over looks", "level"):
        table.add_column(name, justify="right" if name in ("base", "now", "change") else "left")
    for row in status["abilities"]:
        level = row["level"]
        colour = LEVEL_STYLE.get(level, "yellow" if level in ("attention", "not_shown") else "dim")
        table.add_row(
            Text(one_line(row["ability"], 14), "bold" if row["ability"] == "overall" else ""),
            percent(row["base"]),
            percent(row["now"]),
            _points(row["harm"]),
            Text(sparkline(row["harm_over_looks"], row["margin"]), colour),
            Text(one_line(_STANDING.get(level, level), 14), colour),
        )
    return table


def _looks_table(status: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("step", "look", "trigger", "level", "streams above their margin"):
        table.add_column(name, justify="right" if name in ("step", "look") else "left")
    earlier = len(status["looks"]) - _LOOKS_SHOWN
    if earlier > 0:
        table.add_row("…", "", "", "", Text(f"{earlier} earlier looks: --json has them", "dim"))
    for look in status["looks"][-_LOOKS_SHOWN:]:
        level = look["level"]
        table.add_row(
            str(look["step"]) + (f"→{late}" if (late := look["applied_step"]) is not None else ""),
            str(look["look"]),
            one_line(look["trigger"], 10),
            Text(one_line(level, 12), LEVEL_STYLE.get(level, "")),
            Text(named_streams(look["alarmed"])),
        )
    return table


def _actions_table(status: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("step", "action", "KL weight", "learning rate", "why"):
        table.add_column(name, justify="right" if name == "step" else "left")
    earlier = len(status["actions"]) - _ACTIONS_SHOWN
    if earlier > 0:
        table.add_row("…", Text(f"{earlier} earlier", "dim"), "", "", "")
    for action in status["actions"][-_ACTIONS_SHOWN:]:
        before, after = action["before"], action["after"]
        watched = "" if action["carried_out"] else " (not carried out)"
        table.add_row(
            str(action["step"]),
            Text(one_line(action["action"], 20) + watched),
            f"×{before['boost']:.3g} → ×{after['boost']:.3g}",
            f"×{before['lr_factor']:.3g} → ×{after['lr_factor']:.3g}",
            Text(one_line(action["reason"])),
        )
    return table


def render_status(status: Mapping[str, Any]) -> RenderableType:
    """Return the facts of `run_status` for a terminal of 80 columns or more."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for name, said in _head_lines(status):
        head.add_row(name, said if isinstance(said, Text) else Text(said))
    parts: list[RenderableType] = [_headline(status), head]
    if status["abilities"]:
        parts.append(_abilities_table(status))
        parts.append(Text("  ▁▂ within the margin, ▃▅▆█ beyond 1, 2, 4, 8 margins", "dim"))
    if status["looks"]:
        parts.append(_looks_table(status))
    if status["actions"]:
        parts.append(_actions_table(status))
    return Group(*parts)
