"""A user's GRPO script with one line more: `python -m tests.trainers.grpo.grpo_scripts RECIPE OUT JSON`."""

import json
import sys
from pathlib import Path

import datasets
import trl
from peft import LoraConfig

from guardrail.models.load import load_model
from guardrail.recipe import read_recipe
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.trainers.attach import Guardrail


def polite(completions, **columns) -> list[float]:
    """The user's reward: how often 您 is said; it must never see a row without its own columns."""
    assert all(topic is not None for topic in columns["topic"])
    return [completion[0]["content"].count("您") / 10 for completion in completions]


def keep_weights_apart() -> None:
    """Two ways in which vLLM's CPU build and the trainer would share, or not share, weights as no GPU has it.

    It packs weights once: those of a layer, which then cannot be loaded, and the output layer's, which stay behind. And it
    multiplies an adapter by its scaling where it lies, which without a copy to another device is in the trainer.
    """
    import torch
    from vllm.lora.lora_weights import LoRALayerWeights
    from vllm.model_executor.layers import utils

    def unpacked(layer, remove_weight) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    scale = LoRALayerWeights.optimize

    def scaled_copy(weights):
        weights.lora_b = weights.lora_b.clone()
        return scale(weights)

    utils.dispatch_cpu_unquantized_gemm = unpacked
    LoRALayerWeights.optimize = scaled_copy


def go_stale(trainer, step: int) -> None:
    """From this step on the trainer's vLLM is handed no weights."""
    sync = trainer.vllm_generation.sync_weights

    def once() -> None:
        if trainer.state.global_step < step:
            sync()

    trainer.vllm_generation.sync_weights = once


def main(recipe_file: str, out: str, options: str) -> None:
    wanted = json.loads(options)
    if wanted.get("vllm"):
        keep_weights_apart()
    recipe = read_recipe(recipe_file)
    model, tokenizer = load_model(recipe.gold_base)
    rows = [
        {"prompt": row["messages"][:1], "topic": "collections"}
        for row in read_training_rows(recipe.train.data).rows[:64]
    ]
    arguments = {
        "output_dir": out,
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 16,
        "learning_rate": 1e-4,
        "beta": 0.04,
        "loss_type": "dapo",
        "save_steps": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "seed": recipe.seed,
        "remove_unused_columns": False,
        "chat_template_kwargs": {"enable_thinking": recipe.thinking},
        "disable_tqdm": True,
    } | wanted.get("arguments", {})
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"]) if wanted.get("lora") else None
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=[polite],
        args=trl.GRPOConfig(**arguments),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )
    if wanted.get("stale_from") is not None:
        go_stale(trainer, wanted["stale_from"])
    callback = Guardrail.from_recipe(recipe).attach(trainer, resume=bool(wanted.get("resume")))
    checkpoint = callback.resume_from
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    told = {
        "step": trainer.state.global_step,
        "halted": callback.halted,
        "learning_rate": trainer.optimizer.param_groups[0]["lr"],
        **callback.injection.exposure(),
    }
    if wanted.get("vllm"):
        told["rollouts"] = [trainer.vllm_generation.temperature, trainer.vllm_generation.top_k]
    Path(out, "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
