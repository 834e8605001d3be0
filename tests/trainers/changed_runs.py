"""Runs that are resumed, made longer, begun anew and attached again, and a table of what became of each.

python -m tests.trainers.changed_runs FOLDER [CASE ...]

Each is a real training of a few steps, reckless enough for the ladder to cut the learning rate on its way.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl
from peft import LoraConfig

from guardrail.errors import InputError
from guardrail.guard.apply_levers import base_rates
from guardrail.guard.state import read_state
from guardrail.ledger.file import live_records, read_ledger
from guardrail.models.load import load_model
from guardrail.probes.business_probes import read_business
from guardrail.probes.metrics import METRICS
from guardrail.recipe import Recipe, read_recipe
from guardrail.sets.items import read_items, write_items
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.shipped import shipped_root
from guardrail.trainers.attach import Guardrail
from tests.run_fixtures import small_recipe

transformers.utils.logging.disable_progress_bar()
datasets.disable_progress_bars()

ALARMING = {
    "warn_overall": 0.4, "halt_overall": 0.4, "warn_by_ability": 0.01, "halt_by_ability": 0.01,
    "min_items": 10, "min_clusters": 10,
    "margins": {metric.name: {"margin": 1e6, "critical": 1e6} for metric in METRICS}
    | {"passed": {"margin": 0.0, "critical": 1.0}},
}  # fmt: skip
"""A drift rule that takes any fall of the pass rate for serious and nothing for critical."""
ARGUMENTS: dict[str, Any] = {
    "max_steps": 8, "save_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
    "lr_scheduler_type": "linear", "logging_steps": 4, "report_to": "none", "use_cpu": True, "bf16": False,
    "disable_tqdm": True, "seed": 3,
}  # fmt: skip


PROBES = """
MARGINS = {"short": (0.1, 0.2)}
def short(chat, case):
    return float(len(chat[-1]["content"]) < 5)
def cluster(chat, case):
    return None
"""
"""A business's own probes."""


class Killed(Exception):
    """Ends a training between two events, as a crash does."""


class Watch(transformers.TrainerCallback):
    """Keeps the levers as they stand at the first step taken, and kills the training where it is told to."""

    def __init__(self, trainer: Any, guard: Any, kill_after: int | None) -> None:
        self.trainer, self.guard, self.kill_after = trainer, guard, kill_after
        self.first: dict[str, Any] | None = None

    def levers(self) -> dict[str, Any]:
        state, trainer = self.guard.state, self.trainer
        rates = base_rates(trainer.optimizer, trainer.lr_scheduler)
        return {"boost": state.boost, "lr_factor": state.lr_factor, "rates": rates}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first = self.first or self.levers()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.last = self.levers()
        if self.kill_after is not None and state.global_step >= self.kill_after:
            raise Killed


@dataclass
class Outcome:
    """What became of a case."""

    looks: list[tuple[int, str, bool]] = field(default_factory=list)
    """Step, trigger and whether any stream was tested, on the live branch, look 0 left out."""
    kinds: list[str] = field(default_factory=list)
    """Of all records, in order."""
    before: dict[str, Any] | None = None
    """Levers when the first part ended."""
    after: dict[str, Any] | None = None
    """Levers at the first step of the second part."""
    refused: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)
    callback: Any = None


