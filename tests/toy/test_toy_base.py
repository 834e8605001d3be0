import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import InProcessEngine
from guardrail.judge.look_values import measure_completions
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.probes.measure import check_passes
from guardrail.sets.items import ABILITIES, read_items
from guardrail.shipped import shipped_root
from recipes.toy.make.build_sets import _item
from recipes.toy.make.tasks import TASKS, bucket_of, draw_task

BASE = shipped_root() / "recipes/toy/base"


@pytest.fixture(scope="module")
def base():
    return load_model(BASE)


def test_every_generated_answer_passes_its_own_checks():
    rng = random.Random(11)
    for ability in TASKS:
        for number in range(150):
            task = draw_task(rng, ability, ("train", "redline", "rehearsal")[number % 3])
            item = _item(task, number, "t")
            for check in item.checks:
                assert check_passes(check, task.answer), (task.question, task.answer, check)


def test_refusals_of_the_toy_world_are_refusals():
    from guardrail.probes.refusal import is_refusal

    rng = random.Random(12)
    for _ in range(100):
        task = draw_task(rng, "refusal", "train")
        assert is_refusal(task.answer, task.question, "refuse")


def test_combinations_of_the_three_buckets_never_meet():
    rng = random.Random(13)
    found = {b: set() for b in ("train", "redline", "rehearsal")}
    for bucket, combinations in found.items():
        for ability in TASKS:
            for _ in range(100):
                combination = draw_task(rng, ability, bucket).combination
                assert bucket_of(combination) == bucket
                combinations.add(combination)
    assert not found["train"] & found["redline"]
    assert not found["train"] & found["rehearsal"]
    assert not found["redline"] & found["rehearsal"]


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_unicode_text_encodes_and_decodes_unchanged(base, text):
    tokenizer = base[1]
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.run
def test_base_passes_nine_of_ten_items_of_every_ability_it_never_saw(base):
    items = read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")
    profile = resolve_profile(BASE, base[1], thinking=False)
    engine = InProcessEngine(*base, Decoding(max_new_tokens=96), profile, 100)
    texts = [[a.text] for a in engine.answer(items, seed=5)]
    passed = measure_completions(items, texts, [t[0] for t in texts])["passed"][:, 0]
    rates = {
        ability: float(
            np.mean([p for p, i in zip(passed, items, strict=True) if i.ability == ability])
        )
        for ability in ABILITIES
    }
    assert min(rates.values()) >= 0.9, rates
