"""The guard inside a Trainer: when to look, and moving the levers it decides on."""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback
from trl.models.utils import unwrap_model_for_generation

from guardrail import exits
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.rollout import with_vllm
from guardrail.errors import InputError
from guardrail.guard.guard import Guard
from guardrail.guard.levers import (
    base_rates,
    hold_levers,
    scale_learning_rate,
    scheduler_steps,
)
from guardrail.guard.look_plan import due_looks, looks_kept, plan_looks
from guardrail.guard.ranks import RankFailed, failure_kind
from guardrail.guard.resume import checkpoint_step, rewind
from guardrail.guard.rotation import rotate
from guardrail.guard.state import GuardState, put_back, write_state
from guardrail.guard.tripwire import set_tripwires, tripwire
from guardrail.judge.ladder import Action, decide
from guardrail.judge.verdict import UNTESTED
from guardrail.models.rounding import coarser, forward_dtype
from guardrail.track.own_metrics import take_metrics
from guardrail.track.tracking import Tracking
from guardrail.trainers.checks.deepspeed import each_rank_alone
from guardrail.trainers.checks.normalisation import loss_scale
from guardrail.trainers.checks.self_test import kl_self_test
from guardrail.trainers.grpo.mixing import MixedPrompts
from guardrail.trainers.injection import KlOnly
from guardrail.trainers.task_prompts import (
    ROWS_LOOKED_AT,
    opening_tokens,
    step_tokens,
    task_prompts,
    tokenised,
)
from guardrail.trainers.training import check_beginning

