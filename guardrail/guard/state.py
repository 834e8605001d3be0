"""What a guard must remember to go on after a crash; a copy lies inside every checkpoint."""

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.guard.asked_looks import Asked
from guardrail.guard.tripwire_plan import WatchedTokens
from guardrail.judge.boundaries import Spent
from guardrail.judge.ladder import Judged
from guardrail.judge.look_values import Measured
from guardrail.judge.rule import RuleState
from guardrail.judge.verdict import LEVELS, UNTESTED, rank
from guardrail.kl.draw_by_ability import Drawn
from guardrail.read_back import SEAL, NotAsWritten, read_json, sealed, unsealed

__all__ = [
    "STATE_FILE",
    "GuardState",
    "Seen",
    "put_back",
    "read_bound",
    "read_state",
    "write_state",
]

STATE_FILE = "guardrail_state.json"
_LARGEST_STATE = 1 << 30
_MOST = 2**53
"""Of whatever is counted."""


@dataclass(slots=True)
class Seen:
    """What was seen of the user's samples and of rehearsal samples."""

    task_samples: int = 0
    """Task samples seen by all ranks."""
    rehearsal_seen: int = 0
    """Rehearsal samples seen by all ranks: the cursor into the rehearsal order."""
    weight_sum: float = 0.0
    """KL weight summed over optimizer steps, 0 for steps without rehearsal."""
    drawn: Drawn = field(default_factory=Drawn)
    """Where the order by ability stands; empty where the items are shuffled."""

    def exposure(self, prompts: int) -> dict[str, float]:
        """Return what was seen of so many rehearsal prompts: samples of both kinds, share, unique, passes."""
        seen, task = self.rehearsal_seen, self.task_samples
        return {
            "task_samples": task,
            "rehearsal_samples": seen,
            "share": seen / (seen + task) if seen + task else 0.0,
            "unique_prompts": min(seen, prompts),
            "passes": seen / prompts,
        }


