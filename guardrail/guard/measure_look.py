"""A look's answers and measurements, whoever answers: the training itself, or a sidecar beside it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from guardrail.anchors.store import Anchors
from guardrail.engines.in_process import Completion, InProcessEngine
from guardrail.engines.multiple_choice import Choice, right_choices
from guardrail.engines.vllm_server import ServerEngine
from guardrail.guard.asked_looks import Measurement
from guardrail.guard.ranks import Ranks
from guardrail.judge.look_values import (
    Measured,
    measure_completions,
    shown_shares,
    with_business,
    write_answers,
)
from guardrail.judge.rule import DriftConfig
from guardrail.ledger.records import Benchmark
from guardrail.models.fingerprint import file_sha256
from guardrail.models.rounding import one_rounding_more
from guardrail.probes.business_probes import BusinessProbes, read_business
from guardrail.recipe import Recipe
from guardrail.sets.items import Item

__all__ = ["SEED_STRIDE", "Meter"]

SEED_STRIDE = 1009
"""Looks draw their answers from seeds this far apart, so that replicates never share one."""


@dataclass(frozen=True, slots=True)
class Meter:
    """What a look asks, and how answers become numbers."""

    recipe: Recipe
    run: Path
    anchors: Anchors
    red_line: Sequence[Item]
    choices: Sequence[Choice]
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def business(self) -> BusinessProbes:
        """The probes of the recipe's own files, which this process carries out."""
        return read_business(self.recipe.probes.files)

    def drift_config(self, planned_looks: int) -> DriftConfig:
        """Return the drift rule's constants for a run of so many looks, the business's probes among the metrics."""
        return with_business(self.recipe.drift_config(planned_looks), self.business)

    @property
    def judged_items(self) -> list[Item]:
        """The red-line items that count: rehearsed ones are left out."""
        return [item for item in self.red_line if not item.rehearsed]

    def measure(
        self,
        engine: InProcessEngine,
        number: int,
        count: int,
        file: str,
        *,
        server: ServerEngine | None = None,
        rounding: torch.dtype | None = None,
    ) -> Measurement:
        """Return what so many answers an item measure; they are written to a file of the run folder.

        Args:
            engine: The weights in this process, which answer.
            number: Of the look, which seeds the answers.
            count: Answers an item.
            file: For the answers, below the run folder.
            server: Answers in their place; benchmark questions and noise are still asked here.
            rounding: The coarser precision of the anchors' forwards and these, where what rounding does to greedy
                answers is wanted too.
        """
        started = time.perf_counter()
        answers = self._answers(engine if server is None else server, number, count)
        items, golds = list(self.red_line), self._golds()
        texts = [[a.text for a in row] for row in answers]
        values = measure_completions(items, texts, golds, self.business)
        if self.ranks.writes:
            write_answers(self.run / file, items, answers, values)
        shown = shown_shares(values, answers, [self.anchors.answers[i.id][0] for i in items])
        seconds = time.perf_counter() - started
        noise = None
        if rounding is not None:
            noise = self._greedy_noise(engine, [row[0].text for row in answers], rounding)
        started = time.perf_counter()
        benchmark = self._benchmark(engine)
        return Measurement(
            self.only_judged(values),
            file,
            seconds,
            benchmark,
            0.0 if benchmark is None else time.perf_counter() - started,
            noise,
            shown=shown,
            answers_sha256=file_sha256(self.run / file) if self.ranks.writes else None,
        )

    def _golds(self) -> list[str]:
        return [self.anchors.gold(item.id) for item in self.red_line]

    def _answers(
        self, engine: InProcessEngine | ServerEngine, number: int, count: int
    ) -> list[list[Completion]]:
        items = list(self.red_line)
        first_seed = self.recipe.seed + SEED_STRIDE * (number + 1)
        # How long an answer is, as far as base's can tell, in characters.
        sizes = [len(gold) for gold in self._golds()]
        drawn = [
            self.ranks.shared(items, partial(engine.answer, seed=first_seed + k), sizes=sizes)
            for k in range(count)
        ]
        return [list(row) for row in zip(*drawn, strict=True)]

    def _greedy_noise(
        self, engine: InProcessEngine, texts: Sequence[str], rounding: torch.dtype
    ) -> tuple[Measured, Measured] | None:
        """Greedy answers against those of the same weights under one rounding more: (the first, the second).

        None where answers are sampled, which vary by themselves, or no answer differs from its anchor.
        """
        items, golds = list(self.red_line), self._golds()
        if self.recipe.looks.decoding.mode == "sampled" or list(texts) == golds:
            return None
        in_process = replace(engine, writer=None)  # whoever answered: the noise is of these weights
        with one_rounding_more(engine.model, rounding, seed=0):
            answer = partial(in_process.answer, seed=self.recipe.seed)
            again = self.ranks.shared(items, answer, sizes=[len(gold) for gold in golds])
        first = measure_completions(items, [[text] for text in texts], texts, self.business)
        second = measure_completions(items, [[a.text] for a in again], texts, self.business)
        return self.only_judged(first), self.only_judged(second)

    def _benchmark(self, engine: InProcessEngine) -> Benchmark | None:
        """How many benchmark questions are right: recorded beside the verdict, which does not see it."""
        if not self.choices:
            return None
        hits = self.ranks.shared(self.choices, lambda mine: right_choices(engine, mine))
        return Benchmark(questions=len(self.choices), right=sum(hits))

    def only_judged(self, values: Measured) -> Measured:
        """Return the rows of the items that count: rehearsed ones are left out."""
        keep = np.array([not item.rehearsed for item in self.red_line])
        return {name: table[keep] for name, table in values.items()}
