"""The seam into TRL's GRPOTrainer: general prompts in the rollouts, on which only the KL acts.

A share of the prompts drawn is general. Their completions get no reward and no advantage; what is left
of them in the loss is the KL to the trainer's own reference, under a weight of its own.

Hooks, all wrapped on the instance, for TRL has no public one inside a step: `train_dataset` and `reward_funcs` (public)
and the private `_get_train_sampler` (which prompt is drawn), `_generate_and_score_completions` (advantages, counts),
`_calculate_rewards`, `_get_per_token_logps_and_entropies` (log-probabilities without a second forward) and
`_compute_loss`. `grpo_versions.py` holds their parameters to what each version has.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from guardrail.engines.in_process import kept_training_state
from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.kl.divergence import k3
from guardrail.trainers.checks.kl_gradient_check import Normalisation
from guardrail.trainers.kl_only.samples import Probe
from guardrail.trainers.trl.grpo_mixing import (
    KL_ONLY,
    MixedPrompts,
    MixedSampler,
    in_the_users_form,
    prompt_tokens,
)
from guardrail.trainers.trl.grpo_rewards import TaskRewards
from guardrail.trainers.trl.grpo_versions import Seams, find_seams

__all__ = ["GrpoKlOnly", "attach_kl_only"]

KL_ONLY_TOKENS = "guardrail_kl_only_tokens"
"""In the trainer's batches: KL-only tokens of the whole generation batch, over all ranks."""
ADAPTER_OFF = "guardrail_adapter_off_logps"
"""In the trainer's batches: (rows, completion tokens), the model without its adapter at KL-only rows."""


