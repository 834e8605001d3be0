"""What each rank of a DeepSpeed run on gloo does; launched by torch.distributed.run from test_deepspeed.py.

python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.deepspeed_scripts gradient STAGE OUT HOW
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.deepspeed_scripts train STAGE RECIPE OUT JSON
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.deepspeed_scripts whole STAGE RECIPE OUT
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Before accelerate is asked for anything: with `use_cpu` it would train with plain DDP and say nothing, and
# without it and a GPU it finds no backend and takes each rank for a run of its own.
from accelerate import PartialState

PartialState(backend="gloo")

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import trl  # noqa: E402
from deepspeed.utils import safe_get_full_grad  # noqa: E402
from transformers import AutoTokenizer, TrainerCallback  # noqa: E402

from guardrail.engines.in_process import load_model  # noqa: E402
from guardrail.recipe import read_recipe  # noqa: E402
from guardrail.run import read_training_rows, run_recipe  # noqa: E402
from guardrail.shipped import shipped_root  # noqa: E402
from guardrail.trainers.injection import Injection  # noqa: E402
from guardrail.trainers.references import adapter_off  # noqa: E402
from guardrail.trainers.state import GuardState  # noqa: E402
from guardrail.trainers.trl_sft import attach_kl  # noqa: E402
from tests.trainers.conftest import ADAPTER, foreign_samples  # noqa: E402
from tests.trainers.ranks_scripts import one_window, train_guarded  # noqa: E402


def settings(stage: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Trainer arguments for a stage, `more` beside it in DeepSpeed's own config."""
    return {
        "deepspeed": (more or {})
        | {
            "zero_optimization": {
                "stage": int(stage),
                "stage3_gather_16bit_weights_on_model_save": True,
                # By default each rank keeps small parameters whole, and the toy has hardly any other.
                "stage3_param_persistence_threshold": 0,
            },
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "zero_allow_untested_optimizer": True,
        },
        "accelerator_config": {"use_configured_state": True},
        "use_cpu": False,
    }


def gradient(stage: str, out: str, how: str) -> None:
    """Save the gradient of one accumulated window and the value of its KL term, as rank 0 has them.

    HOW: `plain` or `guarded`, with `lora-` before it on a LoRA adapter; `lora-off-guarded` is pulled to the
    model below the adapter.
    """
    tokenizer = AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")
    samples = foreign_samples(tokenizer)  # before the trainer, whose seed orders the rows
    lora = ADAPTER if how.startswith("lora-") else None
    # TRL checkpoints gradients in a way that the guard refuses on an adapter under ZeRO-3.
    trainer = one_window(
        tokenizer, out, torch.float32, lora, **settings(stage), gradient_checkpointing=lora is None
    )
    if lora is not None and trainer.args.process_index == 0:
        torch.save(trainer.model.state_dict(), Path(out) / f"{how}.pt")
    rank, size = trainer.accelerator.process_index, trainer.accelerator.num_processes
    found: dict[str, Any] = {"term": 0.0}
    if how.endswith("guarded"):
        off = adapter_off(trainer.accelerator, tokenizer.pad_token_id)
        reference = off if how == "lora-off-guarded" else None
        state = GuardState(task_samples=18)  # 2 of 20 samples are due: one a rank
        injection = Injection(
            samples, state, fraction=0.1, weight=0.7, loss="kl", seed=0,
            pad_id=tokenizer.pad_token_id, rank=rank, world_size=size, reference=reference,
        )  # fmt: skip
        take_term = injection.take_term

        def kept(model: Any) -> Any:
            term = take_term(model)
            if term is not None:
                every = trainer.accelerator.gather(term.detach().reshape(1))
                found["term"] = float(every.mean())
            return term

        injection.take_term = kept
        attach_kl(trainer, injection)
        injection.begin_step()
    backward = trainer.accelerator.backward

    def backward_before_step(loss: Any, **kwargs: Any) -> None:
        engine = trainer.model_wrapped
        step = engine.step

        def keep(*args: Any, **rest: Any) -> Any:
            trained = [p for p in trainer.model.parameters() if p.requires_grad]
            parts = [safe_get_full_grad(p) for p in trained]
            found["gradient"] = np.concatenate([p.double().numpy().ravel() for p in parts])
            found["engine"] = type(engine).__name__
            found["stage"] = engine.zero_optimization_stage()
            return step(*args, **rest)

        engine.step = keep
        try:
            backward(loss, **kwargs)
        finally:
            engine.step = step

    trainer.accelerator.backward = backward_before_step
    trainer.train()
    if rank == 0:
        np.savez(
            Path(out) / f"{how}.npz",
            distributed=str(trainer.accelerator.distributed_type),
            size=size,
            **found,
        )


class Rates(TrainerCallback):
    """Keeps the rate of every step that the innermost optimizer takes; kills its rank after one."""

    def __init__(self, trainer: Any, killed_after: int | None) -> None:
        self.trainer, self.killed_after = trainer, killed_after
        self.rates: dict[int, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        def keep(optimizer: Any, *rest: Any) -> None:
            self.rates[state.global_step + 1] = optimizer.param_groups[0]["lr"]

        self.trainer.model_wrapped.basic_optimizer.register_step_pre_hook(keep)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.killed_after:
            os.kill(os.getpid(), signal.SIGKILL)


def train(stage: str, recipe_file: str, out: str, options: str) -> None:
    """Train guarded with a recipe's arguments.

    `options` as in `ranks_scripts`, and `killed_after` a step, and `deepspeed`, more of DeepSpeed's config.
    """
    wanted = json.loads(options)
    recipe = read_recipe(recipe_file)
    arguments = recipe.train.arguments | wanted.get("arguments", {})
    arguments |= settings(stage, wanted.get("deepspeed"))
    config = trl.SFTConfig(
        **(arguments | {"output_dir": out, "seed": recipe.seed, "report_to": "none"})
    )
    model, tokenizer = load_model(recipe.gold_base)
    trainer = trl.SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(read_training_rows(recipe.train.data)),
        processing_class=tokenizer,
        peft_config=ADAPTER if wanted.get("lora") else None,
    )
    rates = Rates(trainer, wanted.get("killed_after"))
    trainer.add_callback(rates)
    train_guarded(trainer, recipe, Path(out), wanted)
    file = Path(out, f"rates-{trainer.accelerator.process_index}.json")
    file.write_text(json.dumps(rates.rates), encoding="utf-8")


def whole(stage: str, recipe_file: str, out: str) -> None:
    """Carry out a recipe as `guardrail run` does."""
    recipe = read_recipe(recipe_file)
    arguments = recipe.train.arguments | settings(stage)
    train = recipe.train.model_copy(update={"arguments": arguments})
    finished = run_recipe(recipe.model_copy(update={"train": train}), Path(out))
    told = {"before": finished.domain_loss_before, "after": finished.domain_loss}
    Path(out, f"rank-{PartialState().process_index}.json").write_text(
        json.dumps(told), encoding="utf-8"
    )


if __name__ == "__main__":
    {"gradient": gradient, "train": train, "whole": whole}[sys.argv[1]](*sys.argv[2:])
