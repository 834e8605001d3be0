"""What the ledger says, checked: one frozen model a kind of record, as the report's JSON holds it.

A ledger is a file that anybody may have cut or edited: a record that does not fit its model is left
out and counted, so that everything behind this module may trust types and finite numbers.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from guardrail.judge.rule import UNTESTED, rank, shows_harm
from guardrail.sets.items import ABILITIES

__all__ = [
    "ActionFacts",
    "CheckpointFacts",
    "ClosingFacts",
    "DecisionFacts",
    "DomainLossFacts",
    "FailureFacts",
    "FormFacts",
    "FormName",
    "FormReason",
    "LookFacts",
    "MetricFacts",
    "PrecisionFacts",
    "RewindFacts",
    "SelfTestFacts",
    "StepLog",
    "StreamFacts",
    "TrackingFacts",
    "TripwireFacts",
    "by_standing",
]

FormName = Literal["literal", "anchored", "both"]
FormReason = Literal[
    "recipe",
    "trainer",
    "adapter_off",
    "golds",
    "router_loss",
    "setting",
    "no_reference",
    "other_reference",
    "adapter",
]
"""What decided in which form a GRPO run injects its KL-only samples."""

_LARGEST = 1e15


def _drawable(value: Any) -> Any:
    drawable = not isinstance(value, float | int) or abs(value) < _LARGEST
    return value if drawable else None


Number = Annotated[float | None, BeforeValidator(_drawable)]
"""A number one can draw (finite, below 1e15 in size), or None where there is none."""


class Facts(BaseModel):
    """Shared settings: frozen, and fields nobody shows are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Dated(Facts):
    """Where a record stands in the ledger."""

    seq: int = 0
    time: datetime | None = None
    step: int


class StreamFacts(Facts):
    """One metric on one group at one look, as the ledger holds it; None: could not be computed."""

    metric: str
    group: str
    n: int
    base: Number = None
    now: Number = None
    harm: Number = None
    low: Number = None
    high: Number = None
    margin: Number = None
    z: Number = None
    boundary_warn: Number = None
    boundary_halt: Number = None
    level: str
    tested: bool
    reason: str = ""
    attention: bool | None = None
    """Whether an ok stream moved inside its margin; older ledgers do not say."""

    @model_validator(mode="before")
    @classmethod
    def _untested_is_never_ok(cls, stream: Any) -> Any:
        """Ledgers of earlier versions call a stream ok that was not tested."""
        if isinstance(stream, dict) and stream.get("tested") is False:
            return stream | {"level": UNTESTED}
        return stream

    @property
    def standing(self) -> str:
        """The one word for badge and sentence.

        A level above ok; `few_items`, `few_clusters`, `blind`, `no_budget` or `untested` where the
        stream could not alarm; `not_shown` where the mean is beyond the margin without proof;
        `attention` where it moved inside its margin; else `ok`.
        """
        if shows_harm(self.level):
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


def by_standing(streams: Iterable[StreamFacts]) -> dict[str, list[StreamFacts]]:
    """Return streams by their standing, the most frequent first."""
    found: dict[str, list[StreamFacts]] = {}
    for stream in streams:
        found.setdefault(stream.standing, []).append(stream)
    return dict(sorted(found.items(), key=lambda kind: -len(kind[1])))


class Benchmark(Facts):
    """A multiple-choice benchmark at one look; never judged."""

    questions: int = Field(ge=1)
    right: int = Field(ge=0)


