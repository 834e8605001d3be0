"""What is measured inside ms-swift's SFT trainer, in a process of its own: importing `swift` patches
transformers for everything else in the process. Run from test_ms_swift.py:

python -m tests.trainers.ms_swift.swift_scripts RECIPE DATA OUT
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ms_swift.swift_scripts RECIPE DATA OUT
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from swift.dataset import PackingDataset
from swift.model import MODEL_MAPPING
from swift.pipelines.train.rlhf import SwiftRLHF
from swift.pipelines.train.sft import SwiftSft
from swift.trainers import TrainerFactory
from transformers import TrainerCallback

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.kl.schedule import rehearsal_order
from guardrail.recipe import read_recipe
from guardrail.shipped import shipped_root
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.ms_swift import command_line
from guardrail.trainers.ms_swift.plugin import attach_swift
from guardrail.trainers.task_prompts import tokenised
from guardrail.trainers.trl.sft import attach_kl
from tests.trainers.conftest import foreign_samples

ON_THE_TOY_BASE = (
    "--model_type qwen3 --template qwen3 --use_hf true --check_model false --torch_dtype float32 "
    "--bf16 false --fp16 false --use_cpu true --report_to none --split_dataset_ratio 0 "
    "--max_length 192 --seed 3 --logging_steps 1"
)


def build(data: str, out: str, *, model: object = None, **options: object):
    """ms-swift's own trainer of a command line, as `swift sft` or `swift rlhf` makes it."""
    pipeline_class = SwiftRLHF if "rlhf_type" in options else SwiftSft
    given = {"model": model or shipped_root() / "recipes/toy/base", "dataset": data}
    given |= {"output_dir": out, "max_steps": 1, "max_grad_norm": 0, "save_strategy": "no"}
    command = ON_THE_TOY_BASE.split()
    for name, value in (given | {"per_device_train_batch_size": 4} | options).items():
        command += [f"--{name}", str(value)]
    pipeline = pipeline_class(command)
    rows, _ = pipeline._prepare_dataset()
    pipeline.model = pipeline.prepare_model(
        pipeline.args, pipeline.model, template=pipeline.template, train_dataset=rows
    )
    return TrainerFactory.get_trainer_cls(pipeline.args)(
        model=pipeline.model,
        args=pipeline.args.training_args,
        template=pipeline.template,
        train_dataset=rows,
        eval_dataset=None,
        **pipeline._get_trainer_kwargs(),
    )


class Catch(TrainerCallback):
    """Keeps the gradient of the window, as the optimizer is about to see it, and the weights before."""

    def __init__(self, trainer) -> None:
        self.trainer = trainer
        self.gradient = np.zeros(0)
        self.before: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        # By now every rank has the first one's adapter; each draws one of its own.
        weights = self.trainer.model.state_dict()
        self.before = {name: value.clone() for name, value in weights.items()}

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.gradient = gradient_of(self.trainer.model)


def gradient_of(model) -> np.ndarray:
    trained = [p for p in model.parameters() if p.requires_grad]
    return np.concatenate([p.grad.double().numpy().ravel() for p in trained])


def window(trainer) -> np.ndarray:
    """Train one optimizer step; return its gradient and put the weights back."""
    catch = Catch(trainer)
    trainer.add_callback(catch)
    trainer.train()
    trainer.model.load_state_dict(catch.before)
    trainer.model.zero_grad()
    return catch.gradient


def naive_kl(model, samples, weight: float) -> torch.Tensor:
    """weight * sum over gold tokens of KL(p || q) over the tokens p knows, divided by the gold tokens."""
    total, tokens = 0.0, 0
    for sample in samples.values():
        row = torch.tensor([[*sample.prompt, *sample.gold]])
        logits = model(input_ids=row).logits[0, len(sample.prompt) - 1 : -1].double()
        for place in range(len(sample.gold)):
            policy = torch.log_softmax(logits[place], -1)
            known, stored = (
                torch.from_numpy(table[place])
                for table in (sample.reference.ids, sample.reference.logprobs)
            )
            for token, logprob in zip(known, stored.double(), strict=True):
                total = total + logprob.exp() * (logprob - policy[token])
            tokens += 1
    return weight * total / tokens


