"""Attach a guard to a trainer: `Guardrail.from_recipe(path).attach(trainer)`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Self

from guardrail.anchors.make import make_anchors
from guardrail.anchors.store import Anchors, manifest_difference, read_anchors, require_answers
from guardrail.engines.choices import draw_choices
from guardrail.engines.in_process import (
    InProcessEngine,
    encode_prompts,
    load_model,
    on_accelerator,
)
from guardrail.errors import InputError
from guardrail.guard.guard import Guard
from guardrail.guard.look_plan import refuse_longer
from guardrail.guard.ranks import Ranks
from guardrail.guard.resume import resumed_checkpoint, rewind
from guardrail.guard.state import GuardState, Seen, read_state
from guardrail.kl.term import Reference, rehearsal_samples
from guardrail.ledger.file import FILE_NAME, Ledger, Record
from guardrail.models.fingerprint import weights_sha256
from guardrail.models.profile import Profile
from guardrail.recipe import Recipe, read_recipe, with_model_folders
from guardrail.sets.items import Item, read_items
from guardrail.track.tracking import Tracking
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.checks.deepspeed import check_deepspeed, under_zero3
from guardrail.trainers.checks.identity import check_weights
from guardrail.trainers.checks.kinds import check_kind, is_grpo
from guardrail.trainers.checks.precision import check_quantization, keep_backward_of_4bit
from guardrail.trainers.checks.rendering import Render, check_rendering
from guardrail.trainers.checks.supported import check_kind_of_trainer, check_setup
from guardrail.trainers.checks.versions import TRL, check_versions
from guardrail.trainers.checks.wanted_anchors import require_anchors, wanted_manifest
from guardrail.trainers.ending import end_with_the_training, say_record
from guardrail.trainers.grpo.choice import Form, require_same_form
from guardrail.trainers.grpo.forms import BothForms, attach_golds
from guardrail.trainers.header import run_header
from guardrail.trainers.injection import Injection, KlOnly
from guardrail.trainers.references import wanted_reference
from guardrail.trainers.training import guard_training
from guardrail.trainers.trl.grpo import GrpoKlOnly, attach_kl_only
from guardrail.trainers.trl.grpo_form import trainer_form
from guardrail.trainers.trl.sft import attach_kl

AnInjection = TypeVar("AnInjection", bound=Injection)

__all__ = ["Guardrail", "Seam"]


def _own_vllm(trainer: Any) -> Any:
    return trainer.vllm_generation if trainer.use_vllm else None


@dataclass(frozen=True, slots=True)
class Seam:
    """How the guard joins one kind of trainer; the defaults are those of TRL's SFTTrainer."""

    join: Callable[[Any, Injection], None] = attach_kl
    """Given trainer and injection: lets the trainer's loss carry the injection's term."""
    form: Callable[[Recipe, Any], Form] | None = None
    """GRPO's alone: given recipe and trainer, which form of KL-only samples runs, and why."""
    rollouts: "Callable[[Guardrail, Any, Form, GuardState, Ranks, Anchors], KlOnly] | None" = None
    """GRPO's alone: puts KL-only prompts into the trainer's rollouts."""
    vllm: Callable[[Any], Any] | None = None
    """GRPO's alone: the vLLM that writes the trainer's rollouts, `None` where the model itself does."""
    renders: Callable[[Any], dict[str, Render]] | None = None
    """What renders prompts in this trainer besides its tokenizer, by the name a user knows it by."""
    callback: type[GuardCallback] = GuardCallback
    packages: tuple[str, ...] = ()
    """What drives the run besides TRL; the run's header tells their versions too."""
    go_on: str = "attach(trainer, resume=True), then trainer.train(resume_from_checkpoint=callback.resume_from)"
    """How a training that was broken off goes on."""


