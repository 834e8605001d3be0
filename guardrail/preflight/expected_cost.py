"""What guarding a recipe will cost, by arithmetic, before a weight is loaded: memory, disk, minutes.

The shapes are the gold base's own (its config.json); how fast a device is, is assumed and said. `guardrail rehearse`
measures it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import SimpleNamespace
from typing import Any

from guardrail.anchors.make import TOP_KS
from guardrail.guard.look_plan import SIDECAR_SAMPLES, affordable_samples, due_looks
from guardrail.recipe import Recipe

__all__ = ["STEP_S", "Training", "expected_cost", "looks_of_a_run", "planned_steps", "rounded"]

STEP_S = 0.030
"""Seconds a decoding step of a batch takes an 8B on one GPU, nearly whatever the batch; smaller models take no less."""
_8B = 8.2e9
_GPU_BYTES = 80e9
"""Of a GPU where none is seen here."""
_BESIDE_BYTES = 10e9
"""Activations and what else a training holds beside weights and their states."""
_PROMPT_TOKENS = 256
"""Of a red-line item, template included."""
_MOST_TOGETHER = 512
"""Answers at a time at most (guardrail/engines/batches.py)."""
_FLOPS = 140e12
"""A second that a GPU does in training: 45 % of what an A100 can."""
_BY_SPEED = (
    *("anchors_minutes", "look_minutes", "looks_minutes"),
    *("step_seconds", "share_of_the_run"),
)
_COLLECTIVE_S = 1800
"""`ddp_timeout` where the trainer's arguments leave it out: what ranks wait for one another at most."""


@dataclass(frozen=True, slots=True)
class Training:
    """What the trainer's arguments and the first rows say of a run's steps."""

    arguments: Any
    """Read by the trainer's own class."""
    row_tokens: float
    """Of a row on average; of GRPO's prompts."""
    steps: int | None
    """Of the run, None where they are not known."""
    lora: bool
    grpo: bool

    def step_s(self, active: float, decoding_step_s: float) -> float:
        """Return the seconds of an optimizer step by arithmetic.

        6 operations a token and parameter (LoRA 4), 2 more with checkpointing of activations; before them GRPO's
        completions, each as long as it may be.

        Args:
            active: Parameters a token goes through.
            decoding_step_s: Seconds of a decoding step of a batch.
        """
        given = self.arguments
        a_token = (4 if self.lora else 6) + 2 * bool(given.gradient_checkpointing)
        rows = given.per_device_train_batch_size * given.gradient_accumulation_steps
        longest = given.max_completion_length if self.grpo else 0
        learning = rows * (self.row_tokens + longest) * a_token * active / _FLOPS
        return float(learning + longest * decoding_step_s)


def planned_steps(arguments: Mapping[str, Any], steps_an_epoch: float) -> int:
    """Return the optimizer steps of a run of these trainer arguments."""
    most = int(arguments.get("max_steps", -1))
    return most if most > 0 else ceil(float(arguments.get("num_train_epochs", 3)) * steps_an_epoch)


