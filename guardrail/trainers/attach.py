"""Attach a guard to a trainer: `Guardrail.from_recipe(path).attach(trainer)`."""

import json
from collections import Counter
from collections.abc import Callable, Sized
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from peft import PeftModel
from typing_extensions import Self

from guardrail import __version__
from guardrail.anchors.fingerprint import (
    adapter_base,
    file_sha256,
    model_fingerprint,
    weights_sha256,
)
from guardrail.anchors.make import make_anchors
from guardrail.anchors.store import (
    Anchors,
    Manifest,
    manifest_difference,
    read_anchors,
    require_answers,
)
from guardrail.engines.choices import draw_choices
from guardrail.engines.in_process import InProcessEngine, encode_prompts, load_model
from guardrail.errors import InputError
from guardrail.kl.term import rehearsal_samples
from guardrail.ledger import FILE_NAME, Ledger, Record
from guardrail.recipe import Recipe, read_recipe, with_model_folders
from guardrail.sets.items import Item, items_sha256, read_items
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.deepspeed import check_deepspeed, under_zero3
from guardrail.trainers.grpo_forms import BothForms, attach_golds
from guardrail.trainers.guard import Guard
from guardrail.trainers.injection import Injection, KlOnly, Reference
from guardrail.trainers.ranks import Ranks
from guardrail.trainers.references import adapter_off, frozen_copy
from guardrail.trainers.resume import resumed_checkpoint, set_aside_later
from guardrail.trainers.state import GuardState, Seen, read_state
from guardrail.trainers.trl_grpo import GrpoKlOnly, attach_kl_only
from guardrail.trainers.trl_sft import attach_kl
from guardrail.trainers.versions import TRL, check_versions
from guardrail.watch.tracking import Tracking

AnInjection = TypeVar("AnInjection", bound=Injection)

__all__ = ["Guardrail", "Seam", "anchors_standing", "require_anchors", "wanted_manifest"]


def wanted_manifest(recipe: Recipe, red_line: list[Item], rehearsal: list[Item]) -> Manifest:
    """Return the manifest the recipe's anchors must carry."""
    config = json.loads((Path(recipe.gold_base) / "config.json").read_text(encoding="utf-8"))
    return Manifest(
        gold_base=model_fingerprint(recipe.gold_base),
        kl_reference=model_fingerprint(str(recipe.kl_reference)),
        red_line=items_sha256(red_line),
        rehearsal=items_sha256(rehearsal),
        thinking=recipe.thinking,
        decoding=recipe.looks.decoding,
        replicates=recipe.replicates,
        seed=0,
        top_k=recipe.rehearsal.top_k,
        batch_size=recipe.looks.batch_size,
        engine="in-process",
        dtype=str(config.get("dtype", config.get("torch_dtype", "float32"))),
        versions={name: version(name) for name in ("torch", "transformers")},
    )


def anchors_standing(guardrail: "Guardrail") -> str:
    """Return whether the recipe's anchors are `absent` or `present`.

    Raises:
        InputError: they are there but were made by something else.
    """
    folder = Path(str(guardrail.recipe.anchors))
    if not (folder / "manifest.json").is_file():
        return f"absent, will be made in {folder}"
    guardrail.check_anchors(guardrail.stored_anchors())
    return f"present in {folder}"


def require_anchors(recipe: Recipe, *, processes: int, zero3: bool = False) -> None:
    """Refuse a run that would have to make its anchors where that cannot be done.

    Raises:
        InputError: the anchors are absent, and there are several processes or ZeRO-3.
    """
    unfit = f"{processes} processes cannot make them together" if processes > 1 else ""
    if zero3:
        unfit = "they cannot be made under ZeRO-3, which loads every model in pieces"
    if unfit and not (Path(str(recipe.anchors)) / "manifest.json").is_file():
        raise InputError(
            f"anchors `{recipe.anchors}` are absent, and {unfit}; run `guardrail anchor RECIPE` before "
            "the launch"
        )


