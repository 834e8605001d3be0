"""The forms of KL-only samples in GRPO: prompts in the rollouts (literal), golds beside the loss (anchored)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from guardrail.trainers.checks.kl_gradient_check import Normalisation
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.kl_only.samples import KlOnly, Probe
from guardrail.trainers.trl.grpo_mixing import KL_ONLY
from guardrail.trainers.trl.sft import attach_kl

__all__ = ["BothForms", "attach_golds", "count_completions"]


def count_completions(inputs: Any) -> int:
    """Return how many of the task's completions a micro-batch of TRL's GRPOTrainer holds.

    A completion is one sample; `num_iterations` counts it once each time it is trained on, as epochs do.
    """
    if KL_ONLY in inputs:
        return int((~inputs[KL_ONLY]).sum())
    return len(inputs["completion_ids"])


def attach_golds(
    trainer: Any, injection: Injection, count: Callable[[Any], int] = count_completions
) -> None:
    """Add the KL term of golds to a GRPO trainer's loss: the anchored form.

        L = L_GRPO + weight * boost * sum of forward KL on the golds / N,  N = their tokens in the window

    over all ranks. The golds due in an optimizer step get a forward of their own beside its first
    micro-batch. TRL normalises GRPO's loss itself and keeps the Trainer from dividing by the accumulation
    steps; ms-swift lets it divide. `attach_kl` asks the trainer which of the two it is.
    """
    attach_kl(trainer, injection, count)


class BothForms:
    """Prompts in the rollouts and golds beside the loss, each at the recipe's fraction and weight."""

    def __init__(self, rollouts: KlOnly, golds: Injection) -> None:
        """Keep both; `golds` counts for itself (`GuardState.golds`)."""
        self.rollouts, self.golds = rollouts, golds
        self._of_rollouts = 0

    @property
    def weight(self) -> float:
        """The KL weight in force, the same for both."""
        return self.rollouts.weight

    def begin_step(self) -> None:
        """Draw what is due for the optimizer step that begins."""
        self.rollouts.begin_step()
        self.golds.begin_step()

    def take_counts(self) -> list[int]:
        """Return the task samples counted since the last call: the golds' last."""
        of_rollouts = self.rollouts.take_counts()
        self._of_rollouts = len(of_rollouts)
        return [*of_rollouts, *self.golds.take_counts()]

    def add_counts(self, on_all_ranks: Sequence[int]) -> None:
        """Move both schedules on."""
        self.rollouts.add_counts(on_all_ranks[: self._of_rollouts])
        self.golds.add_counts(on_all_ranks[self._of_rollouts :])

    def exposure(self) -> dict[str, Any]:
        """Return what was seen of the prompts in the rollouts, and under `golds` of the golds."""
        return {**self.rollouts.exposure(), "golds": self.golds.exposure()}

    def numbers(self) -> dict[str, Any]:
        """Return what a log line says of the rollouts, and under `golds` of the golds."""
        return {**self.rollouts.numbers(), "golds": self.golds.numbers()}

    @property
    def normalisations(self) -> list[Normalisation]:
        """Return what watches the gradients that arrive at both terms."""
        return [*self.rollouts.normalisations, *self.golds.normalisations]

    def probes(self, model: torch.nn.Module) -> list[Probe]:
        """Return what measures the KL of the rollouts' prompts, and of the golds."""
        return [*self.rollouts.probes(model), *self.golds.probes(model)]

    def stored_kl(self, model: torch.nn.Module) -> float | None:
        """Return the mean KL a token to the golds' stored log-probabilities."""
        return self.golds.stored_kl(model)
