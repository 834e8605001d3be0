"""Peak memory of the KL term and of a tripwire at a vocabulary of 152,000, against one micro-batch of the task.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/memory.py
A random Qwen3 of two layers in bf16 on the CPU, one process a case; Linux only, which can forget a peak. The task's
micro-batch is 8 rows of 512 tokens; the term is that of 5 % of a window of 256 rows, 13 samples of a few hundred
tokens; the tripwire watches the golds of 300 items (`--items`).
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import torch
import transformers
import typer

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.store import TopK
from guardrail.engines.in_process import InProcessEngine
from guardrail.guard.state import GuardState
from guardrail.kl.token_losses import rehearsal_samples
from guardrail.trainers.kl_only.normalised_kl_term import Injection

WORDS = 152_000
TOP_K = 64
_PROFILE: Any = SimpleNamespace(pad=0)
"""What teacher forcing asks of a model's profile."""
app = typer.Typer(add_completion=False)


def model() -> Any:
    """Return a random Qwen3 of 83 million parameters, most of them embeddings."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=WORDS, hidden_size=512, intermediate_size=1536, num_hidden_layers=2,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, tie_word_embeddings=True,
        pad_token_id=0,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def rows(count: int, prompt: tuple[int, int], gold: tuple[int, int]) -> list[tuple[Any, Any]]:
    """Return so many prompts and golds of random tokens, with lengths drawn from the two ranges."""
    rng = np.random.default_rng(0)

    def tokens(bounds: tuple[int, int]) -> list[int]:
        return rng.integers(1, WORDS, rng.integers(*bounds)).tolist()

    return [(tokens(prompt), tokens(gold)) for _ in range(count)]


def injection() -> Injection:
    """Return an injection in whose window 13 of 269 samples are due, against a random reference."""
    rng = np.random.default_rng(1)
    prompts, golds, topk = {}, {}, {}
    for number, (prompt, gold) in enumerate(rows(13, (80, 200), (150, 350))):
        name, size = f"r-{number:02d}", len(gold)
        prompts[name], golds[name] = prompt, gold
        kept = np.log(np.full((size, TOP_K), 0.9 / TOP_K, np.float32))
        ids = rng.integers(0, WORDS, (size, TOP_K)).astype(np.int32)
        topk[name] = TopK(ids, kept, np.log(np.full(size, 0.1, np.float32)))
    made = Injection(
        rehearsal_samples(prompts, golds, topk), GuardState(task_samples=256), fraction=0.05,
        weight=1.0, loss="kl", seed=0, pad_id=0,
    )  # fmt: skip
    made.begin_step()
    return made


def task_loss(policy: Any) -> torch.Tensor:
    """Return the task's loss on one micro-batch, as the model computes it."""
    ids = torch.randint(1, WORDS, (8, 512), generator=torch.Generator().manual_seed(2))
    loss: torch.Tensor = policy(input_ids=ids, labels=ids, use_cache=False).loss
    return loss


def task(items: int) -> Callable[[Any], None]:
    return lambda policy: task_loss(policy).backward()


def term(items: int) -> Callable[[Any], None]:
    due = injection()
    return lambda policy: due.take_term(policy).backward()  # type: ignore[union-attr]


def task_and_term(items: int) -> Callable[[Any], None]:
    due = injection()

    def both(policy: Any) -> None:
        loss = task_loss(policy)
        (loss + due.take_term(policy)).backward()

    return both


def golds_of_all_items(items: int) -> Callable[[Any], None]:
    watched = rows(items, (30, 200), (50, 400))

    def measure(policy: Any) -> None:
        engine: Any = InProcessEngine(policy, None, Decoding(), _PROFILE, 32)
        engine.mean_logprobs([p for p, _ in watched], [g for _, g in watched])

    return measure


def tripwire(items: int) -> Callable[[Any], None]:
    from guardrail.guard.tripwire_plan import sample_golds

    prompts, golds = zip(*rows(items, (30, 200), (50, 400)), strict=True)
    look = sum(map(len, prompts)) + sum(map(len, golds))
    wire = sample_golds(["ability"] * items, prompts, golds, look // 10, seed=0)
    typer.echo(f"tripwire: {len(wire.golds)} golds, {wire.tokens} of {look} tokens", err=True)

    def measure(policy: Any) -> None:
        engine: Any = InProcessEngine(policy, None, Decoding(), _PROFILE, 32)
        engine.mean_logprobs(wire.prompts, wire.golds)

    return measure


CASES = {case.__name__: case for case in (task, term, task_and_term, golds_of_all_items, tripwire)}


def resident(name: str) -> float:
    """Return a figure of /proc/self/status in MB: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


@app.command()
def main(
    case: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(CASES)}; all if empty.")
    ] = None,
    items: Annotated[int, typer.Option(help="Golds of the red line.")] = 300,
    here: Annotated[bool, typer.Option(help="In this process.")] = False,
) -> None:
    """Print for each case the MB above the resting model at the peak, and the seconds."""
    for name in case or list(CASES):
        if not here:
            line = [sys.executable, __file__, "--case", name, "--items", str(items), "--here"]
            subprocess.run(line, check=True)
            continue
        policy, carry_out = model().train(), CASES[name](items)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        rest, started = resident("VmRSS"), time.perf_counter()
        carry_out(policy)
        seconds = time.perf_counter() - started
        result = {name: round(resident("VmHWM") - rest), "model": round(rest), "s": round(seconds)}
        typer.echo(json.dumps(result))


if __name__ == "__main__":
    app()