class LookFacts(Dated):
    """One look of the live branch."""

    number: int = Field(validation_alias=AliasChoices("look", "number"))
    trigger: str
    level: str
    seconds: Number = None
    answers: str
    planned_steps: int | None = None
    """Told by look 0: the run's last step."""
    inherited: bool = False
    failed_pipeline_check: tuple[str, ...] = ()
    benchmark: Benchmark | None = None
    streams: tuple[StreamFacts, ...]

    def stream(self, metric: str, group: str) -> StreamFacts | None:
        """Return one stream, None if this look has none."""
        return next((s for s in self.streams if (s.metric, s.group) == (metric, group)), None)

    @model_validator(mode="before")
    @classmethod
    def _untested_is_never_ok(cls, look: Any) -> Any:
        """Ledgers of earlier versions call a look ok that tested nothing."""
        streams = look.get("streams") if isinstance(look, dict) else None
        if isinstance(streams, list) and not any(
            isinstance(s, dict) and s.get("tested") for s in streams
        ):
            return look | {"level": UNTESTED}
        return look

    @property
    def drifted(self) -> bool:
        """Whether anything was shown to be beyond its margin."""
        return shows_harm(self.level)

    @property
    def groups(self) -> list[str]:
        """The abilities of this look, the shipped ones first and in their order."""
        found = dict.fromkeys(s.group for s in self.streams if s.group != "overall")
        known = [name for name in ABILITIES if name in found]
        return known + [name for name in found if name not in known]

    @property
    def alarmed(self) -> list[StreamFacts]:
        """The streams above ok: highest level first, then pass rates, then the larger evidence."""
        above = [s for s in self.streams if shows_harm(s.level)]
        return sorted(
            above,
            key=lambda s: (
                -rank(s.level),
                s.metric != "passed",
                s.group != "overall",
                -(s.z or 0),
            ),
        )

    @property
    def tested(self) -> bool:
        """Whether any stream could alarm."""
        return any(s.tested for s in self.streams)

    @property
    def untested(self) -> list[StreamFacts]:
        """The streams that could not alarm."""
        return [s for s in self.streams if not s.tested]


class Levers(Facts):
    """Multiples of the recipe's KL weight and learning rate."""

    boost: float = 1.0
    lr_factor: float = 1.0


class ActionFacts(Dated):
    """One decision of the ladder, with the streams that led to it."""

    look: int | None = None
    kind: str = Field(validation_alias=AliasChoices("action", "kind"))
    carried_out: bool
    reason: str = ""
    before: Levers
    after: Levers
    streams: tuple[StreamFacts, ...] = ()


class FailureFacts(Dated):
    """A look or a tripwire that could not be measured."""

    error: str
    then: str = ""
    during: str = "look"


class CheckpointFacts(Dated):
    """A checkpoint and the level of the look it was saved at."""

    path: str
    level: str


class TripwireFacts(Dated):
    """A measurement without generation: KL from base on the golds, nats a token."""

    kl: Number = None
    se: Number = None
    """Standard error of `kl` over the golds; ledgers of earlier versions do not say."""
    golds: int | None = None
    tokens: int | None = None
    """Of the golds' answers."""
    task_kl: Number = None
    task_se: Number = None
    seconds: Number = None


class StepLog(Dated):
    """The trainer's numbers of one logging interval."""

    loss: Number = None
    learning_rate: Number = None
    rehearsal_kl: Number = None
    kl_weight: Number = None
    share: Number = None
    unique_prompts: int | None = None
    passes: Number = None


class TrackingFacts(Dated):
    """Trouble with a tracker or an alert service: records lost so far, and its newest error."""

    service: str
    lost: int
    error: str


class MetricFacts(Dated):
    """A number somebody else logged; drawn, never judged."""

    name: str
    value: Number = None


class RewindFacts(Dated):
    """A resume: the run went on from this step, −1 from the start."""

    checkpoint: str | None = None


class DomainLossFacts(Dated):
    """Loss on the held-out rows of the new task, nats a token."""

    held_out: Number = None


class SelfTestFacts(Dated):
    """The KL term at the start model and at a perturbed one, nats a token."""

    at_start: Number = None
    perturbed: Number = None
    tolerance: Number = None


class FormFacts(Facts):
    """In which form a GRPO run injected its KL-only samples, and what decided it."""

    form: FormName
    reason: FormReason
    setting: str | None = None
    """The trainer's setting that kept general prompts out of the rollouts."""


class PrecisionFacts(Facts):
    """In which precision a run trained, as its header says."""

    weights: str
    """Dtype of the weights, of those below an adapter where there is one."""
    forwards: str
    autocast: bool
    """Whether forwards are cast from the weights."""
    tuning: str
    """`full`, or the kind of adapter."""
    quantization: str | None = None
    updates_lost: bool = False
    """Whether half-precision weights were trained as they are, which loses small updates."""


class ClosingFacts(Dated):
    """The record that ended the run."""

    outcome: str = "crashed"
    error: str | None = None
    seconds: dict[str, Number] = Field(default_factory=dict)


class DecisionFacts(Dated):
    """What a person decided about the run."""

    decision: Literal["accept", "rollback"]
    by: str
    note: str