class Setting:
    """A recipe with its anchors, and trainers for it; `half` has the base's weights in bfloat16."""

    def __init__(self, folder: Path, *, half: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        base = shipped_root() / "recipes/toy/base"
        if half:
            model, tokenizer = load_model(base, "bfloat16")
            base = folder / "half"
            model.save_pretrained(base)
            tokenizer.save_pretrained(base)
        self.file = small_recipe(
            folder, items_an_ability=3, drift=ALARMING,
            looks={"every_steps": 4, "tripwire_every_steps": 0, "replicates": 2, "benchmark_questions": 0,
                   "decoding": {"mode": "sampled", "max_new_tokens": 12}},
            rehearsal={"fraction": 0.05}, gold_base=str(base), probes={"files": ["probes.py"]},
        )  # fmt: skip
        self.probes = folder / "probes.py"
        self.probes.write_text(PROBES, encoding="utf-8")
        items = read_items(folder / "red_line.jsonl")  # too few have a case for a verdict on it
        cases = [i.model_copy(update={"case": {} if n < 3 else None}) for n, i in enumerate(items)]
        write_items(folder / "red_line.jsonl", cases)
        self.rows = read_training_rows(str(self.recipe().train.data)).rows[:24]

    def recipe(self, **changes: Any) -> Recipe:
        recipe = read_recipe(self.file)
        return recipe.model_copy(update=changes)

    def trainer(self, out: Path, kind: str = "sft", *, lora: bool = False, **changes: Any) -> Any:
        model, tokenizer = load_model(self.recipe().gold_base)
        model.train().requires_grad_(True)
        arguments = ARGUMENTS | {"output_dir": str(out)} | changes
        adapter = LoraConfig(r=4, target_modules="all-linear") if lora else None
        if kind == "sft":
            return trl.SFTTrainer(
                model=model,
                args=trl.SFTConfig(max_length=96, **arguments),
                train_dataset=datasets.Dataset.from_list(self.rows),
                eval_dataset=datasets.Dataset.from_list(self.rows[:4]),
                processing_class=tokenizer,
                peft_config=adapter,
            )
        return trl.GRPOTrainer(
            model=model,
            reward_funcs=[lambda completions, **rest: [float(len(str(c))) for c in completions]],
            args=trl.GRPOConfig(
                num_generations=2, max_completion_length=6, beta=0.04, remove_unused_columns=False,
                chat_template_kwargs={"enable_thinking": False}, **arguments,
            ),
            train_dataset=datasets.Dataset.from_list(
                [{"prompt": row["messages"][:1]} for row in self.rows]
            ),
            processing_class=tokenizer,
            peft_config=adapter,
        )  # fmt: skip


def run(
    setting: Setting,
    trainer: Any,
    *,
    resume: bool | str = False,
    kill_after: int | None = None,
    hand_on: bool = True,
    changed_recipe: bool = False,
) -> tuple[Any, Watch]:
    """Attach and train; `hand_on` hands the guard's checkpoint to the trainer, as users are told to."""
    read_business.cache_clear()  # as in a process of its own
    guardrail = Guardrail.from_recipe(setting.recipe())
    callback = guardrail.attach(trainer, resume=resume, changed_recipe=changed_recipe)
    watch = Watch(trainer, callback.guard, kill_after)
    trainer.add_callback(watch)
    trainer.remove_callback(transformers.PrinterCallback)
    checkpoint = callback.resume_from if hand_on else None
    with expected_kill():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return callback, watch


@contextlib.contextmanager
def expected_kill() -> Iterator[None]:
    with contextlib.suppress(Killed):
        yield


def what_became(out: Path, outcome: Outcome) -> Outcome:
    records = read_ledger(out)
    outcome.records = records
    outcome.kinds = [r["kind"] for r in records]
    outcome.looks = [
        (r["step"], r["trigger"], any(s["tested"] for s in r["streams"]))
        for r in live_records(records)
        if r["kind"] == "look" and r["look"] > 0
    ]
    return outcome


def resumed(
    kind: str = "sft",
    *,
    lora: bool = False,
    kill_after: int | None = 4,
    resume: bool | str = True,
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    hand_on: bool = True,
) -> Callable[[Setting, Path], Outcome]:
    """A training that ends after a save, or at its end, and another that goes on from a checkpoint of it."""

    def carry_out(setting: Setting, out: Path) -> Outcome:
        outcome = Outcome()
        trainer = setting.trainer(out, kind, lora=lora, **(first or {}))
        _, watch = run(setting, trainer, kill_after=kill_after)
        outcome.before = watch.last
        if isinstance(resume, str):
            state = read_state(out / resume)
            outcome.before = {
                "boost": state.boost, "lr_factor": state.lr_factor, "rates": state.base_rates
            }  # fmt: skip
        trainer = setting.trainer(out, kind, lora=lora, **{**(first or {}), **(second or {})})
        try:
            outcome.callback, watch = run(setting, trainer, resume=resume, hand_on=hand_on)
            outcome.after = watch.first
        except InputError as error:
            outcome.refused = str(error)
        return what_became(out, outcome)

    return carry_out


def out_of_memory(
    when: str, *, resume: bool = False, lora: bool = False
) -> Callable[[Setting, Path], Outcome]:
    """`auto_find_batch_size`, and memory that runs out once: `first micro-batch`, `third step` or `look 0`."""

    def carry_out(setting: Setting, out: Path) -> Outcome:
        outcome = Outcome()
        changes = {"auto_find_batch_size": True, "per_device_train_batch_size": 4,
                   "gradient_accumulation_steps": 2}  # fmt: skip
        if resume:
            _, watch = run(setting, setting.trainer(out, lora=lora, **changes), kill_after=4)
            outcome.before = watch.last
        trainer = setting.trainer(out, lora=lora, **changes)
        callback = Guardrail.from_recipe(setting.recipe()).attach(trainer, resume=resume)
        watch = Watch(trainer, callback.guard, None)
        trainer.add_callback(watch)
        run_out_once(trainer, when)
        checkpoint = callback.resume_from
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            outcome.callback, outcome.after = callback, watch.first
        except InputError as error:
            outcome.refused = str(error)
        assert trainer._train_batch_size < 4, "the Trainer began anew"
        return what_became(out, outcome)

    return carry_out


def run_out_once(trainer: Any, when: str) -> None:
    """Let memory run out once, where an allocation would fail; in a look down to its smallest batch."""
    if when == "look 0":
        forward, over = trainer.model.forward, []

        def until_one(*args: Any, **kwargs: Any) -> Any:
            ids = kwargs.get("input_ids")
            if kwargs.get("past_key_values") is not None and ids.shape[1] > 1 and not over:
                over.extend([1] * (len(ids) == 1))
                raise torch.OutOfMemoryError("CUDA out of memory. (once)")
            return forward(*args, **kwargs)

        trainer.model.forward = until_one
        return
    due = {"first micro-batch": 2, "third step": 5}[when]
    method, calls = trainer.compute_loss, [0]

    def once(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        result = method(*args, **kwargs)
        if calls[0] == due:
            raise torch.OutOfMemoryError("CUDA out of memory. (once)")
        return result

    trainer.compute_loss = once


def twice(setting: Setting, out: Path) -> Outcome:
    """A second `train()` on one attachment."""
    outcome = Outcome()
    trainer = setting.trainer(out, max_steps=4)
    outcome.callback, _ = run(setting, trainer)
    trainer.args.max_steps = 8
    steps = trainer.state.global_step
    try:
        trainer.train()
    except InputError as error:
        outcome.refused = str(error)
    assert trainer.state.global_step == steps, "no step was taken"
    return what_became(out, outcome)


def attached_again(setting: Setting, out: Path) -> Outcome:
    """A second guard on a trainer that has one."""
    outcome = Outcome()
    trainer = setting.trainer(out, max_steps=4)
    outcome.callback, _ = run(setting, trainer)
    try:
        Guardrail.from_recipe(setting.recipe()).attach(trainer, run=out / "second")
    except InputError as error:
        outcome.refused = str(error)
    return what_became(out, outcome)


def best_at_end(setting: Setting, out: Path) -> Outcome:
    """`load_best_model_at_end`, whose best is an early checkpoint."""
    trainer = setting.trainer(
        out, max_steps=6, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
        metric_for_best_model="eval_loss", greater_is_better=True,
    )  # fmt: skip
    outcome = Outcome()
    outcome.callback, _ = run(setting, trainer)
    return what_became(out, outcome)


MODEL_ONLY = {"save_only_model": True}
FAST = {"learning_rate": 0.2}
"""What it takes to harm the toy with an adapter."""
CASES: dict[str, Callable[[Setting, Path], Outcome]] = {
    "SFT, killed, resumed": resumed(),
    "SFT LoRA, killed, resumed": resumed(lora=True, first=FAST),
    "SFT, constant rate, killed, resumed": resumed(first={"lr_scheduler_type": "constant"}),
    "SFT, save_only_model, resumed": resumed(first=MODEL_ONLY),
    "SFT LoRA, save_only_model, resumed": resumed(lora=True, first=MODEL_ONLY | FAST),
    "SFT, save_only_model, half the rate": resumed(first=MODEL_ONLY, second={"learning_rate": 5e-3}),
    "SFT, longer before its end": resumed(
        kill_after=None, resume="checkpoint-4", second={"max_steps": 12}
    ),
    "SFT LoRA, longer before its end, by epochs": resumed(
        lora=True, first={"max_steps": -1, "num_train_epochs": 0.5} | FAST, second={"num_train_epochs": 1}
    ),
    "SFT, longer after its end": resumed(kill_after=None, second={"max_steps": 12}),
    "SFT, longer after its end, by epochs": resumed(
        kill_after=None, first={"max_steps": -1, "num_train_epochs": 0.5}, second={"num_train_epochs": 1}
    ),
    "SFT, shorter": resumed(second={"max_steps": 6}),
    "SFT, saved at other steps": resumed(second={"save_steps": 1}),
    "SFT, finished, resumed": resumed(kill_after=None),
    "SFT, resumed but trained from the start": resumed(hand_on=False),
    "SFT, out of memory before any step": out_of_memory("first micro-batch"),
    "SFT, out of memory before any step of a resume": out_of_memory(
        "first micro-batch", resume=True
    ),
    "SFT, out of memory in the third step": out_of_memory("third step"),
    "SFT, out of memory in look 0": out_of_memory("look 0"),
    "SFT, a second train()": twice,
    "SFT, a second attach()": attached_again,
    "SFT, the best model at its end": best_at_end,
    "GRPO, killed, resumed": resumed("grpo"),
    "GRPO LoRA, save_only_model, resumed": resumed("grpo", lora=True, first=MODEL_ONLY | FAST),
    "GRPO, longer before its end": resumed(
        "grpo", kill_after=None, resume="checkpoint-4", second={"max_steps": 12}
    ),
    "GRPO LoRA, longer after its end": resumed(
        "grpo", lora=True, kill_after=None, second={"max_steps": 12}
    ),
}  # fmt: skip


HALF = {
    "bf16 SFT, killed, resumed": resumed(),
    "bf16 SFT LoRA, autocast, save_only_model, resumed": resumed(
        lora=True, first=MODEL_ONLY | FAST | {"bf16": True}
    ),
    "bf16 GRPO LoRA, longer before its end": resumed(
        "grpo",
        lora=True,
        kill_after=None,
        resume="checkpoint-4",
        first=FAST,
        second={"max_steps": 12},
    ),
    "bf16 GRPO, longer after its end": resumed("grpo", kill_after=None, second={"max_steps": 12}),
}
"""The same on a base whose weights are bfloat16."""


def lever_words(levers: dict[str, Any] | None) -> str:
    if levers is None:
        return ""
    return f"boost {levers['boost']:g}, rate × {levers['lr_factor']:g} ({levers['rates'][0]:g})"


def main(folder: str, *wanted: str) -> None:
    setting = Setting(Path(folder) / "setting")
    half = Setting(Path(folder) / "setting-half", half=True)
    print(
        "| case | looks tested | untested | levers at the save | at the first step after | outcome | seconds |"
    )
    print("|---|---|---|---|---|---|---|")
    for number, (name, carry_out) in enumerate((CASES | HALF).items()):
        if wanted and not any(w in name for w in wanted):
            continue
        out = Path(folder) / f"case-{number}"
        shutil.rmtree(out, ignore_errors=True)
        began = time.perf_counter()
        outcome = carry_out(half if name in HALF else setting, out)
        tested = [f"{s} {t}" for s, t, looked in outcome.looks if looked]
        untested = [f"{s} {t}" for s, t, looked in outcome.looks if not looked]
        said = (
            f"refused: {outcome.refused}"
            if outcome.refused
            else outcome.records[-1].get("outcome", "")
        )
        if "replanned" in outcome.kinds and not outcome.refused:
            said += ", planned anew"
        cells = (
            name, ", ".join(tested), ", ".join(untested), lever_words(outcome.before),
            lever_words(outcome.after), said, f"{time.perf_counter() - began:.0f}",
        )  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
