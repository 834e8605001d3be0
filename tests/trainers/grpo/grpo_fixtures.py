"""A real GRPOTrainer on a Qwen3 of a few thousand parameters, and what two ranks run of it."""

import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import transformers
import trl
from packaging.version import Version

from guardrail.guard.state import GuardState
from guardrail.trainers.trl.grpo import KL_ONLY_TOKENS, GrpoKlOnly, attach_kl_only
from guardrail.trainers.trl.grpo_mixing import KL_ONLY
from guardrail.trainers.trl.grpo_versions import SEAMS
from tests.trainers.conftest import WORDS, tiny_model

MARKS = [
    pytest.mark.trl1,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
    ),
]
"""Of every test module of the GRPO seam."""
GENERAL = [[{"role": "user", "content": said}] for said in ("您好", "今天周五", "可以分期")]
GENERAL_TEXTS = {chat[0]["content"] for chat in GENERAL}
DEFAULTS = {
    "max_steps": 1,
    "per_device_train_batch_size": 8,
    "num_generations": 2,
    "max_completion_length": 7,
    "beta": 0.3,
    "learning_rate": 0.0,
    "max_grad_norm": 0.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "seed": 3,
    # Without it the base is loaded in float32.
    "model_init_kwargs": {"dtype": "auto"},
}


def task_rows(count: int) -> list[dict[str, object]]:
    """Different prompts and a column that reward functions are given."""
    said = [(a, b) for a in WORDS for b in WORDS if a != b][:count]
    return [{"prompt": [{"role": "user", "content": f"逾期{a}{b}"}], "answer": b} for a, b in said]


