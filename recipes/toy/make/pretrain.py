"""Build the toy base: train its tokenizer and a Qwen3 of about a million parameters on the tasks.

Run: python -m recipes.toy.make.pretrain --out recipes/toy/base --domain recipes/toy/collections.jsonl
Left out on purpose: data files, mixed precision, several processes; it takes minutes on two cores.
"""

import json
import math
import random
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from recipes.toy.make.tasks import TASKS, draw_task

__all__ = ["build_tokenizer", "pretrain"]

CHAT_TEMPLATE = (
    "{%- set ns = namespace(last_query=-1) %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}"
    "{%- set ns.last_query = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last_query and loop.last %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}{{- '\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
"""ChatML with Qwen3's empty think block when `enable_thinking` is false."""

SPLIT = (
    r"\p{Han}|(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen splits text before its byte-level BPE, and each Han character apart: a small model
copies names it never saw only where they are tokens of their own."""


def build_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, so that any Unicode text encodes and decodes unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=special,
        model_max_length=1024,
    )
    wrapped.add_tokens(["<think>", "</think>"])
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


BATCH = {
    "instruction": 10,
    "writing": 6,
    "translation": 6,
    "long_text": 10,
    "reasoning": 10,
    "format": 10,
    "refusal": 4,
}
"""Tasks of each ability in one step: more of those that are harder to learn."""


def _batches(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One step's tasks in four chunks of like length."""
    rows = []
    size = sum(BATCH.values())
    for ability in [a for a, count in BATCH.items() for _ in range(count)]:
        task = draw_task(rng, ability, "train")
        chat = [{"role": "user", "content": task.question}]
        prompt = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, enable_thinking=False, tokenize=False
        )
        rows.append((str(prompt), task.answer + "<|im_end|>"))
    prompts = tokenizer([p for p, _ in rows]).input_ids
    answers = tokenizer([a for _, a in rows]).input_ids
    pairs = sorted(zip(prompts, answers, strict=True), key=lambda pair: len(pair[0] + pair[1]))
    chunks = []
    for start in range(0, size, size // 4):
        chunk = pairs[start : start + size // 4]
        width = max(len(p) + len(a) for p, a in chunk)
        ids = torch.full((len(chunk), width), tokenizer.pad_token_id)
        labels = torch.full((len(chunk), width), -100)
        for row, (p, a) in enumerate(chunk):
            ids[row, : len(p) + len(a)] = torch.tensor(p + a)
            labels[row, len(p) : len(p) + len(a)] = torch.tensor(a)
        chunks.append((ids, labels))
    return chunks


def _domain_texts(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [message["content"] for row in rows for message in row["messages"]]


def pretrain(
    out: Annotated[Path, typer.Option(help="folder of the model to write")],
    domain: Annotated[Path, typer.Option(help="chat rows whose text the tokenizer also covers")],
    steps: int = 1800,
    learning_rate: float = 2e-3,
    hidden_size: int = 128,
    layers: int = 4,
    vocab_size: int = 2304,
    seed: int = 20261121,
) -> None:
    """Train the toy base and write it as a Hugging Face model folder."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    samples = [draw_task(rng, ability, "train") for ability in TASKS for _ in range(600)]
    texts = [t.question + "\n" + t.answer for t in samples] + _domain_texts(domain)
    tokenizer = build_tokenizer(texts, vocab_size)
    config = Qwen3Config(
        vocab_size=math.ceil(len(tokenizer) / 64) * 64,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden_size // 2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.05
    )
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    started = time.monotonic()
    columns = (
        TextColumn("step {task.completed}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=steps)
        for step in range(steps):
            chunks = _batches(tokenizer, rng)
            tokens = sum(int((labels != -100).sum()) for _, labels in chunks)
            loss = 0.0
            for ids, labels in chunks:
                mask = (ids != tokenizer.pad_token_id).long()
                part = model(
                    input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=tokens
                ).loss
                part.backward()
                loss += part.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.update(bar, advance=1, description=f"loss {loss:.4f} nats a token")
            if step % 100 == 0:
                print(f"step {step} loss {loss:.4f} {time.monotonic() - started:.0f}s", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"last loss {loss:.4f} nats an answer token, {time.monotonic() - started:.0f} s, {out}")


if __name__ == "__main__":
    typer.run(pretrain)
