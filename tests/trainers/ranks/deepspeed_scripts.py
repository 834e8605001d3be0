"""What each rank of a DeepSpeed run on gloo does; launched by torch.distributed.run from test_deepspeed.py.

python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.deepspeed_scripts gradient STAGE OUT HOW
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.deepspeed_scripts train STAGE RECIPE OUT JSON
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.deepspeed_scripts whole STAGE RECIPE OUT
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.deepspeed_scripts grpo STAGE RECIPE OUT JSON
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.deepspeed_scripts grpo_gradients STAGE BASE OUT
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.deepspeed_scripts rollout STAGE RECIPE OUT JSON
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before accelerate is asked for anything: with `use_cpu` it would train with plain DDP and say nothing, and
# without it and a GPU it finds no backend and takes each rank for a run of its own.
from accelerate import PartialState
from accelerate.state import AcceleratorState

PartialState(backend="gloo")

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import trl  # noqa: E402
from deepspeed.utils import safe_get_full_grad  # noqa: E402
from transformers import AutoTokenizer, TrainerCallback, set_seed  # noqa: E402
from trl.generation.vllm_generation import VLLMGeneration  # noqa: E402

from guardrail.guard.state import GuardState  # noqa: E402
from guardrail.models.load import load_model  # noqa: E402
from guardrail.recipe import Recipe, read_recipe  # noqa: E402
from guardrail.run import run_recipe  # noqa: E402
from guardrail.sets.read.training_rows import read_training_rows  # noqa: E402
from guardrail.shipped import shipped_root  # noqa: E402
from guardrail.trainers.attach import Guardrail  # noqa: E402
from guardrail.trainers.grpo.forms import attach_golds  # noqa: E402
from guardrail.trainers.kl_only.normalised_kl_term import Injection  # noqa: E402
from guardrail.trainers.kl_only.references import adapter_off  # noqa: E402
from guardrail.trainers.trl.grpo_mixing import KL_ONLY  # noqa: E402
from guardrail.trainers.trl.sft import attach_kl  # noqa: E402
from guardrail.trainers.trl.trl_seam import trl_seam  # noqa: E402
from tests.engines.toy_rollout import ToyRollout  # noqa: E402
from tests.trainers.conftest import ADAPTER, foreign_samples, tiny_model  # noqa: E402
from tests.trainers.grpo.grpo_fixtures import (  # noqa: E402
    DEFAULTS,
    Scorer,
    attach,
    perturb,
    task_rows,
)
from tests.trainers.ranks.ranks_scripts import (  # noqa: E402
    NEW_ADAPTER,
    grpo_trainer,
    one_window,
    train_guarded,
)


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


def keep_gradient(trainer: Any, found: dict[str, Any]) -> None:
    """Write down what an optimizer step is about to act on, and what takes it."""
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
    keep_gradient(trainer, found)
    trainer.train()
    if rank == 0:
        np.savez(
            Path(out) / f"{how}.npz",
            distributed=str(trainer.accelerator.distributed_type),
            size=size,
            **found,
        )


def grpo_gradients(stage: str, base: str, out: str) -> None:
    """Save the gradient of one accumulated GRPO window with each form of KL-only samples, weighing 0.7 and 0."""
    for how in ("literal", "lora-literal", "anchored"):
        for weight in (0.7, 0.0):
            AcceleratorState._reset_state()  # else accelerate lets DeepSpeed in once a process
            grpo_gradient(stage, base, Path(out), how, weight)


def grpo_gradient(stage: str, base: str, out: Path, how: str, weight: float) -> None:
    """Save the gradient and what each rank trained on; every completion gets the same reward."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    samples = foreign_samples(tokenizer)
    one_window_of_four_groups = {
        "output_dir": str(out),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "model_init_kwargs": {"dtype": "float32"},
        "generation_kwargs": {"sequence_bias": [[[tokenizer.eos_token_id], 9.0]]},
    }
    config = trl.GRPOConfig(**(DEFAULTS | one_window_of_four_groups | settings(stage)))
    policy = tiny_model(tokenizer, seed=1, dtype=torch.float32)
    policy.config._name_or_path = base  # where TRL loads the reference from
    lora = how.startswith("lora-")
    if not lora:  # an adapter is of random weights, and the reference is the model below it
        perturb(policy)
    scorer = Scorer(constant=True)
    trainer = trl.GRPOTrainer(
        model=policy,
        reward_funcs=scorer,
        args=config,
        train_dataset=datasets.Dataset.from_list(task_rows(8)),
        processing_class=tokenizer,
        peft_config=ADAPTER if lora else None,
    )
    rank, size = trainer.accelerator.process_index, trainer.accelerator.num_processes
    if lora and rank == 0:
        torch.save(trainer.model.state_dict(), out / "lora.pt")
    found: dict[str, Any] = {}
    if how == "anchored":
        state = GuardState(task_samples=18)  # 2 of 20 samples are due: one a rank
        injection = Injection(
            samples, state, fraction=0.1, weight=weight, loss="kl", seed=0,
            pad_id=tokenizer.pad_token_id, rank=rank, world_size=size,
        )  # fmt: skip
        attach_golds(trainer, injection)
        injection.begin_step()
    else:
        state = GuardState()
        attach(trainer, state, fraction=0.25, weight=weight)
        compute_loss = trainer.compute_loss

        def recorded(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            number = sum(name.startswith(KL_ONLY) for name in found)
            for key in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", KL_ONLY):
                found[f"{key}/{number}"] = inputs[key].numpy()
            return compute_loss(model, inputs, *args, **kwargs)

        trainer.compute_loss = recorded
    keep_gradient(trainer, found)
    trainer.train()
    counts = [state.task_samples, state.rehearsal_seen, len(scorer.rewards)]
    np.savez(out / f"{how}-{weight}-rank{rank}.npz", counts=counts, **found)


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
    set_seed(recipe.seed)  # or a new adapter is another one in each run
    trainer = trl.SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(read_training_rows(recipe.train.data).rows),
        processing_class=tokenizer,
        peft_config=NEW_ADAPTER if wanted.get("lora") else None,
    )
    train_told(trainer, recipe, Path(out), wanted)


