"""What each rank of a two-process run does; launched by torch.distributed.run from test_several_ranks.py.

python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.ranks_scripts gradient OUT guarded
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks.ranks_scripts train RECIPE OUT JSON
"""

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import trl
from peft import LoraConfig
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoTokenizer, set_seed

from guardrail.engines.in_process import InProcessEngine
from guardrail.guard.state import GuardState
from guardrail.models import teacher_forcing
from guardrail.models.load import load_model
from guardrail.recipe import Recipe, read_recipe
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.shipped import shipped_root
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.trl.sft import attach_kl
from tests.trainers.conftest import foreign_samples, made_rows, tiny_model

NEW_ADAPTER = LoraConfig(r=8, target_modules=["q_proj", "v_proj"])


def one_window(
    tokenizer, out: str, dtype=torch.float64, lora: LoraConfig | None = None, **settings
) -> trl.SFTTrainer:
    """A trainer of one step of two micro-batches on the made rows."""
    return trl.SFTTrainer(
        model=tiny_model(tokenizer, seed=1, dtype=dtype),
        args=trl.SFTConfig(
            output_dir=out,
            max_steps=1,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_grad_norm=0.0,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            bf16=False,
            seed=3,
            max_length=64,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_list(made_rows()),
        processing_class=tokenizer,
        peft_config=lora,
    )


def each_sample_alone() -> None:
    """Give each KL sample a forward of its own, computed again in the backward pass."""
    teacher_forcing.BUDGET = teacher_forcing.ForwardBudget(1, 1)


def gradient(out: str, how: str) -> None:
    """Save the gradient of one accumulated window, as rank 0 has it after the ranks averaged."""
    tokenizer = AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")
    samples = foreign_samples(tokenizer)  # before the trainer, whose seed orders the rows
    trainer = one_window(tokenizer, out, use_cpu=True)
    rank, size = trainer.accelerator.process_index, trainer.accelerator.num_processes
    each_sample_alone()
    if how == "guarded":
        state = GuardState(task_samples=36)  # 4 of 40 samples are due: two a rank
        injection = Injection(
            samples, state, fraction=0.1, weight=0.7, loss="kl", seed=0,
            pad_id=tokenizer.pad_token_id, rank=rank, world_size=size,
        )  # fmt: skip
        attach_kl(trainer, injection)
        injection.begin_step()
    trainer.create_optimizer_and_scheduler(1)
    step, found = trainer.optimizer.step, {}

    def keep(*args, **kwargs):
        parameters = trainer.accelerator.unwrap_model(trainer.model).parameters()
        found["gradient"] = np.concatenate([p.grad.numpy().ravel() for p in parameters])
        found["wrapped"] = type(trainer.model_wrapped).__name__
        return step(*args, **kwargs)

    trainer.optimizer.step = keep
    trainer.train()
    if rank == 0:
        np.savez(
            Path(out) / f"{how}.npz",
            gradient=found["gradient"],
            wrapped=found["wrapped"],
            distributed=str(trainer.accelerator.distributed_type),
        )


def sharded(out: str) -> None:
    """Save the term and its gradient on a model that FSDP2 has cut into pieces, in float64."""
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    tokenizer = AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")
    model = tiny_model(tokenizer, seed=1)
    mesh = init_device_mesh("cpu", (size,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    each_sample_alone()
    injection = Injection(
        foreign_samples(tokenizer), GuardState(task_samples=36), fraction=0.1, weight=0.7, loss="kl",
        seed=0, pad_id=tokenizer.pad_token_id, rank=rank, world_size=size,
    )  # fmt: skip
    injection.begin_step()
    term = injection.take_term(model)
    assert term is not None
    term.backward()
    kinds = {type(p).__name__ for p in model.parameters()}
    local = sum(p.to_local().numel() for p in model.parameters())
    whole = np.concatenate([p.grad.full_tensor().numpy().ravel() for p in model.parameters()])
    value = term.detach().clone()
    distributed.all_reduce(value)
    if rank == 0:
        np.savez(
            Path(out) / "sharded.npz",
            gradient=whole,
            term=float(value) / size,
            kinds=sorted(kinds),
            share=local / len(whole),
            wrapped=type(model).__name__,
        )
    distributed.destroy_process_group()


def train(recipe_file: str, out: str, options: str) -> None:
    """Train guarded; `options`: trainer arguments, LoRA, a rank whose look raises at a step, resume."""
    wanted = json.loads(options)
    recipe = read_recipe(recipe_file)
    model, tokenizer = load_model(recipe.gold_base)
    arguments = recipe.train.arguments | wanted.get("arguments", {})
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            **(arguments | {"output_dir": out, "seed": recipe.seed, "report_to": "none"})
        ),
        train_dataset=datasets.Dataset.from_list(read_training_rows(recipe.train.data).rows),
        processing_class=tokenizer,
        peft_config=NEW_ADAPTER if wanted.get("lora") else None,
    )
    train_guarded(trainer, recipe, Path(out), wanted)


def length(completions: list[Any], topic: list[str], **rest: Any) -> list[float]:
    """A reward that must never see a row without the user's own column."""
    assert all(one is not None for one in topic)
    return [len(completion[0]["content"]) / 10 for completion in completions]


def train_grpo(recipe_file: str, out: str, options: str) -> None:
    """The same with GRPO: four generations of eight tokens a prompt, rewarded by their length."""
    wanted = json.loads(options)
    recipe = read_recipe(recipe_file)
    train_guarded(grpo_trainer(recipe, out, wanted), recipe, Path(out), wanted)


def grpo_trainer(recipe: Recipe, out: str, wanted: dict[str, Any]) -> trl.GRPOTrainer:
    """The trainer of `train_grpo`."""
    model, tokenizer = load_model(recipe.gold_base)
    set_seed(recipe.seed)  # or a new adapter is another one in each run
    rows = read_training_rows(recipe.train.data).rows[:64]
    arguments = {
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "beta": 0.04,
        "save_steps": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "chat_template_kwargs": {"enable_thinking": recipe.thinking},
        "disable_tqdm": True,
    } | wanted.get("arguments", {})
    prompts = [{"prompt": r["messages"][:1], "topic": "collections"} for r in rows]
    return trl.GRPOTrainer(
        model=model,
        reward_funcs=[length],
        args=trl.GRPOConfig(
            **(arguments | {"output_dir": out, "seed": recipe.seed, "report_to": "none"})
        ),
        train_dataset=datasets.Dataset.from_list(prompts),
        processing_class=tokenizer,
        peft_config=NEW_ADAPTER if wanted.get("lora") else None,
    )


def train_guarded(trainer: Any, recipe: Recipe, out: Path, wanted: dict[str, Any]) -> None:
    """Attach, train, and write down what this rank saw."""
    resume = bool(wanted.get("resume"))
    callback = Guardrail.from_recipe(recipe).attach(trainer, resume=resume)
    rank = trainer.accelerator.process_index
    if wanted.get("failing_rank") == rank:
        answer = InProcessEngine.answer

        def failing(self, items, *, seed):
            if trainer.state.global_step >= wanted["failing_step"]:
                raise OSError("no room left")
            return answer(self, items, seed=seed)

        InProcessEngine.answer = failing
    checkpoint = callback.resume_from
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    facts = {
        "rank": rank,
        "step": trainer.state.global_step,
        "halted": callback.halted,
        "task_samples": callback.guard.state.task_samples,
        "rehearsal_seen": callback.guard.state.rehearsal_seen,
        "levels": [judged.level for judged in callback.guard.state.history],
        "learning_rate": trainer.optimizer.param_groups[0]["lr"],
        "boost": callback.guard.state.boost,
        "wrapped": type(trainer.model_wrapped).__name__,
        "distributed": str(trainer.accelerator.distributed_type),
        "weight_sum": callback.guard.state.weight_sum,
        "weights": float(sum(p.double().abs().sum() for p in trainer.model.parameters())),
    }
    Path(out, f"rank-{rank}.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    {"gradient": gradient, "train": train, "sharded": sharded, "train_grpo": train_grpo}[
        sys.argv[1]
    ](*sys.argv[2:])
