"""Where a run stands now: the facts that `guardrail status`, its JSON and the live page's heartbeat share."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from guardrail import exit_codes
from guardrail.judge.verdict import by_standing, shows_harm
from guardrail.ledger.records import DecisionFacts, LookFacts
from guardrail.live.sidecar_status import read_alive, sidecar_status, told_now
from guardrail.report.findings import guarding_time
from guardrail.report.pace import next_look_step
from guardrail.report.page.texts import language_of
from guardrail.report.run_data import RunData, read_run
from guardrail.writer_lock import writer_gone

__all__ = ["ENDED", "describe_run", "exit_code", "heartbeat", "run_status", "shown_state"]

ENDED = ("finished", "halted", "terminated", "crashed")
"""Outcomes of a run that has stopped writing; a resume may take it up again."""


def run_status(run: Path, *, now: datetime | None = None) -> dict[str, Any]:
    """Return where a run stands, as docs/watching.md lists it key by key.

    `outcome` is `running` for a run that has not ended, which includes one that was killed: see `stale` and `process_gone`.

    Raises:
        InputError: the folder holds no ledger, or one that cannot be read.
    """
    return heartbeat(describe_run(read_run(run)), now or datetime.now(timezone.utc))


def exit_code(data: RunData) -> int | None:
    """Return the code of `guardrail.exit_codes` that a run ended with, None while it has not ended.

    A verdict that a sidecar reached after the end, and that would have halted the run, counts as a halt. Of a folder of `guardrail look` it is the code under `--fail-on warn`.
    """
    if data.outcome in ("running", "empty"):
        return None
    too_late = any(a.kind == "halt" and a.after_end for a in data.actions)
    if data.outcome == "halted" or too_late or (data.mode == "look" and shows_harm(data.level)):
        return exit_codes.HALTED
    if data.outcome == "terminated":
        return exit_codes.TERMINATED
    if data.outcome == "finished":
        return exit_codes.FINISHED if data.tested_at_the_end else exit_codes.UNTESTED_END
    error = (data.closing.error if data.closing else None) or ""
    by_name = {"KeyboardInterrupt": exit_codes.INTERRUPTED, "InputError": exit_codes.BAD_INPUT}
    return by_name.get(error.partition(":")[0], exit_codes.CRASHED)


def describe_run(data: RunData) -> dict[str, Any]:
    """Return where a run stands, without what depends on the clock: `heartbeat` adds that."""
    looks, failures = data.looks, data.failures
    measured = [known.step for known in (*looks, *failures, *data.asked)]
    guarding, share = guarding_time(data)
    going = data.outcome == "running"
    return {
        "schema": 2,
        "run": str(data.run),
        "name": data.name,
        "language": language_of(data.recipe.get("language")),
        "mode": data.mode,
        "outcome": data.outcome,
        "exit_code": exit_code(data),
        "step": data.step,
        "planned_steps": data.planned_steps,
        "level": data.level if looks else None,
        "last_look_step": looks[-1].step if looks else None,
        "next_look_step": next_look_step(
            data.recipe, max(measured, default=None), data.planned_steps
        )
        if going
        else None,
        "boost": data.levers.boost,
        "lr_factor": data.levers.lr_factor,
        "last_ok_checkpoint": data.last_ok.path if data.last_ok else None,
        "failures": len(failures),
        "last_failure": {"step": failures[-1].step, "error": failures[-1].error}
        if failures
        else None,
        "tripwire_failures": len(wires := data.tripwire_failures),
        "last_tripwire_failure": {"step": wires[-1].step, "error": wires[-1].error}
        if wires
        else None,
        "sidecar": sidecar_status(data),
        "tracking": {t.service: {"lost": t.lost, "error": t.error} for t in data.tracking},
        "injected_nothing": data.injected_nothing,
        "rewound": len(data.rewinds),
        "rewound_to": data.rewinds[-1].step if data.rewinds else None,
        "damaged_lines": list(data.damaged),
        "decision": _decision(data.decisions[0]) if data.decisions else None,
        "error": data.closing.error if data.closing else None,
        "cost": {"seconds": {what: round(s, 3) for what, s in guarding.items()}, "share": share},
        "pace": {
            "last_record_at": data.last_time.isoformat() if data.last_time else None,
            "step_s": data.pace.step_s,
            "silence_limit_s": data.pace.silence_limit_s,
        },
        "abilities": _abilities(looks),
        "looks": [
            {
                "look": k.number,
                "step": k.step,
                "trigger": k.trigger,
                "applied_step": k.applied_step,
                "level": k.level,
                "suspects": [s.name for s in k.suspects],
                "tested": k.tested,
                "streams": len(k.streams),
                "untested": {why: len(s) for why, s in by_standing(k.untested).items()},
                "alarmed": [s.name for s in k.alarmed],
            }
            for k in looks
        ],
        "actions": [
            {
                "step": a.step,
                "action": a.kind,
                "carried_out": a.carried_out,
                "reason": a.reason,
                "before": a.before.model_dump(),
                "after": a.after.model_dump(),
            }
            for a in data.actions
        ],
    }


def shown_state(status: Mapping[str, Any]) -> str:
    """Return the outcome as people say it: `stale` for a silent run, `interrupted` for a Ctrl-C."""
    if status["stale"]:
        return "stale"
    by_hand = (status["error"] or "").startswith("KeyboardInterrupt")
    return "interrupted" if by_hand and status["outcome"] == "crashed" else str(status["outcome"])


def heartbeat(status: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the status with what the clock and the writer's lock say: silence, whether the run is stale, the next look."""
    pace = status["pace"]
    last = pace["last_record_at"]
    silent_s = max(0.0, (now - datetime.fromisoformat(last)).total_seconds()) if last else None
    going = status["outcome"] == "running"
    gone = going and writer_gone(Path(status["run"]))
    stale = gone or (going and silent_s is not None and silent_s > pace["silence_limit_s"])
    ahead, in_s = status["next_look_step"], None
    if not stale and ahead is not None and pace["step_s"] is not None and silent_s is not None:
        in_s = max(0.0, (ahead - status["step"]) * pace["step_s"] - silent_s)
    sidecar = status["sidecar"]
    if sidecar is not None:
        sidecar = told_now(sidecar, read_alive(Path(status["run"]), now))
    return status | {
        "sidecar": sidecar,
        "stale": stale,
        "process_gone": gone,
        "pace": pace | {"last_record_s": silent_s},
        "next_look_s": in_s,
    }


def _decision(decided: DecisionFacts) -> dict[str, Any]:
    """The newest decision of a person."""
    facts = decided.model_dump(mode="json", include={"decision", "by", "note", "step", "time"})
    return facts | {"against_advice": decided.against_advice}


def _abilities(looks: Sequence[LookFacts]) -> list[dict[str, Any]]:
    """Pass rates overall and of each ability at the last look, and their harm over all looks."""
    if not looks:
        return []
    found = []
    for group in ["overall", *looks[-1].groups]:
        stream = looks[-1].stream("passed", group)
        if stream is None:
            continue
        over = [look.stream("passed", group) for look in looks]
        found.append(
            {
                "ability": group,
                "items": stream.n,
                "base": stream.base,
                "now": stream.now,
                "harm": stream.harm,
                "margin": stream.margin,
                "level": stream.standing,
                "harm_over_looks": [None if s is None else s.harm for s in over],
            }
        )
    return found
