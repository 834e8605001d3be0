"""Which tokens end an answer, and what the template does, by families that differ from Qwen3."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from guardrail.engines.in_process import completion, encode_prompts
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.profile import Profile
from guardrail.text import parse_answer

pytestmark = pytest.mark.trl1

TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
GLM = (
    "[gMASK]{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    + TURN[len("{% for m in messages %}") :]
)


def make(folder, template, *, special, eos, pad=None, generation=None, config=None):
    """A tokenizer of bytes with a family's special tokens, and the files beside it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, pad_token=pad)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = template
    ids = tokenizer.convert_tokens_to_ids
    (folder / "config.json").write_text(json.dumps({"vocab_size": 999} | (config or {})))
    if generation is not None:
        eos_ids = [ids(token) for token in generation]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos_ids}))
    return tokenizer, ids


def test_stop_tokens_are_those_of_tokenizer_generation_config_and_template_together(tmp_path):
    tokenizer, ids = make(
        tmp_path,
        TURN.replace("im_end", "eot_id") + OPENING,
        special=["<|im_start|>", "<|eot_id|>", "<|eom_id|>"],
        eos="<|end_of_text|>",
        generation=["<|end_of_text|>", "<|eom_id|>"],
    )
    profile = resolve_profile(tmp_path, tokenizer, thinking=False)
    stops = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
    assert set(profile.stop) == set(map(ids, stops))
    assert profile.pad in profile.stop, "Llama has no padding token"
    assert profile.vocabulary == 999


def test_the_token_that_opens_the_next_turn_ends_one_where_nothing_else_does(tmp_path):
    special = ["[gMASK]", "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer, ids = make(tmp_path, GLM, special=special, eos="<|endoftext|>", pad="<|endoftext|>")
    profile = resolve_profile(tmp_path, tokenizer, thinking=False)
    assert set(profile.stop) == {ids("<|endoftext|>"), ids("<|user|>")}
    assert profile.pad == ids("<|endoftext|>")
    assert profile.system_turns
    assert not profile.alternating


def test_a_template_that_refuses_is_known_and_an_item_it_refuses_is_named(tmp_path):
    tokenizer, _ = make(tmp_path, STRICT + OPENING, special=["<|im_start|>"], eos="<|im_end|>")
    profile = resolve_profile(tmp_path, tokenizer, thinking=False)
    assert profile.alternating
    assert not profile.system_turns
    chat = [{"role": "system", "content": "你是老师"}, {"role": "user", "content": "你好"}]
    with pytest.raises(InputError, match=r"roles must alternate.*system user"):
        encode_prompts(tokenizer, [chat], thinking=False)


THINKS = TURN + OPENING.replace("assistant\n", "assistant\n<think>\n")


def test_a_thought_that_was_cut_off_is_no_answer_where_the_prompt_opened_the_block(tmp_path):
    tokenizer, _ = make(tmp_path, THINKS, special=["<|im_start|>"], eos="<|im_end|>")
    profile = resolve_profile(tmp_path, tokenizer, thinking=True)
    assert profile.opened == "<think>\n"
    assert not profile.heeds_thinking

    def said(text: str) -> tuple[str, str]:
        one = completion(tokenizer, tokenizer(text, add_special_tokens=False).input_ids, profile)
        return parse_answer(one.text).text, one.finish_reason

    assert said("先想一想，再想") == ("", "length")
    assert said("想好了。\n</think>\n\n北京。<|im_end|>后面") == ("北京。", "stop")


def test_a_template_that_always_thinks_needs_a_recipe_that_says_so(tmp_path):
    tokenizer, _ = make(tmp_path, THINKS, special=["<|im_start|>"], eos="<|im_end|>")
    with pytest.raises(InputError, match="set `thinking: true`"):
        resolve_profile(tmp_path, tokenizer, thinking=False)


def test_an_answer_ends_at_whichever_stop_token_comes_first():
    class Letters:
        def decode(self, ids):
            return "".join(map(chr, ids))

    profile = Profile(
        stop=(49, 50),
        pad=0,
        thinking=False,
        heeds_thinking=False,
        opened="",
        system_turns=True,
        alternating=False,
        vocabulary=99,
    )
    one = completion(Letters(), [97, 98, 50, 49, 97], profile)
    assert (one.text, one.token_ids, one.finish_reason) == ("ab", (97, 98, 50), "stop")
