"""The factor the KL term arrives with, seen in the backward pass."""

import pytest
import torch

from guardrail.errors import InputError
from guardrail.trainers.checks.kl_gradient_check import Normalisation


def window(watched, *, said: float, really: float, scale: float = 1.0):
    total = torch.ones(3, requires_grad=True).sum()
    watched.watch(total, said)
    (scale * really * total).backward()


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_the_factor_of_the_formula_passes_whatever_the_loss_scale(scale):
    watched = Normalisation()
    window(watched, said=0.3, really=0.3, scale=scale)
    assert watched.check(scale) == {"ratio": pytest.approx(1.0)}


@pytest.mark.parametrize("wrong", [0.5, 2.0, 4.0])
def test_a_trainer_that_divides_otherwise_is_refused(wrong):
    watched = Normalisation()
    window(watched, said=0.3, really=0.3 * wrong)
    with pytest.raises(InputError, match=f"weighs the KL term {wrong:.4g} times"):
        watched.check(1.0)


def test_two_windows_with_a_term_are_watched_and_no_more():
    watched = Normalisation()
    assert watched.check(1.0) is None
    for _ in range(2):
        window(watched, said=1.0, really=1.0)
        assert watched.check(1.0) is not None
    window(watched, said=1.0, really=9.0)
    assert watched.check(1.0) is None
