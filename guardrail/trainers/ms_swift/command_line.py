"""What the guard needs of ms-swift and refuses of a command line: checked once, by name, before a run.

Hooks: none; `KINDS` lists every method and function of ms-swift that the other files here use, public and private.
"""

import logging
from collections.abc import Sized
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.models.fingerprint import weights_sha256
from guardrail.recipe import Recipe
from guardrail.sets.lint.contamination import check_contamination
from guardrail.trainers.checks.allowed_trainers import check_kind_of_trainer
from guardrail.trainers.checks.versions import MS_SWIFT, check_versions, named
from guardrail.trainers.grpo.choice import Form, NoLiteral, choose_form
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.kl_only.references import adapter_fault

__all__ = [
    "another_model",
    "check_order",
    "check_run",
    "check_swift_options",
    "check_training_data",
    "find_kind",
    "swift_form",
    "swift_name",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of trainer: its class in ms-swift, and the methods and functions used of it."""

    trainer: tuple[str, str]
    methods: tuple[str, ...]
    functions: tuple[tuple[str, str], ...] = ()


KINDS = {
    "sft": Kind(("swift.trainers", "Seq2SeqTrainer"), ("compute_loss", "_save_checkpoint")),
    "grpo": Kind(
        ("swift.rlhf_trainers", "GRPOTrainer"),
        (
            "compute_loss",
            "_save_checkpoint",
            "_generate_completions",
            "_get_per_token_logps_and_entropies",
            "_template_context",
            "null_ref_context",
            "to_samples",
        ),
        (
            ("swift.rlhf_trainers.utils", "collate_to_grpo_micro_batch"),
            ("swift.rlhf_trainers.utils", "encode_sample"),
            ("swift.trainers", "disable_gradient_checkpointing"),
        ),
    ),
}


MUST_BE_OFF = {
    "resume_only_model": "the guard's cut of the learning rate would be lost",
    "use_flash_ckpt": "it saves behind the guard's back",
    "load_best_model_at_end": "the guard keeps its last ok checkpoint in the place of the best one",
}
"""Option of every run → why a guarded one must leave it off."""

MUST_BE_OFF_IN_GRPO = {
    "kl_in_reward": "it takes the KL out of the loss, where the guard raises it",
    "dynamic_sample": "it draws prompts the guard cannot count",
    "use_liger_kernel": "its GRPO loss keeps the beta it began with",
    "async_generate": "its rollouts answer the prompts of the step before",
    "multi_turn_scheduler": "general prompts have a single turn",
    "use_gym_env": "general prompts have no environment",
    "sync_ref_model": "a reference that follows the policy keeps nothing",
}
"""Option → why general prompts cannot stand among the rollouts; golds beside the loss can."""


def _unsupported(what: str) -> InputError:
    return InputError(f"{what} in ms-swift {version('ms-swift')}; supported is {named(MS_SWIFT)}")


def swift_name(module: str, name: str) -> Any:
    """Return a name of ms-swift's, which is no dependency of this package.

    Raises:
        InputError: this ms-swift has no such name.
    """
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _unsupported(f"`{module}.{name}` is absent") from error


def find_kind(trainer: Any) -> str:
    """Return `sft` or `grpo`, after checking that this ms-swift has every seam the guard needs.

    Raises:
        InputError: another trainer, a version that is not supported, or a name that is absent.
    """
    check_versions(MS_SWIFT)
    classes = {name: swift_name(*kind.trainer) for name, kind in KINDS.items()}
    check_kind_of_trainer(trainer, "swift")
    found = [name for name, trainer_class in classes.items() if isinstance(trainer, trainer_class)]
    kind = KINDS[found[0]]
    for name in kind.methods:
        if not callable(getattr(trainer, name, None)):
            raise _unsupported(f"method `{type(trainer).__name__}.{name}` is absent")
    for function in kind.functions:
        swift_name(*function)
    return found[0]


def check_run(trainer: Any, kind: str, guarded: GuardedRecipe) -> None:
    """Check options, models and data of a run against its recipe.

    Raises:
        InputError: an option that cannot be guarded, another model than the recipe's, or training data with judged items or benchmark questions.
    """
    recipe, arguments = guarded.recipe, trainer.args
    check_swift_options(recipe, arguments, trainer.template.sequence_parallel_size)
    if trainer.template.model_meta.is_multimodal:
        raise InputError(
            f"`{trainer.template.model_meta.model_type}` takes pictures or sound, and the guard is proven on text "
            "alone; train a text model, or leave `--callbacks guardrail` away"
        )
    check_order(recipe, arguments)
    _check_checkpointing(trainer)
    _check_start_model(trainer.model, recipe, resumed=bool(arguments.resume_from_checkpoint))
    if kind == "grpo" and recipe.mode == "guard":
        swift_form(recipe, trainer)  # refused by name before anchors are made
    check_training_data(guarded, trainer.train_dataset)


def check_swift_options(recipe: Recipe, arguments: Any, sequence_parallel: int) -> None:
    """Refuse options that no guarded run may have, from the flags alone.

    Args:
        recipe: The guard's.
        arguments: Of ms-swift's own class, or a trainer's.
        sequence_parallel: Ranks that a sequence is cut over.

    Raises:
        InputError: there is one.
    """
    for option, why in MUST_BE_OFF.items():
        if _given(arguments, option):
            raise InputError(_not_guarded(arguments, option, why))
    if sequence_parallel > 1:
        raise InputError(
            "`--sequence_parallel_size` above 1 cannot be guarded: looks and KL-only samples are not cut "
            "over ranks; leave it away"
        )
    asked = recipe.rehearsal.grpo in ("literal", "both") and "rlhf_type" in recipe.train.arguments
    if recipe.mode == "guard" and asked:  # where nobody asked for it, golds stand in
        for option, why in MUST_BE_OFF_IN_GRPO.items():
            if getattr(arguments, option, False):
                raise InputError(_not_guarded(arguments, option, why))


def check_order(recipe: Recipe, arguments: Any) -> None:
    """Refuse a command line that would shuffle rows whose order the recipe asks for.

    Raises:
        InputError: it does.
    """
    if recipe.train.order == "curriculum" and arguments.train_dataloader_shuffle:
        raise InputError(
            "the recipe says `train.order: curriculum`, and the command line shuffles the rows; add `--dataset_shuffle false "
            "--train_dataloader_shuffle false`, or remove the key"
        )


def _check_checkpointing(trainer: Any) -> None:
    """Under DeepSpeed ms-swift checkpoints activations reentrantly unless told otherwise (`_fix_gradient_checkpointing`)."""
    arguments = trainer.args
    told = (arguments.gradient_checkpointing_kwargs or {}).get("use_reentrant")
    if trainer.is_deepspeed_enabled and arguments.gradient_checkpointing and told is not False:
        raise InputError(
            "gradient checkpointing with `use_reentrant`, ms-swift's default under DeepSpeed, does not go with it here: "
            "DeepSpeed takes each gradient once a step, and KL-only samples have a forward of their own; set "
            """`--gradient_checkpointing_kwargs '{"use_reentrant": false}'`, or for LoRA under ZeRO-3 """
            "`--gradient_checkpointing false`"
        )


def _given(arguments: Any, option: str) -> bool:
    if not hasattr(arguments, option):
        raise _unsupported(f"option `--{option}` is absent")
    return bool(getattr(arguments, option))


def _not_guarded(arguments: Any, option: str, why: str) -> str:
    return f"`--{option} {getattr(arguments, option)}` cannot be guarded: {why}; leave it away"


def swift_form(recipe: Recipe, trainer: Any) -> Form:
    """Return the form of KL-only samples for ms-swift's GRPOTrainer.

    An MoE router loss keeps nothing out: ms-swift's GRPO adds none, and general prompts get their own forward.

    Raises:
        NoLiteral: the recipe names a form that this command line cannot have.
    """
    arguments = trainer.args

    def check_settings() -> None:
        if trainer.ref_adapter_name is not None:
            raise NoLiteral(
                "`--ref_adapters` cannot be guarded: its weights cannot be compared with the recipe's "
                "`kl_reference`; merge the adapter and name the merged folder in both",
                reason="setting",
                why="`--ref_adapters` cannot be compared with the recipe's `kl_reference`",
                setting="--ref_adapters",
            )
        for option, why in MUST_BE_OFF_IN_GRPO.items():
            if _given(arguments, option):
                raise NoLiteral(
                    _not_guarded(arguments, option, why),
                    reason="setting",
                    why=f"`--{option}` lets no general prompts among the rollouts",
                    setting=f"--{option}",
                )

    model = trainer.accelerator.unwrap_model(trainer.model)
    fault = adapter_fault(recipe, model)
    full = trainer.ref_model is not None
    return choose_form(
        recipe,
        beta=arguments.beta,
        own_fault=another_model("kl_reference", recipe, "--ref_model", trainer.ref_model.model_dir)
        if full
        else fault,
        adapter_fault=fault,
        adapter=hasattr(model, "peft_config"),
        check_settings=check_settings,
    )


def another_model(key: str, recipe: Recipe, option: str, folder: str) -> str | None:
    """Say how the loaded model is not the recipe's; None for the same folder, or the same weights."""
    loaded, wanted = Path(folder), Path(str(getattr(recipe, key)))
    if loaded.resolve() == wanted.resolve() or weights_sha256(loaded) == weights_sha256(wanted):
        return None
    return f"the recipe's `{key}` is `{wanted}`, `{option}` is `{loaded}`, and their weights differ"


def _check_start_model(model: Any, recipe: Recipe, *, resumed: bool) -> None:
    differs = another_model("start_model", recipe, "--model", model.model_dir)
    if differs:
        raise InputError(
            f"recipe and command line disagree: {differs}. Name the same model in both"
        )
    if resumed:
        return  # the adapter is the checkpoint's, whose run was checked when it began
    config = getattr(model, "peft_config", {}).get("default")
    starts_at_zero = getattr(config, "init_lora_weights", None) in (True, "gaussian")
    if starts_at_zero and any(bool(p.any()) for n, p in model.named_parameters() if "lora_B" in n):
        raise InputError(
            f"`--adapters` starts from another model than the recipe's `start_model`, "
            f"`{recipe.start_model}`. Merge the adapter (`swift export --merge_lora true`) and name the "
            "merged folder in both"
        )


def check_training_data(guarded: GuardedRecipe, dataset: Any) -> None:
    """Refuse rows of ms-swift in which something judged stands; what is streamed or tokenised is let in with a warning.

    Raises:
        InputError: as `check_contamination`.
    """
    while not hasattr(dataset, "column_names") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset  # ms-swift wraps the rows, to tokenise and pack them late
    if not isinstance(dataset, Sized) or "messages" not in getattr(dataset, "column_names", ()):
        logger.warning("streamed or tokenised training data are not compared with judged items")
        return
    rows = ({"messages": messages} for messages in dataset["messages"])  # type: ignore[index]
    check_contamination(
        rows,
        guarded.red_line,
        guarded.recipe.sets.benchmarks,
        allowed=guarded.recipe.train.allow_overlap,
        source="`--dataset`",
    )
