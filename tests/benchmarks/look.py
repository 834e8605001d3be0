"""Cost of a look's answers, against transformers' `generate` item by item and in batches of 32; the same answers checked.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/look.py
CPU seconds of one process. Two models: the toy base on its red line, and a random Qwen3 of 0.3 billion parameters in
bf16 whose answers end at one of many stop tokens, so that their lengths differ as answers' do. Item by item every
fourth item is answered and counted four times.
"""

import json
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import transformers
import typer

from guardrail.anchors.decoding import Decoding
from guardrail.engines.decode import answer_tokens
from guardrail.engines.in_process import encode_prompts
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root

WORDS = 151_936
ALONE = 4
"""Of so many items one is answered by itself."""
app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A model, prompts and what ends an answer."""

    name: str
    model: Any
    prompts: list[list[int]]
    stops: Collection[int]
    new_tokens: int

    def decoding(self, mode: Any) -> Decoding:
        """Return the recipe's default decoding, or greedy."""
        return Decoding(mode=mode, max_new_tokens=self.new_tokens)


def toy(items: int, new_tokens: int) -> Asked:
    """Return the toy base and its red line."""
    base = shipped_root() / "recipes/toy/base"
    model, tokenizer = load_model(base)
    red_line = read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[:items]
    prompts = encode_prompts(tokenizer, [item.chat() for item in red_line], thinking=False)
    stops = resolve_profile(base, tokenizer, thinking=False).stop
    return Asked("toy", model.eval(), prompts, stops, new_tokens)


def large(items: int, new_tokens: int) -> Asked:
    """Return a random Qwen3 of 0.3 billion parameters and prompts of 15 to 60 random tokens."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=WORDS, hidden_size=1024, intermediate_size=3072, num_hidden_layers=10,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
        initializer_range=0.05,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    model.generation_config = transformers.GenerationConfig()
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, WORDS, rng.integers(15, 60)).tolist() for _ in range(items)]
    stops = rng.choice(WORDS, WORDS // 20, replace=False).tolist()  # an answer of twenty tokens
    return Asked("0.3 B", model, prompts, stops, new_tokens)


def by_generate(
    asked: Asked, prompts: Sequence[list[int]], mode: str, rows: int
) -> list[list[int]]:
    """What `generate` answers in length-sorted, left-padded batches of so many rows."""
    wanted, stops = asked.decoding(mode), set(asked.stops)
    config = transformers.GenerationConfig(
        max_new_tokens=wanted.max_new_tokens, do_sample=mode == "sampled", pad_token_id=0,
        eos_token_id=list(asked.stops),
        **({} if mode == "greedy" else {"temperature": wanted.temperature, "top_p": wanted.top_p, "top_k": wanted.top_k}),
    )  # fmt: skip
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        width = max(len(prompts[i]) for i in chosen)
        padded = [[0] * (width - len(prompts[i])) + prompts[i] for i in chosen]
        mask = [[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in chosen]
        made = asked.model.generate(
            input_ids=torch.tensor(padded),
            attention_mask=torch.tensor(mask),
            generation_config=config,
        )
        for i, row in zip(chosen, made[:, width:].tolist(), strict=True):
            end = next((at + 1 for at, token in enumerate(row) if token in stops), len(row))
            found[i] = row[:end]
    return [found[i] for i in range(len(prompts))]


def cpu_seconds(work: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    """Return what `work` took and returned."""
    started = time.process_time()
    answers = work()
    return time.process_time() - started, answers


def measure(asked: Asked, mode: str) -> dict[str, Any]:
    """Return the seconds of each way, our share of the others', and how many answers are the same."""

    def ours(prompts: Sequence[list[int]]) -> list[list[int]]:
        return answer_tokens(asked.model, prompts, asked.decoding(mode), set(asked.stops), seed=0)

    ours(asked.prompts[:2])  # what is loaded at the first call
    some = asked.prompts[::ALONE]
    own, answers = cpu_seconds(lambda: ours(asked.prompts))
    batched, in_batches = cpu_seconds(lambda: by_generate(asked, asked.prompts, mode, 32))
    again, _ = cpu_seconds(lambda: ours(asked.prompts))
    alone, one_by_one = cpu_seconds(lambda: by_generate(asked, some, mode, 1))
    alone *= len(asked.prompts) / len(some)
    own = (own + again) / 2
    found = {
        "model": asked.name,
        "decoding": mode,
        "items": len(asked.prompts),
        "prompt_tokens": sum(map(len, asked.prompts)),
        "answer_tokens": sum(map(len, answers)),
        "answer_tokens_in_batches": sum(map(len, in_batches)),
        "seconds": {"ours": own, "batches of 32": batched, "item by item": alone},
        "of_item_by_item": own / alone,
        "of_batches_of_32": own / batched,
    }
    if mode == "greedy":
        found["same_as_item_by_item"] = [
            sum(map(list.__eq__, answers[::ALONE], one_by_one)),
            len(some),
        ]
        found["same_as_in_batches"] = [sum(map(list.__eq__, answers, in_batches)), len(answers)]
        found["batches_as_item_by_item"] = [
            sum(map(list.__eq__, in_batches[::ALONE], one_by_one)),
            len(some),
        ]
    return found


@app.command()
def main(
    toy_items: Annotated[int, typer.Option(help="Of 300.")] = 300,
    items: Annotated[int, typer.Option(help="Prompts of the larger model; 0 leaves it out.")] = 64,
    new_tokens: Annotated[int, typer.Option(help="Longest answer of the larger model.")] = 64,
) -> None:
    """Measure both models, greedy and sampled, and print a line of JSON each."""
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    cases = [lambda: toy(toy_items, 96)] + [lambda: large(items, new_tokens)] * (items > 0)
    for case in cases:
        asked = case()
        for mode in ("greedy", "sampled"):
            with torch.no_grad():
                typer.echo(json.dumps(measure(asked, mode)))


if __name__ == "__main__":
    app()
