"""A server's weights are told from stale ones by log-probabilities: the arithmetic, and on the toy base."""

import numpy as np
import pytest
import torch

from guardrail.engines.proof import compare

RNG = np.random.default_rng(0)


def made(tokens=800, *, moved, rounding, share=1.0):
    """Log-probabilities as a server would give them that has gone a share of the way from other weights."""
    other = -RNG.gamma(1.0, 1.0, tokens)
    way = moved * RNG.standard_normal(tokens)

    def noise(size=1.0):
        return size * rounding * RNG.standard_normal(tokens)

    here = other + way
    asked = other + share * way + noise(2.0)
    return [asked], [here], [[here + noise()] for _ in range(3)], [other + noise()]


def test_the_numbers_are_those_of_their_definition():
    proof = compare(
        [np.array([0.0, 2.0]), np.array([4.0])],
        [np.array([0.0, 1.0]), np.array([2.0])],
        [[np.array([0.0, 1.0]), np.array([2.3])], [np.array([0.1, 1.0]), np.array([2.0])]],
        [np.array([0.0, 0.0]), np.array([np.nan])],
    )
    assert proof.tokens == 3
    assert proof.off == pytest.approx(np.sqrt((0 + 1 + 4) / 3))
    assert proof.noise == pytest.approx(np.sqrt(0.3**2 / 3))
    assert proof.moved == pytest.approx(np.sqrt(1 / 2))
    assert proof.share == pytest.approx(2.0)
    assert not proof.agrees


@pytest.mark.parametrize("moved", [0.05, 0.5, 2.0])
def test_rounding_of_16_bits_does_not_hide_stale_weights(moved):
    """Noise of 0.02 nats a token, in a server's kernels twice as much: as much as the least fine-tuning here."""
    fresh = compare(*made(8000, moved=moved, rounding=0.02))
    stale = compare(*made(8000, moved=moved, rounding=0.02, share=0.0))
    between = compare(*made(8000, moved=moved, rounding=0.02, share=0.6))
    assert fresh.agrees
    assert not stale.agrees
    assert not between.agrees


def test_the_right_weights_are_hardly_ever_refused():
    seen = [
        compare(*made(600, moved=0.06, rounding=0.02)).agrees
        for _ in range(300)
    ]  # fmt: skip
    assert sum(seen) >= 298


def test_weights_that_cannot_be_told_apart_are_not_said_to_be():
    same = compare(*made(moved=0.0, rounding=0.02))
    assert same.share is None
    assert same.agrees
    assert compare(*made(8000, moved=0.01, rounding=0.02, share=0.0)).share is None
    assert compare(*made(20, moved=0.1, rounding=0.02)).share is None


def test_other_weights_than_either_are_seen_by_their_distance():
    asked, here, noisy, others = made(moved=0.5, rounding=0.02)
    assert not compare([asked[0] + RNG.standard_normal(800)], here, noisy, None).agrees
    assert not compare([asked[0] + RNG.standard_normal(800)], here, noisy, others).agrees


@pytest.mark.run
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_server_of_the_same_weights_agrees_and_of_moved_ones_does_not(dtype):
    from guardrail.anchors.decoding import Decoding
    from guardrail.engines.in_process import InProcessEngine
    from guardrail.engines.vllm_client import VllmServer
    from guardrail.engines.vllm_server import ServerEngine
    from guardrail.engines.which_weights import prove_weights
    from guardrail.errors import InputError
    from guardrail.models.end_of_turn import resolve_profile
    from guardrail.models.load import load_model
    from guardrail.sets.items import read_items
    from guardrail.shipped import shipped_root
    from tests.engines.toy_server import ToyServer

    base = shipped_root() / "recipes/toy/base"
    items = read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::40]
    model, tokenizer = load_model(base, dtype=dtype)
    profile = resolve_profile(base, tokenizer, thinking=False)
    local = InProcessEngine(model, tokenizer, Decoding(), profile, 8)
    with ToyServer(base, dtype=dtype) as toy:
        client = VllmServer(toy.url, pause_s=0.01)
        engine = ServerEngine(client, client.served(), tokenizer, Decoding(), profile)
        prompts = engine.prompts(items)
        texts = [p[:1] for p in prompts], [p[1:] for p in prompts]
        proof = prove_weights(engine, local, *texts, what="base")
        assert proof.off <= 3 * proof.noise
        with torch.no_grad():
            for p in toy.models["toy"].parameters():
                p.add_(0.1 * p.std() * torch.randn_like(p))
        with pytest.raises(InputError, match="weights are stale or another model's"):
            prove_weights(engine, local, *texts, what="base")
