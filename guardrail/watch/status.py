"""`guardrail status`: the live branch of a run's ledger, for a terminal and for scripts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.ledger import Record, live_records, read_ledger

__all__ = ["LEVEL_STYLE", "render_look", "render_simulation", "render_status", "run_status"]

LEVEL_STYLE = {"ok": "green", "warn": "yellow", "serious": "dark_orange", "critical": "bold red"}
"""Terminal colour of each level; the word always stands beside it."""


def run_status(run: Path) -> dict[str, Any]:
    """Return where a run stands: outcome, step, level, levers, looks, actions, failures.

    `outcome` is `running` for a run that has not ended, which includes one that was killed.

    Raises:
        InputError: the folder holds no readable ledger.
    """
    records = live_records(read_ledger(run))
    looks = [r for r in records if r["kind"] == "look"]
    actions = [r for r in records if r["kind"] == "action"]
    checkpoints = [r for r in records if r["kind"] == "checkpoint"]
    closing = [r for r in records if r["kind"] in ("ended", "crashed")]
    started = next((r for r in records if r["kind"] == "started"), None)
    outcome = "running"
    if closing:
        outcome = "crashed" if closing[-1]["kind"] == "crashed" else closing[-1]["outcome"]
    carried_out = [a for a in actions if a["carried_out"]]
    levers = carried_out[-1]["after"] if carried_out else {"boost": 1.0, "lr_factor": 1.0}
    return {
        "run": str(run),
        "name": started["name"] if started else None,
        "mode": started["mode"] if started else None,
        "outcome": outcome,
        "step": max((r["step"] for r in records), default=0),
        "level": looks[-1]["level"] if looks else None,
        "last_look_step": looks[-1]["step"] if looks else None,
        **levers,
        "last_ok_checkpoint": next(
            (c["path"] for c in reversed(checkpoints) if c["level"] == "ok"), None
        ),
        "failures": sum(r["kind"] == "error" for r in records),
        "rewound": sum(r["kind"] == "rewound" for r in records),
        "looks": [
            {
                "look": r["look"],
                "step": r["step"],
                "trigger": r["trigger"],
                "level": r["level"],
                "alarmed": alarmed_streams(r),
            }
            for r in looks
        ],
        "actions": [
            {k: a[k] for k in ("step", "action", "carried_out", "reason", "before", "after")}
            for a in actions
        ],
    }


def alarmed_streams(look: Record) -> list[str]:
    """Return the names of a look's streams above ok."""
    return [f"{s['metric']}/{s['group']}" for s in look["streams"] if s["level"] != "ok"]


def render_status(status: dict[str, Any]) -> RenderableType:
    """Return the status as rich tables."""
    level = status["level"] or "no look yet"
    head = Text.assemble(
        (f"{status['name'] or status['run']}  ", "bold"),
        f"{status['outcome']} at step {status['step']}, level ",
        (level, LEVEL_STYLE.get(level, "")),
        f", KL weight ×{status['boost']:g}, learning rate ×{status['lr_factor']:g}",
        f", last ok checkpoint {status['last_ok_checkpoint'] or 'none'}",
    )
    table = Table("step", "look", "trigger", "level", "streams above their margin")
    for look in status["looks"]:
        alarmed = look["alarmed"]
        named = ", ".join(alarmed[:4]) + (
            f" and {len(alarmed) - 4} more" if len(alarmed) > 4 else ""
        )
        style = LEVEL_STYLE[look["level"]]
        table.add_row(
            str(look["step"]), str(look["look"]), look["trigger"], Text(look["level"], style), named
        )
    actions = Table("step", "action", "KL weight", "learning rate", "why")
    for action in status["actions"]:
        before, after = action["before"], action["after"]
        actions.add_row(
            str(action["step"]),
            action["action"] + ("" if action["carried_out"] else " (watch only)"),
            f"×{before['boost']:g} → ×{after['boost']:g}",
            f"×{before['lr_factor']:g} → ×{after['lr_factor']:g}",
            action["reason"],
        )
    parts: list[RenderableType] = [head, table]
    if status["actions"]:
        parts.append(actions)
    if status["failures"]:
        parts.append(Text(f"{status['failures']} looks could not be measured", "bold red"))
    return Group(*parts)


def render_look(verdict: Mapping[str, Any]) -> RenderableType:
    """Return one verdict as a rich table of the tested streams, worst first, and what was not tested."""
    table = Table(
        "metric", "group", "items", "base", "now", "harm", "95 % interval", "margin", "level"
    )
    tested = [s for s in verdict["streams"] if s["tested"]]
    for s in sorted(tested, key=lambda s: (s["level"] == "ok", -s["z"], s["group"] != "overall")):
        shown = Text(s["level"], LEVEL_STYLE[s["level"]])
        if s["attention"]:
            shown = Text("ok, attention", "yellow")
        table.add_row(
            s["metric"],
            s["group"],
            str(s["n"]),
            f"{s['base']:.3f}",
            f"{s['now']:.3f}",
            f"{s['harm']:+.3f}",
            f"{s['low']:+.3f} … {s['high']:+.3f}",
            f"{s['margin']:g}",
            shown,
        )
    why = Counter(s["reason"].split(":")[0] for s in verdict["streams"] if not s["tested"])
    level = verdict["level"]
    parts: list[RenderableType] = [table]
    if why:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in why.most_common())
        parts.append(Text(f"not tested: {reasons}", "dim"))
    if any(s["attention"] for s in tested):
        parts.append(Text("attention: moved, but not shown to be beyond the margin", "yellow"))
    return Group(*parts, Text.assemble("verdict: ", (level, LEVEL_STYLE[level])))


def render_simulation(looks: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the replayed looks as a rich table; the last line says where the ladder halted."""
    table = Table(
        "look", "step", "level", "largest evidence", "action", "KL weight", "learning rate"
    )
    for look in looks:
        known = [s for s in look["streams"] if s["tested"] and s["z"] is not None]
        most = max(known, key=lambda s: s["z"] - (s["boundary_warn"] or 0.0), default=None)
        shown = "nothing tested"
        if most is not None:
            shown = (
                f"{most['metric']}/{most['group']} {most['harm']:+.3f} (margin {most['margin']:g})"
            )
        action = look["action"]
        table.add_row(
            str(look["look"]),
            str(look["step"]),
            Text(look["level"], LEVEL_STYLE[look["level"]]),
            shown,
            "" if action is None or action["kind"] == "none" else action["kind"],
            "" if action is None else f"×{action['boost']:g}",
            "" if action is None else f"×{action['lr_factor']:g}",
        )
    halted = (
        bool(looks) and looks[-1]["action"] is not None and looks[-1]["action"]["kind"] == "halt"
    )
    end = (
        Text("would have halted here", "bold red") if halted else Text("would have run on", "green")
    )
    return Group(table, end)
