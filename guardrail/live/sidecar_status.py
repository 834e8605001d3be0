"""What is seen of the sidecar that answers a run's looks: its sign of life, and what still waits for it."""

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail.guard.asked_looks import FOLDER
from guardrail.report.run_data import RunData

__all__ = ["ALIVE_FILE", "FRESH_S", "read_alive", "sidecar_said", "sidecar_status"]

ALIVE_FILE = "alive.json"
FRESH_S = 60.0
"""A sidecar silent for longer is taken for gone; it writes every few seconds."""


def read_alive(run: Path, now: datetime | None = None) -> dict[str, Any] | None:
    """Return the last sign of life of a run's sidecar and how old it is (`silent_s`); None: there is none.

    Its time is by the clock of the sidecar's machine.
    """
    try:
        told = json.loads((run / FOLDER / ALIVE_FILE).read_text(encoding="utf-8"))
        at = datetime.fromisoformat(told["time"])
        kept = {name: told[name] for name in ("doing", "step", "waiting", "trouble", "host", "pid")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    silent = ((now or datetime.now(timezone.utc)) - at).total_seconds()
    return kept | {"time": told["time"], "silent_s": max(0.0, silent)}


def sidecar_status(data: RunData) -> dict[str, Any] | None:
    """Return the looks that wait for a sidecar; None where the run takes its looks itself."""
    if not data.beside:
        return None
    return {"open": [{"step": ask.step, "trigger": ask.trigger} for ask in data.open_asks]}


def sidecar_said(sidecar: Mapping[str, Any], *, going: bool) -> tuple[str, bool]:
    """Return how a sidecar stands, in words, and whether somebody should look after it.

    Args:
        sidecar: `sidecar_status` with its sign of life under `alive`.
        going: Whether the training is running.
    """
    alive, waiting = sidecar["alive"], len(sidecar["open"])
    steps = ", ".join(str(ask["step"]) for ask in sidecar["open"][:5])
    left = f"{waiting} waiting (step {steps}{', …' if waiting > 5 else ''})" if waiting else ""
    start = "start `guardrail serve RUN`"
    if alive is None:
        return f"none has been seen, {left or 'nothing waiting'}; {start}", bool(waiting)
    if alive["doing"] == "ended":
        return f"ended{f', {left} never judged; {start}' if left else ''}", bool(left)
    if alive["silent_s"] > FRESH_S:
        minutes = alive["silent_s"] / 60
        said = f"no sign of life for {minutes:.0f} min (process {alive['pid']} on {alive['host']})"
        return f"{said}, {left or 'nothing waiting'}; {start}", bool(left) or going
    if alive["doing"] == "unreachable":
        return f"cannot reach its server, tries again ({alive['trouble']}); {left}", True
    if alive["doing"] == "judging":
        behind = max(0, waiting - 1)
        return f"judging step {alive['step']}, {behind} waiting", False
    return f"{alive['doing']}{f', {left}' if left else ''}", False
