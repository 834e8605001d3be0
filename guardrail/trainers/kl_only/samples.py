"""KL-only samples, wherever they stand in a training: what the guard asks of them, and what those of the rehearsal set share."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from guardrail.guard.state import GuardState, Seen
from guardrail.kl.divergence import Direction
from guardrail.kl.draw_by_ability import Order, draw_by_ability, note_kl
from guardrail.kl.schedule import due_samples, rehearsal_order
from guardrail.kl.token_losses import Reference, RehearsalSample, pinned, token_losses
from guardrail.trainers.checks.kl_gradient_check import Normalisation

__all__ = ["KlOnly", "Probe", "RehearsalSamples"]

_PROBED = 8
"""Golds the self-test measures on."""
_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Probe:
    """Measures the mean KL a token of a model as it is when asked."""

    measure: Callable[[], float]
    pinned: bool
    """Whether the reference is the model itself, as it was when the probe was made."""
    calm_in_training: bool
    """Whether dropout and other noise of the training are lifted for these forwards."""


class KlOnly(Protocol):
    """What the guard asks of KL-only samples, wherever they stand in the training."""

    @property
    def weight(self) -> float:
        """The KL weight in force."""

    def begin_step(self) -> None:
        """Draw what is due for the optimizer step that begins."""

    def take_counts(self) -> list[int]:
        """Return the task samples this rank has counted since the last call, by kind of sample."""

    def add_counts(self, on_all_ranks: Sequence[int]) -> None:
        """Move the schedules on by the counts of all ranks together."""

    def exposure(self) -> dict[str, float]:
        """Return what was seen so far: samples of both kinds, share, unique prompts, passes."""

    def numbers(self) -> dict[str, Any]:
        """Return what a log line says: mean KL since the last call, weight, exposure."""

    @property
    def normalisations(self) -> list[Normalisation]:
        """Return what watches the gradient that arrives at the KL-only terms."""

    def probes(self, model: torch.nn.Module) -> list[Probe]:
        """Return for each form what measures the mean KL a token of the model, asked any number of times.

        The reference is pinned now, where it is not a model's own: the KL of the model as it is to itself is 0.
        """

    def stored_kl(self, model: torch.nn.Module) -> float | None:
        """Return the mean KL a token to the anchors' stored log-probabilities, None where none are used."""


