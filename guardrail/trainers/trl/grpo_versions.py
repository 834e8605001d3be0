"""What the GRPO seam needs of TRL's GRPOTrainer, by version; which versions are let in, checks/versions.py says."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter
from typing import Any

import datasets
from packaging.version import Version
from transformers import PreTrainedTokenizerBase

from guardrail.errors import InputError
from guardrail.trainers.checks.versions import check_versions, named
from guardrail.trainers.grpo.choice import NoLiteral
from guardrail.trainers.trl.grpo_mixing import MixedPrompts

__all__ = ["SEAMS", "Rule", "Seams", "check_arguments", "find_seams", "seams_here"]

ROUTER_LOSS = "aux_loss_enabled"


@dataclass(frozen=True, slots=True)
class Rule:
    """A setting of the trainer: where it is read, what is allowed, and why."""

    path: str
    allowed: Callable[[Any], bool]
    demand: str


@dataclass(frozen=True, slots=True)
class Seams:
    """What one version of TRL offers and how it counts."""

    first: str
    beyond: str
    methods: Mapping[str, str]
    """Method → its parameters."""
    rules: tuple[Rule, ...]
    batch_wide: frozenset[str]
    """Arguments of reward functions that are not lists with one entry a row."""
    unscored_is_zero: bool
    """Reward metrics count a row without any reward as 0 instead of leaving it out."""
    counts_masked: bool
    """DAPO's denominator counts truncated completions that are masked out of the loss."""


def _off(value: Any) -> bool:
    return not value


_METHODS = {
    "_get_train_sampler": "dataset",
    "_generate_and_score_completions": "inputs",
    "_calculate_rewards": "inputs prompts completions completion_ids_list",
    "_compute_loss": "model inputs",
}
_ATTRIBUTES = (
    "_metrics",
    "accelerator",
    "chat_template_kwargs",
    "num_generations",
    "ref_model",
    "reward_funcs",
)
_LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo")
_RULES = (
    Rule(
        "scale_rewards",
        lambda v: v in ("group", "none"),
        "`group` or `none` (a deviation over the batch counts KL-only rows)",
    ),
    Rule(
        "multi_objective_aggregation",
        lambda v: v == "sum_then_normalize",
        "`sum_then_normalize` (the other normalises over a batch that holds KL-only rows)",
    ),
    Rule(
        "train_dataset",
        lambda v: isinstance(v, datasets.Dataset),
        "a datasets.Dataset; do not stream it",
    ),
    Rule(
        "processing_class",
        lambda v: isinstance(v, PreTrainedTokenizerBase),
        "a tokenizer; KL-only prompts are text",
    ),
    Rule("rollout_func", lambda v: v is None, "None (it would be handed KL-only prompts)"),
    Rule("tools", _off, "empty (general prompts must not call tools)"),
    Rule("args.sync_ref_model", _off, "False (a reference that follows the policy keeps nothing)"),
    Rule("args.remove_unused_columns", _off, "False (the mark of KL-only rows is a column)"),
)

SEAMS = (
    Seams(
        first="0.29",
        beyond="0.30",
        methods=_METHODS
        | {
            "_get_per_token_logps_and_entropies": "model input_ids attention_mask logits_to_keep "
            "batch_size compute_entropy pixel_values image_grid_thw num_images "
            "pixel_attention_mask image_sizes token_type_ids mm_token_type_ids",
        },
        rules=(
            *_RULES,
            Rule("loss_type", lambda v: v in _LOSS_TYPES, f"one of {', '.join(_LOSS_TYPES)}"),
            Rule("environments", lambda v: v is None, "None; do not give an environment_factory"),
            Rule("use_liger_kernel", _off, "False (its loss bypasses _compute_loss)"),
        ),
        batch_wide=frozenset({"trainer_state"}),
        unscored_is_zero=True,
        counts_masked=True,
    ),
    Seams(
        first="1.16",
        beyond="1.17",
        methods=_METHODS
        | {
            "_get_per_token_logps_and_entropies": "model input_ids attention_mask logits_to_keep "
            "batch_size compute_entropy compute_aux_loss pixel_values image_grid_thw num_images "
            "pixel_attention_mask spatial_shapes num_tiles image_sizes token_type_ids "
            "mm_token_type_ids image_position_ids",
        },
        rules=(
            *_RULES,
            Rule(
                "loss_type",
                lambda v: v in (*_LOSS_TYPES, "vespo"),
                f"one of {', '.join(_LOSS_TYPES)}, vespo",
            ),
            Rule(
                "environment_factories",
                lambda v: v is None,
                "None; do not give an environment_factory",
            ),
            Rule(
                ROUTER_LOSS,
                _off,
                "False (the router loss would act on KL-only rows); set router_aux_loss_coef=0.0",
            ),
        ),
        batch_wide=frozenset({"trainer_state", "log_extra", "log_metric"}),
        unscored_is_zero=False,
        counts_masked=False,
    ),
)


