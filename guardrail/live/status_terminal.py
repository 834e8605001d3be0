"""`guardrail status` in a terminal: the facts of `run_status` at 80 columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.exit_codes import UNTESTED_END
from guardrail.judge.verdict import UNTESTED, rank
from guardrail.live.sidecar_status import sidecar_said
from guardrail.live.status import shown_state
from guardrail.live.terminal_words import TerminalWords, terminal_words
from guardrail.report.findings import harm_step
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.texts import Language

__all__ = [
    "LEVEL_STYLE",
    "cost_said",
    "levels_explained",
    "levers_said",
    "named_streams",
    "one_line",
    "percent",
    "reason_said",
    "render_status",
    "sparkline",
    "spoken_seconds",
    "tracking_said",
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
_EXPLAINED = {
    "attention": "attention: moved for the worse, still within the margin",
    "not_shown": "not shown: beyond the margin on average, the evidence falls short of an alarm",
    "untested": "untested: too little to judge by, which is not ok",
    "few_items": "few items: too few of this ability to judge it, which is not ok",
    "few_clusters": "few templates: its items come from too few templates to judge it, which is not ok",
    "no_budget": "no budget left: the planned looks are used up, so it was not judged, which is not ok",
    "blind": "blind: it could not alarm even if every answer failed, which is not ok",
}
"""What a level or standing that its word alone does not tell means."""
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


def spoken_seconds(seconds: float, words: TerminalWords) -> str:
    """Return a length of time as a person says it: `40 s`, `12 min`, `3.5 h`, `2 days`."""
    if seconds < 90:
        return words("{n:.0f} s", n=seconds)
    if seconds < 5400:
        return words("{n:.0f} min", n=seconds / 60)
    if seconds < 129600:
        return words("{n:.1f} h", n=seconds / 3600)
    return words("{n:.0f} days", n=seconds / 86400)


def cost_said(cost: Mapping[str, Any], words: TerminalWords) -> str:
    """Return what guarding took, and its share of the training time where that is known."""
    spent = [
        f"{words.name('spent', one_line(what, 20))} {spoken_seconds(s, words)}"
        for what, s in cost["seconds"].items()
    ]
    if cost["share"] is None:
        return words.joined(spent)
    return words(
        "{spent}: {share:.0%} of the training time", spent=words.joined(spent), share=cost["share"]
    )


def levels_explained(shown: Iterable[str], words: TerminalWords) -> list[Text]:
    """Return a line for each level or standing among those shown that its word alone does not tell."""
    there = set(shown)
    return [Text(words(said), "yellow") for name, said in _EXPLAINED.items() if name in there]


def untested_said(look: Mapping[str, Any], words: TerminalWords, *, why: bool = True) -> str:
    """Return how many of a look's streams were not tested, and why unless that was said; nothing where all were."""
    kinds = look["untested"]
    if not kinds:
        return ""
    count, streams = sum(kinds.values()), look["streams"]
    if not why:
        return words("{count} of {streams} streams not tested", count=count, streams=streams)
    named = [
        words("{count} {why}", count=n, why=words.word(_STANDING.get(kind, kind)))
        for kind, n in kinds.items()
    ]
    return words(
        "{count} of {streams} streams not tested: {why}",
        count=count,
        streams=streams,
        why=words.joined(named, "comma"),
    )


def named_streams(names: Sequence[str], words: TerminalWords) -> str:
    """Return the worst two of a look's streams above ok by name, and how many more there are."""
    named = words.joined([one_line(words.stream(name), 40) for name in names[:2]], "comma")
    if len(names) <= 2:
        return named
    return words("{named} and {count} more", named=named, count=len(names) - 2)


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
        if level == "ok" and any(k.get("suspects") for k in group):
            strip.append("~", "yellow")
        else:
            strip.append(_SYMBOL.get(level, "?"), LEVEL_STYLE.get(level, ""))
    return strip


def _state(status: Mapping[str, Any]) -> tuple[str, str]:
    """The words for where a run stands, in English, and their colour."""
    if status["mode"] == "look":
        return "one look, no training", "bold"
    if status["exit_code"] == UNTESTED_END:
        return "finished, its end NOT TESTED", "bold magenta"
    if status["process_gone"]:
        return "its process is GONE", "bold red"
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


def _headline(status: Mapping[str, Any], words: TerminalWords) -> Text:
    word, style = _state(status)
    level = status["level"]
    parts: list[tuple[str, str]] = [
        (one_line(status["name"] or status["run"], 60), "bold"),
        ("  ", ""),
        (words.word(word), style),
        (words.joined(["", ""]), ""),
    ]
    if status["mode"] == "look":
        said = ""
    elif status["planned_steps"]:
        said = words(
            "step {step} of {planned}", step=status["step"], planned=status["planned_steps"]
        )
    else:
        said = words("step {step}", step=status["step"])
    if said:
        parts.append((said + words.joined(["", ""]), ""))
    if level is None:
        parts.append((words("no look yet"), ""))
    else:
        parts.append((words("level") + " ", ""))
        parts.append((one_line(words.name("level", level), 20), LEVEL_STYLE.get(level, "")))
    return Text.assemble(*parts)


