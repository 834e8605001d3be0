"""What is measured inside ms-swift's GRPO trainer, in a process of its own; run from test_ms_swift.py:

python -m tests.trainers.ms_swift.swift_grpo_scripts RECIPE DATA OUT
python -m torch.distributed.run --nproc_per_node 2 -m tests.trainers.ms_swift.swift_grpo_scripts RECIPE DATA OUT
"""

import os
from functools import partial
from pathlib import Path

import torch
from swift.rewards import ORM, orms
from torch import distributed

from guardrail.guard.state import GuardState
from guardrail.recipe import Recipe, read_recipe
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.grpo.forms import attach_golds
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.ms_swift.command_line import check_run, swift_form
from guardrail.trainers.ms_swift.grpo import KlOnlyRollouts, attach_kl_only, count_completions
from guardrail.trainers.ms_swift.plugin import attach_swift
from tests.trainers.conftest import foreign_samples
from tests.trainers.ms_swift.swift_scripts import (
    build,
    compared,
    gradient_of,
    naive_kl,
    refusal,
    window,
    write_facts,
)


class Nothing(ORM):
    """The same reward for all: the task's loss is then nothing but the trainer's own KL."""

    seen: list[str]

    def __call__(self, completions, messages, **kwargs):
        self.seen += [m["content"] for row in messages for m in row if m["role"] == "user"]
        return [0.0] * len(completions)


class Held(KlOnlyRollouts):
    """Remembers the completions it held, to compute their KL again."""

    samples = ()

    def hold(self, trainer, samples) -> None:
        super().hold(trainer, samples)
        self.samples = samples


def over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Return the sum of what every rank has."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
    return value


def naive_k3(policy, reference, samples, weight: float, temperature: float) -> torch.Tensor:
    """weight * sum of exp(d) - d - 1 over this rank's completions, divided by the tokens of all ranks."""
    total, tokens = 0.0, 0
    for sample in samples:
        ids = torch.tensor(sample.encoded["input_ids"])
        labels = torch.tensor(sample.encoded["labels"])
        rows = [
            torch.log_softmax(model(input_ids=ids[None]).logits[0] / temperature, -1)
            for model in (policy, reference)
        ]
        for place in range(1, len(ids)):
            if labels[place] != -100:
                now, then = (row[place - 1, ids[place]] for row in rows)
                difference = then.detach() - now
                total = total + difference.exp() - difference - 1
                tokens += 1
    return weight * total / int(over_ranks(torch.tensor(tokens)))


def moved_trainer(data: str, out: str, accumulation: int, tuner: str, beta: float = 1e-12):
    """A trainer in float64 off its reference, whose task's loss is near nothing, or at a beta of 0 nothing."""
    Nothing.seen = []
    orms["nothing"] = Nothing
    trainer = build(
        data,
        out,
        rlhf_type="grpo",
        use_vllm="false",
        reward_funcs="nothing",
        num_generations=4,
        max_completion_length=16,
        gradient_accumulation_steps=accumulation,
        beta=beta,
        temperature=0.9,
        tuner_type=tuner,
        lora_dropout=0,
    )
    for model in (trainer.model, trainer.ref_model):
        if model is not None:
            model.double()
    torch.manual_seed(5)
    for name, parameter in trainer.model.named_parameters():
        if "lora_A" not in name and parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    return trainer


def due_injection(kind, trainer):
    """An injection with samples due at once, the samples, and its state."""
    samples = foreign_samples(trainer.processing_class)
    state = GuardState(task_samples=27, boost=1.5)
    injection = kind(
        samples,
        state,
        fraction=0.1,
        weight=0.4,
        loss="kl",
        seed=0,
        pad_id=trainer.processing_class.pad_token_id,
        rank=trainer.accelerator.process_index,
        world_size=trainer.accelerator.num_processes,
    )
    return injection, samples, state


