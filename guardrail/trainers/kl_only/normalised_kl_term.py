"""Golds beside the task's loss: which are due in an optimizer step, their term weighed and divided, what it cost."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guardrail.kl.token_losses import RehearsalSample
from guardrail.models.teacher_forcing import cut_by_zero3, micro_batches, vocabulary
from guardrail.trainers.kl_only.samples import RehearsalSamples

__all__ = ["Injection"]


class Injection(RehearsalSamples):
    """Adds the rehearsal samples due in an optimizer step's window to its first micro-batch.

    The samples get a forward of their own, so packing, padding-free batches, Liger and column
    pruning, which act on the user's batch, do not touch them. Every rank draws from the same
    schedule and runs the same number of forwards; unequal counts would hang a distributed run.
    """

    _pending: Sequence[str] = ()

    def begin_step(self) -> None:
        """Draw what is due for the optimizer step that begins."""
        self._pending = self.draw()

    def take_term(self, model: torch.nn.Module) -> Tensor | None:
        """Return weight * world_size * (sum of KL on this rank) / (KL tokens of all ranks), or None.

        None: nothing is due in this window, or it was taken already. The factor world_size undoes
        the averaging of gradients over ranks, so the whole run adds weight * sum KL / tokens.
        """
        if not self._pending:
            return None
        pending, self._pending = self._pending, ()
        due = sorted((self._samples[item] for item in pending), key=lambda s: (s.lengths, s.item))
        tokens = sum(len(sample.gold) for sample in due)
        mine = due[self._rank :: self._world_size]
        started = time.perf_counter()
        losses = self._losses(model, mine, self._loss, self._batches(model, due))
        self.note_losses(mine, losses)
        total = torch.stack([loss.sum() for loss in losses]).sum()
        self._normalisation.watch(total, self.weight * self._world_size / tokens)
        self._state.spend("kl", time.perf_counter() - started)
        self._kl_sum += total.detach().double().cpu()
        self._kl_tokens += sum(len(sample.gold) for sample in mine)
        return self.weight * self._world_size * total / tokens

    def _batches(self, model: Any, due: Sequence[RehearsalSample]) -> list[list[int]]:
        """Which of a rank's samples share a forward: from the lengths of all ranks' samples, dealt in turn.

        So every rank has as many forwards, which a model in pieces needs: each puts it together anew. Under
        ZeRO-3 that makes one forward of all: its parameters have another shape when the forward is
        computed again, so it cannot be, and without that micro-batches save no memory.
        """
        if cut_by_zero3(model):
            return [list(range(len(due) // self._world_size))]
        turns = range(0, len(due), self._world_size)
        dealt = [[s.lengths for s in due[turn : turn + self._world_size]] for turn in turns]
        longest = [(max(p for p, _ in turn), max(g for _, g in turn)) for turn in dealt]
        return micro_batches(longest, vocabulary(model))
