"""Our decoding against transformers' `generate`, on the families; and what a batch may hold."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache, GenerationConfig

from guardrail.anchors.decoding import Decoding
from guardrail.engines import decode
from guardrail.engines.batches import Room, batches, room_for
from guardrail.engines.decode import answer_tokens
from guardrail.engines.in_process import encode_prompts
from tests.contracts.families import FAMILIES
from tests.contracts.tiny_models import make_model, make_tokenizer, shipped_texts

run = [pytest.mark.run, pytest.mark.trl1]
each_family = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=run) for name in FAMILIES if name != "qwen3-thinking"]
)
GREEDY = Decoding(mode="greedy", max_new_tokens=24)
SAMPLED = Decoding(mode="sampled", max_new_tokens=24)


def of_family(name, prompts=12):
    """The family's tiny model, prompts of very different lengths and its stop tokens."""
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family)
    model = make_model(family, tokenizer)
    model.generation_config = GenerationConfig()
    texts = sorted(shipped_texts(), key=len)[:: len(shipped_texts()) // prompts][:prompts]
    chats = [[{"role": "user", "content": text}] for text in texts]
    encoded = encode_prompts(tokenizer, chats, thinking=False)
    return model, encoded, [tokenizer.convert_tokens_to_ids(stop) for stop in family.stops]


def by_transformers(model, prompts, decoding, stops):
    """What `generate` answers to each prompt by itself, up to and with the first stop token."""
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=stops[0],
        repetition_penalty=decoding.repetition_penalty,
    )  # fmt: skip
    rows = [torch.tensor([prompt]) for prompt in prompts]
    made = [
        model.generate(input_ids=row, attention_mask=torch.ones_like(row), generation_config=config)
        for row in rows
    ]
    return [one[0, row.shape[1] :].tolist() for one, row in zip(made, rows, strict=True)]


@each_family
@torch.no_grad()
def test_greedy_answers_are_those_of_generate_item_by_item(name, monkeypatch):
    model, prompts, stops = of_family(name)
    expected = by_transformers(model, prompts, GREEDY, stops)
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 2, "rows leave the batch at different tokens"
    assert answer_tokens(model, prompts, GREEDY, stops, seed=0) == expected
    monkeypatch.setattr(decode, "_READ_AT_ONCE", 5 * len(prompts))  # prompts in pieces
    assert answer_tokens(model, prompts, GREEDY, stops, seed=0) == expected


@each_family
@torch.no_grad()
def test_a_repetition_penalty_is_that_of_generate_item_by_item(name):
    model, prompts, stops = of_family(name)
    punished = GREEDY.model_copy(update={"repetition_penalty": 1.5})
    expected = by_transformers(model, prompts, punished, stops)
    assert expected != by_transformers(model, prompts, GREEDY, stops)
    assert answer_tokens(model, prompts, punished, stops, seed=0) == expected


@each_family
@torch.no_grad()
def test_drawn_answers_do_not_depend_on_what_is_asked_besides(name):
    model, prompts, stops = of_family(name)
    together = answer_tokens(model, prompts, SAMPLED, stops, seed=3)
    some = answer_tokens(model, prompts[::-3], SAMPLED, stops, seed=3, most_rows=2)
    assert some == together[::-3]
    assert answer_tokens(model, prompts, SAMPLED, stops, seed=4) != together


@pytest.mark.run
@pytest.mark.trl1
@torch.no_grad()
def test_an_adapters_answers_are_those_of_generate_and_not_the_bases():
    model, prompts, stops = of_family("qwen3")
    plain = answer_tokens(model, prompts, GREEDY, stops, seed=0)
    torch.manual_seed(0)
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    ).eval()
    answers = answer_tokens(adapted, prompts, GREEDY, stops, seed=0)
    assert answers != plain
    assert answers == by_transformers(adapted, prompts, GREEDY, stops)


@pytest.mark.run
@torch.no_grad()
def test_out_of_memory_halves_the_batch_and_keeps_what_is_answered():
    model, prompts, stops = of_family("qwen3")
    whole = answer_tokens(model, prompts, SAMPLED, stops, seed=0)
    forward, seen = model.forward, []

    def small(**options):
        seen.append(len(options["input_ids"]))
        if seen[-1] > 4:
            raise torch.OutOfMemoryError("no room for so many rows")
        return forward(**options)

    model.forward = small
    assert answer_tokens(model, prompts, SAMPLED, stops, seed=0) == whole
    assert [count for count in seen if count > 4] == [12, 6]

    def none(**options):
        if len(options["input_ids"][0]) > 1:
            raise torch.OutOfMemoryError("not even one")
        return forward(**options)

    model.forward = none
    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        answer_tokens(model, prompts, SAMPLED, stops, seed=0)


