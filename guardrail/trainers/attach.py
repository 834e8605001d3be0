"""Attach a guard to a trainer: `Guardrail.from_recipe(path).attach(trainer)`.

What is composed here is made and checked elsewhere; the order is what counts: whatever refuses comes before anything
is written.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardrail.engines.multiple_choice import draw_choices
from guardrail.guard.changed_probes import baseline_of_now
from guardrail.guard.guard import Guard
from guardrail.guard.look_plan import refuse_longer
from guardrail.guard.ranks import Ranks
from guardrail.guard.resume import checkpoint_step, refuse_taken, resumed_state, rewind
from guardrail.ledger.file import Ledger, Record
from guardrail.models.fingerprint import weights_sha256
from guardrail.track.tracking import Tracking
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.checks.allowed_trainers import check_setup
from guardrail.trainers.checks.deepspeed import check_deepspeed, under_zero3
from guardrail.trainers.checks.identity import check_weights
from guardrail.trainers.checks.precision import check_quantization, keep_backward_of_4bit
from guardrail.trainers.checks.rendering import check_rendering
from guardrail.trainers.checks.trainer_fits_recipe import check_trainer_fits
from guardrail.trainers.checks.versions import TRL, check_versions
from guardrail.trainers.checks.wanted_anchors import require_anchors
from guardrail.trainers.grpo.choice import require_same_form
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.guarded_train import guard_training
from guardrail.trainers.kl_only.recipe_samples import inject
from guardrail.trainers.ledger_header import run_header
from guardrail.trainers.resumed_recipe import changed_header, changed_recipe_allowed, recipe_changes
from guardrail.trainers.script_output import say_records
from guardrail.trainers.seam import Seam
from guardrail.trainers.trl.trl_seam import trl_seam

__all__ = ["Guardrail"]


class Guardrail(GuardedRecipe):
    """A recipe ready to be attached to a trainer."""

    def attach(
        self,
        trainer: Any,
        *,
        run: str | Path | None = None,
        resume: bool | str | Path = False,
        on_record: Callable[[Record], None] | None = None,
        quiet: bool = False,
        report: bool = True,
        raise_on_halt: bool = False,
        seam: Seam | None = None,
        changed_recipe: bool = False,
    ) -> GuardCallback:
        """Guard a TRL `SFTTrainer` or `GRPOTrainer`; call before `trainer.train()`.

        Args:
            trainer: The trainer, with its model on the start weights.
            run: Folder of ledger, looks and report; by default the trainer's output folder.
            resume: Go on from this checkpoint in the trainer's output folder, or with True from the newest
                complete one there. Those beyond it are moved to `undone-N` beside it.
            on_record: Called with every ledger record, for progress displays; then the guard says nothing itself.
            quiet: Say nothing on standard error; else the first rank tells looks, actions and how it ended.
            report: Write the report when the training ends, also by a crash or a halt.
            raise_on_halt: Let `trainer.train()` raise `guardrail.errors.HaltedByGuard` where the guard halted
                it, its checkpoint on disk. Else see `halted` and `exit_code` of what is returned.
            seam: How to join a trainer of another kind than TRL's.
            changed_recipe: With `resume`, the recipe was changed on purpose; each difference is recorded.

        Raises:
            InputError: versions that are too old, a trainer or a setting of it that cannot be guarded, anchors
                that do not fit, or a checkpoint that no guarded run can go on from: changed since, or of another
                run or recipe.
        """
        check_versions(TRL)
        seam = trl_seam(trainer) if seam is None else seam
        recipe, accelerator = self.recipe, trainer.accelerator
        check_setup(trainer, GuardCallback)
        check_trainer_fits(recipe, trainer, grpo=seam.rollouts is not None)
        check_deepspeed(recipe, trainer)
        check_quantization(recipe, trainer)
        keep_backward_of_4bit(trainer.model)
        form = seam.form(recipe, trainer) if seam.form and recipe.mode == "guard" else None
        ranks = Ranks(accelerator.process_index, accelerator.num_processes, accelerator.device)
        require_anchors(recipe, processes=ranks.size, zero3=under_zero3(trainer))
        folder = Path(run or trainer.args.output_dir)
        quiet = quiet or on_record is not None
        tracking = Tracking(recipe, folder, on_record if quiet else say_records(recipe.language))
        anchors = self.anchors()
        check_rendering(
            recipe,
            [*self.red_line, *self.rehearsal],
            anchors.manifest.profile,
            trainer.processing_class,
            {} if seam.renders is None else seam.renders(trainer),
        )
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint, state = resumed_state(Path(trainer.args.output_dir), resume, folder)
        if checkpoint is not None:
            refuse_longer(state, checkpoint, trainer.args)
        else:
            model = accelerator.unwrap_model(trainer.model)
            check_weights("start_model", Path(str(recipe.start_model)), model)
        vllm = None if seam.vllm is None else seam.vllm(trainer, self)
        start_weights = weights_sha256(Path(str(recipe.start_model)))
        if not resume:
            refuse_taken(folder)
        elif form is not None:
            require_same_form(folder, form)
        header = run_header(
            self,
            trainer,
            anchors.manifest,
            start_weights,
            seam.packages,
            form=form,
            vllm=vllm,
        )
        changes = []
        if resume:
            allowed = changed_recipe or changed_recipe_allowed(os.environ)
            changes = recipe_changes(folder, checkpoint, header, allowed=allowed)
        injection = None
        if recipe.mode == "guard":  # what is refused is refused before the run's ledger begins
            injection = inject(self, trainer, seam, form, anchors, state, ranks)
        # Nobody may see a ledger that another rank began before it has looked.
        accelerator.wait_for_everyone()
        ledger = Ledger(folder, tracking.on_record, writes=ranks.writes)
        if resume:
            rewind(ledger, checkpoint, writes=ranks.writes)
        else:
            ledger.append("started", 0, **header)
        if changes:
            step = 0 if checkpoint is None else checkpoint_step(checkpoint)
            ledger.append("recipe_changed", step, changes=changes, header=changed_header(header))
        raises_beta = recipe.mode == "guard" and recipe.ladder.beta == "raise"
        guard = Guard(
            recipe,
            folder,
            ledger,
            anchors,
            self.red_line,
            draw_choices(
                map(Path, recipe.sets.benchmarks), recipe.looks.benchmark_questions, seed=0
            ),
            state,
            ranks,
            beta=float(trainer.beta) if raises_beta else None,
            start_weights=start_weights,
        )
        if any(change["key"] == "probes.files" for change in changes):
            guard.judge_against(baseline_of_now(guard))
        callback = seam.callback(
            guard, trainer, trainer.processing_class, injection, resume_from=checkpoint, vllm=vllm
        )
        trainer.add_callback(callback)
        if ranks.writes:
            tracking.begin(trainer, ledger)
        callback.tracking = tracking
        guard_training(
            trainer,
            callback,
            quiet=quiet,
            report=report,
            raise_on_halt=raise_on_halt,
            go_on=seam.go_on,
        )
        return callback
