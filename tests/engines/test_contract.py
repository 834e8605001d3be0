"""What every engine must obey, whoever answers: on the same weights it gives what their definition gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.rollout import RolloutWriter
from guardrail.engines.vllm_client import VllmServer
from guardrail.engines.vllm_server import ServerEngine
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root
from tests.engines.real_vllm import vllm_server
from tests.engines.toy_rollout import ToyRollout
from tests.engines.toy_server import ToyServer

pytestmark = [pytest.mark.run, pytest.mark.trl1]
BASE = shipped_root() / "recipes/toy/base"
GREEDY = Decoding(mode="greedy", max_new_tokens=24)
SAMPLED = Decoding(mode="sampled", temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=24)


@pytest.fixture(scope="module")
def base():
    return load_model(BASE)


@pytest.fixture(scope="module")
def items():
    return read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::40]


@pytest.fixture(scope="module")
def server():
    with ToyServer(BASE) as toy:
        yield toy.url


@pytest.fixture(scope="module")
def real_server(tmp_path_factory):
    with vllm_server(BASE, tmp_path_factory.mktemp("vllm") / "log") as url:
        yield url


@pytest.fixture(
    params=["in-process", "rollout", "server", pytest.param("real_server", marks=pytest.mark.full)]
)
def engine(request, base):
    """Make an engine of one kind with a decoding."""
    profile = resolve_profile(BASE, base[1], thinking=False)

    def make(decoding):
        here = InProcessEngine(*base, decoding, profile, 4)
        if request.param == "in-process":
            return here
        if request.param == "rollout":
            return replace(here, writer=RolloutWriter(ToyRollout(base[0])))
        client = VllmServer(request.getfixturevalue(request.param), pause_s=0.01)
        return ServerEngine(client, client.served(), base[1], decoding, profile, here)

    return make


def logprobs(base, ids):
    """The definition: one whole forward of one text, without cache or padding."""
    model = base[0].eval()
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), -1)


def test_greedy_answers_are_the_likeliest_token_each_time(engine, base, items):
    asked = engine(GREEDY)
    stop = asked.profile.stop
    for prompt, answer in zip(asked.prompts(items), asked.answer(items, seed=0), strict=True):
        expected: list[int] = []
        while len(expected) < 24 and not (expected and expected[-1] in stop):
            expected.append(int(logprobs(base, prompt + expected)[-1].argmax()))
        assert list(answer.token_ids) == expected


def test_an_answer_ends_at_a_stop_token_or_at_the_limit_and_says_which(engine, base, items):
    ended = engine(GREEDY.model_copy(update={"max_new_tokens": 120})).answer(items, seed=0)
    assert {a.finish_reason for a in ended} >= {"stop"}
    for answer in ended:
        if answer.finish_reason == "stop":
            assert answer.token_ids[-1] == base[1].eos_token_id
            assert base[1].eos_token not in answer.text
            assert answer.text == base[1].decode(list(answer.token_ids[:-1]))
    cut = engine(GREEDY.model_copy(update={"max_new_tokens": 3})).answer(items, seed=0)
    assert {len(a.token_ids) for a in cut if a.finish_reason == "length"} == {3}


def test_the_profile_says_what_ends_an_answer(engine, base, items):
    asked = engine(GREEDY)
    third = asked.answer(items[:1], seed=0)[0].token_ids[2]
    profile = asked.profile.model_copy(update={"stop": (third,)})
    answer = replace(asked, profile=profile).answer(items[:1], seed=0)[0]
    assert (answer.token_ids[-1], answer.finish_reason) == (third, "stop")


def test_sampled_answers_repeat_with_the_seed_and_vary_without(engine, items):
    asked = engine(SAMPLED)
    first, again, other = (asked.answer(items, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_items_of_the_same_prompt_do_not_share_their_noise(engine, items):
    twins = [items[0].model_copy(update={"id": f"twin-{n}"}) for n in range(6)]
    assert len({a.token_ids for a in engine(SAMPLED).answer(twins, seed=1)}) > 1


@pytest.mark.parametrize("k", [5, 4000])
def test_topk_are_the_models_log_probabilities_at_each_gold_token(engine, base, items, k):
    """4,000 is more than the vocabulary holds: all of it, and nothing is left."""
    asked = engine(GREEDY)
    golds = [a.token_ids for a in asked.answer(items[:3], seed=0)]
    prompts = asked.prompts(items[:3])
    for prompt, gold, entry in zip(prompts, golds, asked.topk(items[:3], golds, k), strict=True):
        whole = logprobs(base, [*prompt, *gold])[len(prompt) - 1 : -1]
        best = whole.topk(min(k, whole.shape[-1]))
        assert entry.ids.shape == best.indices.shape
        np.testing.assert_allclose(entry.logprobs, best.values.numpy(), atol=2e-4)
        at_ids = whole.gather(1, torch.tensor(entry.ids, dtype=torch.int64))
        np.testing.assert_allclose(entry.logprobs, at_ids.numpy(), atol=2e-4)
        left = 1 - best.values.exp().sum(1).numpy()
        np.testing.assert_allclose(np.exp(entry.tail), left.clip(0), atol=1e-5)


def test_the_kl_error_of_top_k_is_the_weights_own_or_not_known(engine, items):
    asked = engine(GREEDY)
    golds = [a.token_ids for a in asked.answer(items, seed=0)]
    errors = asked.topk_error(items, golds, (4, 16), seed=0)
    assert 0 < errors[16] < errors[4] < 1


def test_a_servers_score_of_a_token_is_the_models_log_probability(engine, base, items):
    """What proves the weights of a server; other engines have them at hand."""
    asked = engine(GREEDY)
    if not isinstance(asked, ServerEngine):
        pytest.skip("not asked of an engine in this process")
    prompts = asked.prompts(items[:2])
    golds = [prompts[1][:9], prompts[0][3:12]]  # unlikely ones
    for prompt, gold, found in zip(
        prompts, golds, asked.token_logprobs(prompts, golds), strict=True
    ):
        whole = logprobs(base, [*prompt, *gold])[len(prompt) - 1 : -1]
        expected = whole.gather(1, torch.tensor(gold)[:, None])[:, 0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