@dataclass(slots=True)
class Guardrail:
    """A recipe with its sets read and its anchors at hand, ready to be attached to a trainer."""

    recipe: Recipe
    red_line: list[Item]
    rehearsal: list[Item]
    _anchors: Anchors | None = None

    @classmethod
    def from_recipe(cls, recipe: str | Path | Recipe) -> Self:
        """Read a recipe and its sets; models of a hub are downloaded.

        Raises:
            InputError: recipe or sets break a rule, or an item is both judged and injected.
        """
        checked = with_model_folders(recipe if isinstance(recipe, Recipe) else read_recipe(recipe))
        red_line = read_items(checked.sets.red_line)
        rehearsal = read_items(checked.sets.rehearsal)
        judged = {item.question: item.id for item in red_line if not item.rehearsed}
        both = [(judged[i.question], i.id) for i in rehearsal if i.question in judged]
        if both:
            named = ", ".join(f"{a} = {b}" for a, b in both[:5])
            raise InputError(
                f"{len(both)} items are both judged and injected ({named}); take them out of one "
                "set, or mark the red-line items `rehearsed: true`"
            )
        clash = sorted({i.id for i in red_line} & {i.id for i in rehearsal})
        if clash:
            raise InputError(
                f"the two sets share the ids {', '.join(clash[:5])}; ids must be unique across both"
            )
        return cls(checked, red_line, rehearsal)

    def anchors(
        self, *, rebuild: bool = False, on_progress: Callable[[str, int, int], None] | None = None
    ) -> Anchors:
        """Return the recipe's anchors, made now if absent, and read once.

        Raises:
            InputError: anchors are there but were made by something else; every difference is named.
        """
        folder = Path(str(self.recipe.anchors))
        wanted = wanted_manifest(self.recipe, self.red_line, self.rehearsal)
        if rebuild:
            (folder / "manifest.json").unlink(missing_ok=True)
        elif self._anchors is not None:
            return self._anchors
        if (folder / "manifest.json").is_file():
            anchors = self.stored_anchors()
            self.check_anchors(anchors)
            self._anchors = anchors
            return anchors
        gold = self._engine(self.recipe.gold_base, wanted.profile)
        same = wanted.kl_reference == wanted.gold_base
        reference = gold if same else self._engine(str(self.recipe.kl_reference), wanted.profile)
        self._anchors = make_anchors(
            folder, wanted, self.red_line, self.rehearsal, gold, reference, on_progress
        )
        return self._anchors

    def stored_anchors(self) -> Anchors:
        """Return the anchors on disk, whoever made them.

        Raises:
            InputError: they are absent, damaged, or lack an item of the sets.
        """
        folder = Path(str(self.recipe.anchors))
        anchors = read_anchors(folder)
        require_answers(folder, anchors, [i.id for i in (*self.red_line, *self.rehearsal)])
        return anchors

    def anchors_standing(self) -> str:
        """Return whether the recipe's anchors are `absent` or `present`.

        Raises:
            InputError: they are there but were made by something else.
        """
        folder = Path(str(self.recipe.anchors))
        if not (folder / "manifest.json").is_file():
            return f"absent, will be made in {folder}"
        self.check_anchors(self.stored_anchors())
        return f"present in {folder}"

    def check_anchors(self, anchors: Anchors) -> None:
        """Raise an InputError that names every difference if the anchors are another base's."""
        wanted = wanted_manifest(self.recipe, self.red_line, self.rehearsal)
        differences = manifest_difference(anchors.manifest, wanted)
        if differences:
            raise InputError(
                f"anchors `{self.recipe.anchors}` do not fit the recipe: {'; '.join(differences)}. Run "
                "`guardrail anchor RECIPE --rebuild`, or give the recipe another `anchors` folder"
            )

    def _engine(self, folder: str, profile: Profile) -> InProcessEngine:
        model, tokenizer = load_model(folder, quantization=self.recipe.train.quantization)
        looks = self.recipe.looks
        return InProcessEngine(
            on_accelerator(model), tokenizer, looks.decoding, profile, looks.batch_size
        )

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

        Raises:
            InputError: versions that are too old, a trainer or a setting of it that cannot be guarded, anchors
                that do not fit, or a checkpoint that no guarded run can go on from.
        """
        check_versions(TRL)
        if seam is None:
            check_kind_of_trainer(trainer, "trl")
            grpo = Seam(attach_golds, trainer_form, _mix_into_rollouts, _own_vllm)
            seam = grpo if is_grpo(trainer) else Seam()
        recipe = self.recipe
        check_setup(trainer, GuardCallback)
        check_kind(recipe, trainer, grpo=seam.rollouts is not None)
        check_deepspeed(recipe, trainer)
        check_quantization(recipe, trainer)
        keep_backward_of_4bit(trainer.model)
        form = seam.form(recipe, trainer) if seam.form and recipe.mode == "guard" else None
        accelerator = trainer.accelerator
        ranks = Ranks(accelerator.process_index, accelerator.num_processes)
        require_anchors(recipe, processes=ranks.size, zero3=under_zero3(trainer))
        folder = Path(run or trainer.args.output_dir)
        quiet = quiet or on_record is not None
        tracking = Tracking(recipe, folder, on_record if quiet else say_record)
        anchors = self.anchors()
        tokenizer = trainer.processing_class
        check_rendering(
            recipe,
            [*self.red_line, *self.rehearsal],
            anchors.manifest.profile,
            tokenizer,
            {} if seam.renders is None else seam.renders(trainer),
        )
        folder.mkdir(parents=True, exist_ok=True)
        state = GuardState()
        checkpoint = resumed_checkpoint(Path(trainer.args.output_dir), resume)
        if checkpoint is not None:
            state = read_state(checkpoint)
            refuse_longer(state, checkpoint, trainer.args)
        else:
            check_weights(
                "start_model",
                Path(str(recipe.start_model)),
                accelerator.unwrap_model(trainer.model),
            )
        if (folder / FILE_NAME).is_file() and not resume:
            raise InputError(
                f"run folder `{folder}` already holds a run; attach with `resume=True` to go on, or give "
                "another `run` folder"
            )
        start_weights = weights_sha256(Path(str(recipe.start_model)))
        header = run_header(
            recipe,
            self.red_line,
            self.rehearsal,
            trainer,
            anchors.manifest,
            start_weights,
            seam.packages,
        )
        vllm = None if seam.vllm is None else seam.vllm(trainer)
        header["engine"] = "in-process" if vllm is None else "the trainer's vLLM"
        injection: KlOnly | None = None
        if recipe.mode == "guard":  # what is refused is refused before the run's ledger begins
            if form is not None:
                header["rehearsal_form"] = form.record()
                if resume:
                    require_same_form(folder, form)
            injection = self._inject(trainer, seam, form, anchors, state, ranks)
        # Nobody may see a ledger that another rank began before it has looked.
        trainer.accelerator.wait_for_everyone()
        ledger = Ledger(folder, tracking.on_record, writes=ranks.writes)
        if resume:
            rewind(ledger, checkpoint, writes=ranks.writes)
        else:
            ledger.append("started", 0, **header)
        benchmarks = map(Path, recipe.sets.benchmarks)
        choices = draw_choices(benchmarks, recipe.looks.benchmark_questions, seed=0)
        raises_beta = recipe.mode == "guard" and recipe.ladder.beta == "raise"
        guard = Guard(
            recipe,
            folder,
            ledger,
            anchors,
            self.red_line,
            choices,
            state,
            ranks,
            beta=float(trainer.beta) if raises_beta else None,
        )
        callback = seam.callback(
            guard,
            trainer,
            tokenizer,
            injection,
            start_is_gold_base=start_weights == anchors.manifest.gold_base["weights"],
            start_is_kl_reference=start_weights == anchors.manifest.kl_reference["weights"],
            resume_from=checkpoint,
            vllm=vllm,
        )
        trainer.add_callback(callback)
        if ranks.writes:
            tracking.begin(trainer, ledger)
        callback.tracking = tracking
        end_with_the_training(
            trainer,
            callback,
            quiet=quiet,
            report=report,
            raise_on_halt=raise_on_halt,
            go_on=seam.go_on,
        )
        guard_training(trainer, callback)  # around the rest: what it refuses never began
        return callback

    def _inject(
        self,
        trainer: Any,
        seam: Seam,
        form: Form | None,
        anchors: Anchors,
        state: GuardState,
        ranks: Ranks,
    ) -> KlOnly:
        """Put KL-only samples into the training; `form` is GRPO's alone."""
        rollouts = None
        if seam.rollouts is not None and form is not None and form.name != "anchored":
            rollouts = seam.rollouts(self, trainer, form, state, ranks, anchors)
            if form.name == "literal":
                return rollouts
        golds = self.injection(
            trainer,
            anchors,
            state,
            ranks,
            kind=Injection,
            reference=wanted_reference(self.recipe, trainer, anchors.manifest.profile.pad),
            seen=None if rollouts is None else state.golds,
        )
        seam.join(trainer, golds)
        return golds if rollouts is None else BothForms(rollouts, golds)

    def injection(
        self,
        trainer: Any,
        anchors: Anchors,
        state: GuardState,
        ranks: Ranks,
        *,
        kind: type[AnInjection],
        reference: Reference | None = None,
        seen: Seen | None = None,
    ) -> AnInjection:
        """Return the rehearsal samples as an injection of a kind, which is not yet part of the training."""
        tokenizer = trainer.processing_class
        prompts = encode_prompts(
            tokenizer, [item.chat() for item in self.rehearsal], thinking=self.recipe.thinking
        )
        ids = [item.id for item in self.rehearsal]
        golds = {i: anchors.answers[i][0].token_ids for i in ids}
        options = self.recipe.rehearsal
        return kind(
            rehearsal_samples(dict(zip(ids, prompts, strict=True)), golds, anchors.topk),
            state,
            fraction=options.fraction,
            weight=options.weight,
            loss=options.loss,
            seed=self.recipe.seed,
            pad_id=anchors.manifest.profile.pad,
            direction=options.direction,
            reference=reference,
            rank=ranks.rank,
            world_size=ranks.size,
            seen=seen,
        )


def _mix_into_rollouts(
    guardrail: Guardrail,
    trainer: Any,
    form: Form,
    state: GuardState,
    ranks: Ranks,
    anchors: Anchors,
) -> GrpoKlOnly:
    """KL-only prompts among the rollouts of TRL's GRPOTrainer.

    Raises:
        InputError: its prompts think where the recipe does not.
    """
    recipe, options = guardrail.recipe, guardrail.recipe.rehearsal
    if trainer.ref_model is not None:
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        check_weights("kl_reference", Path(str(recipe.kl_reference)), reference)
    thinks = trainer.chat_template_kwargs.get("enable_thinking", True)
    if bool(thinks) != recipe.thinking:
        raise InputError(
            f"the recipe says `thinking: {recipe.thinking}`, and the trainer's prompts have "
            f"enable_thinking {thinks}; set chat_template_kwargs={{'enable_thinking': "
            f"{recipe.thinking}}} in GRPOConfig"
        )
    return attach_kl_only(
        trainer,
        [item.chat() for item in guardrail.rehearsal],
        state,
        fraction=options.fraction,
        weight=options.weight,
        seed=recipe.seed,
        adapter_off=form.adapter_off,
    )
