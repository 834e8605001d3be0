"""The weights that are trained, as one whole model that answers and is measured between two steps."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from trl.models.utils import unwrap_model_for_generation

from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.rollout import RolloutWriter
from guardrail.guard.guard import Guard
from guardrail.trainers.checks.deepspeed import each_rank_alone, under_zero3

__all__ = ["Policy"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Policy:
    """A trainer's model; where ranks hold parts of it they are gathered for as long as it is measured."""

    guard: Guard
    trainer: Any
    tokenizer: Any
    writer: RolloutWriter | None
    """The vLLM that writes the rollouts of a GRPO trainer and then answers the looks too, or None."""
    _encoded: dict[str, list[int]] = field(default_factory=dict)

    @contextlib.contextmanager
    def gathered(self, stop: Callable[[], bool]) -> Iterator[InProcessEngine]:
        """Give the policy as an engine for the body, which ends well on every rank or fails on all.

        Args:
            stop: Asked at every token of an answer whether to end at once.
        """
        looks = self.guard.recipe.looks
        with self.guard.ranks.agreed(), contextlib.ExitStack() as held:
            model = held.enter_context(self._whole())
            engine = InProcessEngine(
                model,
                self.tokenizer,
                looks.decoding,
                self.guard.anchors.manifest.profile,
                looks.batch_size,
                self._encoded,
                stop,
                self.writer,
                partial(self._apart, held),
            )
            yield engine

    @contextlib.contextmanager
    def _apart(self, held: contextlib.ExitStack) -> Iterator[None]:
        """Give up for the body what ZeRO-3 put together: vLLM's weights are gathered anew, which may not be nested."""
        if not under_zero3(self.trainer):
            yield
            return
        held.close()
        try:
            yield
        finally:
            held.enter_context(self._whole())

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
        self, work: Callable[[InProcessEngine], Result], stop: Callable[[], bool]
    ) -> Result:
        """Return what `work` returns; out of memory, what it asks goes on in smaller batches by itself."""
        with self.gathered(stop) as engine:
            return work(engine)
