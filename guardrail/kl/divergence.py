"""The divergence at one token: how far the policy is from the stored reference there."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Direction", "forward_kl_topk", "full_kl", "k3", "reference_topk", "topk_shortfall"]

Direction = Literal["forward", "reverse"]
"""KL(reference || policy), which keeps what the reference can say, or KL(policy || reference)."""


def reference_topk(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest log-probabilities of each row and the logarithm of what is left.

    Args:
        logits: Shape (tokens, vocabulary), any float type; computed in float32 or wider.
        k: How many to keep; at most the vocabulary size.

    Returns:
        ids (tokens, k), logprobs (tokens, k) in nats, tail (tokens,): log(1 - sum of the kept
        probabilities), -inf where nothing is left.
    """
    logprobs = torch.log_softmax(_wide(logits), dim=-1)
    kept, ids = logprobs.topk(min(k, logprobs.shape[-1]), dim=-1)
    return ids, kept, _log_tail(logprobs, ids)


def forward_kl_topk(logits: Tensor, ids: Tensor, logprobs: Tensor, tail: Tensor) -> Tensor:
    """Return KL(reference || policy) of each token over k kept tokens and one bucket for the rest.

    KL = sum_{i in top-k} p_i (log p_i - log q_i) + p_tail (log p_tail - log q_tail)

    with p the stored reference and q the policy. Merging the tail into one outcome is a function of
    the token, so by the data-processing inequality this is a lower bound of the full KL, exact where
    k is the vocabulary size (Cover & Thomas, Elements of Information Theory, 2nd ed., theorem 2.7.1,
    the log-sum inequality). It does not bound the reverse KL, which is unbounded in the tail.

    Args:
        logits: The policy's logits, shape (tokens, vocabulary).
        ids: Kept token ids, shape (tokens, k).
        logprobs: Their reference log-probabilities in nats, shape (tokens, k).
        tail: Log-probability of everything else, shape (tokens,), -inf if there is nothing.

    Returns:
        Shape (tokens,), in nats, with gradient to `logits`.
    """
    policy = torch.log_softmax(_wide(logits), dim=-1)
    kept = policy.gather(-1, ids)
    reference = logprobs.to(policy.dtype)
    head = (reference.exp() * (reference - kept)).sum(-1)
    has_tail = torch.isfinite(tail) & (ids.shape[-1] < logits.shape[-1])
    if not bool(has_tail.any()):
        return head
    safe_tail = torch.where(has_tail, tail, torch.zeros_like(tail)).to(policy.dtype)
    policy_tail = torch.where(has_tail, _log_tail(policy, ids), torch.zeros_like(safe_tail))
    return head + torch.where(
        has_tail, safe_tail.exp() * (safe_tail - policy_tail), torch.zeros_like(head)
    )


def full_kl(logits: Tensor, reference: Tensor, direction: Direction) -> Tensor:
    """Return the KL divergence of each token over the whole vocabulary, shape (tokens,), in nats.

    forward: sum_i p_i (log p_i - log q_i); reverse: sum_i q_i (log q_i - log p_i), with p the reference
    and q the policy (Kullback & Leibler 1951, "On Information and Sufficiency", section 2).

    Args:
        logits: The policy's, shape (tokens, vocabulary); the gradient flows to them.
        reference: The reference's logits, same shape.
        direction: Which of the two comes first.
    """
    policy = torch.log_softmax(_wide(logits), dim=-1)
    base = torch.log_softmax(_wide(reference), dim=-1)
    first, second = (base, policy) if direction == "forward" else (policy, base)
    return (first.exp() * (first - second)).sum(-1)


def k3(reference: Tensor, policy: Tensor) -> Tensor:
    """Return the k3 estimate of KL(policy || reference) at each sampled token, in nats.

    k3 = exp(d) - d - 1 with d = log reference - log policy (Schulman 2020, "Approximating KL
    Divergence"). It is never negative, and 0 with gradient 0 where the two agree.

    Args:
        reference: Log-probabilities of the sampled tokens, any shape.
        policy: The same under the policy; computed in float32 at least, as d is small.
    """
    difference = reference - policy
    difference = difference if difference.dtype == torch.float64 else difference.float()
    return torch.expm1(difference) - difference


def topk_shortfall(
    logits: Tensor, ks: Sequence[int], generator: torch.Generator
) -> tuple[dict[int, float], float]:
    """Return the summed KL over top-k plus tail for each k, and the summed KL over the vocabulary.

    The policy is the reference with every logit moved by a standard normal, a change that spares no
    token: fine-tuning moves the tail less, so what is missed here is on the high side.

    Args:
        logits: The reference's, shape (tokens, vocabulary).
        ks: How many log-probabilities to keep.
        generator: Draws the noise; on the device of `logits`.
    """
    wide = _wide(logits)
    noise = torch.randn(wide.shape, generator=generator, device=wide.device, dtype=wide.dtype)
    policy = wide + noise
    reference, moved = torch.log_softmax(wide, -1), torch.log_softmax(policy, -1)
    full = float((reference.exp() * (reference - moved)).sum())
    kept = {k: float(forward_kl_topk(policy, *reference_topk(wide, k)).sum()) for k in ks}
    return kept, full


def _wide(logits: Tensor) -> Tensor:
    """Half precision loses the tail: compute in float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _log_tail(logprobs: Tensor, ids: Tensor) -> Tensor:
    """Logarithm of the probability outside `ids`: summed, not 1 minus the rest, which cancels."""
    if ids.shape[-1] >= logprobs.shape[-1]:
        return torch.full(
            logprobs.shape[:-1], -torch.inf, dtype=logprobs.dtype, device=logprobs.device
        )
    return logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1)