@pytest.mark.run
@torch.no_grad()
def test_long_answers_say_how_far_they_are(monkeypatch, caplog):
    model, prompts, stops = of_family("qwen3")
    answer_tokens(model, prompts, GREEDY, stops, seed=0)
    assert not caplog.messages
    monkeypatch.setattr(decode, "_TOLD_EVERY_S", 0)
    answer_tokens(model, prompts, GREEDY, stops, seed=0, most_rows=6)
    assert caplog.messages[0] == "answering: 0 of 12 prompts are answered, others are at token 0 of 24 at most"  # fmt: skip
    counts = [int(said.split()[1]) for said in caplog.messages]
    assert counts == sorted(counts)
    assert counts[-1] >= 6


def test_tokens_are_drawn_as_often_as_they_are_likely():
    """Against the definition: temperature, the k best, of these the fewest that make up p."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, 3.0]])
    decoding = Decoding(mode="sampled", temperature=1.5, top_k=5, top_p=0.9)
    raised = np.exp(logits[0].double().numpy() / 1.5)
    kept = np.sort(raised)[::-1][:5]
    kept = kept[np.concatenate([[0], np.cumsum(kept / kept.sum())[:-1]]) < 0.9]
    wanted = np.where(raised >= kept.min(), raised, 0) / kept.sum()
    assert 0 < (wanted > 0).sum() < 6
    count = 20_000
    draws = torch.from_numpy(np.random.default_rng(0).random(count, dtype=np.float32))
    rows = logits.expand(count, -1)
    drawn = decode._choose(torch.zeros(count, 1, dtype=torch.long), rows, decoding, draws)
    share = np.bincount(drawn.numpy(), minlength=6) / count
    assert share == pytest.approx(wanted, abs=0.015)
    whole = Decoding(mode="sampled", temperature=1.0, top_k=0, top_p=1.0)
    drawn = decode._choose(torch.zeros(count, 1, dtype=torch.long), rows, whole, draws)
    share = np.bincount(drawn.numpy(), minlength=6) / count
    assert share == pytest.approx(torch.softmax(logits[0], -1).numpy(), abs=0.015)


@pytest.mark.parametrize("draw", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_no_draw_falls_on_a_token_without_probability(draw):
    logits = torch.tensor([[-float("inf"), 0.3, 0.1, -float("inf")]])
    whole = Decoding(mode="sampled", temperature=1.0, top_k=0, top_p=1.0)
    drawn = decode._choose(torch.zeros(1, 1), logits, whole, torch.tensor([draw]))
    assert int(drawn) in (1, 2)


ROOMY = Room(rows=100, padding=10**6, memory_bytes=10**9, token_bytes=1, row_bytes=1)


def test_a_batch_holds_what_rows_padding_and_memory_allow():
    lengths = [10, 300, 12, 11, 310]
    few = Room(rows=2, padding=10**6, memory_bytes=10**9, token_bytes=1, row_bytes=1)
    assert batches(lengths, ROOMY) == [[0, 3, 2, 1, 4]]
    assert batches(lengths, few) == [[0, 3], [2, 1], [4]]
    apart = Room(rows=100, padding=20, memory_bytes=10**9, token_bytes=1, row_bytes=1)
    assert batches(lengths, apart) == [[0, 3, 2], [1, 4]]
    tight = Room(rows=100, padding=10**6, memory_bytes=3000, token_bytes=2, row_bytes=1000)
    assert batches(lengths, tight) == [[0, 3], [2], [1], [4]]
    assert batches([], ROOMY) == []


@each_family
@torch.no_grad()
def test_a_tokens_memory_is_what_the_cache_takes(name):
    model, prompts, _ = of_family(name)
    room = room_for(model, {"use_cache": True}, new_tokens=8, most_rows=None)
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([prompts[0][:8]]), past_key_values=cache, use_cache=True)
    taken = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert room.token_bytes * 8 == taken
