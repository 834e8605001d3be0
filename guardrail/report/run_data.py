"""A run folder → the plain facts a page shows. Knows no HTML, no language; takes any state of a run."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from guardrail.errors import InputError
from guardrail.judge.verdict import UNTESTED, Facts
from guardrail.ledger.file import RESOLVED_FILE, Record, live_records, newest_header, no_ledger
from guardrail.ledger.follow import LedgerTail
from guardrail.ledger.records import (
    ActionFacts,
    AskedFacts,
    CheckpointFacts,
    ClosingFacts,
    DecisionFacts,
    DomainLossFacts,
    FailureFacts,
    Levers,
    LookFacts,
    MetricFacts,
    RewindFacts,
    SelfTestFacts,
    StepLog,
    TrackingFacts,
    TripwireFacts,
)
from guardrail.report.pace import Pace, measure_pace, record_time
from guardrail.writer_lock import writer_gone

__all__ = ["KnownLooks", "LiveBranch", "RunData", "read_run", "run_data", "text_or_none"]

_F = TypeVar("_F", bound=Facts)
KnownLooks = dict[int, tuple[Record, LookFacts]]
"""Facts by the identity of their record, which is held so that the identity stays its own."""


class LiveBranch(Facts):
    """What the ledger says about the live branch of a run, as the report repeats it."""

    outcome: str
    """`finished`, `halted`, `terminated` (by a SIGTERM, with a checkpoint), `crashed`, `running` (no closing
    record: going on, or killed), `empty`."""
    name: str | None
    mode: str | None
    process_gone: bool = False
    """Whether a run without an end is known to have lost its process (killed, or out of memory), by its lock on the folder."""
    step: int
    planned_steps: int | None
    decisions: tuple[DecisionFacts, ...]
    """What people decided, newest first; a resume takes none of them away."""
    looks: tuple[LookFacts, ...]
    actions: tuple[ActionFacts, ...]
    failures: tuple[FailureFacts, ...]
    """Looks that could not be measured."""
    asked: tuple[AskedFacts, ...]
    """Looks that were asked of a sidecar."""
    tripwire_failures: tuple[FailureFacts, ...]
    checkpoints: tuple[CheckpointFacts, ...]
    rewinds: tuple[RewindFacts, ...]
    logs: tuple[StepLog, ...]
    tripwires: tuple[TripwireFacts, ...]
    metrics: tuple[MetricFacts, ...]


class RunData(LiveBranch):
    """A run folder: its live branch, and what else its ledger tells whoever draws conclusions from it."""

    run: Path
    started: Record
    """The header."""
    tracking: tuple[TrackingFacts, ...]
    closing: ClosingFacts | None
    """The `ended` or `crashed` record that gave the outcome."""
    kl_self_test: SelfTestFacts | None
    domain_loss: tuple[DomainLossFacts, ...]
    damaged: tuple[int, ...]
    """Numbers of the ledger's lines that cannot be read or do not say what their kind must."""
    first_time: datetime | None
    last_time: datetime | None
    pace: Pace
    """Step time, and the silence after which a running run counts as stale."""

    @property
    def ended_time(self) -> datetime | None:
        """When the run ended; while it has not, or did not say, when it was last heard of."""
        told = self.closing.time if self.closing else None
        return self.last_time if told is None else told

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first record to the end, pauses before a resume included; None without times."""
        if self.first_time is None or self.ended_time is None:
            return None
        if (self.first_time.tzinfo is None) != (self.ended_time.tzinfo is None):
            return None
        return max(0.0, (self.ended_time - self.first_time).total_seconds())

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe, empty where the run never wrote it."""
        recipe = self.started.get("recipe")
        return recipe if isinstance(recipe, dict) else {}

    def recipe_section(self, name: str) -> dict[str, Any]:
        """Return a section of the recipe, empty where there is none."""
        section = self.recipe.get(name)
        return section if isinstance(section, dict) else {}

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """The recipe's own arguments of the trainer."""
        arguments = self.recipe_section("train").get("arguments")
        return arguments if isinstance(arguments, dict) else {}

    @property
    def run_by_recipe(self) -> bool:
        """Whether `guardrail run` made this run, so that its recipe alone can start the next one."""
        return (self.run / RESOLVED_FILE).is_file()

    @property
    def beside(self) -> bool:
        """Whether a sidecar takes the looks."""
        return self.recipe_section("looks").get("engine") == "sidecar"

    @property
    def watching(self) -> bool:
        """Whether this run only looked: nothing injected, no action carried out."""
        return self.mode == "watch"

    @property
    def one_look(self) -> bool:
        """Whether this is `guardrail look`: one look at a model, no training."""
        return self.mode == "look"

    @property
    def kl_term(self) -> bool:
        """Whether this kind of training has a KL term at all."""
        return self.started.get("kl_term") is not False

    @property
    def last_look(self) -> LookFacts | None:
        """The newest look that was measured."""
        return self.looks[-1] if self.looks else None

    @property
    def inherited(self) -> bool:
        """Whether the run started from another model than the gold base."""
        return bool(self.looks) and self.looks[0].inherited

    @property
    def level(self) -> str:
        """The last look's level; `untested` where there is none, or a later one failed."""
        look = self.last_look
        failed_since = look is not None and any(f.seq > look.seq for f in self.failures)
        return UNTESTED if look is None or failed_since else look.level

    @property
    def tested_at_the_end(self) -> bool:
        """Whether the newest weights have a look that tested something, the one at the start not counted."""
        look = self.last_look
        return (
            look is not None
            and look.number > 0
            and look.step >= self.step
            and self.level != UNTESTED
        )

    @property
    def last_ok(self) -> CheckpointFacts | None:
        """The newest checkpoint saved at a look that was ok and sound; one that tested nothing shows nothing."""
        blank = {look.step for look in self.looks if not look.tested}
        sound_at = {look.step: look.sound for look in self.looks}  # a repeat is the newer one
        newest = {
            c.path: c for c in self.checkpoints
        }  # the best model is looked at again at the end

        def sound(c: CheckpointFacts) -> bool:
            return sound_at.get(c.step, True) if c.sound is None else c.sound

        found = [c for c in newest.values() if c.level == "ok" and sound(c) and c.step not in blank]
        return max(found, key=lambda c: c.step, default=None)

    @property
    def levers(self) -> Levers:
        """Where KL boost and learning-rate factor stand now."""
        done = [a for a in self.actions if a.carried_out]
        return done[-1].after if done else Levers()

    @property
    def injected_nothing(self) -> bool:
        """Whether a guarded run that has a KL term has logged steps and not one rehearsal sample."""
        guarded = not self.watching and not self.one_look and self.kl_term
        newest = self.logs[-1].unique_prompts if self.logs else None
        return guarded and newest == 0 and not any(log.rehearsal_kl for log in self.logs)

    @property
    def actions_trained_under(self) -> list[ActionFacts]:
        """The actions that were carried out before the run's last step, so that some of it was trained under them."""
        return [a for a in self.actions if a.carried_out and a.step < self.step]

    @property
    def open_asks(self) -> list[AskedFacts]:
        """Looks that were asked of a sidecar and are not judged, by step."""
        closed = {look.number for look in self.looks} | {f.look for f in self.failures}
        found = [ask for ask in self.asked if ask.look not in closed]
        return sorted(found, key=lambda ask: (ask.step, ask.look))

    @property
    def moves(self) -> list[ActionFacts]:
        """Actions that changed the training; the promise of the error budget holds up to the first."""
        return [a for a in self.actions if a.carried_out and a.kind in ("raise_kl", "cut_lr")]

    @property
    def kl_weights(self) -> list[tuple[float, float]]:
        """(step, KL weight from then on); empty where nothing was injected or the weight is unknown."""
        weight = self.recipe_section("rehearsal").get("weight")
        none = self.watching or not self.kl_term
        if none or not isinstance(weight, float | int) or not 0 <= weight < 1e9:
            return []
        moves = [(float(a.step), weight * a.after.boost) for a in self.actions if a.carried_out]
        return [(0.0, float(weight)), *moves]

    def critical_margin(self, metric: str) -> float | None:
        """The harm of a metric that halts the run, in its own unit; None where the recipe does not tell."""
        margins = self.recipe_section("drift").get("margins")
        rule = margins.get(metric) if isinstance(margins, dict) else None
        critical = rule.get("critical") if isinstance(rule, dict) else None
        if not isinstance(critical, int | float) or abs(critical) > 1e9:
            return None
        return float(critical)