def compared(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    size = float(np.linalg.norm(expected))
    return {"error": float(np.linalg.norm(found - expected)) / size, "size": size}


def packed(trainer) -> PackingDataset:
    return PackingDataset(trainer.template, trainer.train_dataset, num_proc=1, packing_length=400)


def sft_window(data: str, out: str, accumulation: int, form: str, tuner: str) -> dict[str, float]:
    """The KL term's part of a window's gradient in ms-swift, and computed by itself in float64."""
    trainer = build(
        data, out, gradient_accumulation_steps=accumulation, tuner_type=tuner, lora_dropout=0
    )
    trainer.model.double()
    tokenizer, rows = trainer.processing_class, len(trainer.train_dataset)
    if form != "padded":  # as an option, it asks for flash attention, which needs a GPU
        trainer.template.padding_free = True
    if form == "packed":
        trainer.template.packing = True
        trainer.train_dataset = packed(trainer)
    plain = window(trainer)
    samples = foreign_samples(tokenizer)
    ranks = trainer.accelerator.num_processes
    due = 3 if ranks == 1 else 2  # all three, or one a rank
    state = GuardState(task_samples=9 * due)
    injection = Injection(
        samples,
        state,
        fraction=0.1,
        weight=0.7,
        loss="kl",
        seed=0,
        pad_id=tokenizer.pad_token_id,
        rank=trainer.accelerator.process_index,
        world_size=ranks,
    )
    attach_kl(trainer, injection)
    injection.begin_step()
    guarded = window(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    drawn = rehearsal_order(sorted(samples), 0, due, seed=0)
    naive_kl(model, {name: samples[name] for name in drawn}, 0.7).backward()
    found = compared(guarded - plain, gradient_of(model))
    return found | {
        "samples": injection.take_counts()[0],
        "rows": rows,
        "wrapped": type(trainer.model_wrapped).__name__,
    }


def refusal(check) -> str:
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


def sft(recipe: str, data: str, out: str) -> dict[str, object]:
    facts: dict[str, object] = {}
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        for tuner in ("full", "lora"):
            facts[f"{tuner}, ranks"] = sft_window(data, out, 2, "padded", tuner)
        return facts
    for accumulation in (1, 4):
        for form in ("padded", "padding-free", "packed"):
            facts[f"{form}, {accumulation}"] = sft_window(data, out, accumulation, form, "full")
        facts[f"lora, {accumulation}"] = sft_window(data, out, accumulation, "padded", "lora")
    trainer = build(data, out, tuner_type="full")
    trainer.train_dataset = packed(trainer)
    attach_swift(trainer, read_recipe(recipe))
    taken_apart = list(tokenised(trainer.train_dataset, trainer.processing_class, thinking=False))
    facts["packed rows"] = {
        "rows": len(trainer.train_dataset),
        "samples": sum("input_ids" in row for row in taken_apart),
    }
    trainer = build(data, out, tuner_type="lora")
    guardrail = Guardrail.from_recipe(recipe)

    def check() -> None:
        command_line.check_run(trainer, "sft", guardrail)

    facts["accepted"] = refusal(check)
    trainer.args.resume_only_model = True
    facts["option"] = refusal(check)
    trainer.args.resume_only_model = False
    trainer.is_deepspeed_enabled = True  # as under DeepSpeed, where ms-swift's default differs
    facts["reentrant"] = refusal(check)
    trainer.args.gradient_checkpointing_kwargs = {"use_reentrant": False}
    facts["not reentrant"] = refusal(check)
    trainer.is_deepspeed_enabled = False
    text = trainer.template.model_meta
    trainer.template.model_meta = MODEL_MAPPING["qwen2_5_vl"]
    facts["pictures"] = refusal(check)
    trainer.template.model_meta = text
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    facts["adapter"] = refusal(check)
    trainer._save_checkpoint = None
    facts["no seam"] = refusal(lambda: command_line.find_kind(trainer))
    del trainer._save_checkpoint
    command_line.MS_SWIFT = ({"ms-swift": ("4.5", "4.6")},)
    facts["newer"] = command_line.find_kind(trainer)
    command_line.MS_SWIFT = ({"ms-swift": ("4.7", "4.8")},)
    facts["older"] = refusal(lambda: command_line.find_kind(trainer))
    return facts


def write_facts(measure) -> None:
    """Measure with the recipe, data and folder of the command line."""
    recipe, data, folder = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    facts = measure(recipe, data, folder)
    if os.environ.get("RANK", "0") != "0":
        return
    (Path(folder) / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


if __name__ == "__main__":
    write_facts(sft)
