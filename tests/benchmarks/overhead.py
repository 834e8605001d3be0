"""What the KL term costs: CPU time of a training step, and peak memory, with and without it.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/overhead.py time --blocks 124
     OMP_NUM_THREADS=1 python tests/benchmarks/overhead.py memory
The toy SFT on one core. Time: blocks of steps with and without the term take turns in one process on the
very same rows, and CPU seconds are counted, so that neither other processes nor longer rows tell. Memory:
a larger random model, one process a case. No looks are taken: `guardrail check` estimates theirs.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time as clock
from pathlib import Path
from typing import Annotated, Any

import datasets
import numpy as np
import torch
import transformers
import trl
import typer

from guardrail.engines.in_process import encode_prompts
from guardrail.guard.state import GuardState
from guardrail.kl.token_losses import RehearsalSample, rehearsal_samples
from guardrail.models.load import load_model
from guardrail.recipe import read_recipe
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.kl_only.references import frozen_copy
from guardrail.trainers.trl.sft import attach_kl

BLOCK = 32
"""Steps of a block: 256 rows, of which 3 % more are 7 or 8 rehearsal samples."""
ROWS = 8
app = typer.Typer(add_completion=False)


def toy_samples(anchors: Path) -> dict[str, RehearsalSample]:
    """Return the toy recipe's rehearsal samples, their anchors made once."""
    recipe = read_recipe("toy-sft", anchors=str(anchors))
    guardrail = Guardrail.from_recipe(recipe)
    stored = guardrail.anchors()
    _, tokenizer = load_model(recipe.gold_base)
    ids = [item.id for item in guardrail.rehearsal]
    prompts = encode_prompts(tokenizer, [i.chat() for i in guardrail.rehearsal], thinking=False)
    golds = {i: stored.answers[i][0].token_ids for i in ids}
    return rehearsal_samples(dict(zip(ids, prompts, strict=True)), golds, stored.topk)


def toy_trainer(model: Any, tokenizer: Any, rows: list[dict[str, Any]], **changes: Any) -> Any:
    """Return the toy recipe's trainer over these rows in this order."""
    recipe = read_recipe("toy-sft")
    arguments = recipe.train.arguments | {
        "output_dir": tempfile.mkdtemp(),
        "save_strategy": "no",
        "logging_steps": 10_000,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": ROWS,
    }
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(**(arguments | changes)),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer._get_train_sampler = lambda dataset=None: torch.utils.data.SequentialSampler(
        trainer.train_dataset
    )
    return trainer


class TakingTurns(transformers.TrainerCallback):
    """Switches the term on and off block by block and counts the CPU seconds of each."""

    def __init__(self, trainer: Any, injection: Injection) -> None:
        self.trainer, self.injection = trainer, injection
        self.plain = trainer.compute_loss
        attach_kl(trainer, injection)
        self.guarded = trainer.compute_loss
        self.seconds: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        block, step = divmod(state.global_step, BLOCK)
        # plain, guarded, guarded, plain: a drift of the machine falls on both alike
        on = block % 4 in (1, 2)
        if step == 0:
            self.trainer.compute_loss = self.guarded if on else self.plain
            self.seconds.append(-clock.process_time())
        if on:
            self.injection.begin_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.injection.add_counts(self.injection.take_counts())
        if state.global_step % BLOCK == 0:
            self.seconds[-1] += clock.process_time()
            typer.echo(f"block {len(self.seconds)}: {self.seconds[-1]:.2f} s", err=True)


@app.command()
def time(
    anchors: Annotated[Path, typer.Option()] = Path("anchors/overhead"),
    blocks: Annotated[int, typer.Option(help="A multiple of 4; the first 4 are not counted.")] = 40,
    fraction: Annotated[float, typer.Option()] = 0.03,
) -> None:
    """Print guarded over unguarded CPU seconds of pairs of blocks."""
    samples = toy_samples(anchors)
    recipe = read_recipe("toy-sft")
    model, tokenizer = load_model(recipe.gold_base)
    rows = read_training_rows(recipe.train.data).rows[: ROWS * BLOCK]
    trainer = toy_trainer(
        model, tokenizer, rows, max_steps=blocks * BLOCK, learning_rate=1e-5, warmup_steps=0
    )
    state = GuardState()
    injection = Injection(
        samples, state, fraction=fraction, weight=0.3, loss="kl", seed=0,
        pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    turns = TakingTurns(trainer, injection)
    trainer.add_callback(turns)
    trainer.train()
    seconds = np.array(turns.seconds[4:]).reshape(-1, 4)
    ratios = seconds[:, [1, 2]].sum(1) / seconds[:, [0, 3]].sum(1)
    rng = np.random.default_rng(0)
    draws = rng.choice(ratios, (10_000, len(ratios))).mean(1)
    tokens = sum(len(row) for row in trainer.train_dataset["input_ids"]) / len(rows)
    result = {
        "overhead": round(float(ratios.mean()) - 1, 4),
        "interval_95": [round(float(q) - 1, 4) for q in np.quantile(draws, [0.025, 0.975])],
        "quartiles": [round(float(q) - 1, 4) for q in np.quantile(ratios, [0.25, 0.5, 0.75])],
        "groups_of_four_blocks": len(ratios),
        "step_ms": round(1000 * float(seconds[:, [0, 3]].mean()) / BLOCK, 2),
        "share": round(state.exposure(len(samples))["share"], 4),
        "task_tokens_a_row": round(tokens, 1),
        "rehearsal_tokens_a_sample": round(
            float(np.mean([len(s.prompt) + len(s.gold) for s in samples.values()])), 1
        ),
    }
    typer.echo(json.dumps(result))


def large_model(tokenizer: Any) -> Any:
    """Return a random model of 57 million parameters, 230 MB, with the toy's vocabulary."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return transformers.Qwen3ForCausalLM(config)


@app.command()
def memory(
    anchors: Annotated[Path, typer.Option()] = Path("anchors/overhead"),
    case: Annotated[str, typer.Option(help="none, stored or frozen; empty runs all.")] = "",
) -> None:
    """Print the peak of the resident memory of a short run, unguarded and with either reference."""
    if not case:
        peaks = {}
        for each in ("none", "stored", "frozen"):
            command = [sys.executable, __file__, "memory", "--anchors", anchors, "--case", each]
            done = subprocess.run(
                [*map(str, command)], capture_output=True, text=True, check=True, timeout=900
            )
            peaks |= json.loads(done.stdout.splitlines()[-1])
        typer.echo(json.dumps(peaks))
        return
    samples = toy_samples(anchors)
    recipe = read_recipe("toy-sft")
    _, tokenizer = load_model(recipe.gold_base)
    rows = read_training_rows(recipe.train.data).rows[: ROWS * 4]
    trainer = toy_trainer(large_model(tokenizer), tokenizer, rows, max_steps=4)
    if case != "none":
        pad_id = tokenizer.pad_token_id
        injection = Injection(
            samples, GuardState(task_samples=1000), fraction=0.03, weight=0.3, loss="kl", seed=0,
            pad_id=pad_id,
            reference=frozen_copy(large_model(tokenizer), pad_id) if case == "frozen" else None,
        )  # fmt: skip
        attach_kl(trainer, injection)
        one = dict(list(samples.items())[:1])
        injection._pending = list(one)
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    typer.echo(json.dumps({case: round(peak)}))


if __name__ == "__main__":
    app()