def grpo(stage: str, recipe_file: str, out: str, options: str) -> None:
    """Train guarded with GRPO; `options` as in `train`."""
    wanted = json.loads(options)
    wanted["arguments"] = wanted.get("arguments", {}) | settings(stage, wanted.get("deepspeed"))
    recipe = read_recipe(recipe_file)
    train_told(grpo_trainer(recipe, out, wanted), recipe, Path(out), wanted)


def train_told(trainer: Any, recipe: Recipe, out: Path, wanted: dict[str, Any]) -> None:
    """Train guarded, and write down what this rank's optimizer stepped with."""
    rates = Rates(trainer, wanted.get("killed_after"))
    trainer.add_callback(rates)
    train_guarded(trainer, recipe, out, wanted)
    file = out / f"rates-{trainer.accelerator.process_index}.json"
    file.write_text(json.dumps(rates.rates), encoding="utf-8")


class HandedOver(ToyRollout):
    """A copy of the model on every rank, filled by what TRL hands a colocated vLLM."""

    trainer: Any

    def _take(self) -> None:
        vllm = VLLMGeneration.__new__(VLLMGeneration)
        vllm.model, vllm.accelerator = self.trainer.model, self.trainer.accelerator
        vllm.mode, vllm.enable_sleep_mode, vllm.is_fsdp_enabled = "colocate", False, False
        worker = SimpleNamespace(model_runner=SimpleNamespace(model=self))
        executor = SimpleNamespace(driver_worker=worker)
        vllm.llm = SimpleNamespace(
            llm_engine=SimpleNamespace(model_executor=executor), reset_prefix_cache=lambda: None
        )
        vllm.sync_weights()

    def load_weights(self, named: list[tuple[str, torch.Tensor]]) -> None:
        mine = dict(self.mine.named_parameters())
        for name, value in named:
            mine[name].data.copy_(value)


def rollout(stage: str, recipe_file: str, out: str, options: str) -> None:
    """Train guarded with GRPO, looks answered by what TRL hands the weights to."""
    wanted = json.loads(options)
    wanted["arguments"] = wanted.get("arguments", {}) | settings(stage)
    recipe = read_recipe(recipe_file)
    vllm = HandedOver(load_model(recipe.gold_base)[0])
    trainer = vllm.trainer = grpo_trainer(recipe, out, wanted)
    seam = replace(trl_seam(trainer), vllm=lambda trainer, guarded: vllm)
    Guardrail.from_recipe(recipe).attach(trainer, seam=seam)
    trainer.train()


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
    {
        "gradient": gradient,
        "train": train,
        "whole": whole,
        "grpo": grpo,
        "grpo_gradients": grpo_gradients,
        "rollout": rollout,
    }[sys.argv[1]](*sys.argv[2:])