def _is_grpo(trainer: Any) -> bool:
    from trl import GRPOTrainer  # loads slowly; whoever trains with SFT does without

    return isinstance(trainer, GRPOTrainer)


def _own_vllm(trainer: Any) -> Any:
    return trainer.vllm_generation if trainer.use_vllm else None


@dataclass(frozen=True, slots=True)
class Seam:
    """How the guard joins one kind of trainer; the defaults are those of TRL's SFTTrainer."""

    join: Callable[[Any, Injection], None] = attach_kl
    """Given trainer and injection: lets the trainer's loss carry the injection's term."""
    rollouts: "Callable[[Guardrail, Any, Anchors, GuardState, Ranks], KlOnly] | None" = None
    """GRPO's alone: puts KL-only prompts into the trainer's rollouts."""
    vllm: Callable[[Any], Any] | None = None
    """GRPO's alone: the vLLM that writes the trainer's rollouts, `None` where the model itself does."""
    callback: type[GuardCallback] = GuardCallback
    packages: tuple[str, ...] = ()
    """What drives the run besides TRL; the run's header tells their versions too."""


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
        gold = self._engine(self.recipe.gold_base)
        same = wanted.kl_reference == wanted.gold_base
        reference = gold if same else self._engine(str(self.recipe.kl_reference))
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

    def check_anchors(self, anchors: Anchors) -> None:
        """Raise an InputError that names every difference if the anchors are another base's."""
        wanted = wanted_manifest(self.recipe, self.red_line, self.rehearsal)
        differences = manifest_difference(anchors.manifest, wanted)
        if differences:
            raise InputError(
                f"anchors `{self.recipe.anchors}` do not fit the recipe: {'; '.join(differences)}. Run "
                "`guardrail anchor RECIPE --rebuild`, or give the recipe another `anchors` folder"
            )

    def _engine(self, folder: str) -> InProcessEngine:
        model, tokenizer = load_model(folder)
        return InProcessEngine(
            model,
            tokenizer,
            self.recipe.looks.decoding,
            self.recipe.thinking,
            self.recipe.looks.batch_size,
        )

    def attach(
        self,
        trainer: Any,
        *,
        run: str | Path | None = None,
        resume: bool | str | Path = False,
        on_record: Callable[[Record], None] | None = None,
        seam: Seam | None = None,
    ) -> GuardCallback:
        """Guard a TRL `SFTTrainer` or `GRPOTrainer`; call before `trainer.train()`.

        Args:
            trainer: The trainer, with its model on the start weights.
            run: Folder of ledger, looks and report; by default the trainer's output folder.
            resume: Go on from this checkpoint in the trainer's output folder, or with True from the newest
                complete one there. Those beyond it are moved to `undone-N` beside it.
            on_record: Called with every ledger record, for progress displays.
            seam: How to join a trainer of another kind than TRL's.

        Raises:
            InputError: unsupported versions, anchors that do not fit, a trainer of another kind, a setting
                of DeepSpeed's that cannot be guarded, or a checkpoint that no guarded run can go on from.
        """
        check_versions(TRL)
        if seam is None:
            grpo = Seam(attach_golds, _mix_into_rollouts, _own_vllm)
            seam = grpo if _is_grpo(trainer) else Seam()
        recipe = self.recipe
        _check_kind(recipe, trainer, grpo=seam.rollouts is not None)
        check_deepspeed(recipe, trainer)
        accelerator = trainer.accelerator
        ranks = Ranks(accelerator.process_index, accelerator.num_processes)
        require_anchors(recipe, processes=ranks.size, zero3=under_zero3(trainer))
        folder = Path(run or trainer.args.output_dir)
        tracking = Tracking(recipe, folder, on_record)
        anchors = self.anchors()
        tokenizer = trainer.processing_class
        folder.mkdir(parents=True, exist_ok=True)
        state = GuardState()
        checkpoint = resumed_checkpoint(Path(trainer.args.output_dir), resume)
        if checkpoint is not None:
            state = read_state(checkpoint)
        if (folder / FILE_NAME).is_file() and not resume:
            raise InputError(
                f"run folder `{folder}` already holds a run; attach with `resume=True` to go on, or give "
                "another `run` folder"
            )
        start_weights = weights_sha256(Path(str(recipe.start_model)))
        header = self._header(trainer, seam, anchors.manifest, start_weights)
        vllm = None if seam.vllm is None else seam.vllm(trainer)
        header["engine"] = "in-process" if vllm is None else "the trainer's vLLM"
        injection: KlOnly | None = None
        if recipe.mode == "guard":  # what is refused is refused before the run's ledger begins
            injection = self._inject(trainer, seam, anchors, state, ranks)
        # Nobody may see a ledger that another rank began before it has looked.
        trainer.accelerator.wait_for_everyone()
        ledger = Ledger(folder, tracking.on_record, writes=ranks.writes)
        if resume:
            _rewind(ledger, checkpoint, writes=ranks.writes)
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
        return callback

    def _header(
        self, trainer: Any, seam: Seam, manifest: Manifest, start_weights: str
    ) -> dict[str, Any]:
        """What the ledger says of a run when it starts."""
        recipe, rows = self.recipe, trainer.train_dataset
        data = Path(recipe.train.data or "")
        return {
            "name": recipe.name,
            "mode": recipe.mode,
            "seed": recipe.seed,
            "recipe": recipe.model_dump(mode="json"),
            "trainer": type(trainer).__name__,
            "processes": trainer.accelerator.num_processes,
            "device": trainer.accelerator.device.type,
            "weights": {
                "gold_base": manifest.gold_base["weights"],
                "kl_reference": manifest.kl_reference["weights"],
                "start_model": start_weights,
            },
            "training_sha256": file_sha256(data) if data.is_file() else None,
            "training_rows": len(rows) if isinstance(rows, Sized) else None,
            "red_line_items": len(self.red_line),
            "red_line_sha256": items_sha256(self.red_line),
            "red_line_sources": dict(Counter(i.source for i in self.red_line).most_common()),
            "rehearsal_items": len(self.rehearsal),
            "rehearsal_sources": dict(Counter(i.source for i in self.rehearsal).most_common()),
            "rehearsal_sha256": items_sha256(self.rehearsal),
            "versions": {"redline-guardrail": __version__}
            | {name: version(name) for name in ("torch", "transformers", "trl", *seam.packages)},
        }

    def _inject(
        self, trainer: Any, seam: Seam, anchors: Anchors, state: GuardState, ranks: Ranks
    ) -> KlOnly:
        """Put KL-only samples into the training, in the form the recipe names."""
        form = "anchored" if seam.rollouts is None else self.recipe.rehearsal.grpo or "literal"
        rollouts = None
        if seam.rollouts is not None and form != "anchored":
            rollouts = seam.rollouts(self, trainer, anchors, state, ranks)
            if form == "literal":
                return rollouts
        golds = self.injection(
            trainer,
            anchors,
            state,
            ranks,
            kind=Injection,
            reference=self._reference(trainer, anchors),
            seen=None if rollouts is None else state.golds,
        )
        seam.join(trainer, golds)
        return golds if rollouts is None else BothForms(rollouts, golds)

    def _reference(self, trainer: Any, anchors: Anchors) -> Reference | None:
        """The model the KL is taken against, `None` for the stored log-probabilities.

        Raises:
            InputError: `adapter off`, and there is no adapter or the model below it is not the reference.
        """
        kind, pad_id = self.recipe.rehearsal.reference, trainer.processing_class.pad_token_id
        if kind == "stored":
            return None
        if kind == "frozen":
            model, _ = load_model(str(self.recipe.kl_reference))
            dtype = next(trainer.model.parameters()).dtype
            return frozen_copy(model.to(dtype), pad_id)
        if not isinstance(trainer.accelerator.unwrap_model(trainer.model), PeftModel):
            raise InputError(
                "`rehearsal.reference: adapter off` needs a LoRA run, and this model has no adapter; use "
                "`stored` or `frozen`"
            )
        below = adapter_base(Path(str(self.recipe.start_model)))
        if weights_sha256(below) != anchors.manifest.kl_reference["weights"]:
            raise InputError(
                f"`rehearsal.reference: adapter off`: the model below the adapter ({below}) is not "
                f"the KL reference ({self.recipe.kl_reference}); use `stored` or `frozen`"
            )
        return adapter_off(trainer.accelerator, pad_id)

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
            pad_id=tokenizer.pad_token_id,
            direction=options.direction,
            reference=reference,
            rank=ranks.rank,
            world_size=ranks.size,
            seen=seen,
        )


