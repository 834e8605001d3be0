"""Tiny random models of the families: two layers, a small vocabulary, everything else as released.

Tokenizers are one byte-level BPE over the shipped sets' texts with the family's special tokens in the family's
roles: which token ends a turn, what `eos_token` is, whether there is a padding token.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers.decoders import ByteLevel

from guardrail.shipped import shipped_root
from tests.contracts.families import Family

TEMPLATES = Path(__file__).parent / "templates"
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
"""A random model of the usual 0.02 says every token with nearly the same probability."""
BPE_SIZE = 1200


def shipped_texts() -> list[str]:
    """Every prompt of the real sets, and the toy's dialogues."""
    root = shipped_root()
    files = [*root.glob("*_sets/zh-*/items.jsonl"), root / "recipes/toy/collections.jsonl"]
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    return [message["content"] for row in rows for message in row["messages"]]


@cache
def byte_pairs() -> str:
    """The BPE all families share, as tokenizer.json has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=9,
        show_progress=False,
    )
    tokenizer.train_from_iterator(shipped_texts(), trainer)
    return str(tokenizer.to_str())


def template(family: Family) -> str:
    """The family's chat template; Qwen3-Thinking-2507's is Qwen3's but for the opening it ends with."""
    text = (TEMPLATES / family.template).read_text("utf-8")
    if family.thinking != "opens":
        return text
    opening = r"(assistant\\n)' \}\}\n    \{%- if enable_thinking.*?\{%- endif %\}\n"
    changed, times = re.subn(opening, r"\1<think>\\n' }}\n", text, flags=re.S)
    assert times == 1
    return changed


def make_tokenizer(family: Family, *, swapped: bool = False) -> Any:
    """The family's tokenizer; `swapped` gives two common tokens each other's number."""
    content = json.loads(byte_pairs())
    if swapped:
        vocabulary = content["model"]["vocab"]
        a, b = list(vocabulary)[300], list(vocabulary)[301]
        vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    inner = Tokenizer.from_str(json.dumps(content))
    names = [family.pad, family.bos, family.eos, *family.stops, *family.special]
    inner.add_special_tokens(list(dict.fromkeys(name for name in names if name)))
    inner.add_tokens([AddedToken(name, normalized=False) for name in family.added])
    steps = [processors.ByteLevel(trim_offsets=False)]
    if family.adds_bos:
        special = [(family.bos, inner.token_to_id(family.bos))]
        steps.append(processors.TemplateProcessing(f"{family.bos} $A", special_tokens=special))
    inner.post_processor = processors.Sequence(steps)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=family.eos,
        pad_token=family.pad,
        bos_token=family.bos,
        model_max_length=2048,
    )
    tokenizer.chat_template = template(family)
    return tokenizer


def make_model(family: Family, tokenizer: Any, *, seed: int = 1) -> Any:
    """A random model in float32 that ends about every tenth token with the family's end of turn."""
    torch.manual_seed(seed)
    ids = tokenizer.convert_tokens_to_ids
    config = family.config(
        **SIZES
        | {
            "vocab_size": (len(tokenizer) + 63) // 64 * 64,
            "bos_token_id": ids(family.bos) if family.bos else None,
            "eos_token_id": ids(family.eos),
            "pad_token_id": ids(family.pad) if family.pad else None,
        }
        | family.settings
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        # What a norm multiplies by: Gemma's weights are the difference from 1.
        weight = model.model.norm.weight
        weight += family.final_norm - 1
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=[ids(name) for name in family.stops],
        pad_token_id=config.pad_token_id,
    )
    _let_turns_end(model, tokenizer, ids(family.stops[0]))
    return model


def _let_turns_end(model: Any, tokenizer: Any, stop: int) -> None:
    """Set the stop token's output row so that it is among the likeliest tokens at some places.

    Random weights hardly ever end a turn, and a wrong stop token would not show. The row is fitted to the
    model's own hidden states: its logit lies near the tenth best, above or below it by chance.
    """
    chats = [[{"role": "user", "content": text}] for text in shipped_texts()[:24]]
    hidden, tenth = [], []
    with torch.no_grad():
        for chat in chats:
            prompt = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=False
            )
            out = model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
            hidden.append(out.hidden_states[-1][0])
            tenth.append(out.logits[0].topk(10).values[:, -1])
        rows, wanted = torch.cat(hidden), torch.cat(tenth)
        noise = torch.randn(len(wanted), generator=torch.Generator().manual_seed(0))
        row = torch.linalg.lstsq(rows, (wanted + noise)[:, None]).solution[:, 0]
        model.get_output_embeddings().weight[stop] = row


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    """Write a model folder as a hub has it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
