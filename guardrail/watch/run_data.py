"""A run folder → the plain facts a page shows: ledger, answers, items. Knows no HTML, no language."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from guardrail.drift.rule import LEVELS
from guardrail.ledger import Record, live_records, read_ledger
from guardrail.sets.items import ABILITIES

__all__ = [
    "UNKNOWN",
    "ActionFacts",
    "LookFacts",
    "RunData",
    "StreamFacts",
    "read_run",
    "run_data",
]

UNKNOWN = "unknown"
"""The level of a run of which nothing valid was measured since; never shown as ok."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One metric on one group at one look, as the ledger holds it; None: could not be computed."""

    metric: str
    group: str
    n: int
    base: float | None
    now: float | None
    harm: float | None
    low: float | None
    high: float | None
    margin: float | None
    z: float | None
    boundary_warn: float | None
    boundary_halt: float | None
    level: str
    tested: bool
    reason: str
    attention: bool | None = None
    """Whether an ok stream moved inside its margin; older ledgers do not say."""

    @property
    def standing(self) -> str:
        """The one word for badge and sentence.

        A level above ok; `few_items`, `few_clusters`, `blind`, `no_budget` or `untested` where the
        stream could not alarm; `not_shown` where the mean is beyond the margin without proof;
        `attention` where it moved inside its margin; else `ok`.
        """
        if self.level != "ok":
            return self.level
        if not self.tested:
            openings = {
                "blind": "blind",
                "all planned": "no_budget",
                "the error budget": "no_budget",
            }
            for opening, code in openings.items():
                if self.reason.startswith(opening):
                    return code
            if "clusters" in self.reason:
                return "few_clusters"
            return "few_items" if "are needed" in self.reason else "untested"
        beyond = self.harm is None or self.margin is None or self.harm > self.margin
        return "not_shown" if beyond else "attention" if self.attention else "ok"


@dataclass(frozen=True, slots=True)
class LookFacts:
    """One look of the live branch."""

    seq: int
    number: int
    step: int
    trigger: str
    level: str
    seconds: float | None
    answers: str
    inherited: bool
    failed_pipeline_check: tuple[str, ...]
    benchmark: dict[str, int] | None
    """`questions` of a multiple-choice benchmark and how many were `right`; never judged."""
    streams: tuple[StreamFacts, ...]

    def stream(self, metric: str, group: str) -> StreamFacts | None:
        """Return one stream, None if this look has none."""
        return next((s for s in self.streams if (s.metric, s.group) == (metric, group)), None)

    @property
    def groups(self) -> list[str]:
        """The abilities of this look, the shipped ones first and in their order."""
        found = dict.fromkeys(s.group for s in self.streams if s.group != "overall")
        known = [name for name in ABILITIES if name in found]
        return known + [name for name in found if name not in known]

    @property
    def alarmed(self) -> list[StreamFacts]:
        """The streams above ok: highest level first, then pass rates, then the larger evidence."""
        above = [s for s in self.streams if s.level != "ok"]
        return sorted(
            above,
            key=lambda s: (
                -_rank(s.level),
                s.metric != "passed",
                s.group != "overall",
                -(s.z or 0),
            ),
        )

    @property
    def tested(self) -> bool:
        """Whether any stream could alarm."""
        return any(s.tested for s in self.streams)


@dataclass(frozen=True, slots=True)
class ActionFacts:
    """One decision of the ladder, with the streams that led to it."""

    step: int
    kind: str
    carried_out: bool
    reason: str
    before: dict[str, float]
    after: dict[str, float]
    streams: tuple[StreamFacts, ...]


