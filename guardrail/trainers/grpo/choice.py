"""Which form of KL-only samples a GRPO run gets, and why: general prompts in the rollouts, or golds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.ledger.file import read_ledger
from guardrail.ledger.records import FormName, FormReason
from guardrail.models.fingerprint import is_adapter, weights_sha256
from guardrail.recipe import Recipe

__all__ = ["Form", "NoLiteral", "choose_form", "require_same_form", "starts_at_reference"]

_WHAT = {
    "literal": "general prompts among the rollouts (`literal`)",
    "anchored": "golds beside the loss (`anchored`)",
    "both": "general prompts among the rollouts and golds beside the loss (`both`)",
}
_ANCHORED = "set `rehearsal.grpo: anchored`, which needs no reference model"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a run's KL-only samples and what decided it."""

    name: FormName
    reason: FormReason
    why: str
    setting: str | None = None
    """The trainer's setting that kept general prompts out of the rollouts."""

    @property
    def adapter_off(self) -> bool:
        """Whether the guard computes the reference itself, with the adapter off."""
        return self.reason == "adapter_off"

    @property
    def sentence(self) -> str:
        """What is injected, and why, in one sentence."""
        return f"{_WHAT[self.name]}: {self.why}"

    def record(self) -> dict[str, Any]:
        """Return what the ledger holds of it."""
        return {
            "form": self.name,
            "reason": self.reason,
            "setting": self.setting,
            "said": self.sentence,
        }


class NoLiteral(InputError):
    """Why general prompts cannot stand among the rollouts: refused if asked for by name, else golds are used."""

    def __init__(
        self, message: str, *, reason: FormReason, why: str, setting: str | None = None
    ) -> None:
        """Keep the refusal, and what is said where nobody asked."""
        super().__init__(message)
        self.reason, self.why, self.setting = reason, why, setting


def starts_at_reference(recipe: Recipe) -> bool:
    """Return whether the start model is the KL reference, by the hash of their weights."""
    start, reference = (Path(str(name)) for name in (recipe.start_model, recipe.kl_reference))
    return weights_sha256(start) == weights_sha256(reference)


def choose_form(
    recipe: Recipe,
    *,
    beta: float,
    own_fault: str | None,
    adapter_fault: str | None,
    adapter: bool,
    check_settings: Callable[[], None],
) -> Form:
    """Return the form the recipe asks for, or else `literal` wherever a reference is at hand.

    Args:
        recipe: The run's.
        beta: The weight of the trainer's own KL; at 0 the trainer has no reference.
        own_fault: Why the reference the trainer has at a `beta` above 0 is not the KL reference; None where
            it is.
        adapter_fault: Why the model without its adapter is not the KL reference; None where it is.
        adapter: Whether an adapter is trained.
        check_settings: Raises `NoLiteral` where a setting would let more than the KL act on such prompts.

    Raises:
        NoLiteral: `literal` or `both` is asked for by name and cannot be had.
    """
    asked = recipe.rehearsal.grpo
    if asked == "anchored":
        return Form("anchored", "recipe", "the recipe says so")
    try:
        if asked is None:
            _check_gold_keys(recipe)
        if beta > 0 and own_fault is None:
            decided = Form(
                asked or "literal",
                "trainer",
                f"at beta {beta:g} the trainer's own reference is the KL reference",
            )
        elif adapter_fault is None:
            decided = Form(
                asked or "literal",
                "adapter_off",
                "the model with its adapter off is the KL reference, without a second model",
            )
        else:
            raise _no_reference(recipe, beta, own_fault, adapter_fault, adapter=adapter)
        check_settings()
    except NoLiteral as fault:
        if asked is not None:
            raise
        return Form("anchored", fault.reason, fault.why, fault.setting)
    return decided


def _check_gold_keys(recipe: Recipe) -> None:
    rehearsal = recipe.rehearsal
    if rehearsal.loss != "kl" or rehearsal.reference != "stored":
        key = "loss" if rehearsal.loss != "kl" else "reference"
        raise NoLiteral(
            f"`rehearsal.{key}` is for golds",
            reason="golds",
            why=f"the recipe's `rehearsal.{key}` is for golds",
        )


def _no_reference(
    recipe: Recipe, beta: float, own_fault: str | None, adapter_fault: str, *, adapter: bool
) -> NoLiteral:
    name = f"`rehearsal.grpo: {recipe.rehearsal.grpo}`"
    if beta > 0:
        return NoLiteral(
            f"{name} needs the KL reference, and {own_fault}; give `kl_reference` the start model, or "
            f"{_ANCHORED}",
            reason="other_reference",
            why=str(own_fault),
        )
    if not adapter:
        return NoLiteral(
            f"{name} needs a reference model, and full fine-tuning at beta 0 has none; set `beta` above 0 "
            f"(0.001, say), or {_ANCHORED}",
            reason="no_reference",
            why="full fine-tuning at beta 0 has no reference model",
        )
    step = "mend that"
    if is_adapter(Path(str(recipe.start_model))):
        step = (
            "merge the adapter and start from the merged model, set `beta` above 0 (0.001, say), for which TRL "
            "keeps a copy of the adapter"
        )
    return NoLiteral(
        f"{name} at beta 0 pulls to the model with its adapter off, and {adapter_fault}; {step}, or "
        f"{_ANCHORED}",
        reason="adapter",
        why=f"at beta 0 only the model with its adapter off could be the reference, and {adapter_fault}",
    )


def require_same_form(run: Path, form: Form) -> None:
    """Refuse to go on with another form than the run began with: each counts its own samples.

    Raises:
        InputError: the run's ledger names another form.
    """
    for record in read_ledger(run):
        began = record.get("rehearsal_form") if record["kind"] == "started" else None
        if began is not None and began["form"] != form.name:
            raise InputError(
                f"the run began with {began['said']}; going on would be with {form.sentence}. Put the "
                "settings back, or start a new run"
            )
