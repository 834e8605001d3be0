import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from guardrail.kl.divergence import forward_kl_topk, reference_topk


def logits(seed: int, tokens: int = 5, vocabulary: int = 40, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(tokens, vocabulary, generator=generator, dtype=torch.float64)


def full_kl(reference: torch.Tensor, policy: torch.Tensor) -> np.ndarray:
    """KL(reference || policy) by its definition, in NumPy."""
    p = np.exp(reference.numpy()) / np.exp(reference.numpy()).sum(-1, keepdims=True)
    q = np.exp(policy.numpy()) / np.exp(policy.numpy()).sum(-1, keepdims=True)
    return (p * np.log(p / q)).sum(-1)


def test_with_the_whole_vocabulary_it_is_the_full_kl():
    reference, policy = logits(1), logits(2)
    kl = forward_kl_topk(policy, *reference_topk(reference, 40))
    np.testing.assert_allclose(kl.numpy(), full_kl(reference, policy), rtol=1e-12)


def test_topk_is_the_kl_with_the_rest_in_one_bucket():
    reference, policy = logits(3), logits(4)
    kl = forward_kl_topk(policy, *reference_topk(reference, 6)).numpy()
    p = torch.softmax(reference, -1).numpy()
    q = torch.softmax(policy, -1).numpy()
    for row in range(5):
        kept = np.argsort(-p[row])[:6]
        rest_p, rest_q = 1 - p[row, kept].sum(), 1 - q[row, kept].sum()
        expected = (p[row, kept] * np.log(p[row, kept] / q[row, kept])).sum()
        expected += rest_p * math.log(rest_p / rest_q)
        assert kl[row] == pytest.approx(expected, rel=1e-9)


def test_topk_is_a_lower_bound_that_grows_with_k():
    reference, policy = logits(5), logits(6)
    by_k = [forward_kl_topk(policy, *reference_topk(reference, k)) for k in (1, 4, 16, 40)]
    for smaller, larger in pairwise(by_k):
        assert (smaller <= larger + 1e-12).all()
    assert (by_k[0] >= -1e-12).all()


def test_it_is_zero_exactly_where_policy_is_reference():
    reference = logits(7)
    kl = forward_kl_topk(reference, *reference_topk(reference, 8))
    assert kl.abs().max() < 1e-12


def test_a_tail_of_almost_nothing_keeps_a_finite_gradient():
    reference = logits(8, scale=1.0)
    reference[:, 0] += 40.0
    policy = reference.clone().requires_grad_()
    forward_kl_topk(policy, *reference_topk(reference, 3)).sum().backward()
    assert torch.isfinite(policy.grad).all()


def test_gradient_equals_finite_differences():
    reference, policy = logits(9, tokens=2, vocabulary=9), logits(10, tokens=2, vocabulary=9)
    stored = reference_topk(reference, 4)
    assert torch.autograd.gradcheck(
        lambda x: forward_kl_topk(x, *stored), (policy.requires_grad_(),), rtol=1e-5
    )


def test_half_precision_logits_are_computed_in_float32():
    reference = logits(11).float()
    kl = forward_kl_topk(reference.bfloat16(), *reference_topk(reference.bfloat16(), 8))
    assert kl.dtype == torch.float32
    assert kl.abs().max() < 1e-5
