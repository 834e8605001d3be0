import pytest
import torch

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import InProcessEngine, encode_prompts
from guardrail.engines.multiple_choice import LETTERS, Choice, draw_choices, right_choices
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.shipped import shipped_root

HEADER = ",Question,A,B,C,D,Answer\n"


@pytest.fixture(scope="module")
def engine():
    model, tokenizer = load_model(shipped_root() / "recipes/toy/base")
    profile = resolve_profile(model.name_or_path, tokenizer, thinking=False)
    return InProcessEngine(model, tokenizer, Decoding(mode="greedy", max_new_tokens=8), profile, 3)


def write_benchmark(path, answers):
    rows = [f"{i},第{i}题选哪一个,甲{i},乙{i},丙{i},丁{i},{a}\n" for i, a in enumerate(answers)]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def test_only_questions_with_a_known_answer_are_drawn(tmp_path):
    known = write_benchmark(tmp_path / "known.csv", "ABCD")
    hidden = write_benchmark(tmp_path / "hidden.csv", ["", "", "b"])
    drawn = draw_choices([known, hidden], 100, seed=0)
    assert sorted(c.right for c in drawn) == ["A", "B", "B", "C", "D"]
    assert all("A. 甲" in c.prompt and "D. 丁" in c.prompt for c in drawn)


def test_the_draw_is_capped_and_repeats_with_its_seed(tmp_path):
    file = write_benchmark(tmp_path / "many.csv", "ABCD" * 10)
    first = draw_choices([file], 12, seed=0)
    assert len({c.prompt for c in first}) == 12
    assert first == draw_choices([file], 12, seed=0)
    assert first != draw_choices([file], 12, seed=1)


def test_right_is_the_letter_the_model_finds_likeliest(engine, tmp_path):
    drawn = draw_choices([write_benchmark(tmp_path / "a.csv", "ABCDABCD")], 8, seed=0)
    ids = [engine.tokenizer.encode(letter)[0] for letter in LETTERS]
    likeliest = []
    for choice in drawn:  # one by one, without padding, as an independent computation
        chat = [{"role": "user", "content": choice.prompt}]
        prompt = encode_prompts(engine.tokenizer, [chat], thinking=False)[0]
        with torch.no_grad():
            logits = engine.model(input_ids=torch.tensor([prompt])).logits[0, -1]
        likeliest.append(LETTERS[int(logits[ids].argmax())])
    assert right_choices(engine, drawn) == [
        c.right == letter for c, letter in zip(drawn, likeliest, strict=True)
    ]
    all_right = [Choice(c.prompt, letter) for c, letter in zip(drawn, likeliest, strict=True)]
    assert all(right_choices(engine, all_right))


def test_a_tokenizer_that_cannot_tell_the_letters_apart_is_refused(engine, monkeypatch):
    monkeypatch.setattr(engine.tokenizer, "encode", lambda *args, **kwargs: [5])
    with pytest.raises(InputError, match="benchmark_questions: 0"):
        right_choices(engine, [Choice("选哪个", "A")])
