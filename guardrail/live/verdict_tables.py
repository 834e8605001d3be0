"""Verdicts as tables in a terminal: of one look, and of the looks of a replay."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.judge.ladder import Action
from guardrail.judge.verdict import UNTESTED, Verdict, by_standing, rank
from guardrail.live.status_terminal import LEVEL_STYLE, levels_explained, percent, untested_said
from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.texts import Language

__all__ = ["gate_said", "render_look", "render_simulation"]

_LENGTHS = ("shorter", "longer")
_NO_SHARES = (*_LENGTHS, "fluency")
"""Metrics that are no shares; all others, a business's own among them, are."""


def render_look(verdict: Verdict, language: Language) -> RenderableType:
    """Return one verdict at 80 columns: pass rates and what is not ok, worst first, the rest counted."""
    words = terminal_words(language)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("stream", "base", "now", "harm", "95 % interval", "margin", "level"):
        right = name not in ("stream", "level")
        table.add_column(
            words(name), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    tested = [s for s in verdict.streams if s.tested]
    told = [s for s in tested if s.metric == "passed" or s.standing != "ok"]
    for s in sorted(told, key=lambda s: (-rank(s.level), -(s.z or 0.0), s.group != "overall")):
        if s.level == "ok" != s.standing:
            shown = Text(words.word(s.standing.replace("_", " ")), "yellow")
        else:
            shown = Text(words.name("level", s.level), LEVEL_STYLE[s.level])
        table.add_row(
            words.stream(s.name),
            _value(s.metric, s.base),
            _value(s.metric, s.now),
            _harm(s.metric, s.harm),
            f"{_harm(s.metric, s.low)}…{_harm(s.metric, s.high)}",
            _margin(s.metric, s.margin),
            shown,
        )
    key = words("harm: + is worse; harm, interval and margin of shares are in points")
    parts: list[RenderableType] = [table, Text(key, "dim")]
    if len(tested) > len(told):
        said = words(
            "{count} more streams are ok, the report has them", count=len(tested) - len(told)
        )
        parts.append(Text(said, "dim"))
    untested = {why: len(streams) for why, streams in by_standing(verdict.untested).items()}
    if said := untested_said({"untested": untested, "streams": len(verdict.streams)}, words):
        parts.append(Text(said, "dim"))
    parts += levels_explained((s.standing for s in told), words)
    level = (words.name("level", verdict.level), LEVEL_STYLE[verdict.level])
    return Group(*parts, Text.assemble(words("verdict: "), level))


def gate_said(level: str, fail_on: str, language: Language) -> str:
    """Return whether a release gate lets a look of this level through, by which exit code, and what that does not say."""
    words = terminal_words(language)
    if level == UNTESTED:
        return words("gate: closed, exit code 4: nothing was tested, which is not ok")
    named, asked = words.name("level", level), words.name("level", fail_on)
    if rank(level) >= rank(fail_on):
        text = "gate: closed, exit code 3: the verdict {level} fails from {fail_on} on"
        return words(text, level=named, fail_on=asked)
    if level == "ok":
        return words("gate: open, exit code 0; before a release, test once more with sealed items")
    text = "gate: open, exit code 0, only because --fail-on asks for {fail_on}: the report advises against these weights"
    return words(text, fail_on=asked)


def _value(metric: str, value: float | None) -> str:
    """A metric's value as people read it: lengths, which are measured as logarithms, in characters, shares in percent."""
    if value is None:
        return "–"
    if metric in _LENGTHS:
        return f"{math.exp(min(value, 50.0)):.0f}"
    return f"{value:.2f}" if metric == "fluency" else percent(value)


def _harm(metric: str, harm: float | None) -> str:
    """Harm with its sign, that of a share in points."""
    if harm is None:
        return "–"
    return f"{harm:+.2f}" if metric in _NO_SHARES else f"{100 * harm + 0.0:+.1f}"


def _margin(metric: str, margin: float | None) -> str:
    if margin is None:
        return "–"
    return f"{margin:g}" if metric in _NO_SHARES else f"{100 * margin:.4g}"


def render_simulation(
    looks: Sequence[tuple[int, int, Verdict, Action | None]], language: Language
) -> RenderableType:
    """Return replayed looks as a rich table; the last line says where the ladder halted.

    Args:
        looks: Number, step, verdict and action of each; no action where the ladder was left out.
        language: Of the words.
    """
    words = terminal_words(language)
    heads = ("look", "step", "level", "largest evidence", "action", "KL weight", "learning rate")
    table = Table(*map(words, heads))
    for number, step, verdict, action in looks:
        known = {
            s: s.z - (s.boundary_warn or 0.0)
            for s in verdict.streams
            if s.tested and s.z is not None
        }
        most = max(known, key=lambda s: known[s], default=None)
        shown = words("nothing tested")
        if most is not None:
            shown = words(
                "{stream} {harm} (margin {margin})",
                stream=words.stream(most.name),
                harm=_harm(most.metric, most.harm),
                margin=_margin(most.metric, most.margin),
            )
        table.add_row(
            str(number),
            str(step),
            Text(words.name("level", verdict.level), LEVEL_STYLE[verdict.level]),
            shown,
            "" if action is None or action.kind == "none" else words.name("action", action.kind),
            "" if action is None else f"×{action.boost:g}",
            "" if action is None else f"×{action.lr_factor:g}",
        )
    end = Text(words("would have run on"), "green")
    if looks:
        _, _, verdict, action = looks[-1]
        if action is not None and action.kind == "halt":
            end = Text(words("would have halted here"), "bold red")
        elif verdict.level == UNTESTED:
            said = words("would have run on, its last look untested: that is not ok")
            end = Text(said, "bold magenta")
    return Group(table, end)
