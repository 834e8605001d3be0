"""Where the KL term of golds joins a trainer's loss: TRL's SFTTrainer, and GRPO beside its own loss.

Hook: the public `compute_loss` of transformers.Trainer, wrapped on the instance: the one place through which the loss of
every micro-batch goes, before it is divided and its backward begins. How it will be divided is read from
`loss_is_scaled_for_ga`, `model_accepts_loss_kwargs` and `compute_loss_func`, public attributes that nothing documents.
"""

from collections.abc import Callable
from typing import Any

from guardrail.trainers.kl_only.normalised_kl_term import Injection

__all__ = ["attach_kl", "count_samples"]


def count_samples(inputs: Any) -> int:
    """Return how many samples of the user's data a micro-batch holds.

    A padding-free batch is one row in which position ids start anew with every sample; rows that
    `wrapped` packing cut anywhere do not tell, each counts as one.
    """
    positions = inputs.get("position_ids")
    if positions is not None and positions.shape[0] == 1:
        return int((positions == 0).sum())
    return int(inputs["input_ids"].shape[0])


def attach_kl(
    trainer: Any, injection: Injection, count: Callable[[Any], int] = count_samples
) -> None:
    """Wrap `trainer.compute_loss` on the instance so that training losses carry the KL term.

    Evaluation losses are left alone; `count` says how many samples of the user's a micro-batch holds.
    The Trainer divides a loss by the accumulation steps unless it was already normalised over the whole
    window; the term is, so where the Trainer will divide, the term is multiplied first
    (transformers.Trainer.training_step, `loss_is_scaled_for_ga`).
    """
    compute_loss = trainer.compute_loss

    def guarded_compute_loss(
        model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        samples = count(inputs)
        result = compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )
        if not model.training:
            return result
        injection.count_task_samples(samples)
        term = injection.take_term(model)
        if term is None:
            return result
        if not _scaled_over_window(trainer, num_items_in_batch):
            term = term * trainer.current_gradient_accumulation_steps
        if return_outputs:
            loss, outputs = result
            return injection.add(loss, term.to(loss.dtype)), outputs
        return injection.add(result, term.to(result.dtype))

    trainer.compute_loss = guarded_compute_loss


def _scaled_over_window(trainer: Any, num_items_in_batch: Any) -> bool:
    if trainer.loss_is_scaled_for_ga is not None:
        return bool(trainer.loss_is_scaled_for_ga)
    by_model = trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
    return bool(by_model or trainer.compute_loss_func is not None)
