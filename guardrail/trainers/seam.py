"""How the guard joins a kind of trainer: what differs between TRL's and ms-swift's, SFT and GRPO."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from guardrail.anchors.store import Anchors
from guardrail.engines.rollout import RolloutVllm
from guardrail.guard.ranks import Ranks
from guardrail.guard.state import GuardState
from guardrail.recipe import Recipe
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.checks.rendering import Render
from guardrail.trainers.grpo.choice import Form
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.kl_only.samples import KlOnly

__all__ = ["RollOut", "Seam"]

RollOut = Callable[[GuardedRecipe, Any, Form, GuardState, Ranks, Anchors], KlOnly]
"""Puts KL-only prompts into the rollouts of a trainer, the second argument."""


@dataclass(frozen=True, slots=True)
class Seam:
    """What the guard needs to know of a kind of trainer."""

    join: Callable[[Any, Injection], None]
    """Given trainer and injection: lets the trainer's loss carry the injection's term."""
    form: Callable[[Recipe, Any], Form] | None = None
    """GRPO's alone: given recipe and trainer, which form of KL-only samples runs, and why."""
    rollouts: RollOut | None = None
    """GRPO's alone: puts KL-only prompts into the trainer's rollouts."""
    vllm: Callable[[Any, GuardedRecipe], RolloutVllm | None] | None = None
    """GRPO's alone: the vLLM that writes the trainer's rollouts, `None` where the model itself answers looks."""
    renders: Callable[[Any], dict[str, Render]] | None = None
    """What renders prompts in this trainer besides its tokenizer, by the name a user knows it by."""
    callback: type[GuardCallback] = GuardCallback
    packages: tuple[str, ...] = ()
    """What drives the run besides TRL; the run's header tells their versions too."""
    go_on: str = "attach(trainer, resume=True), then trainer.train(resume_from_checkpoint=callback.resume_from)"
    """How a training that was broken off goes on."""