def _heartbeat_lines(
    status: Mapping[str, Any], words: TerminalWords
) -> list[tuple[str, str | Text]]:
    pace, lines = status["pace"], list[tuple[str, str | Text]]()
    if status["outcome"] == "running" and pace["last_record_s"] is not None:
        pulse = [words("last record {time} ago", time=spoken_seconds(pace["last_record_s"], words))]
        if pace["step_s"] is not None:
            pulse.append(words("a step takes {seconds:.2g} s", seconds=pace["step_s"]))
        said = words.joined(pulse)
        if status["stale"]:
            limit = spoken_seconds(pace["silence_limit_s"], words)
            gone = words("silent for longer than {time}: the process has probably gone", time=limit)
            if status["process_gone"]:
                gone = words(
                    "its process lives no more and recorded no end (killed, or out of memory): go on with --resume"
                )
            said = words.joined([said, gone], "semicolon")
        lines.append(("heartbeat", Text(said, "red" if status["stale"] else "")))
    ahead = status["next_look_step"]
    if ahead is not None and not status["stale"]:
        due = words("due now") if ahead <= status["step"] else words("at step {step}", step=ahead)
        if status["next_look_s"] is not None and ahead > status["step"]:
            left = words("in about {time}", time=spoken_seconds(status["next_look_s"], words))
            due = words.joined([due, left])
        lines.append(("next look", due))
    return lines


def _failed(count: int, last: Mapping[str, Any], words: TerminalWords) -> Text:
    said = words(
        "{count} could not be measured, last at step {step}: {error}",
        count=count,
        step=last["step"],
        error=one_line(last["error"]),
    )
    return Text(said, "bold red")


def _head_lines(status: Mapping[str, Any], words: TerminalWords) -> list[tuple[str, str | Text]]:
    lines = _heartbeat_lines(status, words)
    if status["looks"]:
        if status["mode"] != "look":
            lines.append(("looks", _level_strip(status["looks"])))
        if said := untested_said(status["looks"][-1], words):
            lines.append(("last look", said))
    if sidecar := status["sidecar"]:
        told = one_line(sidecar_said(sidecar, words))
        lines.append(("sidecar", Text(told, "bold red" if sidecar["trouble"] else "")))
    if status["mode"] == "watch":
        watched = words("watch only: nothing is injected, no action is carried out")
        lines.append(("levers", watched))
    elif status["mode"] != "look":
        lines.append(("levers", levers_said(status["boost"], status["lr_factor"], words)))
    if status["injected_nothing"]:
        lines.append(("KL-only", Text(words("no rehearsal sample was injected yet"), "yellow")))
    if status["mode"] != "look":
        kept = status["last_ok_checkpoint"] or words("no checkpoint yet")
        lines.append(("last ok", one_line(kept, 300)))
    if status["cost"]["seconds"] and status["mode"] != "look":
        lines.append(("guard cost", cost_said(status["cost"], words)))
    if status["rewound"]:
        step = status["rewound_to"]
        where = words("the start") if step < 0 else words("step {step}", step=step)
        said = words(
            "{count} ×, last from {where}; what it undid is left out",
            count=status["rewound"],
            where=where,
        )
        lines.append(("resumed", said))
    if status["failures"]:
        lines.append(("failures", _failed(status["failures"], status["last_failure"], words)))
    if status["tripwire_failures"]:
        last = status["last_tripwire_failure"]
        lines.append(("tripwires", _failed(status["tripwire_failures"], last, words)))
    for service, trouble in status["tracking"].items():
        lines.append((service, Text(tracking_said(trouble, words), "yellow")))
    if status["error"] and shown_state(status) != "interrupted":
        lines.append(("error", Text(one_line(status["error"], 300), "red")))
    if decided := status["decision"]:
        lines.append(("decision", _decision_said(decided, words)))
    if status["damaged_lines"]:
        numbers = ", ".join(map(str, status["damaged_lines"][:5]))
        more = " …" if len(status["damaged_lines"]) > 5 else ""
        said = words(
            "ledger lines {numbers} cannot be read; what they said is missing here",
            numbers=numbers + more,
        )
        lines.append(("damage", Text(said, "bold red")))
    return lines


def _decision_said(decided: Mapping[str, Any], words: TerminalWords) -> Text:
    said = words(
        "{decision}, by {who} at step {step}: {note}",
        decision=words.name("decision", decided["decision"]),
        who=one_line(decided["by"], 60),
        step=decided["step"],
        note=one_line(decided["note"]),
    )
    if not decided["against_advice"]:
        return Text(said)
    against = words("against the report's advice")
    return Text(words.joined([said, against], "semicolon"), "yellow")


def levers_said(boost: float, lr_factor: float, words: TerminalWords) -> str:
    """Return where the levers stand."""
    return words(
        "KL weight ×{boost:.3g}, learning rate ×{lr_factor:.3g}", boost=boost, lr_factor=lr_factor
    )


