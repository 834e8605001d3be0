"""The guard of one run: looks, asks the rule and the ladder, writes the ledger, moves the levers."""

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
from guardrail.errors import InputError
from guardrail.guard.look_plan import affordable_samples
from guardrail.guard.pipeline_check import disagreements
from guardrail.guard.ranks import Ranks
from guardrail.guard.state import GuardState
from guardrail.judge.ladder import Action, decide, judged_look
from guardrail.judge.look_values import (
    Measured,
    anchor_measurements,
    answers_file,
    judge_look,
    look_values,
    measure_completions,
    write_answers,
)
from guardrail.judge.rule import RuleState, judge
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import ActionFacts, Benchmark, Levers, LookFacts
from guardrail.models.rounding import one_rounding_more
from guardrail.recipe import Recipe
from guardrail.sets.items import Item

__all__ = ["Guard", "LookFailed"]

_SEED_STRIDE = 1009
"""Looks draw their answers from seeds this far apart, so that replicates never share one."""


class LookFailed(RuntimeError):
    """A look could not be measured, smaller batches included."""


@dataclass(slots=True)
class Guard:
    """What one run needs to look, judge and decide. Knows no trainer; `engine` answers for it."""

    recipe: Recipe
    run: Path
    ledger: Ledger
    anchors: Anchors
    red_line: Sequence[Item]
    choices: Sequence[Choice]
    state: GuardState
    ranks: Ranks = field(default_factory=Ranks)
    before_look: RuleState = field(default_factory=RuleState)
    """The drift rule's state before the last look, for a repeat, which follows in the same breath."""
    beta: float | None = None
    """GRPO's own beta at boost 1, where the ladder moves it too."""
    start_weights: str = ""
    """Hash of the weights the run starts from."""

    @property
    def start_is_gold_base(self) -> bool:
        """Whether the run starts from the weights that its abilities are measured against."""
        return self.start_weights == self.anchors.manifest.gold_base["weights"]

    @property
    def start_is_kl_reference(self) -> bool:
        """Whether the run starts from the weights that the KL pulls to."""
        return self.start_weights == self.anchors.manifest.kl_reference["weights"]

    @property
    def judged_items(self) -> list[Item]:
        """The red-line items that count: rehearsed ones are left out."""
        return [item for item in self.red_line if not item.rehearsed]

    def _answers(self, engine: InProcessEngine, count: int) -> list[list[Completion]]:
        items = list(self.red_line)
        first_seed = self.recipe.seed + _SEED_STRIDE * (self.state.looks + 1)
        sizes = self._gold_lengths()
        drawn = [
            self.ranks.shared(items, partial(engine.answer, seed=first_seed + k), sizes=sizes)
            for k in range(count)
        ]
        return [list(row) for row in zip(*drawn, strict=True)]

    def _gold_lengths(self) -> list[int]:
        """How long an answer to each item is, as far as base's can tell, in characters."""
        return [len(self.anchors.gold(item.id)) for item in self.red_line]

    def _measure(
        self, engine: InProcessEngine, count: int, step: int
    ) -> tuple[Measured, list[list[Completion]], str, float]:
        started = time.perf_counter()
        answers = self._answers(engine, count)
        items = list(self.red_line)
        golds = [self.anchors.gold(item.id) for item in items]
        measured = measure_completions(items, [[a.text for a in row] for row in answers], golds)
        file = answers_file(self.state.looks, step)
        if self.ranks.writes:
            write_answers(self.run / file, items, answers, measured)
        return self._only_judged(measured), answers, file, time.perf_counter() - started

    def _greedy_noise(
        self, engine: InProcessEngine, texts: Sequence[str], rounding: torch.dtype
    ) -> tuple[Measured, Measured] | None:
        """Greedy answers against those of the same weights under one rounding more: (the first, the second).

        None where answers are sampled, which vary by themselves, or no answer differs from its anchor.
        """
        items, golds = list(self.red_line), [self.anchors.gold(item.id) for item in self.red_line]
        if self.recipe.looks.decoding.mode == "sampled" or list(texts) == golds:
            return None
        in_process = replace(engine, writer=None)  # whoever answered: the noise is of these weights
        with one_rounding_more(engine.model, rounding, seed=0):
            answer = partial(in_process.answer, seed=self.recipe.seed)
            again = self.ranks.shared(items, answer, sizes=self._gold_lengths())
        first = measure_completions(items, [[text] for text in texts], texts)
        second = measure_completions(items, [[a.text] for a in again], texts)
        return self._only_judged(first), self._only_judged(second)

    def _benchmark(self, engine: InProcessEngine) -> Benchmark | None:
        """How many benchmark questions are right: recorded beside the verdict, which does not see it."""
        if not self.choices:
            return None
        started = time.perf_counter()
        hits = self.ranks.shared(self.choices, lambda mine: right_choices(engine, mine))
        self.state.spend("benchmark", time.perf_counter() - started)
        return Benchmark(questions=len(self.choices), right=sum(hits))

    def _only_judged(self, measured: Measured) -> Measured:
        keep = np.array([not item.rehearsed for item in self.red_line])
        return {name: table[keep] for name, table in measured.items()}

    def look_zero(
        self,
        engine: InProcessEngine,
        *,
        start_is_gold_base: bool,
        planned_steps: int,
        rounding: torch.dtype,
    ) -> None:
        """Take the look before the first step: baseline, pipeline check or inherited harm.

        `rounding` is the coarser precision of the anchors' forwards and these: what rounding explains is
        no difference of the pipeline.

        Raises:
            InputError: the start model is the gold base and yet answers unlike the anchors, or it
                is another model already beyond the margin and the recipe refuses that.
        """
        measured, answers, file, seconds = self._measure(engine, self.recipe.replicates, 0)
        self.state.spend("looks", seconds)
        self.state.looks += 1
        anchored = self._only_judged(anchor_measurements(list(self.red_line), self.anchors))
        config = self.recipe.drift_config(self.state.planned_looks)
        verdict, _ = judge_look(self.judged_items, anchored, measured, config, RuleState())
        if start_is_gold_base:
            # The items are the same on both sides: what differs is how answers fell, item by item, so
            # clusters do not matter here.
            groups = [item.ability for item in self.judged_items]
            by_item, _ = judge(look_values(anchored, measured), groups, config, RuleState())
            noise = self._greedy_noise(engine, [row[0].text for row in answers], rounding)
            by_noise = None
            if noise is not None:
                by_noise, _ = judge(look_values(*noise), groups, config, RuleState())
            disagreement = disagreements(by_item, by_noise)
            self.state.baseline = measured
        else:
            disagreement = []
            judging_new = self.recipe.on_inherited == "judge_new"
            self.state.baseline = measured if judging_new else anchored
        look = LookFacts(
            step=0,
            number=0,
            trigger="start",
            answers=file,
            seconds=round(seconds, 3),
            inherited=not start_is_gold_base,
            planned_looks=self.state.planned_looks,
            planned_steps=planned_steps,
            failed_pipeline_check=tuple(disagreement),
            benchmark=self._benchmark(engine),
            level=verdict.level,
            streams=verdict.streams,
        )
        self.ledger.append("look", look.step, **look.to_record())
        if disagreement:
            raise InputError(
                "look 0 disagrees with the anchors although the weights are the gold base's: "
                f"{'; '.join(disagreement)}; the pipeline differs, not the model. Compare engine, "
                "dtype and batch size with the anchors' manifest, then run `guardrail anchor RECIPE --rebuild`"
            )
        if verdict.drifted and self.recipe.on_inherited == "refuse":
            names = ", ".join(s.name for s in verdict.alarmed[:5])
            raise InputError(
                f"the start model is already beyond the margin ({verdict.level}: {names}); set "
                "`on_inherited: judge_new` to judge new harm only, or start from another model"
            )

    def look(self, engine: InProcessEngine, step: int, trigger: str, *, final: bool) -> Action:
        """Take a look, write verdict and action to the ledger, return the action to carry out."""
        if self.state.baseline is None:
            raise LookFailed("there is no baseline: look 0 was not taken")
        repeat = trigger == "repeat"
        samples = self._settled_samples(step)
        measured, _, file, seconds = self._measure(engine, samples, step)
        self.state.spend("looks", seconds)
        verdict, after = judge_look(
            self.judged_items,
            self.state.baseline,
            measured,
            self.recipe.drift_config(self.state.planned_looks),
            self.before_look if repeat else self.state.rule,
            expected=[item.ability for item in self.red_line],
            final=final,
        )
        if not repeat:
            # A repeat is judged with the budget of the look it repeats: it can only take an alarm back, so
            # that it costs nothing, and after the final look there would be nothing left for it.
            self.before_look, self.state.rule = self.state.rule, after
        number = self.state.looks
        self.state.looks += 1
        self.state.extra_looks += trigger == "tripwire"
        self.state.wire_at_look = max(0.0, self.state.wire)
        look = LookFacts(
            step=step,
            number=number,
            trigger=trigger,
            answers=file,
            seconds=round(seconds, 3),
            planned_looks=self.state.planned_looks,
            final=final,
            samples=samples,
            benchmark=self._benchmark(engine),
            level=verdict.level,
            streams=verdict.streams,
        )
        self.ledger.append("look", step, **look.to_record())
        self.state.history.append(judged_look(step, verdict, repeat=repeat))
        ladder = self.recipe.ladder_config()
        earlier = self.state.history[:-1]
        before = decide(earlier, ladder) if earlier else Action("none", 1.0, 1.0, "")
        action = decide(self.state.history, ladder)
        if action.kind != "none":
            decided = ActionFacts(
                step=step,
                look=number,
                kind=action.kind,
                carried_out=self.recipe.mode == "guard",
                reason=action.reason,
                before=self._levers(before),
                after=self._levers(action),
            )
            self.ledger.append("action", step, **decided.to_record())
        return action

    def _settled_samples(self, step: int) -> int:
        """Answers an item, the same at every look: the recipe's, or what the run pays for, settled at its first look.

        Greedy answers do not vary, so one is enough.
        """
        state, looks = self.state, self.recipe.looks
        if looks.samples is not None or looks.decoding.mode == "greedy":
            return looks.samples or 1
        if not state.samples:
            spent = state.seconds.get("looks", 0.0)  # on look 0
            others = (
                spent + state.seconds.get("tripwires", 0.0) + state.seconds.get("benchmark", 0.0)
            )
            step_s = max(0.0, state.seconds.get("train", 0.0) - others) / max(1, step)
            found = affordable_samples(
                spent / self.recipe.replicates,
                state.planned_looks,
                (state.due[-1] if state.due else step) * step_s,
                spent,
            )
            # Each rank has a clock of its own, and all must answer alike: the writer's counts.
            state.samples = self.ranks.summed([found if self.ranks.writes else 0])[0]
        return state.samples

    def _levers(self, action: Action) -> Levers:
        """Where the levers stand after an action."""
        beta = None if self.beta is None else self.beta * action.boost
        return Levers(boost=action.boost, lr_factor=action.lr_factor, beta=beta)