def golds_window(data: str, out: str, accumulation: int, tuner: str) -> dict[str, object]:
    """Golds beside ms-swift's GRPO loss against their definition."""
    trainer = moved_trainer(data, out, accumulation, tuner)
    injection, samples, state = due_injection(Injection, trainer)
    attach_golds(trainer, injection, count_completions)
    injection.begin_step()
    guarded = window(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.train()
    term = naive_kl(model, samples, 0.6)
    term.backward()
    return compared(guarded, gradient_of(model)) | {
        "samples": injection.take_counts()[0],
        "rehearsal": state.rehearsal_seen,
        "mean": injection.take_mean_kl(),
        "term": float(term),
    }


def grpo_window(
    data: str, out: str, accumulation: int, tuner: str, beta: float = 1e-12
) -> dict[str, object]:
    """KL-only prompts in ms-swift's GRPO against their definition; the task's beta is near nothing."""
    trainer = moved_trainer(data, out, accumulation, tuner, beta)
    chats = {f"r-{n}": [{"role": "user", "content": text}] for n, text in enumerate("天地玄")}
    injection, _, state = due_injection(Held, trainer)
    attach_kl_only(trainer, injection, chats=chats, thinking=False)
    guarded = window(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.train()
    if trainer.ref_model is not None:
        term = naive_k3(model, trainer.ref_model, injection.samples, 0.6, 0.9)
    else:
        with model.disable_adapter(), torch.no_grad():
            rows = [
                model(input_ids=torch.tensor([s.encoded["input_ids"]])) for s in injection.samples
            ]
        known = iter(rows)
        term = naive_k3(model, lambda input_ids: next(known), injection.samples, 0.6, 0.9)
    term.backward()
    expected = over_ranks(torch.from_numpy(gradient_of(model))).numpy()
    return compared(guarded, expected) | {
        "wrapped": type(trainer.model_wrapped).__name__,
        "samples": injection.take_counts()[0],
        "rehearsal": state.rehearsal_seen,
        "held": len(injection.samples),
        "scored": sum(text in "天地玄" for text in Nothing.seen),
        "asked": len(Nothing.seen),
        "beta": trainer.beta,
        "mean": injection.take_mean_kl(),
        "term": float(term),
    }


def by_name(recipe: Recipe) -> Recipe:
    """The recipe, which asks for general prompts among the rollouts."""
    asked = recipe.rehearsal.model_copy(update={"grpo": "literal"})
    return recipe.model_copy(update={"rehearsal": asked})


def grpo(recipe: str, data: str, out: str) -> dict[str, object]:
    facts: dict[str, object] = {}
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        for tuner in ("full", "lora"):
            facts[f"{tuner}, ranks"] = grpo_window(data, out, 2, tuner)
        return facts
    for accumulation in (1, 4):
        for tuner in ("full", "lora"):
            facts[f"{tuner}, {accumulation}"] = grpo_window(data, out, accumulation, tuner)
            if tuner == "lora":
                found = grpo_window(data, out, accumulation, tuner, beta=0.0)
                facts[f"lora at beta 0, {accumulation}"] = found
            golds = golds_window(data, out, accumulation, tuner)
            facts[f"golds, {tuner}, {accumulation}"] = golds
    trainer = build(
        data,
        out,
        rlhf_type="grpo",
        use_vllm="false",
        tuner_type="full",
        reward_funcs="nothing",
        num_generations=4,
    )
    for name, value in (
        ("kl_in_reward", True),
        ("dynamic_sample", True),
        ("sync_ref_model", True),
        ("beta", 0.0),
    ):
        before = getattr(trainer.args, name)
        setattr(trainer.args, name, value)
        facts[name] = refusal(lambda: attach_swift(trainer, by_name(read_recipe(recipe))))
        facts[f"{name}, form"] = swift_form(read_recipe(recipe), trainer).record()
        setattr(trainer.args, name, before)
    next(iter(trainer.model.parameters())).data += 1
    trainer.model.save_pretrained(Path(out) / "other")
    for key in ("kl_reference", "start_model"):
        guardrail = Guardrail.from_recipe(recipe)
        changed = guardrail.recipe.model_copy(update={key: str(Path(out) / "other")})
        guardrail.recipe = by_name(changed)
        facts[key] = refusal(partial(check_run, trainer, "grpo", guardrail))
        if key == "kl_reference":
            facts[f"{key}, form"] = swift_form(changed, trainer).record()
    return facts


if __name__ == "__main__":
    write_facts(grpo)
