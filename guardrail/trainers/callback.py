"""The guard inside a Trainer: its events as calls on the guard, and what the guard decides as its flags.

Hooks of transformers.Trainer: the public events of `TrainerCallback`, whose `control` flags ask for a save and the end.
Private is `_run_epoch`, emptied where no step is to be taken: the Trainer takes one more before it asks whether
any is left (5.19 and 5.23).
"""

import copy
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from guardrail.engines.rollout import RolloutVllm, RolloutWriter
from guardrail.errors import InputError
from guardrail.guard.apply_levers import keep_rates, move_levers
from guardrail.guard.checkpoints import complete_checkpoint
from guardrail.guard.course import Course
from guardrail.guard.guard import Guard
from guardrail.guard.ranks import failure_kind
from guardrail.guard.resume import checkpoint_step, rewind
from guardrail.guard.state import put_back
from guardrail.judge.ladder import Action
from guardrail.track.own_metrics import take_metrics
from guardrail.track.tracking import Tracking
from guardrail.trainers.beginning import check_beginning, first_look, plan_training, watch_new_task
from guardrail.trainers.checks.kl_gradient_check import loss_scale
from guardrail.trainers.kl_only.samples import KlOnly
from guardrail.trainers.policy import Policy

__all__ = ["GuardCallback", "finite"]


class GuardCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Tells the course of the training what happens; holds no rule of its own."""

    tracking: Tracking
    """Repeats the ledger to the trainer's trackers; set by `attach`."""

    def __init__(
        self,
        guard: Guard,
        trainer: Any,
        tokenizer: Any,
        injection: KlOnly | None,
        *,
        resume_from: Path | None = None,
        vllm: RolloutVllm | None = None,
    ) -> None:
        """Keep what the events need.

        `injection` is None in watch mode. `resume_from` is the checkpoint the guard's state came
        from: hand it to `trainer.train(resume_from_checkpoint=...)`. `vllm` is what writes the rollouts
        of a GRPO trainer and then answers the looks too.
        """
        self.guard = guard
        self.trainer = trainer
        self.injection = injection
        self.resume_from = resume_from
        writer = None
        if vllm is not None:
            writer = RolloutWriter(vllm, str(trainer.accelerator.mixed_precision))
        self.policy = Policy(guard, trainer, tokenizer, writer)
        self.course = Course(
            guard,
            Path(trainer.args.output_dir),
            self.policy.measure,
            self._move_levers,
            self._take_metrics,
        )
        self.began = False
        """Whether a training has begun under this guard."""
        self.save_limit: int | None = None
        """The user's `save_total_limit`, which the guard keeps in the Trainer's place."""
        self._kept = copy.deepcopy(guard.state)
        """The state the training begins with, in case it begins anew with smaller batches."""
        self._looked = False
        """Whether look 0, or what a resume owed, is done with."""
        self._stepping = False

    @property
    def halted(self) -> bool:
        """Whether the guard halted the training."""
        return self.course.halted

    @property
    def terminated(self) -> bool:
        """Whether a SIGTERM ended the training, as a cluster sends before it takes a machine away."""
        return self.course.terminated

    @property
    def exit_code(self) -> int:
        """How the training ended, as a code of `guardrail.exit_codes`; that of a crash until it has ended."""
        return self.course.exit_code

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Test the KL term against its reference, then take look 0, once a run; or go on where it was left."""
        guard, course = self.guard, self.course
        if self.began:
            self._begin_anew()
        check_beginning(state.global_step, self.resume_from)
        self.began = True
        course.begin(state.global_step, state.max_steps, best_follows=args.load_best_model_at_end)
        self._set_beta()
        resumed = guard.state.looks > 0
        plan_training(guard, self.trainer, resumed=resumed)
        if not resumed:
            self._begin_run()
        elif not self._looked:
            course.go_on(state.global_step)
        if course.ended or state.global_step >= state.max_steps:
            self.trainer._run_epoch = lambda **rest: None
            control.should_training_stop = True
        self._kept, self._looked = copy.deepcopy(guard.state), True

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
        put_back(guard.state, self._kept)
        if not self._looked:
            rewind(guard.ledger, self.resume_from, writes=guard.ranks.writes)

    def _begin_run(self) -> None:
        try:
            first_look(self.policy, self.course, self.injection)
            watch_new_task(self.policy, self.course)
        except Exception as error:
            if failure_kind(error) != "stopped":
                raise
            self.course.terminated = True  # there is nothing yet to save

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the rehearsal samples of the coming optimizer step."""
        if self.injection is not None:
            self.injection.begin_step()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See whether the trainer weighed the KL term as its formula says; now the weights may move."""
        self._stepping = True
        if self.injection is None:
            return
        for normalisation in self.injection.normalisations:
            found = normalisation.check(loss_scale(self.trainer))
            if found is not None:
                self.guard.ledger.append("gradient_check", state.global_step, **found)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Apply what a sidecar has answered; tripwire and look where due; carry out what the ladder says."""
        terminate, answered = self._agree_on_step()
        if answered:
            self.course.apply(state.global_step)
        if terminate:
            self.course.terminate(saving=control.should_save)
        elif not self.course.halted:
            self.course.attend(state.global_step, saving=control.should_save)
        self._end_if_told(control)

    def _agree_on_step(self) -> tuple[bool, bool]:
        """Add up the ranks' samples of the step.

        Returns:
            Whether any rank was told to terminate, and whether an answer of a sidecar has come.
        """
        counts = [] if self.injection is None else self.injection.take_counts()
        noted = [int(self.course.sigterm), int(self.course.answered())]
        *counts, terminate, answered = self.guard.ranks.summed([*counts, *noted])
        if self.injection is not None:
            self.injection.add_counts(counts)
        return bool(terminate), bool(answered)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look where the end of an epoch asks for a save, which no step's end has seen."""
        if control.should_save:
            self.course.attend_epoch(state.global_step, state.epoch)
            self._end_if_told(control)

    def _end_if_told(self, control: Any) -> None:
        if self.course.ended:
            control.should_save = control.should_training_stop = True
        if self.course.asks_at_save:
            control.should_save = True

    def _move_levers(self, action: Action) -> None:
        move_levers(self.guard.state, action, self.trainer.optimizer, self.trainer.lr_scheduler)
        self._set_beta()

    def _set_beta(self) -> None:
        """Move GRPO's own beta with the boost where the recipe says so; a resumed run begins here too."""
        if self.guard.beta is not None:
            self.trainer.beta = self.guard.beta * self.guard.state.boost

    def _take_metrics(self, step: int, *, final: bool = False) -> None:
        if self.guard.ranks.writes:
            take_metrics(self.guard.ledger, step, final=final)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the guard's state into the checkpoint; keep the newest ok one from rotation."""
        guard, trainer = self.guard, self.trainer
        trainer.accelerator.wait_for_everyone()  # every rank's part of it is on disk
        # Before the state, which makes it complete: who resumes from it finds it in the ledger.
        self.course.ask(state.global_step)
        self.course.grade(state.global_step)
        self.course.count_seconds()
        keep_rates(guard.state, trainer.optimizer, trainer.lr_scheduler)
        if guard.ranks.writes:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            complete_checkpoint(
                guard, checkpoint, limit=self.save_limit, best=state.best_model_checkpoint
            )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Write the training numbers of the last interval to the ledger."""
        if not logs or "loss" not in logs or "eval_loss" in logs:
            return
        guard = self.guard
        self.course.count_seconds()
        record: dict[str, Any] = {
            "loss": finite(logs["loss"]),
            "learning_rate": finite(logs.get("learning_rate")),
            "lr_factor": guard.state.lr_factor,
            "seconds": guard.state.rounded_seconds(),
        }
        if (beta := getattr(self.trainer, "beta", None)) is not None:  # GRPO's own weight of its KL
            record["beta"] = float(beta)
        if self.injection is not None:
            average = guard.state.weight_sum / max(1, state.global_step)
            record |= {"kl_weight_average": average, **self.injection.numbers()}
        if "reward" in logs:
            record["reward"] = finite(logs["reward"])
        guard.ledger.append("log", state.global_step, **record)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the best model if that is what is left, and close the run in the ledger."""
        best = state.best_model_checkpoint
        self.course.count_seconds()
        if args.load_best_model_at_end and best is not None:
            self.course.look_at_best(state.global_step, checkpoint_step(Path(best)))
        self._take_metrics(state.global_step, final=True)
        self.course.finish(state.global_step)


def finite(value: Any) -> float | None:
    """Return a number as the ledger has it. A NaN is never 0: what is not a finite number is None."""
    return float(value) if value is not None and math.isfinite(float(value)) else None
