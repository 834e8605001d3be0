"""What the tiny models of real families must be, so that the matrix can see a wrong stop token or template."""

import pytest
import torch

from guardrail.engines.in_process import encode_prompts
from tests.contracts.families import FAMILIES
from tests.contracts.tiny_models import make_model, make_tokenizer, shipped_texts

pytestmark = pytest.mark.run
ASKED = [{"role": "user", "content": "在吗"}]
OPENINGS = {
    "qwen3": "<|im_start|>user\n在吗<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "qwen3-thinking": "<|im_start|>user\n在吗<|im_end|>\n<|im_start|>assistant\n<think>\n",
    "qwen3-moe": "<|im_start|>user\n在吗<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "qwen2.5": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n<|im_start|>user\n在吗<|im_end|>\n<|im_start|>assistant\n",
    "gemma3": "<bos><start_of_turn>user\n在吗<end_of_turn>\n<start_of_turn>model\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n在吗<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "glm4": "[gMASK]<sop><|user|>\n在吗/nothink<|assistant|>\n<think></think>",
}
each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@each_family
def test_the_template_writes_what_the_family_reads(family):
    tokenizer = make_tokenizer(family)
    prompt = encode_prompts(tokenizer, [ASKED], thinking=False)[0]
    assert tokenizer.decode(prompt) == OPENINGS[family.name]
    # Every mark of the template is one token.
    marks = [name for name in (*family.special, *family.stops) if name in OPENINGS[family.name]]
    assert marks
    assert {tokenizer.convert_tokens_to_ids(name) for name in marks} <= set(prompt)


@each_family
def test_some_answers_end_and_others_do_not(family):
    tokenizer = make_tokenizer(family)
    model = make_model(family, tokenizer)
    chats = [[{"role": "user", "content": text}] for text in shipped_texts()[100:116]]
    stop = tokenizer.convert_tokens_to_ids(family.stops[0])
    torch.manual_seed(0)
    ended = 0
    for prompt in encode_prompts(tokenizer, chats, thinking=False):
        made = model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=12, do_sample=True, temperature=0.7,
            top_p=0.8, top_k=20, pad_token_id=0, eos_token_id=[stop],
        )  # fmt: skip
        ended += int(made[0, -1] == stop)
    assert 1 <= ended <= 14
