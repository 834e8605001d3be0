"""What to do with a run: the one verdict of its report, and the next steps that follow from it."""

import json
import os
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.watch.run_data import UNKNOWN, RunData

__all__ = ["Advice", "advise", "next_steps", "on_disk"]

_SILENT_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with the run, why, and the level both badge and sentence are made from."""

    advice: str
    """`keep`, `roll_back`, `give_up`, `mend` (repair, then resume) or `wait`."""
    because: str
    level: str
    """ok … critical, or `unknown` where nothing valid says so."""


def advise(data: RunData, silent_s: float) -> Advice:
    """Return the one verdict of a run.

    Args:
        data: The run.
        silent_s: Seconds since the ledger's last record.
    """
    level, look = data.level, data.last_look
    drifted = look is not None and look.level != "ok"
    away = "roll_back" if data.last_ok is not None else "give_up"
    if data.outcome == "empty":
        return Advice("mend", "nothing_recorded", UNKNOWN)
    if data.outcome == "halted":
        if any(a.kind == "halt" and a.carried_out for a in data.actions):
            return Advice(away, "halted_on_drift", level)
        return Advice(away if drifted else "mend", "halted_on_failure", level)
    if data.outcome in ("crashed", "terminated"):
        return _advise_crashed(data, away, drifted)
    if data.outcome == "running":
        if silent_s > max(_SILENT_AFTER_S, 5 * data.longest_silence_s):
            return Advice(away if drifted else "mend", "silent", level)
        unopposed = data.watching and level in ("serious", "critical")
        because = "running_drifted" if level in ("warn", "serious", "critical") else "running"
        return Advice(away if unopposed else "wait", because, level)
    at_the_end = look is not None and look.step >= data.step and look.number > 0
    if level == UNKNOWN or not at_the_end:
        return Advice(away if drifted else "mend", "finished_unmeasured", UNKNOWN)
    if level != "ok":
        return Advice(away, "finished_drifted", level)
    recovered = any(k.level != "ok" for k in data.looks)
    return Advice("keep", "finished_recovered" if recovered else "finished_ok", level)


def _advise_crashed(data: RunData, away: str, drifted: bool) -> Advice:
    look = data.last_look
    if look is not None and look.number == 0:
        if look.failed_pipeline_check:
            return Advice("mend", "pipeline", UNKNOWN)
        if look.inherited and drifted:
            return Advice("mend", "inherited", data.level)
    return Advice(away if drifted and look and look.number else "mend", data.outcome, data.level)


def next_steps(data: RunData, advice: Advice) -> list[dict[str, Any]]:
    """Return what to do next, in order: a code the page has words for, and its values."""
    run = data.run.resolve()
    recipe = run / "recipe.resolved.json"
    resume = f"guardrail run {shlex.quote(str(recipe))} --out {shlex.quote(str(run))} --resume"
    steps: list[dict[str, Any]] = []

    def add(code: str, **values: Any) -> None:
        steps.append({"code": code, **values})

    last = data.checkpoints[-1] if data.checkpoints else None
    if advice.advice == "keep":
        add("use_final", path=on_disk(data, last["path"]) if last else None)
        add("sealed_check")
    if advice.advice == "mend":
        if advice.because == "finished_unmeasured":
            add("measure_end", path=on_disk(data, last["path"]) if last else None)
        elif advice.because == "pipeline":
            add("rebuild_anchors", command=f"guardrail anchor {shlex.quote(str(recipe))} --rebuild")
        elif advice.because == "inherited":
            add("judge_new")
        elif advice.because != "nothing_recorded":
            add("repair_and_resume", command=resume)
    if advice.advice == "wait":
        add("look_again", command=f"guardrail status {shlex.quote(str(run))}")
    if advice.advice == "roll_back" and data.last_ok is not None:
        add("use_last_ok", path=on_disk(data, data.last_ok["path"]), step=data.last_ok["step"])
    if advice.advice in ("roll_back", "give_up"):
        add("run_again", changes=_recipe_changes(data))
        weak = _weak_abilities(data)
        if weak:
            add("more_rehearsal", abilities=weak)
    return steps


def _recipe_changes(data: RunData) -> list[dict[str, Any]]:
    """Recipe lines for the next attempt, each with the evidence that asks for it."""
    recipe, changes = data.recipe, []
    arguments = (recipe.get("train") or {}).get("arguments") or {}
    rehearsal = recipe.get("rehearsal") or {}
    cuts = sum(a.kind == "cut_lr" and a.carried_out for a in data.actions)

    def change(key: str, old: Any, new: Any, why: str, **values: Any) -> None:
        changes.append({"key": key, "old": old, "new": new, "why": why, **values})

    if data.last_ok is not None:
        start = on_disk(data, data.last_ok["path"])["path"]
        change("start_model", recipe.get("start_model"), start, "from_last_ok")
    if data.watching:
        change("mode", "watch", "guard", "was_watching")
    rate = arguments.get("learning_rate")
    if isinstance(rate, float | int) and (cuts or data.outcome == "halted"):
        factor = min(0.5, data.levers["lr_factor"])
        why = "lr_was_cut" if cuts else "lr_too_high"
        change("train.arguments.learning_rate", rate, rate * factor, why, cuts=cuts)
    fraction = rehearsal.get("fraction")
    if isinstance(fraction, float) and fraction < 0.05:
        change("rehearsal.fraction", fraction, 0.05, "fraction")
    boost = data.levers["boost"]
    if boost > 1 and rehearsal.get("weight"):
        change("rehearsal.weight", rehearsal["weight"], rehearsal["weight"] * boost, "boost")
    every = (recipe.get("looks") or {}).get("every_steps")
    first_bad = next((k for k in data.looks if k.level in ("serious", "critical")), None)
    judged = [k for k in data.looks if k.number > 0]
    if isinstance(every, int) and every > 1 and judged and first_bad is judged[0]:
        new = max(1, every // 2)
        change("looks.every_steps", every, new, "sooner", level=judged[0].level)
    return changes


def _weak_abilities(data: RunData) -> list[dict[str, Any]]:
    """Abilities above ok at the last look with the rehearsal items the recipe's set has for each."""
    look = data.last_look
    alarmed = dict.fromkeys(s.group for s in look.alarmed if s.group != "overall") if look else {}
    path = Path((data.recipe.get("sets") or {}).get("rehearsal") or "")
    counts: Counter[str] | None = None
    if path.is_file():
        counts = Counter()
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    counts[str(json.loads(line)["ability"])] += 1
                except (ValueError, KeyError, TypeError):
                    continue
    return [{"ability": a, "items": None if counts is None else counts[a]} for a in alarmed]


def on_disk(data: RunData, path: str) -> dict[str, Any]:
    """Return a checkpoint's absolute path and whether it is still there."""
    found = [p for p in (data.run / path, Path(path)) if p.is_dir()]
    return {"path": os.path.abspath(found[0] if found else data.run / path), "exists": bool(found)}