class RehearsalSamples:
    """The rehearsal set as it is drawn, counted and measured; who inherits it puts it into the training."""

    def __init__(
        self,
        samples: Mapping[str, RehearsalSample],
        state: GuardState,
        *,
        fraction: float,
        weight: float,
        loss: str,
        seed: int,
        pad_id: int,
        direction: Direction = "forward",
        reference: Reference | None = None,
        rank: int = 0,
        world_size: int = 1,
        seen: Seen | None = None,
        order: Order = "shuffled",
        abilities: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the samples; `state` holds the boost, and the cursor unless `seen` does; changed in place.

        `reference` gives the KL reference's logits of samples under the policy at hand; by default their
        stored top-k stand for it. `abilities` names each item's; an order other than `shuffled` needs it.
        """
        self._samples = samples
        self._ids = sorted(samples)
        self._state = state
        self._seen: Seen = state if seen is None else seen
        self._fraction, self._weight, self._loss = fraction, weight, loss
        self._seed, self._pad_id = seed, pad_id
        self._direction: Direction = direction
        self._reference = reference
        self._rank, self._world_size = rank, world_size
        self._normalisation = Normalisation()
        self._order, self._abilities = order, abilities or {}
        self._by_ability: dict[str, list[str]] = {}
        for item in self._ids if order != "shuffled" else ():
            self._by_ability.setdefault(self._abilities[item], []).append(item)
        self._measured = {ability: [0.0, 0] for ability in sorted(self._by_ability)}
        self._rows = 0
        self._kl_sum = torch.zeros((), dtype=torch.float64)
        self._kl_tokens = 0

    @property
    def weight(self) -> float:
        """The KL weight in force."""
        return self._weight * self._state.boost

    def draw(self) -> list[str]:
        """Return the items that are due now on all ranks; it depends on samples seen before."""
        seen = self._seen
        due = due_samples(self._fraction, seen.task_samples, seen.rehearsal_seen, self._world_size)
        drawn = self._next(due)
        seen.rehearsal_seen += due
        if drawn:
            seen.weight_sum += self.weight
        return drawn

    def _next(self, due: int) -> list[str]:
        seen = self._seen
        if self._order == "shuffled":
            return rehearsal_order(self._ids, seen.rehearsal_seen, due, self._seed)
        by_need = self._order == "by need"
        return draw_by_ability(seen.drawn, self._by_ability, due, self._seed, by_need=by_need)

    def exposure(self) -> dict[str, float]:
        """Return what was seen so far: samples of both kinds, share, unique prompts, passes."""
        exposure, counts = self._seen.exposure(len(self._ids)), self._seen.drawn.counts
        if self._by_ability:
            unique = (min(counts.get(a, 0), len(ids)) for a, ids in self._by_ability.items())
            exposure["unique_prompts"] = sum(unique)
        return exposure

    def numbers(self) -> dict[str, Any]:
        """Return what a log line says: mean KL since the last call, weight, exposure."""
        return {
            "rehearsal_kl": self.take_mean_kl(),
            "kl_weight": self.weight,
            **self.exposure(),
        }

    def count_task_samples(self, on_this_rank: int) -> None:
        """Count the samples of a micro-batch of the user's data."""
        self._rows += on_this_rank

    def note_losses(self, samples: Sequence[RehearsalSample], losses: Sequence[Tensor]) -> None:
        """Add the KL of this rank's samples to what is known of their abilities."""
        if self._order == "by need":
            for sample, loss in zip(samples, losses, strict=True):
                measured = self._measured[self._abilities[sample.item]]
                measured[0] += float(loss.detach().double().sum())
                measured[1] += loss.numel()

    def take_counts(self) -> list[int]:
        """Return the samples this rank has counted since the last call, and of each ability KL and tokens.

        The KL in whole micronats: whole numbers add up alike in every order, so that all ranks draw the same. Packed batches hold unequal numbers of samples, so the ranks add theirs up before the schedule
        moves: `task_samples` must be the same everywhere.
        """
        counts, self._rows = [self._rows], 0
        for measured in self._measured.values():
            counts += [round(_MICRO * measured[0]), int(measured[1])]
            measured[:] = [0.0, 0]
        return counts

    def add_counts(self, on_all_ranks: Sequence[int]) -> None:
        """Move the schedule on by the samples of all ranks."""
        rows, *measured = on_all_ranks
        self._seen.task_samples += rows
        pairs = zip(measured[::2], measured[1::2], strict=True)
        of_abilities = {
            ability: (micronats / _MICRO, tokens)
            for ability, (micronats, tokens) in zip(self._measured, pairs, strict=True)
        }
        note_kl(self._seen.drawn, of_abilities)

    def add(self, task_loss: Tensor, term: Tensor) -> Tensor:
        """Return the sum of both losses, with the backward pass of the term timed.

        The autograd engine runs nodes created last first, so the whole backward of the term, built
        after the task's forward, lies between the two hooks. Asynchronous devices report launch
        times only.
        """
        started: list[float] = []
        start: Any = term.register_hook
        stop: Any = task_loss.register_hook
        start(lambda grad: started.append(time.perf_counter()))
        stop(lambda grad: self._state.spend("kl", time.perf_counter() - started[0]))
        return task_loss + term

    def take_mean_kl(self) -> float | None:
        """Return the mean KL a token since the last call on this rank, in nats; None without any."""
        if self._kl_tokens == 0:
            return None
        mean = float(self._kl_sum) / self._kl_tokens
        self._kl_sum.zero_()
        self._kl_tokens = 0
        return mean

    @property
    def normalisations(self) -> list[Normalisation]:
        """Return what watches the gradient that arrives at the term."""
        return [self._normalisation]

    def _probed(self) -> list[RehearsalSample]:
        return [self._samples[item] for item in self._ids[:_PROBED]]

    def _mean_kl(self, model: torch.nn.Module, samples: list[RehearsalSample]) -> float:
        return float(torch.cat(self._losses(model, samples, "kl")).double().mean())

    def probes(self, model: torch.nn.Module) -> list[Probe]:
        """Return what measures the mean KL a token on a few golds.

        Where the reference is stored, the model's own log-probabilities of this moment stand in its place.
        """
        samples, stored = self._probed(), self._reference is None
        if stored:
            samples = pinned(model, samples, self._pad_id)
        return [Probe(lambda: self._mean_kl(model, samples), pinned=stored, calm_in_training=True)]

    def stored_kl(self, model: torch.nn.Module) -> float | None:
        """Return the mean KL a token to the stored log-probabilities, None where a model is the reference."""
        return None if self._reference is not None else self._mean_kl(model, self._probed())

    def _losses(
        self,
        model: torch.nn.Module,
        samples: list[RehearsalSample],
        loss: str,
        batches: Sequence[Sequence[int]] | None = None,
    ) -> list[Tensor]:
        return token_losses(
            model,
            samples,
            pad_id=self._pad_id,
            loss=loss,
            direction=self._direction,
            reference=self._reference,
            batches=batches,
        )