def expected_cost(
    recipe: Recipe, red_line: int, rehearsal: int, training: Training | None = None
) -> dict[str, Any]:
    """Return what guarding will cost at most: every answer is taken to be as long as it may be.

    Args:
        recipe: With model folders on this machine.
        red_line: Items judged.
        rehearsal: Items injected.
        training: What its steps are; None where nothing is known of them.

    Returns:
        `parameters`; `weights_gb`, one copy in 16 bits; `kl_only_gb`, what logits and probabilities of one KL-only sample
        take beside the weights; `store_gb`, the anchors' log-probabilities on disk; `anchors_minutes` and `look_minutes`, under
        `assumed`; `answers_an_item` of a look; `step_seconds` and `share_of_the_run` that looks take, where rows are known;
        `optimizer_steps`, `looks` and `looks_minutes` where steps are; `looks_taken_by` where that is a sidecar; `warnings`, sentences.
        No seconds, minutes or share where the recipe trains on processors (`use_cpu`).
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(recipe.gold_base, local_files_only=True)
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    ranks = recipe.launch.processes * recipe.launch.nodes
    looks, decoding = recipe.looks, recipe.looks.decoding
    active, longest = _active(config, parameters), decoding.max_new_tokens
    lora = recipe.train.lora is not None if training is None else training.lora
    together = looks.batch_size or _together(config, parameters, longest, ranks, lora=lora)
    step_s = STEP_S * max(1.0, active / _8B)
    rounds = 1 + (recipe.replicates if decoding.mode == "sampled" else 0)

    def minutes(answers: int) -> float:
        return ceil(answers / together) * longest * step_s / 60

    beside = looks.engine == "sidecar"
    once = minutes(ceil(red_line / (1 if beside else ranks)))
    arguments = {
        "save_steps": looks.every_steps
    } | recipe.train.arguments  # as `guardrail run` has it
    steps = None if training is None else training.steps
    planned = None if steps is None else looks_of_a_run(recipe, arguments, steps)
    trained_s = None if training is None else training.step_s(active, step_s)
    samples = looks.samples or 1
    if looks.samples is None and decoding.mode == "sampled":
        if beside:
            samples = SIDECAR_SAMPLES
        elif steps and trained_s and planned:
            ahead, first = planned - 1 + looks.reserve, once * 60 * recipe.replicates
            samples = affordable_samples(once * 60, ahead, steps * trained_s, first)
    look = once * samples
    facts: dict[str, Any] = {
        "parameters": parameters,
        "weights_gb": rounded(parameters * 2 / 1e9, 1),
        # float32 logits of policy, their gradient, and the log-softmax between
        "kl_only_gb": rounded(3 * 4 * longest * config.get_text_config().vocab_size / 1e9, 2),
        "store_gb": rounded(
            rehearsal * longest * (recipe.rehearsal.top_k or TOP_KS[-1]) * 6 / 1e9, 2
        ),
        "anchors_minutes": rounded(rounds * minutes(red_line) + minutes(rehearsal), 1),
        "look_minutes": rounded(look, 1),
        "answers_an_item": samples,
        "assumed": f"{step_s * 1000:.0f} ms a decoding step of {together} answers, every answer {longest} tokens long, "
        f"{_FLOPS / 1e12:.0f} TFLOP/s a GPU in training; `guardrail rehearse` measures it",
    }
    if trained_s is not None and not beside:
        facts["step_seconds"] = rounded(trained_s, 2)
        stretch = looks.every_steps * trained_s
        facts["share_of_the_run"] = round(look * 60 / (look * 60 + stretch), 3)
    if planned is not None:
        facts["optimizer_steps"] = steps
        facts["looks"] = planned
        facts["looks_minutes"] = rounded(look * (planned - 1) + once * recipe.replicates, 1)
    if beside:
        facts["looks_taken_by"] = (
            "a sidecar (`guardrail serve RUN`, elsewhere): the training saves a checkpoint for each and does not wait"
        )
    if recipe.train.arguments.get("use_cpu"):
        return _without_minutes(facts, samples_known=looks.samples is not None)
    facts["warnings"] = [] if beside else _warnings(recipe, look * 60, ranks)
    return facts


def _without_minutes(facts: dict[str, Any], *, samples_known: bool) -> dict[str, Any]:
    """Leave out what the speed of a GPU decides: processors differ by a hundred times, and none is known here."""
    unknown = {*_BY_SPEED, *(() if samples_known else ("answers_an_item",))}
    assumed = "`use_cpu`: minutes are not known beforehand on processors; `guardrail rehearse` measures them"
    kept = {name: value for name, value in facts.items() if name not in unknown}
    return kept | {"assumed": assumed, "warnings": []}


def looks_of_a_run(recipe: Recipe, arguments: Mapping[str, Any], steps: int) -> int:
    """Return how many looks a run of so many steps has, look 0 among them; early ones are not.

    Args:
        recipe: Whose looks they are.
        arguments: The trainer's, those left out at their defaults.
        steps: Optimizer steps.
    """
    saving = SimpleNamespace(
        save_strategy=arguments.get("save_strategy", "steps"),
        save_steps=arguments.get("save_steps", 500),
        num_train_epochs=arguments.get("num_train_epochs", 3),
    )
    return len(due_looks(recipe, steps, saving)) + 1


def _together(config: Any, parameters: int, longest: int, ranks: int, *, lora: bool) -> int:
    """Answers that half of what a GPU has free beside the training holds: keys and values of each, in 16 bits."""
    import torch

    memory = _GPU_BYTES
    if torch.cuda.is_available():
        memory = float(torch.cuda.get_device_properties(0).total_memory)
    held = parameters * (2 if lora else 16 / ranks)
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    answer = (_PROMPT_TOKENS + longest) * text.num_hidden_layers * 2 * heads * width * 2
    return max(1, min(_MOST_TOGETHER, int((memory - held - _BESIDE_BYTES) / 2 / answer)))


def rounded(value: float, digits: int) -> float:
    """Return a figure to so many digits after the point, a small one to its first two, so that none becomes 0."""
    small = 0 < abs(value) < 10.0 ** (1 - digits)
    return float(f"{value:.2g}") if small else round(value, digits)


def _active(config: Any, parameters: int) -> float:
    """Parameters that a token goes through: of a mixture's experts those that are chosen."""
    text = config.get_text_config()
    experts, chosen = getattr(text, "num_experts", None), getattr(text, "num_experts_per_tok", None)
    if not experts or not chosen:
        return parameters
    of_experts = (
        text.num_hidden_layers * experts * 3 * text.hidden_size * text.moe_intermediate_size
    )
    return float(parameters - of_experts * (1 - chosen / experts))


def _warnings(recipe: Recipe, look_s: float, ranks: int) -> list[str]:
    limit = float(recipe.train.arguments.get("ddp_timeout", _COLLECTIVE_S))
    if ranks > 1 and look_s > limit / 2:
        return [
            f"a look may take {look_s:.0f} s, and ranks wait {limit:.0f} s for one another before NCCL ends the run; set "
            f"`train.arguments.ddp_timeout` to {ceil(4 * look_s / 100) * 100} or more, or lower `looks.decoding.max_new_tokens`"
        ]
    return []
