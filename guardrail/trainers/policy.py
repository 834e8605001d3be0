"""The weights that are trained, as one whole model that answers and is measured between two steps."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from trl.models.utils import unwrap_model_for_generation

from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.rollout import vllm_writer
from guardrail.guard.guard import Guard
from guardrail.guard.ranks import RankFailed, failure_kind
from guardrail.trainers.checks.deepspeed import each_rank_alone

__all__ = ["Policy"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Policy:
    """A trainer's model; where ranks hold parts of it they are gathered for as long as it is measured."""

    guard: Guard
    trainer: Any
    tokenizer: Any
    vllm: Any
    """What writes the rollouts of a GRPO trainer and then answers the looks too, or None."""
    _encoded: dict[str, list[int]] = field(default_factory=dict)

    @contextlib.contextmanager
    def gathered(
        self, stop: Callable[[], bool], *, batch_size: int | None = None
    ) -> Iterator[InProcessEngine]:
        """Give the policy as an engine for the body, which ends well on every rank or fails on all.

        Args:
            stop: Asked at every token of an answer whether to end at once.
            batch_size: Prompts a batch; by default the recipe's.
        """
        looks = self.guard.recipe.looks
        with self.guard.ranks.agreed(), self._whole() as model:
            engine = InProcessEngine(
                model,
                self.tokenizer,
                looks.decoding,
                self.guard.anchors.manifest.profile,
                batch_size or looks.batch_size,
                self._encoded,
                stop,
                None if self.vllm is None else vllm_writer(self.vllm),
            )
            yield engine

    @contextlib.contextmanager
    def _whole(self) -> Iterator[Any]:
        trainer = self.trainer
        failed: Exception | None = None
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            try:
                with each_rank_alone(trainer.model_wrapped):
                    yield model
            except Exception as error:
                # TRL gives ZeRO-3's hooks and gradient checkpointing back only after a body that ends well.
                failed = error
        if trainer.args.gradient_checkpointing:
            # TRL turns it on again without the user's settings.
            settings = trainer.args.gradient_checkpointing_kwargs
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
        if failed is not None:
            raise failed

    def measure(
        self, work: Callable[[InProcessEngine], Result], what: str, stop: Callable[[], bool]
    ) -> Result:
        """Return what `work` returns; out of memory it is done anew with half as many prompts a batch."""
        size = self.guard.recipe.looks.batch_size
        while True:
            try:
                with self.gathered(stop, batch_size=size) as engine:
                    return work(engine)
            except (torch.OutOfMemoryError, RankFailed) as error:
                if size == 1 or failure_kind(error) != "out of memory":
                    raise
                size //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("out of memory in %s; trying batches of %d", what, size)
