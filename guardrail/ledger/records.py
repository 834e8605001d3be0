"""What the ledger says, checked: one frozen model a kind of record, as the report's JSON holds it.

A ledger is a file that anybody may have cut or edited: a record that does not fit its model is left
out and counted, so that everything behind this module may trust types and finite numbers.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError

from guardrail.errors import InputError
from guardrail.judge.verdict import Count, Facts, Number, Stream, Text, Verdict
from guardrail.ledger.file import Record

__all__ = [
    "LOOK_VERSION",
    "ActionFacts",
    "AskedFacts",
    "CheckpointFacts",
    "ClosingFacts",
    "DecisionFacts",
    "DomainLossFacts",
    "FailureFacts",
    "FormFacts",
    "FormName",
    "FormReason",
    "LookFacts",
    "LookRuleFacts",
    "MetricFacts",
    "PrecisionFacts",
    "ProofFacts",
    "RewindFacts",
    "SelfTestFacts",
    "StepLog",
    "TrackingFacts",
    "TripwireFacts",
    "read_looks",
]

LOOK_VERSION = 1
"""Rises when a key of a look's record changes its meaning; records of a later version are not read."""

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


class Dated(Facts):
    """Where a record stands in the ledger."""

    seq: int = 0
    time: datetime | None = None
    step: int


class Benchmark(Facts):
    """A multiple-choice benchmark at one look; never judged."""

    questions: Count = Field(ge=1)
    right: Count


class ProofFacts(Facts):
    """What a trainer's vLLM wrote before a look, as the weights in training score it; nats a token, root mean square."""

    tokens: int
    off: Number = None
    """Between the two."""
    noise: Number = None
    """What one rounding more makes of the weights in training."""
    moved: Number = None
    """Between these and the weights that a vLLM left behind would have, where those are known."""
    share: Number = None
    """Share of the way from those that the vLLM has gone, 1 all of it; None where the two are too near to tell."""


class LookFacts(Verdict, Dated):
    """One look: when and how it was taken, and its verdict."""

    version: int = Field(default=LOOK_VERSION, ge=1, le=LOOK_VERSION)
    """Of the record's keys; ledgers of earlier versions say none, and mean the same by them."""
    number: Count = Field(validation_alias=AliasChoices("look", "number"))
    trigger: Text
    seconds: Number = None
    answers: Text
    """File in the run folder."""
    answers_sha256: str | None = Field(default=None, max_length=64)
    """Of that file; ledgers of earlier versions do not say."""
    planned_looks: Count | None = None
    """Looks the error budget is planned for in all, as this one knew it."""
    planned_steps: Count | None = None
    """Told by look 0: the run's last step."""
    final: bool = False
    """Whether it was the run's last and could spend what budget was left."""
    samples: int | None = None
    """Answers an item; look 0 has the replicates."""
    inherited: bool = False
    failed_pipeline_check: tuple[str, ...] = ()
    benchmark: Benchmark | None = None
    applied_step: int | None = None
    """The step of the training at which the verdict was applied; None: at that of the look."""
    after_end: bool | None = None
    """Whether the training had ended when it was judged."""
    served: dict[str, Any] | None = None
    """What a sidecar's server serves, and how its weights were proven."""
    proof: ProofFacts | None = None
    """Of the weights, where the trainer's vLLM answered."""
    shown: dict[str, float] | None = None
    """Share of the answers that hold a disclaimer, are none, were cut: shown, not judged."""

    @property
    def late(self) -> int:
        """Steps from the weights that were judged to where the verdict was applied."""
        return 0 if self.applied_step is None else max(0, self.applied_step - self.step)

    def to_record(self) -> dict[str, Any]:
        """Return the fields of its ledger record beside `kind`, `step` and what the ledger numbers itself."""
        fields = self.model_dump(mode="json", exclude={"seq", "time", "step", "number"})
        streams = fields.pop("streams")  # last, since a record is also read by people
        known = {name: value for name, value in fields.items() if value is not None}
        return {"look": self.number, **known, "streams": streams}


def read_looks(records: Iterable[Record]) -> list[LookFacts]:
    """Return the looks among records, for whoever needs every one of them.

    Raises:
        InputError: one does not read as a look of a version known here.
    """
    try:
        return [LookFacts.model_validate(r) for r in records if r["kind"] == "look"]
    except ValidationError as error:
        raise InputError(
            f"a look of the ledger cannot be read ({error.errors()[0]['msg']}); restore the file from a copy, "
            "or read it with the version that wrote it"
        ) from error