def _outcome(live: Iterable[Record]) -> tuple[str, Record | None]:
    """The last of ended, crashed and rewound decides; a resumed run is running again."""
    outcome, closing = "empty", None
    for record in live:
        if record["kind"] in ("ended", "crashed"):
            outcome = str(record.get("outcome")) if record["kind"] == "ended" else "crashed"
            closing = record
        elif record["kind"] == "rewound" or outcome == "empty":
            outcome, closing = "running", None
    return outcome, closing


def _read(model: type[_F], records: Iterable[Record], unfit: list[Record]) -> tuple[_F, ...]:
    found = []
    for record in records:
        try:
            found.append(model.model_validate(record))
        except ValidationError:
            unfit.append(record)
    return tuple(found)


def _looks(
    records: Iterable[Record], unfit: list[Record], known: KnownLooks
) -> tuple[LookFacts, ...]:
    """The facts of looks, read once where the same records come again."""
    found: list[LookFacts] = []
    for record in records:
        if id(record) not in known:
            for facts in _read(LookFacts, [record], unfit):
                known[id(record)] = (record, facts)
        if id(record) in known:
            found.append(known[id(record)][1])
    return tuple(found)


def _lines(
    records: Sequence[Record], unreadable: Iterable[int], unfit: Sequence[Record]
) -> tuple[int, ...]:
    """Numbers of the lines that could not be read and of those whose record does not fit its kind."""
    damaged = set(unreadable)
    wrong = {id(record) for record in unfit}
    numbers = (n for n in count(1) if n not in damaged)
    found = {n for n, record in zip(numbers, records, strict=False) if id(record) in wrong}
    return tuple(sorted(damaged | found))


