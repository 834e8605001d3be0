"""`megatron sft` on the toy without Megatron: ms-swift's own loop, state, rotation and callbacks, cut out of its source.

What Megatron does in them, a step and an export, torch does here, in every rank the same.

Run: python -m tests.trainers.ms_swift.megatron_stand_in RECIPE OUTPUT_DIR LEARNING_RATE STEPS SIDECAR
"""

import ast
import importlib.util
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Optional

import datasets
import torch
from torch import distributed
from transformers import AutoModelForCausalLM, AutoTokenizer

from guardrail.guard.asked_looks import answer_file
from guardrail.guard.course import Course
from guardrail.shipped import shipped_root
from guardrail.sidecar.serve_run import serve_run
from guardrail.trainers.ms_swift.plugin import RECIPE_VARIABLE

MEGATRON = Path(importlib.util.find_spec("swift").origin).parent / "megatron"
BASE = shipped_root() / "recipes/toy/base"
PLUGIN = shipped_root() / "callbacks/megatron_guardrail.py"
ARGUMENTS = {
    "rlhf_type": None,
    "task_type": "causal_lm",
    "is_multimodal": False,
    "mcore_model": None,
    "mcore_adapter": None,
    "adapters": [],
    "save_safetensors": True,
    "tuner_type": "full",
    "merge_lora": True,
    "async_save": False,
    "streaming": False,
    "num_train_epochs": None,
    "train_iters": 20,
    "save_steps": 10,
    "save_total_limit": 2,
    "eval_steps": None,
    "eval_iters": 0,
    "logging_steps": 1,
    "global_batch_size": 4,
    "manual_gc": False,
    "callbacks": ["guardrail", "default_flow"],
}
"""What the guard and the loop read of ms-swift's arguments; the contract test looks each of them up there."""


def of_source(file: str) -> ast.Module:
    return ast.parse((MEGATRON / file).read_text(encoding="utf-8"))


def members(tree: ast.Module, owner: str) -> dict[str, ast.FunctionDef]:
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner)
    return {n.name: n for n in found.body if isinstance(n, ast.FunctionDef)}


def cut_out(nodes: list[ast.stmt], **names: Any) -> SimpleNamespace:
    """Carry out some definitions of a source, and nothing else of it."""
    for node in nodes:
        for one in ast.walk(node):  # their annotations name what is not here
            if isinstance(one, ast.FunctionDef):
                one.returns = None
                for argument in one.args.args:
                    argument.annotation = None
    space = dict(names)
    exec(compile(ast.Module(nodes, []), str(MEGATRON), "exec"), space)
    return SimpleNamespace(**{node.name: space[node.name] for node in nodes})


def ms_swift_loop() -> type:
    """A class with the methods of `BaseMegatronTrainer` that need no Megatron."""
    found = members(of_source("trainers/base.py"), "BaseMegatronTrainer")
    names = "call_event on_log run_train_step finalize_training train _rotate_checkpoints _sorted_checkpoints"
    loop = cut_out(
        [found[name] for name in [*names.split(), "_get_reported_learning_rate"]],
        should_disable_forward_pre_hook=lambda args: False,
        maybe_finalize_async_save=lambda *args, **kwargs: None,
        os=os,
        shutil=shutil,
        Path=Path,
    )
    return type("MegatronTrainer", (), vars(loop))


def ms_swift_state() -> type:
    tree = of_source("trainers/utils.py")
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "TrainerState")
    return cut_out([node], dataclass=dataclass, Optional=Optional).TrainerState


def callbacks_map() -> dict[str, type]:
    """ms-swift's own callbacks, without the package around them, which asks for Megatron."""
    package, utils = ModuleType("swift.megatron"), ModuleType("swift.megatron.utils")
    package.__path__ = [str(MEGATRON)]
    utils.reduce_max_stat_across_model_parallel_group = None
    sys.modules |= {package.__name__: package, utils.__name__: utils}
    return importlib.import_module("swift.megatron.callbacks").megatron_callbacks_map


class StandIn(ms_swift_loop()):
    """A trainer without Megatron. With a sidecar, what is asked is answered before the next step."""

    def __init__(self, arguments: SimpleNamespace, rate: float, *, sidecar: bool) -> None:
        self.args, self.sidecar = arguments, sidecar
        self.model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(BASE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate)
        self.optimizer.param_groups[0].update(max_lr=rate, min_lr=0.0)
        self.state = ms_swift_state()(max_steps=arguments.train_iters)
        self.wrapped_models, self.config = [self.model], None
        from swift.utils import import_external_file  # patches transformers

        known = callbacks_map()
        import_external_file(str(PLUGIN))
        self.callbacks: list[Any] = []
        for callback in arguments.callbacks:
            self.callbacks.append(known[callback](self))

    def setup_training(self, train_dataset: Any, val_dataset: Any) -> tuple[Any, Any]:
        self._start_iteration, self._pre_hook_enabled, self._train_metrics = 0, False, {}
        self.call_event("on_train_begin")
        chats = self.tokenizer.apply_chat_template(list(train_dataset["messages"]), tokenize=False)
        return self.tokenizer(chats, return_tensors="pt", padding=True), None

    def train_step(self, batch: Any) -> tuple[dict[str, Any], float, bool]:
        course = self.callbacks[0].guard.course
        if self.sidecar and course.guard.state.asked and course.guard.ranks.writes:
            self.judge(course)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = self.model(**batch, labels=labels).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for group in self.optimizer.param_groups:  # as Megatron's scheduler with a constant rate
            group["lr"] = group["max_lr"]
        return {"loss": loss.item()}, 0.0, True

    def judge(self, course: Course) -> None:
        run, deadline = course.guard.run, time.monotonic() + 240
        serve_run(run, once=True, say=lambda said: None)
        assert answer_file(run, course.guard.state.asked[0]).is_file()
        while not course.answered():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _aggregated_metrics(self, metrics: dict[str, Any], total: dict[str, Any]) -> None:
        total |= metrics | {"n_steps": 1}

    def _log_callback(self, logs: dict[str, Any], n_steps: int) -> None: ...

    def _determine_best_metric(self, metrics: Any) -> None: ...

    def save_checkpoint(self) -> None:
        folder = f"{self.args.output_dir}/checkpoint-{self.state.iteration}"
        self.state.last_model_checkpoint = folder
        if os.environ.get("RANK", "0") == "0":
            self.model.save_pretrained(folder)
            self._rotate_checkpoints(self.args.output_dir)


def main(recipe: str, output_dir: str, rate: str, steps: str, sidecar: str) -> None:
    os.environ[RECIPE_VARIABLE] = recipe
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    Path(output_dir).mkdir(exist_ok=True)  # as ms-swift's arguments do
    given = {"output_dir": output_dir, "model_dir": str(BASE), "train_iters": int(steps)}
    arguments = SimpleNamespace(**ARGUMENTS | given)
    lines = (shipped_root() / "recipes/toy/collections.jsonl").read_text("utf-8").splitlines()[:4]
    rows = [{"messages": json.loads(line)["messages"]} for line in lines]
    trainer = StandIn(arguments, float(rate), sidecar=sidecar == "sidecar")
    trainer.train(datasets.Dataset.from_list(rows), None)


if __name__ == "__main__":
    main(*sys.argv[1:])
