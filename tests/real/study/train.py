"""Train one cell: through the product where the product offers its arm, else by the same trainer with something beside."""

import json
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainerCallback

from guardrail.build_trainer import build_trainer
from guardrail.engines.in_process import InProcessEngine
from guardrail.exit_codes import HALTED, TERMINATED
from guardrail.kl.divergence import full_kl
from guardrail.ledger.file import live_records, read_ledger
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model, on_accelerator
from guardrail.recipe import Recipe, read_recipe
from guardrail.run import run_recipe
from guardrail.sets.items import Item, read_items
from tests.real.study.arms import Arm
from tests.real.study.evaluate import DECODING, answered, pass_rate
from tests.real.study.material import read_rows, write_rows
from tests.real.study.spent import spend

REWARDS = Path(__file__).parent / "rewards.py"


def steps_of(arm: Arm, settings: dict[str, Any]) -> int:
    return max(1, round(arm.steps * settings["steps"]))


def recipe_of(
    study: Path, settings: dict[str, Any], arm: Arm, rate: float, seed: int, folder: Path
) -> Recipe:
    """Write the cell's recipe into its folder and return it."""
    material, steps = (study / "material").resolve(), steps_of(arm, settings)
    given = dict(arm.arguments)
    train: dict[str, Any] = {"data": str(material / f"{arm.domain}-train.jsonl")}
    every = max(1, steps // arm.looks) if arm.looks else steps
    if lora := given.pop("lora", None):
        train["lora"] = lora
    if arm.grpo:
        names = ("short_and_whole", "advises")
        train["rewards"] = [f"{REWARDS}:{name}" for name in names]
        given = {k: v if k == "beta" else min(v, 2 * settings["tokens"]) for k, v in given.items()}
        given.setdefault("beta", 0.0)
    else:
        given |= {
            "per_device_train_batch_size": settings["batch"],
            "max_length": 512,
            "train_sampling_strategy": "group_by_length",
        }
    train["arguments"] = {
        "max_steps": steps,
        "learning_rate": rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": max(1, steps // 20),
        "logging_steps": 5,
        "save_steps": every if arm.watched else steps,
        "save_total_limit": None if arm.watched else 1,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": settings["bf16"],
        "dataloader_pin_memory": torch.cuda.is_available(),
        **given,
    }
    looked_at = "looked-at" if arm.looks else "lean"
    anchors = f"anchors-{looked_at}" + ("" if arm.injected == "rehearsal" else f"-{arm.injected}")
    content: dict[str, Any] = {
        "name": folder.name.replace("+", ""),  # of a rate of 0
        "trainer": "trl-grpo" if arm.grpo else "trl-sft",
        "gold_base": settings["base"],
        "anchors": str((study / anchors).resolve()),
        "seed": seed,
        "sets": {
            "red_line": str(material / f"{looked_at}.jsonl"),
            "rehearsal": str(material / f"{arm.injected}.jsonl"),
        },
        "train": train,
        "looks": {
            "every_steps": every if arm.looks else 10 * steps,
            "tripwire_every_steps": max(1, every // 3) if arm.looks else 0,
            "replicates": 2 if arm.looks else 1,
            "samples": 1,
            "batch_size": 48,
            "decoding": DECODING | {"max_new_tokens": settings["tokens"]},
        },
        **(arm.recipe or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    return read_recipe(file)


def write_own_answers(study: Path, settings: dict[str, Any]) -> None:
    """Write base's own answers to others' questions, as rows to train on; once. One that was cut would teach to end anywhere."""
    out = study / "material/own-train.jsonl"
    if out.is_file():
        return
    asked = [row[0] for row in read_rows(study / "material/others-train.jsonl")]
    asked = asked[: 8 * settings["steps"]]
    items = [
        Item(
            id=f"own-{n}",
            ability="others",
            source="others-train.jsonl",
            licence="see material.py",
            messages=({"role": "user", "content": text},),
        )
        for n, text in enumerate(asked)
    ]
    model, tokenizer = load_model(settings["base"], dtype=torch.float32)
    answers = answered(on_accelerator(model).eval(), tokenizer, settings, items, seed=0)
    rows = [(item.messages[-1].content, text) for item, text, ended in answers if ended and text]
    write_rows(out, rows)


def checkpoints_of(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a cell by their step, in order."""
    found = folder.glob("run/checkpoints/checkpoint-*")
    return dict(sorted((int(path.name.rpartition("-")[2]), path) for path in found))


def checkpoint_of(folder: Path) -> Path | None:
    return next(reversed(checkpoints_of(folder).values()), None)


def train(
    study: Path,
    settings: dict[str, Any],
    arm: Arm,
    rate: float,
    seed: int,
    folder: Path,
    until: float,
) -> dict[str, Any] | None:
    """Train on until all steps are taken or `until`, a time of the monotonic clock; None if there is more to do.

    Returns what a table tells of the training: steps taken, whether a guard or a gate ended it, actions.
    """
    if arm.domain == "own":
        write_own_answers(study, settings)
    recipe = recipe_of(study, settings, arm, rate, seed, folder)
    if arm.recipe is not None:
        return _guarded(recipe, folder, until)
    return _plain(study, settings, recipe, arm, seed, folder, until)


def _guarded(recipe: Recipe, folder: Path, until: float) -> dict[str, Any] | None:
    def on_step(step: int, steps: int) -> None:
        if time.monotonic() > until and step < steps:
            os.kill(os.getpid(), signal.SIGTERM)  # the guard ends with a checkpoint

    run = folder / "run"
    resume = (run / "ledger.jsonl").is_file()
    finished = run_recipe(recipe, run, resume=resume, on_step=on_step)
    if finished.exit_code == TERMINATED:
        return None
    records = live_records(read_ledger(run))
    ended = [r for r in records if r["kind"] == "ended"][-1]
    logs = [r for r in records if r["kind"] == "log"]
    return {
        "steps": ended["step"],
        "halted": finished.exit_code == HALTED,
        "actions": [[r["step"], r["action"]] for r in records if r["kind"] == "action"],
        "levels": [[r["step"], r["level"]] for r in records if r["kind"] == "look"],
        "tripwires": [
            [r["step"], r["kl"], r["early_look"]] for r in records if r["kind"] == "tripwire"
        ],
        "seconds": ended["seconds"],
        "last_log": logs[-1] if logs else None,
    }


class _Until(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Ends with a checkpoint when the time is over."""

    def __init__(self, until: float) -> None:
        self.until, self.over = until, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if time.monotonic() > self.until and state.global_step < state.max_steps:
            self.over = control.should_save = control.should_training_stop = True


class _Gate(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """What Soup's gate and pyrecall's watch do at the end of an epoch, as far as docs tell: a mean against a fixed drop."""

    def __init__(self, arm: Arm, trainer: Any, study: Path, settings: dict[str, Any], folder: Path):
        self.arm, self.trainer, self.settings = arm, trainer, settings
        self.file = folder / "gate.json"
        self.items = read_items(study / "material/looked-at.jsonl")[:24]
        self.rows = read_rows(study / "material/others-train.jsonl")[:24]
        self.stopped: int | None = None
        self.seconds = 0.0
        self._kept: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.file.is_file():
            self.file.write_text(json.dumps([self._score()]))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        scores = [*json.loads(self.file.read_text()), self._score()]
        self.file.write_text(json.dumps(scores))
        drop = scores[0] - scores[-1]
        if self.arm.gate == "mean score" and drop > 0.05:
            self.stopped = state.global_step
        elif self.arm.gate == "answer probability" and drop > 0.10:
            self.stopped = state.global_step
            if self._kept:
                self.trainer.model.load_state_dict(self._kept)
        if self.stopped is not None:
            control.should_save = control.should_training_stop = True
        self._kept = {k: v.clone() for k, v in self.trainer.model.state_dict().items()}

    def _score(self) -> float:
        began = time.monotonic()
        model, tokenizer = self.trainer.model, self.trainer.processing_class
        if self.arm.gate == "mean score":
            found = pass_rate(model, tokenizer, self.settings, self.items, seed=0)
        else:
            profile = resolve_profile(self.settings["base"], tokenizer, thinking=False)
            engine = InProcessEngine(model, tokenizer, None, profile, 24)  # type: ignore[arg-type]
            # Without the chat template, as pyrecall scores.
            asked = [tokenizer(row[0]).input_ids for row in self.rows]
            answers = [tokenizer(row[1], add_special_tokens=False).input_ids for row in self.rows]
            means = engine.mean_logprobs(asked, answers)
            found = sum(map(math.exp, means)) / len(means)
        self.seconds += time.monotonic() - began
        return found


def _plain(
    study: Path,
    settings: dict[str, Any],
    recipe: Recipe,
    arm: Arm,
    seed: int,
    folder: Path,
    until: float,
) -> dict[str, Any] | None:
    rows = [json.loads(line) for line in Path(str(recipe.train.data)).read_text().splitlines()]
    if arm.beside == "source answers":
        text = (study / "material/others-train.jsonl").read_text("utf-8").splitlines()
        count = round(arm.weight / (1 - arm.weight) * len(rows))
        rows += map(json.loads, random.Random(seed).sample(text, min(count, len(text))))
    trainer = build_trainer(recipe, rows, folder / "run/checkpoints")
    if arm.beside == "task KL":
        _add_task_kl(trainer, settings["base"], arm.weight)
    watch, gate = _Until(until), None
    trainer.add_callback(watch)
    if arm.gate != "none":
        gate = _Gate(arm, trainer, study, settings, folder)
        trainer.add_callback(gate)
    before = checkpoint_of(folder)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(before) if before else None)
    spent = spend(folder, "steps", time.monotonic() - began)
    if watch.over:
        return None
    stopped = None if gate is None else gate.stopped
    return {
        "steps": trainer.state.global_step,
        "halted": stopped is not None,
        "actions": [],
        "seconds": {"train": spent["steps"]},
        "gate_seconds": None if gate is None else round(gate.seconds, 1),
        "gate_scores": None if gate is None else json.loads(gate.file.read_text()),
        "last_log": trainer.state.log_history[-1] if trainer.state.log_history else None,
    }


def _add_task_kl(trainer: Any, base: str, weight: float) -> None:
    """Add weight * mean KL(base || policy) over the answer tokens of the task's rows."""
    reference, _ = load_model(base, dtype=torch.float32)
    reference.eval().requires_grad_(False)
    compute_loss = trainer.compute_loss

    def with_kl(
        model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        given = {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
        answers = inputs["labels"][:, 1:] != -100
        loss, outputs = compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if model.training:
            with torch.no_grad():
                base_logits = reference.to(loss.device)(**given).logits[:, :-1][answers]
            logits = outputs.logits[:, :-1][answers]
            loss = loss + weight * full_kl(logits, base_logits, "forward").mean()
        return (loss, outputs) if return_outputs else loss

    trainer.compute_loss = with_kl