class GrpoKlOnly:
    """KL-only prompts in a GRPO run: their rewards, advantages, loss and counts.

    Each optimizer step gets, beside TRL's own loss on the task rows,

        weight * boost * sum over KL-only tokens of k3 / N,  N = KL-only tokens of the generation batch

    over all ranks; each rank multiplies by their number, as gradients are averaged. TRL generates for
    `steps_per_generation` micro-batches and steps the optimizer after `gradient_accumulation_steps`.
    Where the two agree, the default, N counts exactly the tokens of the step. Else nobody knows those of
    a step when it begins (a later generation batch is not generated, or a shuffle spread the rows over
    several steps), so N is scaled by accumulation / steps_per_generation, as TRL 1.16 scales DAPO's
    denominator. Then, whatever the two settings, averaged over steps the KL-only rows weigh
    weight * boost times the share of generation batches that hold any. With `num_iterations` above 1 the rows act in
    every iteration, on the policy of that moment.

    The reference is the trainer's own; with `adapter_off` it is the policy without its adapter, which the
    guard asks for KL-only rows alone when they are generated. Then `beta` may be 0 and the task's rows
    have no KL, nor a forward for one.

    k3 stands in the loss as it is, so on the policy's own samples its gradient is that of
    KL(reference || policy), as in the KL term for SFT. TRL's `use_bias_correction_kl`, which turns it
    into that of KL(policy || reference), acts on task rows alone.

    The task rows' loss stays TRL's: `beta`, clipping and entropy terms do not see KL-only rows.
    KL-only tokens are taken out of the denominators that count tokens (bnpo, dapo, cispo, vespo); where
    TRL averages over rows (grpo, sapo, dr_grpo, luspo), KL-only rows count as rows with loss 0, as any
    prompt does whose rewards are all equal. Metrics of completion lengths include them; in 0.29 a
    micro-batch of KL-only rows alone enters the averages of `kl`, `entropy` and clip ratios as 0.

    Not promised: a reward model (an `nn.Module`) scores copies of task rows in place of KL-only rows,
    but the KL-only rows themselves on a rank that has no other; those scores are thrown away. Custom
    reward functions are not called there, so they must not talk to other ranks. vLLM was read, not run.
    """

    def __init__(
        self,
        trainer: Any,
        seams: Seams,
        prompts: int,
        state: GuardState,
        weight: float,
        *,
        adapter_off: bool,
    ) -> None:
        """Keep what the wrapped methods need; `state` holds the counts and is changed in place."""
        self._adapter_off = adapter_off
        self._trainer, self._seams, self._prompts = trainer, seams, prompts
        self._state, self._weight = state, weight
        self.rewards = TaskRewards(trainer, seams)
        self._listening = False
        self._normalisation = Normalisation()
        self._policy: Tensor | None = None
        self._kl_sum, self._kl_tokens = 0.0, 0

    @property
    def weight(self) -> float:
        """The KL-only weight in force."""
        return self._weight * self._state.boost

    def begin_step(self) -> None:
        """Do nothing: the rows come with the trainer's own batches."""

    def take_counts(self) -> list[int]:
        """Return nothing: what is seen is counted where it is generated, over all ranks."""
        return []

    def add_counts(self, on_all_ranks: Sequence[int]) -> None:
        """Do nothing, for the same reason."""

    def exposure(self) -> dict[str, float]:
        """Return what was seen so far: prompts of both kinds, share, unique prompts, passes.

        A prompt counts once for all its completions and iterations. A run resumed inside a generation
        batch generates that batch again, and it counts again.
        """
        return self._state.exposure(self._prompts)

    def numbers(self) -> dict[str, Any]:
        """Return what a log line says: mean k3 since the last call, weight, exposure."""
        return {
            "rehearsal_kl": self.take_mean_kl(),
            "kl_weight": self.weight,
            **self.exposure(),
        }

    def take_mean_kl(self) -> float | None:
        """Return the mean k3 a KL-only token since the last call, over all ranks; None without any."""
        if self._kl_tokens == 0:
            return None
        mean = self._kl_sum / self._kl_tokens
        self._kl_sum, self._kl_tokens = 0.0, 0
        return mean

    def generate(self, original: Callable[[Any], Any], inputs: list[dict[str, Any]]) -> Any:
        """Around `_generate_and_score_completions`: mark rows, force advantages to zero, count."""
        trainer = self._trainer
        if not trainer.model.training:
            return original(inputs)
        marks = [KL_ONLY in row for row in inputs]
        self.rewards.flags = marks
        try:
            batch = original(inputs)
        finally:
            self.rewards.flags = None
        flags = torch.tensor(marks)
        batch[KL_ONLY] = flags.to(batch["completion_mask"].device)
        batch["advantages"][batch[KL_ONLY]] = 0.0
        tokens = batch["completion_mask"][batch[KL_ONLY]].sum()
        counts = torch.stack(
            [torch.tensor(len(flags)), flags.sum(), torch.tensor(self.rewards.lengths)]
        )
        counts = torch.cat([counts.to(tokens.device), tokens.view(1)])
        rows, kl_rows, lengths, batch[KL_ONLY_TOKENS] = trainer.accelerator.reduce(counts, "sum")
        if kl_rows:
            left_out = lengths if self._seams.counts_masked else batch[KL_ONLY_TOKENS]
            batch["num_items_in_batch"] = (batch["num_items_in_batch"] - left_out).clamp(min=1)
            self.rewards.leave_out_of_metrics(int(rows), int(kl_rows))
            if self._adapter_off:
                batch[ADAPTER_OFF] = self._without_adapter(batch)
        self._state.rehearsal_seen += int(kl_rows) // trainer.num_generations
        self._state.task_samples += int(rows - kl_rows) // trainer.num_generations
        return batch

    def _without_adapter(self, batch: dict[str, Any]) -> Tensor:
        """Log-probabilities of the model without its adapter at KL-only rows; 0 at the others.

        Every rank runs as many forwards, for where weights are cut over ranks each takes part in all; a row
        that stands in counts nowhere.
        """
        trainer, flags = self._trainer, batch[KL_ONLY]
        own = flags.nonzero().flatten()
        most = int(trainer.accelerator.gather(flags.sum().view(1)).max())
        rows = torch.cat([own, own.new_zeros(most - len(own))])
        ids, mask = (
            torch.cat([batch[f"prompt_{what}"], batch[f"completion_{what}"]], dim=1)[rows]
            for what in ("ids", "mask")
        )
        model = trainer.accelerator.unwrap_model(trainer.model)
        with kept_training_state(model), model.disable_adapter():
            found = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                ids,
                mask,
                batch["completion_ids"].shape[1],
                trainer.args.per_device_train_batch_size,
            )[0]
        reference: Tensor = found.new_zeros(batch["completion_ids"].shape)
        reference[own] = found[: len(own)]
        return reference

    def logprobs(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Around `_get_per_token_logps_and_entropies`: keep the policy's, for the KL needs no forward."""
        result = original(*args, **kwargs)
        if self._listening:
            self._policy = result[0]
        return result

    def loss(
        self, original: Callable[[Any, Any], Tensor], model: Any, inputs: dict[str, Any]
    ) -> Tensor:
        """Around `_compute_loss`: TRL's loss on the task rows plus the KL-only rows' own term.

        `tool_mask` takes rows out of TRL's loss but not out of the attention; nothing else uses it, as
        tools are refused. Whether there is anything to add is the same on every rank.
        """
        if not self._trainer.model.training or not inputs[KL_ONLY_TOKENS]:
            return original(model, inputs)
        trainer, flags = self._trainer, inputs[KL_ONLY].unsqueeze(1)
        self._listening = True
        try:
            task_loss = original(model, inputs | {"tool_mask": (~flags).long()})
        finally:
            self._listening = False
        policy, self._policy = self._policy, None
        assert policy is not None
        chosen = flags & inputs["completion_mask"].bool()
        reference = inputs[ADAPTER_OFF if self._adapter_off else "ref_per_token_logps"]
        total = k3(reference[chosen], policy[chosen]).sum()
        window = trainer.current_gradient_accumulation_steps
        tokens = inputs[KL_ONLY_TOKENS] * (window / trainer.args.steps_per_generation)
        self._record(total, chosen.sum(), window)
        factor = self.weight * trainer.accelerator.num_processes / tokens
        self._normalisation.watch(total, factor)
        term: Tensor = factor * total
        return task_loss + term.to(task_loss.dtype)

    def _record(self, total: Tensor, tokens: Tensor, window: int) -> None:
        counted = torch.stack([total.detach().float(), tokens.float()])
        kl_sum, kl_tokens = self._trainer.accelerator.reduce(counted, "sum").tolist()
        self._kl_sum += kl_sum
        self._kl_tokens += int(kl_tokens)
        self._state.weight_sum += self.weight / window

    @property
    def normalisations(self) -> list[Normalisation]:
        """Return what watches the gradient that arrives at the KL-only rows' term."""
        return [self._normalisation]

    def stored_kl(self, model: Any) -> None:
        """Return None: the reference is the trainer's own."""

    def probes(self, model: Any) -> list[Probe]:
        """Return what measures the mean k3 a token to the trainer's own reference.

        Over the tokens of up to eight KL-only prompts themselves, so nothing is generated. `model` is
        the unwrapped policy.
        """
        from trl.trainer.utils import use_adapter  # as slow to load as the trainer

        trainer = self._trainer
        prompts = [row["prompt"] for row in trainer.train_dataset.kl_only[:8]]
        tokens = [prompt_tokens(trainer, prompt) for prompt in prompts]

        def logprobs(of: Any) -> Tensor:
            rows = [torch.tensor([ids], device=trainer.accelerator.device) for ids in tokens]
            method = trainer._get_per_token_logps_and_entropies
            return torch.cat(
                [method(of, row, torch.ones_like(row), row.shape[1] - 1)[0][0] for row in rows]
            )

        def mean() -> float:
            if trainer.ref_model is not None:
                reference = logprobs(trainer.ref_model)
            else:
                copied = "ref" in model.peft_config and not self._adapter_off
                with use_adapter(model, "ref" if copied else None):
                    reference = logprobs(model)
            return float(k3(reference, logprobs(model)).mean())

        # The task's rows share its forwards.
        return [Probe(mean, pinned=False, calm_in_training=False)]


def attach_kl_only(
    trainer: Any,
    prompts: Sequence[list[dict[str, str]]],
    state: GuardState,
    *,
    fraction: float,
    weight: float,
    seed: int,
    adapter_off: bool = False,
) -> GrpoKlOnly:
    """Mix KL-only prompts into the rollouts of a TRL `GRPOTrainer`; call before `trainer.train()`.

    A pass over the data grows by the KL-only prompts: it holds as many groups as the task prompts last.

    Args:
        trainer: The trainer; its `train_dataset`, `reward_funcs` and five of its methods are wrapped on
            the instance, its `beta` stays what acts on task rows.
        prompts: General prompts, chats that end before the assistant speaks; rendered with the trainer's
            own `chat_template_kwargs`.
        state: Holds boost and counts; changed in place. On resume, the checkpoint's.
        fraction: KL-only share of the prompts drawn, task and KL-only together, in (0, 1).
        weight: Of the k3 term a KL-only token; `state.boost` multiplies it.
        seed: Orders the KL-only prompts.
        adapter_off: Takes the model without its adapter for the reference, not the trainer's own; whether
            it is the KL reference is the caller's to know.

    Returns:
        The counts and measurements of the KL-only rows.

    Raises:
        InputError: see `find_seams`; also an empty `prompts`, a fraction outside (0, 1), a negative
            weight, no reference at a `beta` of 0, or plain-text prompts the general ones cannot be rendered for.
    """
    if not prompts or not 0.0 < fraction < 1.0 or not weight >= 0.0:
        raise InputError(
            "KL-only prompts need at least one prompt, a fraction in (0, 1) and a weight of at least 0; "
            f"got {len(prompts)} prompts, fraction {fraction}, weight {weight}; mend the recipe"
        )
    seams = find_seams(trainer)
    if not adapter_off and not trainer.beta > 0:
        raise InputError(
            f"KL-only prompts need a reference, and at beta {trainer.beta:g} the trainer has none; set `beta` "
            "above 0, or take the model without its adapter"
        )
    tasks = trainer.train_dataset
    mixed = MixedPrompts(tasks, in_the_users_form(trainer, prompts))
    sampler = MixedSampler(
        trainer,
        trainer._get_train_sampler,
        len(tasks),
        len(prompts),
        fraction=fraction,
        seed=seed,
    )
    kl_only = GrpoKlOnly(trainer, seams, len(prompts), state, weight, adapter_off=adapter_off)
    trainer.train_dataset = mixed
    trainer._get_train_sampler = lambda dataset=None: sampler
    trainer.reward_funcs = [
        function
        if isinstance(function, torch.nn.Module)
        else kl_only.rewards.of_task_rows(function)
        for function in trainer.reward_funcs
    ]
    around: dict[str, Callable[..., Any]] = {
        "_generate_and_score_completions": kl_only.generate,
        "_calculate_rewards": kl_only.rewards.calculate,
        "_get_per_token_logps_and_entropies": kl_only.logprobs,
        "_compute_loss": kl_only.loss,
    }
    for name, wrapper in around.items():
        setattr(trainer, name, functools.partial(wrapper, getattr(trainer, name)))
    return kl_only
