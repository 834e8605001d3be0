"""A ledger record → the numbers a tracker draws. Pure: the ledger is the truth, trackers only repeat it."""

import math
from collections.abc import Mapping
from typing import Any

from guardrail.judge.verdict import rank
from guardrail.ledger.file import Record
from guardrail.ledger.records import LookFacts

__all__ = ["AGAINST_STEP", "is_detail", "scalars"]

AGAINST_STEP = "train/global_step"
"""The x-axis of every chart: the name under which the trainer's own integrations log it."""

_OF_A_STREAM = ("now", "base", "harm", "margin", "z", "boundary_warn", "boundary_halt")
_DETAILS = ("/margin", "/z", "/boundary_warn", "/boundary_halt")


def scalars(record: Record) -> dict[str, float]:
    """Return name → finite number of what a record says; nothing for a record without numbers.

    Names: `guardrail/METRIC/GROUP/VALUE` for the streams of a look, `guardrail/level` (0 ok to 3 critical; left
    out where nothing could be tested), `guardrail/untested_streams` (how many could not alarm), `guardrail/length_ratio/GROUP` (geometric mean, 1 is base),
    `guardrail/tripwire/*` and `guardrail/kl/*` in nats a token, `guardrail/levers/*` as multiples of the
    recipe's values, `guardrail/exposure/*`, `guardrail/seconds/*`, `guardrail/own/NAME`.
    """
    read = _READERS.get(record["kind"])
    found = read(record) if read is not None else {}
    return {
        f"guardrail/{n}": float(v) for n, v in found.items() if v is not None and math.isfinite(v)
    }


def is_detail(name: str) -> bool:
    """Whether a number is for the curious: kept out of charts that a tracker makes by itself."""
    return name.endswith(_DETAILS)


def _look(record: Record) -> dict[str, float | None]:
    look = LookFacts.model_validate(record)
    found: dict[str, float | None] = {
        "look_seconds": look.seconds,
        "untested_streams": len(look.untested),
    }
    if look.tested:
        found["level"] = rank(look.level)
    for s in look.streams:
        for value in _OF_A_STREAM:
            found[f"{s.name}/{value}"] = getattr(s, value)
        if s.metric == "longer" and s.now is not None and s.base is not None:
            found[f"length_ratio/{s.group}"] = math.exp(s.now - s.base)
    if look.benchmark is not None:
        found["benchmark/right"] = look.benchmark.right / look.benchmark.questions
    return found


def _tripwire(record: Record) -> dict[str, float | None]:
    by_ability = {f"tripwire/gold_kl_{name}": kl for name, kl in record["by_ability"].items()}
    return {
        "tripwire/gold_kl": record["kl"],
        "tripwire/gold_kl_se": record.get("se"),
        "tripwire/task_kl": record["task_kl"],
        "tripwire/task_kl_se": record.get("task_se"),
        **by_ability,
    }


def _log(record: Record) -> dict[str, float | None]:
    return {
        "kl/rehearsal": record.get("rehearsal_kl"),
        "kl/weight": record.get("kl_weight"),
        "kl/weight_average": record.get("kl_weight_average"),
        "kl/golds": (record.get("golds") or {}).get("rehearsal_kl"),
        "kl/golds_weight": (record.get("golds") or {}).get("kl_weight"),
        "kl/trainer_beta": record.get("beta"),
        "levers/lr_factor": record.get("lr_factor"),
        "exposure/share": record.get("share"),
        "exposure/rehearsal_samples": record.get("rehearsal_samples"),
        "exposure/unique_prompts": record.get("unique_prompts"),
        "exposure/repeats": record.get("passes"),
        **_spent(record),
    }


def _spent(record: Record) -> dict[str, float | None]:
    """Seconds by what they went into, and the guard's share of all in per cent."""
    seconds: Mapping[str, float] = record.get("seconds") or {}
    found: dict[str, float | None] = {f"seconds/{what}": s for what, s in seconds.items()}
    total = seconds.get("train", 0.0)
    if total > 0:
        guard = math.fsum(s for what, s in seconds.items() if what != "train")
        found["cost_percent"] = 100 * guard / total
    return found


def _action(record: Record) -> dict[str, float | None]:
    if not record["carried_out"]:
        return {}
    after = record["after"]
    return {"levers/kl_boost": after["boost"], "levers/lr_factor": after["lr_factor"]}


_READERS: dict[str, Any] = {
    "started": lambda record: {"levers/kl_boost": 1.0, "levers/lr_factor": 1.0},
    "look": _look,
    "tripwire": _tripwire,
    "log": _log,
    "action": _action,
    "error": lambda record: {f"failed_{record.get('during', 'look')}": 1.0},
    "domain_loss": lambda record: {"domain_loss": record["held_out"]},
    "metric": lambda record: {f"own/{record['name']}": record["value"]},
    "ended": _spent,
}
