"""The guard of one run: looks, asks the rule and the ladder, writes the ledger, moves the levers."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import torch

from guardrail.anchors.store import Anchors
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.multiple_choice import Choice
from guardrail.errors import InputError
from guardrail.guard.asked_looks import Asked, Measurement
from guardrail.guard.judge_measured import Judgement, judge_later, judge_start
from guardrail.guard.look_plan import SIDECAR_SAMPLES, affordable_samples
from guardrail.guard.measure_look import SEED_STRIDE, Meter
from guardrail.guard.ranks import Ranks
from guardrail.guard.state import GuardState
from guardrail.judge.ladder import Action, decide, judged_look
from guardrail.judge.look_values import Measured, answers_file
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import ActionFacts, Levers, LookFacts, ProofFacts
from guardrail.recipe import Recipe
from guardrail.sets.items import Item

__all__ = ["Guard", "LookFailed"]


_PROVEN = 8
"""Red-line prompts that a trainer's vLLM answers at a look to show its weights."""


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
    beta: float | None = None
    """GRPO's own beta at boost 1, where the ladder moves it too."""
    start_weights: str = ""
    """Hash of the weights the run starts from."""
    kl_term: bool = True
    """Whether the training has a KL term, without which a raise or a relaxation moves nothing."""

    @property
    def start_is_gold_base(self) -> bool:
        """Whether the run starts from the weights that its abilities are measured against."""
        return self.start_weights == self.anchors.manifest.gold_base["weights"]

    @property
    def start_is_kl_reference(self) -> bool:
        """Whether the run starts from the weights that the KL pulls to."""
        return self.start_weights == self.anchors.manifest.kl_reference["weights"]

    @property
    def meter(self) -> Meter:
        """What the looks ask."""
        return Meter(self.recipe, self.run, self.anchors, self.red_line, self.choices, self.ranks)

    def judge_against(self, baseline: Measured | None) -> None:
        """Judge later looks against another baseline, such as that of probes changed on purpose."""
        self.state.baseline = baseline

    def look_zero(self, engine: InProcessEngine, *, rounding: torch.dtype) -> None:
        """Take the look before the first step: baseline, pipeline check or inherited harm.

        `rounding` is the coarser precision of the anchors' forwards and these: what rounding explains is
        no difference of the pipeline.

        Raises:
            InputError: as `record`.
        """
        wanted = rounding if self.start_is_gold_base else None
        number, measured = self.state.looks, self._measure(engine, 0, "start", rounding=wanted)
        self._count("start")
        self.record(self.judge(measured, "start"), 0, "start", number=number)

    def look(self, engine: InProcessEngine, step: int, trigger: str, *, final: bool) -> Action:
        """Take a look, write verdict and action to the ledger, return the action to carry out."""
        self._require_baseline()
        number, measured = self.state.looks, self._measure(engine, step, trigger)
        judged = self.judge(measured, trigger, final=final)
        self._count(trigger)
        return self.record(judged, step, trigger, number=number, final=final)

    def _measure(
        self,
        engine: InProcessEngine,
        step: int,
        trigger: str,
        *,
        rounding: torch.dtype | None = None,
    ) -> Measurement:
        number, count = self.state.looks, self._samples(step, trigger)
        proof = self._proof(engine, step)
        measured = self.meter.measure(
            engine,
            number,
            count,
            answers_file(number, step),
            rounding=rounding,
        )
        self.state.spend("looks", measured.seconds)
        if measured.benchmark is not None:
            self.state.spend("benchmark", measured.benchmark_seconds)
        return measured if proof is None else replace(measured, proof=proof)

    def _proof(self, engine: InProcessEngine, step: int) -> ProofFacts | None:
        """What shows that a trainer's vLLM has the weights of this step; None where the model itself answers."""
        if engine.writer is None:
            return None
        started = time.perf_counter()
        shown = list(self.red_line)[:: max(1, len(self.red_line) // _PROVEN)][:_PROVEN]
        seed = self.recipe.seed + SEED_STRIDE * (self.state.looks + 1) - 1
        with self.ranks.agreed():
            *changed, now = engine.writer.prove(engine, engine.prompts(shown), seed, step)
        for one in changed:
            self.ledger.append("handover_test", step, **one.record())
        self.state.spend("looks", time.perf_counter() - started)
        return ProofFacts(**now.record())

    def _samples(self, step: int, trigger: str) -> int:
        return self.recipe.replicates if trigger == "start" else self._settled_samples(step)

    def _count(self, trigger: str) -> None:
        """Count a look whose answers are there, or are asked for elsewhere."""
        self.state.looks += 1
        self.state.extra_looks += trigger == "tripwire"
        if trigger != "start":
            self.state.wire_at_look = max(0.0, self.state.wire)

    def _require_baseline(self) -> None:
        if self.state.baseline is None:
            raise LookFailed("there is no baseline: look 0 was not taken")

    def ask(
        self, step: int, trigger: str, checkpoint: str, *, applied_step: int | None = None
    ) -> None:
        """Ask a sidecar for a look at a checkpoint; it stands in the ledger and in the state until it is judged.

        Args:
            step: Of the checkpoint.
            trigger: Why there is a look.
            checkpoint: Its folder, below the run folder if it lies there.
            applied_step: The step of the training that asks, where it is a later one.
        """
        # Every rank keeps the state, and what one of them draws is no other's: the first one's counts.
        nonce = self.ranks.shared([0], lambda mine: [uuid4().hex for _ in mine])[0]
        ask = Asked(
            nonce, step, self.state.looks, trigger, checkpoint, self._samples(step, trigger)
        )
        self._count(trigger)
        self.state.asked = sorted([*self.state.asked, ask], key=lambda one: one.order)
        told = asdict(ask) | _later(step, applied_step)
        if trigger == "start":
            told["planned_steps"] = self.state.due[-1]
        self.ledger.append("asked", told.pop("step"), **told)

    def forget(self, ask: Asked) -> None:
        """Leave out an ask that is judged, or failed."""
        self.state.asked = [one for one in self.state.asked if one != ask]

    def judge(self, measured: Measurement, trigger: str, *, final: bool = False) -> Judgement:
        """Return what the rule says of what a look measured; nothing is recorded or changed by it.

        Raises:
            LookFailed: there is no baseline.
        """
        if trigger == "start":
            planned = self.state.planned_looks
            return judge_start(
                self.meter, measured, planned, start_is_gold_base=self.start_is_gold_base
            )
        self._require_baseline()
        return judge_later(
            self.meter, measured, self.state, repeat=trigger == "repeat", final=final
        )

    def record(
        self,
        judged: Judgement,
        step: int,
        trigger: str,
        *,
        number: int,
        final: bool = False,
        applied_step: int | None = None,
        after_end: bool = False,
    ) -> Action:
        """Write verdict and action to the ledger, make the verdict part of the state, return the action to carry out.

        Args:
            judged: By `judge`, of the state as it still is.
            step: Whose weights were looked at.
            trigger: Why.
            number: Of the look.
            final: Whether it was the run's last and could spend what budget was left.
            applied_step: The step of the training, where it is a later one.
            after_end: Whether the training had ended, so that nothing can be carried out any more.

        Raises:
            InputError: the start model is the gold base and yet answers unlike the anchors, or it
                is another model already beyond the margin and the recipe refuses that.
        """
        verdict, start = judged.verdict, trigger == "start"
        if start:
            self.state.baseline = judged.baseline
        elif trigger != "repeat":
            # A repeat is judged with the budget of the look it repeats: it can only take an alarm back, so
            # that it costs nothing, and after the final look there would be nothing left for it.
            self.state.rule_before, self.state.rule = self.state.rule, judged.after
        look = LookFacts(
            step=step,
            number=number,
            trigger=trigger,
            answers=judged.measured.answers,
            answers_sha256=judged.measured.answers_sha256,
            seconds=round(judged.measured.seconds, 3),
            inherited=start and not self.start_is_gold_base,
            planned_looks=self.state.planned_looks,
            planned_steps=self.state.due[-1] if start else None,
            final=final,
            samples=None if start else judged.measured.samples,
            failed_pipeline_check=judged.disagreement,
            benchmark=judged.measured.benchmark,
            served=judged.measured.served,
            proof=judged.measured.proof,
            shown=judged.measured.shown,
            after_end=after_end or None,
            level=verdict.level,
            streams=verdict.streams,
            **_later(step, applied_step),
        )
        self.ledger.append("look", step, **look.to_record())
        if start:
            self._refuse_start(judged)
            return Action("none", 1.0, 1.0, "")
        self.state.history.append(judged_look(step, verdict, repeat=trigger == "repeat"))
        ladder = self.recipe.ladder_config()
        earlier = self.state.history[:-1]
        before = decide(earlier, ladder) if earlier else Action("none", 1.0, 1.0, "")
        action = decide(self.state.history, ladder)
        if action.kind != "none":
            at = step if applied_step is None else applied_step
            decided = ActionFacts(
                step=at,
                look=number,
                kind=action.kind,
                carried_out=self.recipe.mode == "guard"
                and (self.kl_term or action.kind not in ("raise_kl", "relax_kl"))
                and (not after_end or action.kind == "repeat_look"),
                after_end=after_end or None,
                reason=action.reason,
                before=self._levers(before),
                after=self._levers(action),
            )
            self.ledger.append("action", at, **decided.to_record())
        return action

    def _settled_samples(self, step: int) -> int:
        """Answers an item, the same at every look: the recipe's, or what the run pays for, settled at its first look.

        Greedy answers do not vary, so one is enough. A sidecar costs the run nothing but the time to its verdict.
        """
        state, looks = self.state, self.recipe.looks
        if looks.samples is not None or looks.decoding.mode == "greedy":
            return looks.samples or 1
        if looks.engine == "sidecar":
            return SIDECAR_SAMPLES
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

    def _refuse_start(self, judged: Judgement) -> None:
        if judged.disagreement:
            raise InputError(
                "look 0 disagrees with the anchors although the weights are the gold base's: "
                f"{'; '.join(judged.disagreement)}; the pipeline differs, not the model. Compare engine, "
                "dtype and batch size with the anchors' manifest, then run `guardrail anchor RECIPE --rebuild`"
            )
        if judged.verdict.drifted and self.recipe.on_inherited == "refuse":
            names = ", ".join(s.name for s in judged.verdict.alarmed[:5])
            raise InputError(
                f"the start model is already beyond the margin ({judged.verdict.level}: {names}); set "
                "`on_inherited: judge_new` to judge new harm only, or start from another model"
            )

    def _levers(self, action: Action) -> Levers:
        """Where the levers stand after an action."""
        beta = None if self.beta is None else self.beta * action.boost
        boost = action.boost if self.kl_term else 1.0
        return Levers(boost=boost, lr_factor=action.lr_factor, beta=beta)


def _later(step: int, applied_step: int | None) -> dict[str, int]:
    """What a record says of the step at which it was made, where that is not the one it tells of."""
    return {} if applied_step in (None, step) else {"applied_step": int(applied_step or 0)}