class Levers(Facts):
    """Multiples of the recipe's KL weight and learning rate."""

    boost: float = Field(default=1.0, ge=0, le=1e6)
    lr_factor: float = Field(default=1.0, ge=0, le=1e6)
    beta: Number = None
    """GRPO's own beta as the ladder left it; None where the ladder does not move it."""


class ActionFacts(Dated):
    """One decision of the ladder, with the streams that led to it."""

    look: int | None = None
    kind: Text = Field(validation_alias=AliasChoices("action", "kind"))
    carried_out: bool
    after_end: bool | None = None
    """Whether the training had ended, so that nothing could be carried out."""
    reason: Text = ""
    before: Levers
    after: Levers
    streams: tuple[Stream, ...] = ()
    """Those above ok at its look, where they are recorded."""

    def to_record(self) -> dict[str, Any]:
        """Return the fields of its ledger record beside `kind`, `step` and what the ledger numbers itself."""
        fields = self.model_dump(
            mode="json", exclude={"seq", "time", "step", "kind", "streams"}, exclude_none=True
        )
        return {"look": fields.pop("look"), "action": self.kind, **fields}


class AskedFacts(Dated):
    """A look that was asked of a sidecar."""

    look: int
    trigger: str


class FailureFacts(Dated):
    """A look or a tripwire that could not be measured."""

    look: int | None = None
    """Its number, where a sidecar was asked for it."""

    error: Text
    then: Text = ""
    during: Text = "look"


class CheckpointFacts(Dated):
    """A checkpoint and the level of the look it was saved at."""

    path: Text
    level: Text
    sound: bool | None = None
    """Whether that look was (`Verdict.sound`); ledgers of earlier versions do not say."""


class TripwireFacts(Dated):
    """A measurement without generation: KL from base on the golds, nats a token."""

    kl: Number = None
    se: Number = None
    """Standard error of `kl` over the golds; ledgers of earlier versions do not say."""
    golds: Count | None = None
    tokens: Count | None = None
    """Of the golds' answers."""
    task_kl: Number = None
    task_se: Number = None
    seconds: Number = None


class StepLog(Dated):
    """The trainer's numbers of one logging interval."""

    loss: Number = None
    reward: Number = None
    """Of GRPO, the mean over the task's answers."""
    learning_rate: Number = None
    rehearsal_kl: Number = None
    kl_weight: Number = None
    share: Number = None
    unique_prompts: Count | None = None
    passes: Number = None
    seconds: dict[str, Number] = Field(default_factory=dict)
    """Spent so far, by what, as at the run's end."""


class TrackingFacts(Dated):
    """Trouble with a tracker or an alert service: records lost so far, and its newest error."""

    service: Text
    lost: Count
    error: Text


class MetricFacts(Dated):
    """A number somebody else logged; drawn, never judged."""

    name: Text
    value: Number = None


class RewindFacts(Dated):
    """A resume: the run went on from this step, −1 from the start."""

    checkpoint: Text | None = None


class DomainLossFacts(Dated):
    """Loss on the held-out rows of the new task, nats a token."""

    held_out: Number = None


class SelfTestFacts(Dated):
    """The KL term at the start model and at a perturbed one, nats a token."""

    at_start: Number = None
    perturbed: Number = None
    tolerance: Number = None


class LookRuleFacts(Facts):
    """By whose margins and error budgets `guardrail look` judged a model, as its header says."""

    of: Literal["run", "recipe", "defaults"]
    """The run that the model is from, a recipe that was named, or neither."""
    path: str | None = None
    """The run folder or the recipe file; None of the defaults."""
    changed: tuple[str, ...] = ()
    """Metrics whose margins `--margin` gave."""
    probes_left_out: int = 0
    """Files of a business's own probes that judged the run and not this look."""


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

    outcome: Text = "crashed"
    error: Text | None = None
    seconds: dict[str, Number] = Field(default_factory=dict)


class DecisionFacts(Dated):
    """What a person decided about the run."""

    decision: Literal["accept", "rollback", "abandon"]
    by: Text
    note: Text
    advice: Text = ""
    """What the report recommended then; empty in ledgers that do not say."""

    @property
    def against_advice(self) -> bool:
        """Whether weights were accepted that the report advised against."""
        return self.decision == "accept" and self.advice in ("roll_back", "abandon", "reject")