__all__ = ["GuardCallback"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class GuardCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Asks the guard at the Trainer's events; holds no rule of its own."""

    tracking: Tracking
    """Repeats the ledger to the trainer's trackers; set by `attach`."""

    def __init__(
        self,
        guard: Guard,
        trainer: Any,
        tokenizer: Any,
        injection: KlOnly | None,
        *,
        start_is_gold_base: bool,
        start_is_kl_reference: bool,
        resume_from: Path | None = None,
        vllm: Any = None,
    ) -> None:
        """Keep what the events need.

        `injection` is None in watch mode. `resume_from` is the checkpoint the guard's state came
        from: hand it to `trainer.train(resume_from_checkpoint=...)`. `vllm` is what writes the rollouts
        of a GRPO trainer and then answers the looks too.
        """
        self.guard = guard
        self.trainer = trainer
        self.injection = injection
        self.start_is_gold_base = start_is_gold_base
        self.start_is_kl_reference = start_is_kl_reference
        self.resume_from = resume_from
        self.halted = False
        self.terminated = False
        """Whether a SIGTERM ended the training, as a cluster sends before it takes a machine away."""
        self._tested_end: bool | None = None
        """Whether the weights at the end were tested; None until training has ended."""
        self._failed_since = False
        """Whether a look failed after the newest one that did not."""
        self.began = False
        self.save_limit: int | None = None
        self._tokenizer = tokenizer
        self._encoded: dict[str, list[int]] = {}
        self._vllm = vllm
        self._sigterm = False
        self._attached = copy.deepcopy(guard.state)
        """The state the training begins with, in case it begins anew with smaller batches."""
        self._ready: GuardState | None = None
        """The same after look 0, or what a resume owed."""
        self._stepping = False
        self._train_started = time.perf_counter()
        self._seconds_before = 0.0
        self._steps_at_start = 0

    @contextlib.contextmanager
    def _engine(self, *, to_the_end: bool = False) -> Iterator[InProcessEngine]:
        """The policy as one whole model; where ranks hold parts of it they are gathered meanwhile.

        A SIGTERM stops its answers, unless they are wanted to the end.
        """
        recipe, trainer = self.guard.recipe, self.trainer
        failed: Exception | None = None
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            engine = InProcessEngine(
                model,
                self._tokenizer,
                recipe.looks.decoding,
                self.guard.anchors.manifest.profile,
                recipe.looks.batch_size,
                self._encoded,
                lambda: self._sigterm and not to_the_end,
            )
            try:
                with each_rank_alone(trainer.model_wrapped):
                    yield engine if self._vllm is None else with_vllm(engine, self._vllm)
            except Exception as error:
                # TRL gives ZeRO-3's hooks and gradient checkpointing back only after a body that ends well.
                failed = error
        if trainer.args.gradient_checkpointing:
            # TRL turns it on again without the user's settings.
            settings = trainer.args.gradient_checkpointing_kwargs
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
        if failed is not None:
            raise failed

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Test the KL term against its reference, then take look 0, once a run."""
        guard = self.guard
        if self.began:
            self._begin_anew()
        check_beginning(state.global_step, self.resume_from)
        self.began = True
        self._train_started = time.perf_counter()
        self._seconds_before = guard.state.seconds.get("train", 0.0)
        self._steps_at_start = state.global_step
        self._set_beta()
        resumed = guard.state.looks > 0
        due, kept = due_looks(guard.recipe, state.max_steps, args), looks_kept(guard.recipe, args)
        changed = plan_looks(guard.state, due, kept, step=state.global_step)
        if resumed and changed is not None:
            guard.ledger.append("replanned", state.global_step, **changed)
        if resumed:
            told = hold_levers(guard.state, self.trainer.optimizer, self.trainer.lr_scheduler)
            if told is not None:
                guard.ledger.append("levers", state.global_step, **told)
        try:
            if not resumed:
                self._begin(state.max_steps)
            elif self._ready is None:
                self._go_on(state, control)
        except Exception as error:
            if resumed or failure_kind(error) != "stopped":
                raise
            self.terminated = True  # there is nothing yet to save
            self._train_no_more(control)
        self._ready = copy.deepcopy(guard.state)

    def _begin_anew(self) -> None:
        """Go back to where this training began: `auto_find_batch_size` starts it over with smaller batches.

        The Trainer keeps the weights, so nothing may have been learnt yet.
        """
        guard = self.guard
        if self._stepping:
            raise InputError(
                "`auto_find_batch_size` begins the training anew after optimizer steps whose weights it keeps, and "
                "looks and KL-only samples would be counted from the start; leave it away and set "
                f"`per_device_train_batch_size` to {self.trainer._train_batch_size}"
            )
        if self.injection is not None:
            self.injection.take_counts()  # of micro-batches that led to no step
        put_back(guard.state, self._ready or self._attached)
        if self._ready is None:  # look 0 was not done with
            rewind(guard.ledger, self.resume_from, writes=guard.ranks.writes)

    def _begin(self, max_steps: int) -> None:
        """Do what comes before the first step."""
        guard = self.guard
        with guard.ranks.agreed(), self._engine() as engine:
            if self.injection is not None:
                kl_self_test(
                    self.injection,
                    engine.model,
                    guard.ledger,
                    dtype=self._forward_dtype(engine.model),
                    anchors_dtype=getattr(torch, guard.anchors.manifest.dtype),
                    start_is_kl_reference=self.start_is_kl_reference,
                )
            guard.look_zero(
                engine,
                start_is_gold_base=self.start_is_gold_base,
                planned_steps=max_steps,
                rounding=coarser(
                    self._forward_dtype(engine.model), getattr(torch, guard.anchors.manifest.dtype)
                ),
            )
        self._set_tripwires(max_steps)

    def _forward_dtype(self, model: Any) -> torch.dtype:
        return forward_dtype(model, str(self.trainer.accelerator.mixed_precision))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See whether the trainer weighed the KL term as its formula says; now the weights may move."""
        self._stepping = True
        if self.injection is None:
            return
        for normalisation in self.injection.normalisations:
            found = normalisation.check(loss_scale(self.trainer))
            if found is not None:
                self.guard.ledger.append("gradient_check", state.global_step, **found)

    def _go_on(self, state: Any, control: Any) -> None:
        """Take up a run where its checkpoint left it: a look that is owed, a halt, the end."""
        guard, step = self.guard, state.global_step
        if guard.state.owed:
            saving, guard.state.owed = guard.state.owed == "save", ""
            self._attend(state, control, saving=saving)
            self._record_checkpoint(step)
        elif guard.state.owed_look:
            trigger, guard.state.owed_look = guard.state.owed_look, ""
            self._look(step, trigger, control, final=self._is_final(state))
            self._record_checkpoint(step)
        history = guard.state.history
        if guard.recipe.mode == "guard" and history and history[-1].step == step:
            self.halted |= decide(history, guard.recipe.ladder_config()).kind == "halt"
        if self.halted or self.terminated or step >= state.max_steps:
            self._train_no_more(control)

    def _train_no_more(self, control: Any) -> None:
        # The Trainer takes one step more before it asks whether any is left (5.19 and 5.23).
        self.trainer._run_epoch = lambda **rest: None
        control.should_training_stop = True

    def _set_tripwires(self, max_steps: int) -> None:
        """Choose what tripwires watch, some prompts of the new task among it, and measure it once."""
        guard, tokenizer = self.guard, self._tokenizer
        looks, thinking = guard.recipe.looks, guard.recipe.thinking
        if looks.tripwire_every_steps == 0:
            return

        def begin(engine: InProcessEngine) -> None:
            dataset = self.trainer.train_dataset
            if isinstance(dataset, MixedPrompts):
                dataset = dataset.tasks  # GRPO's KL-only prompts are no part of the new task
            rows = list(islice(tokenised(dataset, tokenizer, thinking=thinking), ROWS_LOOKED_AT))
            prompts: list[list[int]] = []
            if looks.tripwire_task_prompts:
                opening = opening_tokens(tokenizer, thinking=thinking)
                prompts = task_prompts(rows, opening, looks.tripwire_task_prompts)
            tokens = step_tokens(self.trainer, rows)
            set_tripwires(guard, engine, prompts, step_tokens=tokens, steps=max_steps)

        try:
            self._with_smaller_batches(begin, "a tripwire")
        except Exception as error:
            if failure_kind(error) == "stopped" or guard.recipe.on_error == "halt":
                raise  # nothing is trained yet
            guard.state.tripwire_every = 0
            self._tell_of(error, 0, "tripwire")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the rehearsal samples of the coming optimizer step."""
        if self.injection is not None:
            self.injection.begin_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tripwire and look where due; carry out what the ladder says."""
        if self._agree_on_step():
            self.guard.state.owed = "save" if control.should_save else "step"
            self._terminate(control)
            return
        self._attend(state, control, saving=control.should_save)

    def _attend(self, state: Any, control: Any, *, saving: bool) -> None:
        """Do what is due after an optimizer step."""
        step = state.global_step
        looks = self.guard.recipe.looks
        every = self.guard.state.tripwire_every
        early = bool(every) and step % every == 0 and self._tripwire(step, control)
        if self.halted:
            return
        trigger = ""
        if step >= state.max_steps:
            trigger = "end"
        elif saving:
            trigger = "save"
        elif step % looks.every_steps == 0:
            trigger = "schedule"
        elif early:
            trigger = "tripwire"
        if trigger:
            self._look(step, trigger, control, final=self._is_final(state))

    def _is_final(self, state: Any) -> bool:
        """Whether a look now is the run's last; the best model, loaded at the end, gets one of its own."""
        best_follows = self.trainer.args.load_best_model_at_end
        return bool(state.global_step >= state.max_steps and not best_follows)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look where the end of an epoch asks for a save, which no step's end has seen."""
        history, step = self.guard.state.history, state.global_step
        if not control.should_save or (history and history[-1].step == step):
            return
        if not self.terminated:
            self._look(step, "save", control, final=self._is_final(state))
        elif not self.guard.state.owed_look and math.isclose(
            state.epoch, round(state.epoch), abs_tol=1e-9
        ):
            self.guard.state.owed = "save"

    def _summed(self, numbers: list[int]) -> list[int]:
        """The sums over all ranks, which must ask together."""
        if self.guard.ranks.size == 1:  # nobody to ask, and no device to wait for
            return numbers
        accelerator = self.trainer.accelerator
        told = torch.tensor(numbers, device=accelerator.device)
        return list(accelerator.reduce(told, reduction="sum").tolist())

    def _agree_on_step(self) -> bool:
        """Add up the ranks' samples of the step; return whether any rank was told to terminate."""
        counts = [] if self.injection is None else self.injection.take_counts()
        *counts, terminate = self._summed([*counts, int(self._sigterm)])
        if self.injection is not None:
            self.injection.add_counts(counts)
        return bool(terminate)

    def told_to_end(self) -> None:
        """Remember a SIGTERM: it ends the training after the step or answer in progress, with a checkpoint."""
        self._sigterm = True

    def _terminate(self, control: Any) -> None:
        self.terminated = control.should_save = control.should_training_stop = True

    def _look(self, step: int, trigger: str, control: Any, *, final: bool) -> None:
        self._take_metrics(step)
        try:
            action = self._look_with_smaller_batches(step, trigger, final=final)
            if action.kind == "repeat_look" and self.guard.recipe.mode == "guard":
                action = self._look_with_smaller_batches(step, "repeat", final=final)
            self._failed_since = False
        except Exception as error:
            if failure_kind(error) == "stopped":
                self.guard.state.owed_look = trigger
                self._terminate(control)
                return
            # The boundary at which an error while looking is caught; the recipe says what then.
            self.guard.state.failures += 1
            self._failed_since = True
            self._tell_of(error, step, "look")
            if self.guard.recipe.on_error == "halt":
                self._halt(control)
            return
        if self.guard.recipe.mode == "guard":
            self._carry_out(action, control)
        if not (self.halted or final) and any(self._summed([int(self._sigterm)])):
            self._terminate(control)

    def _take_metrics(self, step: int, *, final: bool = False) -> None:
        if self.guard.ranks.writes:
            take_metrics(self.guard.ledger, step, final=final)

    def _tripwire(self, step: int, control: Any) -> bool:
        """Measure how far the policy has moved; return whether to look early. Errors go the way of a look's."""
        try:
            return self._with_smaller_batches(
                lambda engine: tripwire(self.guard, engine, step), "a tripwire"
            )
        except Exception as error:
            self._tell_of(error, step, "tripwire")
            if self.guard.recipe.on_error == "halt":
                self._halt(control)
            return False

    def _tell_of(self, error: Exception, step: int, during: str) -> None:
        """Write an error while looking to the ledger and the log."""
        policy = self.guard.recipe.on_error
        told = f"{type(error).__name__}: {error}"[:2000]
        self.guard.ledger.append("error", step, during=during, error=told, then=policy)
        logger.error(
            "the %s at step %d failed; on_error is `%s`", during, step, policy, exc_info=error
        )

    def _look_with_smaller_batches(self, step: int, trigger: str, *, final: bool) -> Action:
        repeat = trigger == "repeat"  # nobody could take it up where it was left
        return self._with_smaller_batches(
            lambda engine: self.guard.look(engine, step, trigger, final=final),
            "a look",
            to_the_end=repeat,
        )

    def _with_smaller_batches(
        self, work: Callable[[InProcessEngine], Result], what: str, *, to_the_end: bool = False
    ) -> Result:
        """Return what `work` returns; out of memory it is done anew with half as many prompts a batch."""
        size = self.guard.recipe.looks.batch_size
        while True:
            try:
                with (
                    self.guard.ranks.agreed(),
                    self._engine(to_the_end=to_the_end) as engine,
                ):
                    return work(replace(engine, batch_size=size))
            except (torch.OutOfMemoryError, RankFailed) as error:
                if size == 1 or failure_kind(error) != "out of memory":
                    raise
                size //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("out of memory in %s; trying batches of %d", what, size)

    def _carry_out(self, action: Action, control: Any) -> None:
        state = self.guard.state
        factor = action.lr_factor / state.lr_factor
        state.boost = action.boost
        self._set_beta()
        if factor < 1.0:
            scale_learning_rate(self.trainer.optimizer, self.trainer.lr_scheduler, factor)
            state.lr_factor = action.lr_factor
        if action.kind == "halt":
            self._halt(control)

    def _set_beta(self) -> None:
        """Move GRPO's own beta with the boost where the recipe says so; a resumed run begins here too."""
        if self.guard.beta is not None:
            self.trainer.beta = self.guard.beta * self.guard.state.boost

    def _halt(self, control: Any) -> None:
        self.halted = True
        control.should_save = True
        control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the guard's state into the checkpoint; keep the newest ok one from rotation."""
        guard, folder = self.guard, Path(args.output_dir)
        path = folder / f"checkpoint-{state.global_step}"
        self.trainer.accelerator.wait_for_everyone()  # every rank's part of it is on disk
        # Before the state, which makes it complete: who resumes from it finds it in the ledger.
        self._record_checkpoint(state.global_step)
        guard.state.seconds["train"] = self._train_seconds()
        optimizer, scheduler = self.trainer.optimizer, self.trainer.lr_scheduler
        guard.state.base_rates = base_rates(optimizer, scheduler)
        guard.state.scheduler_steps = scheduler_steps(scheduler)
        if not guard.ranks.writes:
            return
        write_state(path, guard.state)
        spared = [path]
        if guard.state.last_ok_checkpoint is not None:
            spared.append(folder / guard.state.last_ok_checkpoint)
        if state.best_model_checkpoint is not None:
            spared.append(Path(state.best_model_checkpoint))
        rotate(folder, self.save_limit, spared)

    def _record_checkpoint(self, step: int, *, looked_at: int | None = None) -> None:
        """Write to the ledger which level a checkpoint has; remember the newest that is ok.

        Its look was taken at its own step, or at a later one where it was loaded again.
        """
        guard = self.guard
        path = Path(self.trainer.args.output_dir) / f"checkpoint-{step}"
        last = guard.state.history[-1] if guard.state.history else None
        at = step if looked_at is None else looked_at
        level = last.level if last is not None and last.step == at else UNTESTED
        newest_ok = guard.state.last_ok_checkpoint
        if level == "ok" and (newest_ok is None or step >= checkpoint_step(Path(newest_ok))):
            guard.state.last_ok_checkpoint = path.name
        guard.ledger.append("checkpoint", step, path=self._named(path), level=level)

    def _named(self, path: Path) -> str:
        """The path below the run folder, or the whole path of a checkpoint kept elsewhere."""
        run = self.guard.run
        return str(path.relative_to(run)) if path.is_relative_to(run) else str(path)

    def last_ok_checkpoint(self) -> str | None:
        """Return the newest checkpoint whose look was ok, below the run folder if it lies there."""
        name = self.guard.state.last_ok_checkpoint
        return None if name is None else self._named(Path(self.trainer.args.output_dir) / name)

    @property
    def exit_code(self) -> int:
        """How the training ended, as a code of `guardrail.exits`; that of a crash until it has ended."""
        if self._tested_end is None:
            return exits.CRASHED
        if self.halted or self.terminated:
            return exits.HALTED if self.halted else exits.TERMINATED
        return exits.FINISHED if self._tested_end else exits.UNTESTED_END

    def not_training(self, seconds: float) -> None:
        """Leave seconds that went into something else out of those trained."""
        self._train_started += seconds

    def _train_seconds(self) -> float:
        """Seconds trained, those before a resume included."""
        return self._seconds_before + time.perf_counter() - self._train_started

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Write the training numbers of the last interval to the ledger."""
        if not logs or "loss" not in logs or "eval_loss" in logs:
            return
        guard = self.guard
        record: dict[str, Any] = {
            "loss": _finite(logs["loss"]),
            "learning_rate": _finite(logs.get("learning_rate")),
            "lr_factor": guard.state.lr_factor,
            "seconds": {what: round(spent, 3) for what, spent in guard.state.seconds.items()}
            | {"train": round(self._train_seconds(), 3)},
        }
        if (beta := getattr(self.trainer, "beta", None)) is not None:  # GRPO's own weight of its KL
            record["beta"] = float(beta)
        if self.injection is not None:
            average = guard.state.weight_sum / max(1, state.global_step)
            record |= {"kl_weight_average": average, **self.injection.numbers()}
        if "reward" in logs:
            record["reward"] = _finite(logs["reward"])
        guard.ledger.append("log", state.global_step, **record)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the run in the ledger."""
        guard = self.guard
        guard.state.seconds["train"] = self._train_seconds()
        self._look_at_best(state, control)
        self._take_metrics(state.global_step, final=True)
        last = guard.state.history[-1] if guard.state.history else None
        self._tested_end = (
            last is not None
            and last.step == state.global_step
            and last.level != UNTESTED
            and not self._failed_since
        )
        outcome = "halted" if self.halted else "terminated" if self.terminated else "finished"
        guard.ledger.append(
            "ended",
            state.global_step,
            outcome=outcome,
            last_ok_checkpoint=self.last_ok_checkpoint(),
            failures=guard.state.failures,
            steps=state.global_step - self._steps_at_start,
            seconds={what: round(spent, 3) for what, spent in guard.state.seconds.items()},
        )

    def _look_at_best(self, state: Any, control: Any) -> None:
        """Look at the best model where the Trainer has put it in the place of the last: it is what is left.

        Its look is the run's final one; its checkpoint then stands last in the ledger.
        """
        best = state.best_model_checkpoint
        loaded = self.trainer.args.load_best_model_at_end and best is not None
        if not loaded or self.halted or self.terminated:
            return
        saved_at, step = checkpoint_step(Path(best)), state.global_step
        if saved_at == step:
            return
        failures = self.guard.state.failures
        self._look(step, "best", control, final=True)
        if self.guard.state.failures == failures:
            self._record_checkpoint(saved_at, looked_at=step)


def _finite(value: Any) -> float | None:
    """A NaN is never 0: what is not a finite number is recorded as None."""
    return float(value) if value is not None and math.isfinite(float(value)) else None