@dataclass(frozen=True, slots=True)
class RunData:
    """Everything the ledger says about the live branch of a run."""

    run: Path
    outcome: str
    """`finished`, `halted`, `terminated` (by a SIGTERM, with a checkpoint), `crashed`, `running` (no closing record: going on, or killed), `empty`."""
    name: str | None
    mode: str | None
    step: int
    planned_steps: int | None
    started: Record
    looks: tuple[LookFacts, ...]
    actions: tuple[ActionFacts, ...]
    failures: tuple[Record, ...]
    checkpoints: tuple[Record, ...]
    tripwires: tuple[Record, ...]
    logs: tuple[Record, ...]
    rewinds: tuple[Record, ...]
    closing: Record | None
    """The `ended` or `crashed` record that gave the outcome."""
    kl_self_test: Record | None
    domain_loss: tuple[Record, ...]
    first_time: datetime | None
    last_time: datetime | None
    longest_silence_s: float
    """Longest time between two records so far."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe, empty where the run never wrote it."""
        recipe: dict[str, Any] = self.started.get("recipe") or {}
        return recipe

    @property
    def watching(self) -> bool:
        """Whether this run only looked: nothing injected, no action carried out."""
        return self.mode == "watch"

    @property
    def last_look(self) -> LookFacts | None:
        """The newest look that was measured."""
        return self.looks[-1] if self.looks else None

    @property
    def level(self) -> str:
        """The last look's level; `unknown` where a later look failed or nothing could be tested."""
        look = self.last_look
        failed_since = look is not None and any(f["seq"] > look.seq for f in self.failures)
        return UNKNOWN if look is None or failed_since or not look.tested else look.level

    @property
    def last_ok(self) -> Record | None:
        """The newest checkpoint saved at a look that was ok; one that tested nothing shows nothing."""
        blank = {look.step for look in self.looks if not look.tested}
        found = (c for c in reversed(self.checkpoints) if c["level"] == "ok")
        return next((c for c in found if c["step"] not in blank), None)

    @property
    def levers(self) -> dict[str, float]:
        """Where KL boost and learning-rate factor stand now."""
        done = [a for a in self.actions if a.carried_out]
        return done[-1].after if done else {"boost": 1.0, "lr_factor": 1.0}

    @property
    def kl_weights(self) -> list[tuple[int, float]]:
        """(step, KL weight from then on); empty where nothing was injected or the weight is unknown."""
        weight = (self.recipe.get("rehearsal") or {}).get("weight")
        if self.watching or weight is None:
            return []
        moves = [(a.step, weight * a.after["boost"]) for a in self.actions if a.carried_out]
        return [(0, float(weight)), *moves]


def _rank(level: str) -> int:
    return next((rank for rank, known in enumerate(LEVELS) if known == level), len(LEVELS))


def _stream(record: Record) -> StreamFacts:
    known = {name: record.get(name) for name in StreamFacts.__dataclass_fields__}
    return StreamFacts(**known)  # type: ignore[arg-type]


def _look(record: Record) -> LookFacts:
    plain = ("seq", "step", "trigger", "level", "answers")
    return LookFacts(
        **{name: record[name] for name in plain},
        number=record["look"],
        seconds=record.get("seconds"),
        inherited=bool(record.get("inherited")),
        failed_pipeline_check=tuple(record.get("failed_pipeline_check") or ()),
        benchmark=record.get("benchmark"),
        streams=tuple(_stream(s) for s in record["streams"]),
    )


def _action(record: Record, looks: Sequence[LookFacts]) -> ActionFacts:
    look = next((k for k in reversed(looks) if k.number == record.get("look")), None)
    return ActionFacts(
        step=record["step"],
        kind=record["action"],
        carried_out=record["carried_out"],
        reason=record["reason"],
        before=record["before"],
        after=record["after"],
        streams=tuple(look.alarmed) if look is not None else (),
    )


def _outcome(live: Iterable[Record]) -> tuple[str, Record | None]:
    """The last of ended, crashed and rewound decides; a resumed run is running again."""
    outcome, closing = "empty", None
    for record in live:
        if record["kind"] in ("ended", "crashed"):
            outcome = record.get("outcome", "crashed") if record["kind"] == "ended" else "crashed"
            closing = record
        elif record["kind"] == "rewound" or outcome == "empty":
            outcome, closing = "running", None
    return outcome, closing


def read_run(run: Path) -> RunData:
    """Return what the ledger of a run folder says about its live branch, whatever state it is in.

    Raises:
        InputError: the folder holds no ledger, or a line before the last one is damaged.
    """
    return run_data(run, read_ledger(run))


def run_data(run: Path, records: Sequence[Record]) -> RunData:
    """Return what the records of a run folder's ledger say about its live branch."""
    live = live_records(records)

    def of(kind: str) -> tuple[Record, ...]:
        return tuple(r for r in live if r["kind"] == kind)

    # A resume without a checkpoint rewinds to before step 0, and takes the header with it.
    started = next((r for r in records if r["kind"] == "started"), {})
    looks = tuple(_look(r) for r in of("look"))
    times = [datetime.fromisoformat(r["time"]) for r in records]
    silences = [(b - a).total_seconds() for a, b in pairwise(times)]
    outcome, closing = _outcome(live)
    arguments = ((started.get("recipe") or {}).get("train") or {}).get("arguments") or {}
    planned = arguments.get("max_steps")
    self_tests = of("kl_self_test")
    return RunData(
        run=run,
        outcome=outcome,
        name=started.get("name"),
        mode=started.get("mode"),
        step=max((r["step"] for r in live), default=0),
        planned_steps=planned if isinstance(planned, int) and planned > 0 else None,
        started=started,
        looks=looks,
        actions=tuple(_action(r, looks) for r in of("action")),
        failures=of("error"),
        checkpoints=of("checkpoint"),
        tripwires=of("tripwire"),
        logs=of("log"),
        rewinds=of("rewound"),
        closing=closing,
        kl_self_test=self_tests[-1] if self_tests else None,
        domain_loss=of("domain_loss"),
        first_time=times[0] if times else None,
        last_time=times[-1] if times else None,
        longest_silence_s=max(silences, default=0.0),
    )
