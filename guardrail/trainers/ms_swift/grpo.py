"""KL-only prompts in ms-swift's GRPO: rolled out with the task's, then taken aside.

Hooks, wrapped on the instance: the private `_generate_completions`, the one call through which every rollout goes, colocated
or by a server, before anything scores it; and the public `compute_loss`. Called are, since the term must be computed as
ms-swift computes its own: `to_samples`, `null_ref_context` (public), `_template_context`,
`_get_per_token_logps_and_entropies` (private), and three functions that `command_line.py` lists and checks for.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from guardrail.kl.divergence import k3
from guardrail.trainers.kl_only.samples import RehearsalSamples
from guardrail.trainers.ms_swift.command_line import swift_name

__all__ = ["KlOnlyRollouts", "attach_kl_only", "count_completions"]


def count_completions(inputs: Any) -> int:
    """Return how many of the task's completions a micro-batch of ms-swift's GRPOTrainer holds."""
    batch = inputs[0] if isinstance(inputs, list) else inputs
    return len(batch["grpo_batch"].completion_mask)


class KlOnlyRollouts(RehearsalSamples):
    """KL-only prompts: drawn when rollouts are, scored by nobody, pulled to the trainer's reference.

    One completion a prompt is generated in the same call as the task's. No reward function, advantage,
    metric or denominator of the task's sees it. The optimizer step after the rollouts gets

        weight * boost * sum over KL-only tokens of k3 / N,  N = KL-only tokens of all ranks

    beside the task's loss, with log-probabilities as the trainer computes them (at the rollouts'
    temperature). Where rollouts serve several steps or iterations, it acts in the first: there they are
    the policy's own.
    """

    _held: tuple[Any, Any, Any, int] | None = None

    def begin_step(self) -> None:
        """Do nothing: what is due is drawn with the rollouts."""

    def draw_mine(self) -> list[str]:
        """Return this rank's share of the items due; every rank gets equally many."""
        return self.draw()[self._rank :: self._world_size]

    def hold(self, trainer: Any, samples: list[Any]) -> None:
        """Keep the completions of KL-only prompts, with the reference's log-probabilities."""
        template, device = trainer.template, trainer.accelerator.device
        utilities = "swift.rlhf_trainers.utils"
        encode = swift_name(utilities, "encode_sample")
        collate = swift_name(utilities, "collate_to_grpo_micro_batch")
        whole = swift_name("swift.trainers", "disable_gradient_checkpointing")
        with trainer._template_context(template):
            for sample in samples:
                sample.encoded = encode(sample, template)
                sample.encoded.pop("_extra_kwargs", None)
            inputs, batch = collate(samples, template, device=device, use_logits_to_keep=True)
        inputs.pop("labels", None)
        own = trainer.ref_model is None
        reference = trainer.model if own else trainer.ref_model
        without_adapter = trainer.null_ref_context() if own else contextlib.nullcontext()
        checkpointing = trainer.args.gradient_checkpointing_kwargs
        with torch.no_grad(), without_adapter, whole(reference, checkpointing):
            logprobs = trainer._get_per_token_logps_and_entropies(reference, inputs, batch)[0]
        batch.ref_per_token_logps = logprobs
        tokens = trainer.accelerator.reduce(batch.completion_mask.sum(), "sum")
        self._held = trainer, inputs, batch, max(1, int(tokens))

    def take_term(self, model: torch.nn.Module) -> Tensor | None:
        """Return weight * world_size * (sum of k3 on this rank) / (KL-only tokens of all ranks), or None.

        None: the last rollouts held no KL-only prompt, or the term was taken already.
        """
        if self._held is None:
            return None
        (trainer, inputs, batch, tokens), self._held = self._held, None
        policy = trainer._get_per_token_logps_and_entropies(model, inputs, batch)[0]
        chosen = batch.completion_mask.bool()
        total = k3(batch.ref_per_token_logps[chosen], policy[chosen]).sum()
        self._kl_sum += total.detach().double().cpu()
        self._kl_tokens += int(chosen.sum())
        factor = self.weight * self._world_size / tokens
        self._normalisation.watch(total, factor)
        return factor * total


def attach_kl_only(
    trainer: Any,
    rollouts: KlOnlyRollouts,
    *,
    chats: Mapping[str, list[dict[str, str]]],
    thinking: bool,
) -> None:
    """Put KL-only prompts into the rollouts of a swift `GRPOTrainer`, and their KL into its loss.

    The Trainer divides GRPO's loss by the accumulation steps, so the term is multiplied first.

    Args:
        trainer: The trainer; two of its methods are wrapped on the instance, its `beta` stays what acts
            on the task's rows.
        rollouts: Draws the prompts and computes their term.
        chats: Item → its prompt as a chat.
        thinking: Pinned for the KL-only prompts; the task's keep what the command line says.
    """
    generate, compute_loss = trainer._generate_completions, trainer.compute_loss
    settings = {"enable_thinking": thinking}

    def guarded_generate(samples: list[Any]) -> list[Any]:
        if not trainer.model.training:
            return list(generate(samples))
        rollouts.count_task_samples(len(samples))
        rows = [
            {"messages": chats[item], "chat_template_kwargs": settings}
            for item in rollouts.draw_mine()
        ]
        done = list(generate([*samples, *trainer.to_samples(rows)]))
        if rows:
            rollouts.hold(trainer, done[len(samples) :])
        return done[: len(samples)]

    def guarded_compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = compute_loss(model, inputs, *args, **kwargs)
        term = rollouts.take_term(model) if model.training else None
        if term is None:
            return loss
        term = term * trainer.current_gradient_accumulation_steps
        return rollouts.add(loss, term.to(loss.dtype))

    trainer._generate_completions = guarded_generate
    trainer.compute_loss = guarded_compute_loss
