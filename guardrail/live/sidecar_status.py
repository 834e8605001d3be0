"""What is seen of the sidecar that answers a run's looks: its sign of life, and what still waits for it."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail.guard.asked_looks import FOLDER
from guardrail.live.terminal_words import TerminalWords
from guardrail.read_back import named_place, read_json, unsealed
from guardrail.report.run_data import RunData

__all__ = [
    "ALIVE_FILE",
    "FRESH_S",
    "STATES",
    "read_alive",
    "sidecar_said",
    "sidecar_status",
    "told_now",
]

ALIVE_FILE = "alive.json"
_TOLD = ("starting", "judging", "waiting", "unreachable", "ended")
"""What a sidecar says of itself."""
STATES = (*_TOLD, "silent", "none")
FRESH_S = 60.0
"""A sidecar silent for longer is taken for gone; it writes every few seconds."""
_LARGEST = 64 << 10
_KINDS: dict[str, type | tuple[type, ...]] = {
    "doing": str,
    "step": (int, type(None)),
    "waiting": int,
    "trouble": (str, type(None)),
    "host": str,
    "pid": int,
}


def read_alive(run: Path, now: datetime | None = None) -> dict[str, Any] | None:
    """Return the last sign of life of a run's sidecar and how old it is (`silent_s`).

    None: there is none, or it is not as the sidecar of this run wrote it, which does so every few seconds. Its time is by the clock of the sidecar's machine.
    """
    try:
        told = unsealed(read_json(run / FOLDER / ALIVE_FILE, _LARGEST))
        if told["run"] != named_place(run):
            return None
        at = datetime.fromisoformat(told["time"])
        kept = {name: told[name] for name in _KINDS}
        silent = ((now or datetime.now(timezone.utc)) - at).total_seconds()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if kept["doing"] not in _TOLD or not all(isinstance(kept[n], k) for n, k in _KINDS.items()):
        return None
    return kept | {"time": told["time"], "silent_s": max(0.0, silent)}


def sidecar_status(data: RunData) -> dict[str, Any] | None:
    """Return the looks that wait for a sidecar; None where the run takes its looks itself."""
    if not data.beside:
        return None
    return {"open": [{"step": ask.step, "trigger": ask.trigger} for ask in data.open_asks]}


def told_now(sidecar: Mapping[str, Any], alive: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how a sidecar stands: `sidecar_status` with its sign of life, a word for it, and whether it is trouble.

    `state` is `none` (never seen), `silent` (no sign of life for a minute), or what it said last: `starting`, `judging`,
    `waiting`, `unreachable` (its server) or `ended`.
    """
    waiting = len(sidecar["open"])
    state = "none" if alive is None else alive["doing"]
    if alive is not None and state != "ended" and alive["silent_s"] > FRESH_S:
        state = "silent"
    trouble = state == "unreachable" or (waiting > 0 and state in ("none", "silent", "ended"))
    return {**sidecar, "state": state, "trouble": trouble, "alive": alive}


def sidecar_said(sidecar: Mapping[str, Any], words: TerminalWords) -> str:
    """Return how a sidecar stands, in words, of what `told_now` says."""
    alive, state, waiting = sidecar["alive"], sidecar["state"], len(sidecar["open"])
    steps = ", ".join(str(ask["step"]) for ask in sidecar["open"][:5])
    steps += ", …" if waiting > 5 else ""
    left = words("{count} waiting (step {steps})", count=waiting, steps=steps) if waiting else ""
    if state == "judging":
        return words(
            "judging step {step}, {count} waiting", step=alive["step"], count=max(0, waiting - 1)
        )
    if state == "unreachable":
        trouble = words(
            "cannot reach its server, tries again ({trouble})", trouble=alive["trouble"]
        )
        return words.joined([trouble, left], "semicolon")
    if state == "silent":
        said = words(
            "no sign of life for {minutes:.0f} min (process {pid} on {host})",
            minutes=alive["silent_s"] / 60,
            pid=alive["pid"],
            host=alive["host"],
        )
    else:
        said = words.word({"none": "none has been seen"}.get(state, state))
    said = words.joined([said, left]) if left else said
    if sidecar["trouble"]:
        said = words.joined([said, words("start `guardrail serve RUN`")], "semicolon")
    return said
