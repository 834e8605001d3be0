"""What each rank of a two-process run does; launched by torch.distributed.run from test_several_ranks.py.

python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks_scripts gradient OUT guarded
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ranks_scripts train RECIPE OUT JSON
"""

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import trl
from peft import LoraConfig
from transformers import AutoTokenizer

from guardrail.engines.in_process import InProcessEngine, load_model
from guardrail.recipe import read_recipe
from guardrail.run import read_training_rows
from guardrail.shipped import shipped_root
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.injection import Injection
from guardrail.trainers.state import GuardState
from guardrail.trainers.trl_sft import attach_kl
from tests.trainers.conftest import foreign_samples, made_rows, tiny_model


def gradient(out: str, how: str) -> None:
    """Save the gradient of one accumulated window, as rank 0 has it after the ranks averaged."""
    tokenizer = AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")
    samples = foreign_samples(tokenizer)  # before the trainer, whose seed orders the rows
    trainer = trl.SFTTrainer(
        model=tiny_model(tokenizer, seed=1),
        args=trl.SFTConfig(
            output_dir=out,
            max_steps=1,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_grad_norm=0.0,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            seed=3,
            max_length=64,
        ),
        train_dataset=datasets.Dataset.from_list(made_rows()),
        processing_class=tokenizer,
    )
    rank, size = trainer.accelerator.process_index, trainer.accelerator.num_processes
    if how == "guarded":
        state = GuardState(task_samples=18)  # 2 of 20 samples are due: one a rank
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


def train(recipe_file: str, out: str, options: str) -> None:
    """Train guarded; `options`: trainer arguments, LoRA, a rank whose look raises at a step, resume."""
    wanted = json.loads(options)
    recipe = read_recipe(recipe_file)
    model, tokenizer = load_model(recipe.gold_base)
    arguments = recipe.train.arguments | wanted.get("arguments", {})
    lora = wanted.get("lora", False)
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            **(arguments | {"output_dir": out, "seed": recipe.seed, "report_to": "none"})
        ),
        train_dataset=datasets.Dataset.from_list(read_training_rows(recipe.train.data)),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"]) if lora else None,
    )
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
        "weights": float(sum(p.double().abs().sum() for p in model.parameters())),
    }
    Path(out, f"rank-{rank}.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    {"gradient": gradient, "train": train}[sys.argv[1]](*sys.argv[2:])