def _rewind(ledger: Ledger, checkpoint: Path | None, *, writes: bool) -> None:
    """Say in the ledger where the run goes on, the checkpoints of the branch it leaves out of the way."""
    if checkpoint is None:
        ledger.append("rewound", -1, checkpoint=None, set_aside=[])
        return
    aside = set_aside_later(checkpoint) if writes else []
    ledger.append(
        "rewound",
        int(checkpoint.name.split("-")[1]),
        checkpoint=checkpoint.name,
        set_aside=[str(path) for path in aside],
    )


def _check_kind(recipe: Recipe, trainer: Any, *, grpo: bool) -> None:
    """Refuse keys of the recipe that this kind of trainer would not heed.

    Raises:
        InputError: such a key is set.
    """
    rehearsal, name = recipe.rehearsal, type(trainer).__name__
    if not grpo and (rehearsal.grpo is not None or recipe.ladder.beta == "raise"):
        key = "ladder.beta" if rehearsal.grpo is None else "rehearsal.grpo"
        raise InputError(f"`{key}` is for GRPO, and the trainer is a {name}; remove it")
    if not grpo and recipe.trainer == "trl-grpo":
        raise InputError(
            f"the recipe says `trainer: trl-grpo`, and the trainer is a {name}; make them agree"
        )
    if not grpo or recipe.mode == "watch":
        return
    literal_only = rehearsal.grpo in (None, "literal")
    if literal_only and (rehearsal.loss != "kl" or rehearsal.reference != "stored"):
        raise InputError(
            "GRPO's KL-only prompts are pulled to the trainer's own reference: leave `rehearsal.loss` and "
            "`rehearsal.reference` away, or set `rehearsal.grpo: anchored` or `both`"
        )
    if recipe.ladder.beta == "raise" and not (
        trainer.beta > 0 and not trainer.args.use_liger_kernel
    ):
        raise InputError(
            "`ladder.beta: raise` needs a `beta` above 0, and no Liger loss, which keeps the beta it began "
            f"with; got beta {trainer.beta} and use_liger_kernel {trainer.args.use_liger_kernel}"
        )


def _mix_into_rollouts(
    guardrail: Guardrail, trainer: Any, anchors: Anchors, state: GuardState, ranks: Ranks
) -> GrpoKlOnly:
    """KL-only prompts among the rollouts of TRL's GRPOTrainer, against the trainer's own reference.

    Raises:
        InputError: the trainer's reference, which is its start model, is not the KL reference, its
            prompts think where the recipe does not, or a setting of it cannot be guarded.
    """
    recipe, options = guardrail.recipe, guardrail.recipe.rehearsal
    start = weights_sha256(Path(str(recipe.start_model)))
    if start != anchors.manifest.kl_reference["weights"]:
        raise InputError(
            f"GRPO's own KL reference is the start model ({recipe.start_model}), and `kl_reference` is "
            f"another ({recipe.kl_reference}); give `kl_reference` the start model, or set "
            "`rehearsal.grpo: anchored`, which needs no reference model"
        )
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
    )