def seams_here() -> Seams:
    """Return what the installed version of TRL offers.

    Raises:
        InputError: a version that is not supported.
    """
    check_versions(_TRIED)
    found = Version(version("trl"))
    # A version nobody tried is held to what the one before it had, or else the oldest.
    return next((s for s in reversed(SEAMS) if Version(s.first) <= found), SEAMS[0])


_TRIED = [{"trl": (s.first, s.beyond)} for s in SEAMS]


def _refused(name: str, message: str) -> NoLiteral:
    """One setting is in the way; the router loss has a sentence of its own."""
    router = name == ROUTER_LOSS
    why = "the MoE router loss would act on general prompts among the rollouts"
    return NoLiteral(
        message,
        reason="router_loss" if router else "setting",
        why=why
        if router
        else f"`{name}` of this trainer lets no general prompts among the rollouts",
        setting=name,
    )


def _check_rule(rule: Rule, value: Any) -> None:
    if not rule.allowed(value):
        name = rule.path.removeprefix("args.")
        raise _refused(
            name, f"KL-only prompts need `{name}` to be {rule.demand}; got {repr(value)[:80]}"
        )


def check_arguments(arguments: Mapping[str, Any], *, router_loss: bool) -> None:
    """Hold a recipe's arguments to the rules of a trainer that is not built yet.

    Raises:
        NoLiteral: a setting under which a KL-only row would be more than its KL.
    """
    known: dict[str, Any] = {**arguments, ROUTER_LOSS: router_loss}
    if isinstance(scaled := known.get("scale_rewards"), bool):
        known["scale_rewards"] = "group" if scaled else "none"
    for rule in seams_here().rules:
        if (name := rule.path.removeprefix("args.")) in known:
            _check_rule(rule, known[name])


def find_seams(trainer: Any) -> Seams:
    """Return what this trainer's version offers, after checking that the trainer has it.

    Raises:
        InputError: another trainer, one that has KL-only rows already, a version that is not supported, or a
            method that is absent or takes other parameters.
        NoLiteral: a setting under which a KL-only row would be more than its KL.
    """
    from trl import GRPOTrainer  # loads slowly; whoever trains with SFT does without
    from trl.trainer.utils import RepeatSampler

    if not isinstance(trainer, GRPOTrainer):
        raise InputError(
            f"KL-only prompts go into a trl.GRPOTrainer, got {type(trainer).__name__}; "
            "attach to a GRPOTrainer"
        )
    seams, supported = seams_here(), named(_TRIED)
    if isinstance(getattr(trainer, "train_dataset", None), MixedPrompts):
        raise InputError("`train_dataset` holds KL-only prompts already; attach to a trainer once")
    for rule in seams.rules:
        name = rule.path.removeprefix("args.")
        try:
            value = attrgetter(rule.path)(trainer)
        except AttributeError as error:
            raise InputError(f"the trainer has no `{name}`; supported is {supported}") from error
        _check_rule(rule, value)
    for name in (*_ATTRIBUTES, *seams.methods):
        if not hasattr(trainer, name):
            raise InputError(f"the trainer has no `{name}`; supported is {supported}")
    for name, expected in seams.methods.items():
        parameters = " ".join(inspect.signature(getattr(trainer, name)).parameters)
        if parameters != expected:
            raise InputError(
                f"`{name}` of {type(trainer).__name__} takes `{parameters}`, expected `{expected}`; "
                f"supported is {supported}, not overridden with other parameters"
            )
    sampler = trainer._get_train_sampler()
    if not isinstance(sampler, RepeatSampler):
        raise _refused(
            "_get_train_sampler",
            f"`_get_train_sampler` of {type(trainer).__name__} returns a {type(sampler).__name__}, expected "
            "TRL's RepeatSampler; do not override it",
        )
    pictures = sorted({"image", "images"} & set(trainer.train_dataset.column_names))
    if pictures:
        raise _refused(
            pictures[0],
            f"KL-only prompts are text, train_dataset has the column `{pictures[0]}`; drop it",
        )
    return seams