def _with_streams(action: ActionFacts, looks: Sequence[LookFacts]) -> ActionFacts:
    look = next((k for k in reversed(looks) if k.number == action.look), None)
    return action.model_copy(update={"streams": look.alarmed if look is not None else ()})


def read_run(run: Path) -> RunData:
    """Return what the ledger of a run folder says about its live branch, whatever state it is in.

    Lines that cannot be read are left out and their numbers kept in `damaged`; a torn last line, as a
    running or killed process leaves one, is no damage.

    Raises:
        InputError: the folder holds no ledger, or one that cannot be read.
    """
    tail = LedgerTail(run)
    try:
        tail.read_on()
    except OSError as error:
        raise InputError(f"ledger `{tail.path}` cannot be read ({error.strerror})") from error
    if not tail.exists:
        raise no_ledger(run)
    return run_data(run, tail.records, tail.damaged)


def run_data(
    run: Path,
    records: Sequence[Record],
    unreadable: Iterable[int] = (),
    known: KnownLooks | None = None,
) -> RunData:
    """Return what the records of a run folder's ledger say about its live branch.

    Args:
        run: The folder.
        records: Every record that could be read, oldest first.
        unreadable: Numbers of the ledger's lines that could not.
        known: Looks that were read before, to be kept by a caller who asks again as the ledger grows.
    """
    live = live_records(records)
    unfit: list[Record] = []

    def of(kind: str) -> list[Record]:
        return [r for r in live if r["kind"] == kind]

    started = newest_header(records)
    looks = _looks(of("look"), unfit, {} if known is None else known)
    times = [at for at in map(record_time, records) if at is not None]
    outcome, closing = _outcome(live)
    closings = _read(ClosingFacts, [closing] if closing else [], unfit)
    self_tests = _read(SelfTestFacts, of("kl_self_test"), unfit)
    failures = _read(FailureFacts, of("error"), unfit)
    decisions = _read(DecisionFacts, [r for r in records if r["kind"] == "decision"], unfit)
    data = RunData(
        run=run,
        outcome=outcome,
        process_gone=outcome == "running" and writer_gone(run),
        name=text_or_none(started.get("name")),
        mode=text_or_none(started.get("mode")),
        step=max((r["step"] for r in live), default=0),
        planned_steps=None,
        started=started,
        looks=looks,
        actions=tuple(_with_streams(a, looks) for a in _read(ActionFacts, of("action"), unfit)),
        failures=tuple(f for f in failures if f.during != "tripwire"),
        asked=_read(AskedFacts, of("asked"), unfit),
        tripwire_failures=tuple(f for f in failures if f.during == "tripwire"),
        checkpoints=_read(CheckpointFacts, of("checkpoint"), unfit),
        tripwires=_read(TripwireFacts, of("tripwire"), unfit),
        logs=_read(StepLog, of("log"), unfit),
        metrics=_read(MetricFacts, of("metric"), unfit),
        tracking=_read(TrackingFacts, of("tracking"), unfit),
        rewinds=_read(RewindFacts, of("rewound"), unfit),
        decisions=decisions[::-1],
        closing=closings[-1] if closings else None,
        kl_self_test=self_tests[-1] if self_tests else None,
        domain_loss=_read(DomainLossFacts, of("domain_loss"), unfit),
        damaged=(),
        first_time=times[0] if times else None,
        last_time=times[-1] if times else None,
        pace=measure_pace(live),
    )
    planned = looks[0].planned_steps if looks else None
    if planned is None and (first := next(iter(of("asked")), None)):
        planned = first.get("planned_steps")
    if replanned := of("replanned"):  # a resume made the run longer or shorter
        planned = replanned[-1].get("planned_steps")
    if planned is None:
        planned = data.trainer_arguments.get("max_steps")
    known_end = planned if isinstance(planned, int) and planned > 0 else None
    damaged = _lines(records, unreadable, unfit)
    return data.model_copy(update={"planned_steps": known_end, "damaged": damaged})


def text_or_none(value: Any) -> str | None:
    """Return what a header says as text, cut where no page could hold it."""
    return None if value is None else f"{value!s:.500}"
