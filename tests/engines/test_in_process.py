import random

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from guardrail.anchors.decoding import Decoding
from guardrail.engines.decode import GenerationStopped
from guardrail.engines.in_process import (
    InProcessEngine,
    encode_prompts,
    kept_training_state,
)
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root

pytestmark = [pytest.mark.run, pytest.mark.trl1]
BASE = shipped_root() / "recipes/toy/base"
GREEDY = Decoding(mode="greedy", max_new_tokens=48)


@pytest.fixture(scope="module")
def base():
    return load_model(BASE)


@pytest.fixture(scope="module")
def items():
    return read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::25]


def profile(base):
    return resolve_profile(BASE, base[1], thinking=False)


def answers(base, items, decoding=GREEDY, *, seed=1, batch_size=6):
    return InProcessEngine(*base, decoding, profile(base), batch_size).answer(items, seed=seed)


def test_greedy_answers_do_not_depend_on_their_batch(base, items):
    together = answers(base, items, batch_size=None)
    alone = answers(base, items, batch_size=1)
    assert [a.text for a in together] == [a.text for a in alone]


def test_sampled_answers_repeat_with_the_seed_and_vary_without(base, items):
    sampled = Decoding(mode="sampled", temperature=1.0, top_p=1.0, max_new_tokens=48)
    first, again = (answers(base, items, sampled, seed=7) for _ in range(2))
    other = answers(base, items, sampled, seed=8)
    assert first == again
    assert first != other


def test_answers_stop_at_the_token_at_which_they_are_told_to(base, items):
    """Not at the end of a batch: one of long answers takes longer than a cluster gives notice."""
    model, _ = base
    asked = []

    def stop() -> bool:
        asked.append(model.training)
        return len(asked) > 5

    model.train()
    engine = InProcessEngine(*base, GREEDY, profile(base), 6, stop=stop)
    with pytest.raises(GenerationStopped, match="12 prompts are left"):
        engine.answer(items, seed=1)
    assert asked == [False] * 6
    assert model.training
    assert len(answers(base, items)) == 12
    model.eval()


def test_an_answer_ends_at_the_end_token_or_says_it_was_cut(base, items):
    tokenizer = base[1]
    cut = answers(base, items, Decoding(mode="greedy", max_new_tokens=3))
    assert {a.finish_reason for a in cut} <= {"length", "stop"}
    assert any(a.finish_reason == "length" and len(a.token_ids) == 3 for a in cut)
    for answer in answers(base, items):
        if answer.finish_reason == "stop":
            assert answer.token_ids[-1] == tokenizer.eos_token_id
            assert tokenizer.eos_token not in answer.text


def test_looking_leaves_modes_and_random_states_as_they_were(base, items):
    model = base[0]
    model.train()
    model.model.layers[0].eval()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    answers(base, items, Decoding(max_new_tokens=8))
    assert random.getstate() == expected[0]
    assert np.random.get_state()[1].tolist() == expected[1]
    assert torch.equal(torch.get_rng_state(), expected[2])
    assert model.training
    assert not model.model.layers[0].training
    assert torch.is_grad_enabled()


def test_state_is_restored_when_the_look_fails(base):
    model = base[0]
    model.train()
    before = torch.get_rng_state()
    with pytest.raises(IndexError), kept_training_state(model):
        torch.rand(3)[3]
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_thinking_mode_is_part_of_the_prompt(base):
    chat = [[{"role": "user", "content": "你好"}]]
    tokenizer = base[1]
    off, on = (encode_prompts(tokenizer, chat, thinking=t)[0] for t in (False, True))
    assert tokenizer.decode(off).endswith("<think>\n\n</think>\n\n")
    assert tokenizer.decode(on).endswith("<|im_start|>assistant\n")


def test_mean_gold_logprob_equals_the_definition(base, items):
    model, tokenizer = base
    engine = InProcessEngine(model, tokenizer, GREEDY, profile(base), 5)
    golds = [a.token_ids for a in engine.answer(items, seed=0)]
    batched = engine.mean_logprobs(engine.prompts(items), golds)
    model.eval()
    for prompt, gold, mean in zip(engine.prompts(items), golds, batched, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + list(gold)])).logits[0]
        logprobs = torch.log_softmax(logits.double(), -1)
        expected = np.mean(
            [logprobs[len(prompt) - 1 + n, token].item() for n, token in enumerate(gold)]
        )
        assert mean == pytest.approx(expected, abs=1e-4)


def test_no_prompt_at_all_gives_no_answer(base):
    assert answers(base, []) == []


OWN_DECODING = {
    "repetition_penalty": 1.9,
    "num_beams": 2,
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 40,
    "suppress_tokens": list(range(0, 1000, 3)),
    "stop_strings": ["的"],
    "temperature": 1.9,
    "min_p": 0.9,
    "do_sample": True,
}


@pytest.mark.parametrize("mode", ["greedy", "sampled"])
def test_the_models_own_generation_config_has_no_say(base, items, mode):
    model, decoding = base[0], Decoding(mode=mode, max_new_tokens=24)
    plain = answers(base, items, decoding)
    own = GenerationConfig(**OWN_DECODING)
    before, model.generation_config = model.generation_config, own
    try:
        assert answers(base, items, decoding) == plain
        assert model.generation_config is own
    finally:
        model.generation_config = before


def test_a_repetition_penalty_is_the_recipes(base, items):
    punished = answers(base, items, GREEDY.model_copy(update={"repetition_penalty": 1.9}))
    assert punished != answers(base, items)


def test_an_adapter_answers_without_the_models_own_decoding_too(items):
    model, tokenizer = load_model(shipped_root() / "recipes/toy/base")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    plain = answers((adapted, tokenizer), items)
    model.generation_config = GenerationConfig(**OWN_DECODING)
    assert answers((adapted, tokenizer), items) == plain
