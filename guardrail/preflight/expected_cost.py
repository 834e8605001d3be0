"""What guarding a recipe will cost, by arithmetic, before a weight is loaded: memory, disk, minutes.

The shapes are the gold base's own (its config.json); how fast a device is, is assumed and said. `guardrail rehearse`
measures it.
"""

from collections.abc import Mapping
from math import ceil
from types import SimpleNamespace
from typing import Any

from guardrail.anchors.make import TOP_KS
from guardrail.guard.look_plan import due_looks
from guardrail.recipe import Recipe

__all__ = ["STEP_S", "expected_cost", "looks_of_a_run"]

STEP_S = 0.030
"""Seconds a decoding step of a batch takes an 8B on one GPU, nearly whatever the batch; smaller models take no less."""
_8B = 8.2e9
_TOGETHER = 64
"""Answers generated at a time where the recipe leaves it open; cautious, a GPU's memory may hold many more."""
_COLLECTIVE_S = 1800
"""`ddp_timeout` where the trainer's arguments leave it out: what ranks wait for one another at most."""


def expected_cost(
    recipe: Recipe, red_line: int, rehearsal: int, steps: int | None = None
) -> dict[str, Any]:
    """Return what guarding will cost at most: every answer is taken to be as long as it may be.

    Args:
        recipe: With model folders on this machine.
        red_line: Items judged.
        rehearsal: Items injected.
        steps: Optimizer steps of the run, None where they are not known.

    Returns:
        `parameters`; `weights_gb`, one copy in 16 bits; `kl_only_gb`, what logits and probabilities of one KL-only sample
        take beside the weights; `store_gb`, the anchors' log-probabilities on disk; `anchors_minutes` and `look_minutes`, under
        `assumed`; `looks` and `looks_minutes` where steps are known; `warnings`, sentences.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(recipe.gold_base, local_files_only=True)
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    ranks = recipe.launch.processes * recipe.launch.nodes
    looks, decoding = recipe.looks, recipe.looks.decoding
    longest, together = decoding.max_new_tokens, looks.batch_size or _TOGETHER
    step_s = STEP_S * max(1.0, _active(config, parameters) / _8B)
    rounds = 1 + (recipe.replicates if decoding.mode == "sampled" else 0)

    def minutes(answers: int) -> float:
        return ceil(answers / together) * longest * step_s / 60

    look = minutes(ceil(red_line / ranks) * looks.samples)
    facts: dict[str, Any] = {
        "parameters": parameters,
        "weights_gb": round(parameters * 2 / 1e9, 1),
        # float32 logits of policy, their gradient, and the log-softmax between
        "kl_only_gb": round(3 * 4 * longest * config.get_text_config().vocab_size / 1e9, 2),
        "store_gb": round(
            rehearsal * longest * (recipe.rehearsal.top_k or TOP_KS[-1]) * 6 / 1e9, 2
        ),
        "anchors_minutes": round(rounds * minutes(red_line) + minutes(rehearsal), 1),
        "look_minutes": round(look, 1),
        "assumed": f"{step_s * 1000:.0f} ms a decoding step of {together} answers, every answer {longest} tokens long; "
        "`guardrail rehearse` measures it",
    }
    if steps is not None:
        saves = {"save_steps": looks.every_steps}  # as `guardrail run` has it
        facts["looks"] = looks_of_a_run(recipe, saves | recipe.train.arguments, steps)
        facts["looks_minutes"] = round(look * facts["looks"], 1)
    facts["warnings"] = _warnings(recipe, look * 60, ranks)
    return facts


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
