"""A trainer's vLLM shows which weights it has, here a copy of the toy base; it is told from one that keeps old ones."""

import contextlib
import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.rollout import RolloutWriter
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root
from tests.engines.toy_rollout import ToyRollout

pytestmark = [pytest.mark.run, pytest.mark.trl1]
BASE = shipped_root() / "recipes/toy/base"
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])


@pytest.fixture(scope="module")
def loaded():
    return load_model(BASE)


@pytest.fixture(scope="module")
def items():
    return read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::50]


class Asked:
    """A model in training, the copy that writes its rollouts, and who asks it."""

    def __init__(self, model, tokenizer, items, *, dtype=None) -> None:
        profile = resolve_profile(BASE, tokenizer, thinking=False)
        self.model, self.vllm = model, ToyRollout(model, dtype=dtype)
        self.writer = RolloutWriter(self.vllm)
        self.engine = InProcessEngine(
            model, tokenizer, Decoding(mode="greedy", max_new_tokens=24), profile, 8
        )
        self.engine = replace(self.engine, writer=self.writer)
        self.prompts = self.engine.prompts(items)

    def prove(self, step=0):
        return self.writer.prove(self.engine, self.prompts, seed=step, step=step)

    def train(self, size=0.05):
        """Move what is trained, as an optimizer would."""
        torch.manual_seed(3)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                spread = float(parameter.detach().std()) or 0.1
                parameter.data.add_(size * spread * torch.randn_like(parameter))


def lora(loaded, items):
    return Asked(get_peft_model(copy.deepcopy(loaded[0]), LORA), loaded[1], items)


def full(loaded, items, **more):
    return Asked(copy.deepcopy(loaded[0]), loaded[1], items, **more)


@pytest.fixture(params=[full, lora])
def either(request, loaded, items):
    return request.param(loaded, items)


@pytest.fixture
def asked(loaded, items):
    return full(loaded, items)


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_at_the_start_changed_weights_are_seen_to_come_and_go_and_are_left_as_they_were(either):
    before, mode = state_of(either.model), either.model.training
    changed, now = either.prove()
    for proof in (changed, now):
        assert proof.agrees
        assert proof.share == pytest.approx(1, abs=0.01)
        assert proof.moved >= 20 * proof.noise
    assert all(torch.equal(value, before[name]) for name, value in state_of(either.model).items())
    assert either.model.training == mode


def test_a_look_after_training_agrees_and_one_by_weights_of_before_does_not(either):
    either.prove()
    either.train()
    (fresh,) = either.prove(2)
    assert fresh.agrees
    either.vllm.takes = False
    either.train()
    with pytest.raises(InputError, match=r"has not the weights at step 4: .* nats a token") as told:
        either.prove(4)
    assert "`use_vllm` false" in str(told.value)


def test_an_adapter_that_never_arrives_has_gone_none_of_the_way(loaded, items):
    asked = lora(loaded, items)
    asked.prove()
    asked.vllm.takes = False
    asked.train()
    with pytest.raises(
        InputError, match="of the way from the model without its adapter it has gone 0 %"
    ):
        asked.prove(2)


def test_a_vllm_that_takes_no_weights_is_caught_before_anything_is_trained(asked):
    asked.vllm.takes = False
    with pytest.raises(InputError, match=r"does not take new weights at step 0.*gone 0 %"):
        asked.prove()


@pytest.mark.parametrize("kept", ["embed_tokens", "k_norm"])
def test_one_kind_of_parameter_that_stays_behind_is_caught_too(asked, kept):
    asked.vllm.keeps = kept
    with pytest.raises(InputError, match="does not take new weights"):
        asked.prove()


def test_weights_that_are_not_given_up_again_are_caught(asked):
    write = asked.vllm.write

    def once(*args):
        given = write(*args)
        asked.vllm.takes = False
        return given

    asked.vllm.write = once
    with pytest.raises(InputError, match="keeps weights it was to give up"):
        asked.prove()


def test_a_vllm_in_16_bits_of_the_same_weights_agrees_and_an_old_one_does_not(loaded, items):
    asked = full(loaded, items, dtype=torch.bfloat16)
    assert all(proof.agrees for proof in asked.prove())
    asked.train(0.02)
    (fresh,) = asked.prove(2)
    assert fresh.noise > 1e-3
    asked.vllm.takes = False
    asked.train(0.3)
    with pytest.raises(InputError, match="has not the weights at step 4"):
        asked.prove(4)


def test_no_log_probabilities_are_no_proof(asked):
    asked.prove()
    asked.vllm.gives_logprobs = False
    with pytest.raises(InputError, match="has not the weights at step 2"):
        asked.prove(2)


def test_an_answer_that_ends_for_no_reason_is_refused(asked, items):
    asked.vllm.ends_after = 2
    with pytest.raises(InputError, match="ended an answer after 2 tokens"):
        asked.engine.answer(items, seed=0)


def test_the_model_is_given_up_for_every_call(asked, items):
    given_up = []

    @contextlib.contextmanager
    def apart():
        given_up.append(len(asked.vllm.asked))
        yield

    engine = replace(asked.engine, apart=apart)
    asked.writer.prove(engine, asked.prompts, 0, 0)
    engine.answer(items, seed=0)
    assert given_up == [0, 1, 2]