def tracking_said(trouble: Mapping[str, Any], words: TerminalWords) -> str:
    """Return what a tracker lost, and why."""
    lost = words("{count} records lost: ", count=trouble["lost"]) if trouble["lost"] else ""
    return lost + one_line(trouble["error"], 300)


def percent(value: float | None) -> str:
    """Return a share in percent, a dash where it is not known."""
    return "–" if value is None else f"{value:.1%}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{-100 * value + 0.0:+.1f}"


def _abilities_table(status: Mapping[str, Any], words: TerminalWords) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    over = status["mode"] != "look"
    names = ["pass rate", "base", "now", "change", *(["harm over looks"] if over else []), "level"]
    for name in names:
        right = name in ("base", "now", "change")
        table.add_column(words(name), justify="right" if right else "left")
    for row in status["abilities"]:
        level = row["level"]
        colour = LEVEL_STYLE.get(level, "yellow" if level in ("attention", "not_shown") else "dim")
        shown = (
            words.name("level", level)
            if level in LEVEL_STYLE
            else words.word(_STANDING.get(level, level))
        )
        ability = one_line(words.name("ability", row["ability"]), 14)
        table.add_row(
            Text(ability, "bold" if row["ability"] == "overall" else ""),
            percent(row["base"]),
            percent(row["now"]),
            _points(row["harm"]),
            *([Text(sparkline(row["harm_over_looks"], row["margin"]), colour)] if over else []),
            Text(one_line(shown, 14), colour),
        )
    return table


def _looks_table(status: Mapping[str, Any], words: TerminalWords) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("step", "look", "trigger", "level", "streams above their margin"):
        right = name in ("step", "look")
        table.add_column(words(name), justify="right" if right else "left", overflow="fold")
    earlier = len(status["looks"]) - _LOOKS_SHOWN
    if earlier > 0:
        said = words("{count} earlier looks: --json has them", count=earlier)
        table.add_row("…", "", "", "", Text(said, "dim"))
    for look in status["looks"][-_LOOKS_SHOWN:]:
        level = look["level"]
        table.add_row(
            str(look["step"]) + (f"→{late}" if (late := look["applied_step"]) is not None else ""),
            str(look["look"]),
            one_line(words.word(look["trigger"]), 10),
            Text(one_line(words.name("level", level), 12), LEVEL_STYLE.get(level, "")),
            Text(named_streams(look["alarmed"], words)),
        )
    return table


def _actions_table(status: Mapping[str, Any], words: TerminalWords) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("step", "action", "KL weight", "learning rate", "why"):
        right = name == "step"
        table.add_column(words(name), justify="right" if right else "left", overflow="fold")
    earlier = len(status["actions"]) - _ACTIONS_SHOWN
    if earlier > 0:
        table.add_row("…", Text(words("{count} earlier", count=earlier), "dim"), "", "", "")
    for action in status["actions"][-_ACTIONS_SHOWN:]:
        before, after = action["before"], action["after"]
        watched = "" if action["carried_out"] else words(" (not carried out)")
        table.add_row(
            str(action["step"]),
            Text(one_line(words.name("action", action["action"]), 20) + watched),
            f"×{before['boost']:.3g} → ×{after['boost']:.3g}",
            f"×{before['lr_factor']:.3g} → ×{after['lr_factor']:.3g}",
            Text(reason_said(action["reason"], words)),
        )
    return table


def reason_said(reason: str, words: TerminalWords) -> str:
    """Return why the ladder acted, which `judge/ladder.py` writes into the ledger in English; cut, on one line."""
    head, _, streams = one_line(reason).partition(": ")
    *cooling, why = head.split("; ")
    calm = re.fullmatch(r"(\d+) clean looks, harm at most half the margin", why)
    if calm:
        said = words("{count} clean looks, harm at most half the margin", count=calm[1])
    else:
        said = words.name("level", why) if why in LEVEL_STYLE else words.word(why)
    if streams:
        listed = re.split("、|, ", streams)  # ledgers have been written with either
        named = words.joined([words.stream(name) for name in listed], "comma")
        said = words("{level}: {streams}", level=said, streams=named)
    return words.joined([*map(words.word, cooling), said], "semicolon")


def render_status(status: Mapping[str, Any], language: Language | None = None) -> RenderableType:
    """Return the facts of `run_status` for a terminal of 80 columns or more, by default in the recipe's language."""
    words = terminal_words(language or status["language"])
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for name, said in _head_lines(status, words):
        head.add_row(words.word(name), said if isinstance(said, Text) else Text(said))
    parts: list[RenderableType] = [_headline(status, words), head]
    if status["abilities"]:
        parts.append(_abilities_table(status, words))
        if status["mode"] != "look":
            key = words("  ▁▂ within the margin, ▃▅▆█ beyond 1, 2, 4, 8 margins")
            parts.append(Text(key, "dim"))
        parts += levels_explained((row["level"] for row in status["abilities"]), words)
    if status["looks"] and status["mode"] != "look":
        parts.append(_looks_table(status, words))
    if status["actions"]:
        parts.append(_actions_table(status, words))
    return Group(*parts)
