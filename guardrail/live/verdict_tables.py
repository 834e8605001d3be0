"""Verdicts as tables in a terminal: of one look, and of the looks of a replay."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.judge.ladder import Action
from guardrail.judge.verdict import UNTESTED, Verdict, rank
from guardrail.live.status_terminal import LEVEL_STYLE

__all__ = ["render_look", "render_simulation"]


def render_look(verdict: Verdict) -> RenderableType:
    """Return one verdict as a rich table of the tested streams, worst first, and what was not tested."""
    table = Table(
        "metric", "group", "items", "base", "now", "harm", "95 % interval", "margin", "level"
    )
    tested = [s for s in verdict.streams if s.tested]
    for s in sorted(tested, key=lambda s: (-rank(s.level), -(s.z or 0.0), s.group != "overall")):
        shown = Text(s.level, LEVEL_STYLE[s.level])
        if s.attention:
            shown = Text("ok, attention", "yellow")
        table.add_row(
            s.metric,
            s.group,
            str(s.n),
            f"{s.base:.3f}",
            f"{s.now:.3f}",
            f"{s.harm:+.3f}",
            f"{s.low:+.3f} … {s.high:+.3f}",
            f"{s.margin:g}",
            shown,
        )
    why = Counter(s.reason.split(":")[0] for s in verdict.untested)
    level = verdict.level
    parts: list[RenderableType] = [table]
    if why:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in why.most_common())
        parts.append(Text(f"not tested: {reasons}", "dim"))
    if any(s.attention for s in tested):
        parts.append(Text("attention: moved, but not shown to be beyond the margin", "yellow"))
    return Group(*parts, Text.assemble("verdict: ", (level, LEVEL_STYLE[level])))


def render_simulation(looks: Sequence[tuple[int, int, Verdict, Action | None]]) -> RenderableType:
    """Return replayed looks as a rich table; the last line says where the ladder halted.

    Args:
        looks: Number, step, verdict and action of each; no action where the ladder was left out.
    """
    table = Table(
        "look", "step", "level", "largest evidence", "action", "KL weight", "learning rate"
    )
    for number, step, verdict, action in looks:
        known = {
            s: s.z - (s.boundary_warn or 0.0)
            for s in verdict.streams
            if s.tested and s.z is not None
        }
        most = max(known, key=lambda s: known[s], default=None)
        shown = "nothing tested"
        if most is not None:
            shown = f"{most.name} {most.harm:+.3f} (margin {most.margin:g})"
        table.add_row(
            str(number),
            str(step),
            Text(verdict.level, LEVEL_STYLE[verdict.level]),
            shown,
            "" if action is None or action.kind == "none" else action.kind,
            "" if action is None else f"×{action.boost:g}",
            "" if action is None else f"×{action.lr_factor:g}",
        )
    end = Text("would have run on", "green")
    if looks:
        _, _, verdict, action = looks[-1]
        if action is not None and action.kind == "halt":
            end = Text("would have halted here", "bold red")
        elif verdict.level == UNTESTED:
            end = Text("would have run on, its last look untested: that is not ok", "bold magenta")
    return Group(table, end)