@dataclass(slots=True)
class GuardState(Seen):
    """The guard's memory. Everything else follows from the recipe and the anchors.

    One module writes each field; the headings below name it. A resume and a training that begins anew put back
    the whole (`read_state`, `put_back`). What is `Seen` is written by whatever draws the KL-only samples
    (guardrail/trainers): for TRL's rollouts trl/grpo.py, else kl_only/samples.py, as `golds` are.
    """

    golds: Seen = field(default_factory=Seen)
    """Golds beside GRPO's loss, where the rollouts hold KL-only prompts too."""

    # look_plan.py
    planned_looks: int = 0
    """Looks the error budget is spent over: those used up and those ahead."""
    due: list[int] = field(default_factory=list)
    """Steps at which looks were planned."""
    kept: int = 0
    """Looks planned beside those: the reserve, and that of the best model at the end."""

    # guard.py
    looks: int = 0
    """Looks taken or asked for, repeats included; seeds the next one."""
    samples: int = 0
    """Answers an item that each look after look 0 has; 0: not settled yet."""
    baseline: Measured | None = None
    """Look 0's measurements, the baseline of every later look."""
    rule: RuleState = field(default_factory=RuleState)
    rule_before: RuleState = field(default_factory=RuleState)
    """The rule's state before the last look, by which a repeat is judged; a sidecar's may come after a save."""
    history: list[Judged] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    """Looks that a sidecar is to answer, in the order in which they are judged."""
    extra_looks: int = 0
    """Early looks taken from the reserve."""
    wire_at_look: float = 0.0
    """What the larger tripwire was at the last look."""

    # tripwire.py
    tripwire_every: int = 0
    """Steps between two tripwires; 0: there are none."""
    gold_wire: WatchedTokens | None = None
    """The golds that tripwires watch."""
    task_wire: WatchedTokens | None = None
    """Prompts of the new task with the start model's answers."""
    wire: float = 0.0
    """The larger tripwire when it was last measured, nats a token."""

    # apply_levers.py
    boost: float = 1.0
    lr_factor: float = 1.0
    base_rates: list[float] = field(default_factory=list)
    """What the scheduler computed learning rates from when this was saved, the guard's cut included."""
    scheduler_steps: int = 0
    """How often it had stepped then."""

    # course.py
    owed: Literal["", "step", "save"] = ""
    """What a SIGTERM left out after the last step: what is due by its number, or also the look of a save."""
    owed_look: str = ""
    """Trigger of a look that a SIGTERM cut off."""
    failures: int = 0
    """Looks that could not be measured."""

    # checkpoints.py
    last_ok_checkpoint: str | None = None

    # `spend`, for whoever spent them
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds spent by the guard, by what, and under `train` all of the training's."""

    def spend(self, what: str, seconds: float) -> None:
        """Count seconds."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    def rounded_seconds(self) -> dict[str, float]:
        """Return the seconds as the ledger tells them."""
        return {what: round(spent, 3) for what, spent in self.seconds.items()}


def _as_json(state: GuardState) -> dict[str, Any]:
    content = {entry.name: getattr(state, entry.name) for entry in fields(state)}
    content["golds"], content["drawn"] = asdict(state.golds), asdict(state.drawn)
    for name in ("gold_wire", "task_wire"):
        wire = content[name]
        content[name] = None if wire is None else asdict(wire)
    for name in ("rule", "rule_before"):
        rule: RuleState = content[name]
        spent = {kind: one.dead for kind, one in rule.spent.items()}
        content[name] = asdict(rule) | {"spent": spent}
    content["asked"] = [asdict(ask) for ask in state.asked]
    content["history"] = [asdict(judged) for judged in state.history]
    if state.baseline is not None:
        content["baseline"] = {
            name: [[None if math.isnan(v) else v for v in row] for row in table.tolist()]
            for name, table in state.baseline.items()
        }
    return content


def _judged(entry: dict[str, Any]) -> Judged:
    if entry["level"] == "ok" and not entry["harm_over_margin"]:
        entry["level"] = UNTESTED  # earlier versions called a look ok that tested nothing
    return Judged(**{**entry, "alarmed": tuple(entry["alarmed"])})


def write_state(folder: Path, state: GuardState, bound: Mapping[str, Any] | None = None) -> None:
    """Write the state into a checkpoint, sealed, atomically and last: its presence says it is complete.

    `bound` says what it belongs to (bound_checkpoint.py).
    """
    content = sealed({**_as_json(state), "bound": bound})
    write_whole(folder / STATE_FILE, json.dumps(content, ensure_ascii=False, allow_nan=False))


def put_back(state: GuardState, kept: GuardState) -> None:
    """Make a state what it was when `kept` was copied from it; whoever holds it or its golds sees that."""
    for entry in fields(kept):
        if entry.name != "golds":
            setattr(state, entry.name, copy.deepcopy(getattr(kept, entry.name)))
    for entry in fields(kept.golds):
        setattr(state.golds, entry.name, copy.deepcopy(getattr(kept.golds, entry.name)))


def _stored(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    try:
        content = read_json(path, _LARGEST_STATE)
        if isinstance(content, dict) and "looks" in content and SEAL not in content:
            raise InputError(
                f"`{path}` was saved by an older version, which put no digest into it, so that nobody can tell whether it "
                "is as it was saved; go on with that version, or begin a run from this checkpoint (`start_model`)"
            )
        return unsealed(content)
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from error
    except NotAsWritten as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"guard state `{path}` is not as it was saved ({why:.200}); restore it from a copy, or go on from another "
        "checkpoint (`--resume-from`, `attach(resume=...)`)"
    )


def read_bound(folder: Path) -> Any:
    """Return what the state of a checkpoint says it belongs to.

    Raises:
        InputError: as `read_state`.
    """
    return _stored(folder).get("bound")


def read_state(folder: Path) -> GuardState:
    """Return the state of a checkpoint, bit for bit as it was written.

    Raises:
        InputError: it is torn, was changed since, is of an older version, or says what no guard can have saved.
    """
    content = _stored(folder)
    content.pop("bound", None)
    try:
        state = _as_state(content)
        _check_values(state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(folder / STATE_FILE, f"{type(error).__name__}: {error}") from error
    return state


def _check_values(state: GuardState) -> None:
    """Raise a ValueError where a number is none that a training leads to."""
    bounds: dict[str, tuple[float, float, float]] = {
        "boost": (state.boost, 0.0, 1e6),
        "lr_factor": (state.lr_factor, 1e-12, 1.0),
        "rule.share": (state.rule.share, 0.0, 1.0 + 1e-9),
        "wire": (state.wire, -1e6, 1e6),
        "wire_at_look": (state.wire_at_look, -1e6, 1e6),
        "weight_sum": (state.weight_sum, 0.0, 1e15),
        "rule.looks_used": (state.rule.looks_used, 0, _MOST),
        "rule.draws": (state.rule.draws, 0, _MOST),
    }
    counts: tuple[str, ...] = (
        "task_samples",
        "rehearsal_seen",
        "planned_looks",
        "kept",
        "looks",
        "failures",
    )
    counts += ("tripwire_every", "scheduler_steps", "extra_looks")
    bounds |= {name: (getattr(state, name), 0, _MOST) for name in counts}
    bounds |= {f"seconds.{what}": (spent, 0.0, 1e12) for what, spent in state.seconds.items()}
    for name, (value, least, most) in bounds.items():
        if isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"`{name}` is {value!r:.40}, and must lie from {least:g} to {most:g}")
    if not all(isinstance(getattr(state, name), int) for name in counts):
        raise ValueError("samples, looks and steps are counted in whole numbers")
    if not all(isinstance(judged.step, int) and judged.step >= 0 for judged in state.history):
        raise ValueError("a look of `history` has no step")
    if any(rank(judged.level) >= len(LEVELS) for judged in state.history):
        raise ValueError("a look of `history` has no level")
    if state.owed not in ("", "step", "save"):
        raise ValueError(f"`owed` is {state.owed!r:.40}")


def _as_state(content: dict[str, Any]) -> GuardState:
    for name in {"rule", "rule_before"} & set(content):  # earlier versions kept no `rule_before`
        rule = content[name]
        spent = {kind: Spent(dead) for kind, dead in rule["spent"].items()}
        content[name] = RuleState(**{**rule, "spent": spent})
    content["asked"] = [Asked(**ask) for ask in content.get("asked", [])]
    golds = content["golds"]
    content["golds"] = Seen(**{**golds, "drawn": Drawn(**golds.get("drawn", {}))})
    content["drawn"] = Drawn(**content.get("drawn", {}))  # earlier versions had none
    content.pop(
        "tripwire_base", None
    )  # earlier versions watched all golds whole: there is none to go on
    for name in ("gold_wire", "task_wire"):
        wire = content.get(name)
        content[name] = None if wire is None else WatchedTokens(**wire)
    content["history"] = [_judged(entry) for entry in content["history"]]
    if content["baseline"] is not None:
        content["baseline"] = {
            name: np.array([[math.nan if v is None else v for v in row] for row in table])
            for name, table in content["baseline"].items()
        }
    return GuardState(**content)