def save_base(folder: Path) -> Path:
    """A random base in float64 on disk, from which policy and reference are both loaded."""
    from guardrail.shipped import shipped_root

    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")
    tiny_model(tokenizer, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


HERE = next(s for s in SEAMS if Version(s.first) <= Version(trl.__version__) < Version(s.beyond))


def generation_batch(trainer) -> list[dict[str, object]]:
    """The rows of the first generation batch, as the dataloader hands them over."""
    return next(iter(trainer.get_train_dataloader()))


class Scorer:
    """A reward function that fails where it sees a KL-only row, and remembers what it saw."""

    __name__ = "scorer"

    def __init__(self, constant: bool = False) -> None:
        self.constant = constant
        self.prompts: list[str] = []
        self.rewards: list[float] = []
        self.calls = 0

    def __call__(self, prompts, completions, completion_ids, answer, trainer_state, **rest):
        self.calls += 1
        assert all(value is not None for value in answer), "a user column of a KL-only row"
        assert not {p[0]["content"] for p in prompts} & GENERAL_TEXTS, "a KL-only prompt"
        assert not any(name.startswith("guardrail") for name in rest), "the mark itself"
        assert len(prompts) == len(completions) == len(completion_ids) == len(answer) > 0
        self.prompts += [p[0]["content"] for p in prompts]
        rewards = [1.0 if self.constant else float(sum(ids) % 7) for ids in completion_ids]
        self.rewards += rewards
        return rewards


def make_trainer(
    base: Path,
    reward,
    *,
    rows: int = 8,
    lora: bool = False,
    reward_processing_classes=None,
    **arguments,
):
    """A trainer on the base; with `lora` the adapter's B is random, so that it says something."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    # A random model hardly ever stops; completions of different lengths are what padding needs.
    stopping = {"sequence_bias": [[[tokenizer.eos_token_id], 9.0]]}
    options = {"output_dir": str(base.parent / "out"), "generation_kwargs": stopping}
    options |= DEFAULTS | arguments
    peft_config = None
    if lora:
        torch.manual_seed(1)
        from peft import LoraConfig

        peft_config = LoraConfig(r=2, target_modules=["q_proj", "o_proj"])
    return trl.GRPOTrainer(
        model=str(base),
        reward_funcs=reward,
        args=trl.GRPOConfig(**options),
        train_dataset=datasets.Dataset.from_list(task_rows(rows)),
        processing_class=tokenizer,
        peft_config=peft_config,
        reward_processing_classes=reward_processing_classes,
    )


def attach(trainer, state=None, **changes) -> GrpoKlOnly:
    options = {"fraction": 0.5, "weight": 0.7, "seed": 0} | changes
    return attach_kl_only(trainer, GENERAL, state or GuardState(), **options)


def perturb(model, scale: float = 0.05) -> None:
    """Move every trained weight, the same way each time."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.add_(scale * noise.to(weight.dtype))


class Recorder:
    """Micro-batches, gradients and policies of a training run, by optimizer step."""

    def __init__(self, trainer) -> None:
        self.trainer = trainer
        self.batches: list[list[dict[str, torch.Tensor]]] = [[]]
        self.gradients: list[np.ndarray] = []
        self.policies: list[dict[str, torch.Tensor]] = []
        compute_loss = trainer.compute_loss

        def recorded_loss(model, inputs, *args, **kwargs):
            self.batches[-1].append(inputs)
            return compute_loss(model, inputs, *args, **kwargs)

        trainer.compute_loss = recorded_loss
        trainer.create_optimizer_and_scheduler(trainer.args.max_steps)
        optimizer_step = trainer.optimizer.step

        def recorded_step(*args, **kwargs):
            self.gradients.append(gradient(trainer.model))
            state = trainer.model.state_dict()
            self.policies.append({name: value.clone() for name, value in state.items()})
            self.batches.append([])
            return optimizer_step(*args, **kwargs)

        trainer.optimizer.step = recorded_step

    def train(self):
        self.trainer.train()
        self.batches.pop()
        return self


def gradient(model) -> np.ndarray:
    """The gradient of everything trained as one vector; what got none counts as zero."""
    parts = [
        torch.zeros_like(p) if p.grad is None else p.grad
        for p in model.parameters()
        if p.requires_grad
    ]
    return np.concatenate([p.detach().double().numpy().ravel() for p in parts])


def naive_k3(policy, reference, batch, *, kl_only: bool, heat=1.0) -> tuple[torch.Tensor, int]:
    """Sum of k3 over the tokens of one kind of rows, one row at a time and without padding."""
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for row in range(len(batch["prompt_ids"])):
        if bool(batch[KL_ONLY][row]) != kl_only:
            continue
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        answer = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        ids = torch.cat([prompt, answer]).unsqueeze(0)
        here = slice(len(prompt) - 1, -1)
        said = (policy(input_ids=ids).logits[0, here] / heat).log_softmax(-1)
        with torch.no_grad():
            pinned = (reference(input_ids=ids).logits[0, here] / heat).log_softmax(-1)
        for place, token in enumerate(answer):
            d = pinned[place, token] - said[place, token]
            total = total + torch.exp(d) - d - 1.0
            tokens += 1
    return total, tokens


def gradient_of(model, loss) -> np.ndarray:
    model.zero_grad()
    loss.backward()
    return gradient(model)


def ranks_main(base: Path, out: Path, weight: float, *, adapter_off: bool = False) -> None:
    """On each rank: train two steps and write down what was seen. Only one rank has KL-only rows.

    With `adapter_off` LoRA is trained at beta 0.
    """
    scorer = Scorer(constant=True)
    trainer = make_trainer(
        base,
        scorer,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=2,
        output_dir=str(out / "out"),
        **({"lora": True, "beta": 0.0} if adapter_off else {}),
    )
    state = GuardState()
    kl_only = attach(trainer, state, fraction=0.25, weight=weight, adapter_off=adapter_off)
    perturb(trainer.model)
    recorder = Recorder(trainer).train()
    told = {
        "gradient": recorder.gradients[0],
        "steps": len(recorder.gradients),
        "counts": np.array([state.task_samples, state.rehearsal_seen]),
        "mean_kl": kl_only.take_mean_kl(),
        "scored": len(scorer.rewards),
        "weight_sum": state.weight_sum,
    }
    keys = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", KL_ONLY)
    for number, batch in enumerate(recorder.batches[0]):
        told |= {f"{key}/{number}": batch[key].numpy() for key in keys}
        told[f"{KL_ONLY_TOKENS}/{number}"] = batch[KL_ONLY_TOKENS].numpy()
    name = "adapter-off" if adapter_off else weight
    np.savez(out / f"{name}-rank{trainer.accelerator.process_index}.npz", **told)


if __name__ == "__main__":
    for each in (0.7, 0.0):
        ranks_main(Path(sys.argv[1]), Path(sys.argv[2]), each)
    ranks_main(Path(sys.argv[1]), Path(sys.argv[2]), 0.7, adapter_off=True)
