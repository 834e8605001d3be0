"""The KL term in the real SFTTrainer equals an independent computation in float64."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers.integrations.neftune import neftune_post_forward_hook

from guardrail.guard.state import GuardState
from guardrail.kl.token_losses import RehearsalSample
from guardrail.models import teacher_forcing
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.kl_only.references import adapter_off
from guardrail.trainers.trl.sft import attach_kl
from tests.trainers.conftest import ADAPTER, naive_kl_term, tiny_model

pytestmark = [
    pytest.mark.run,
    pytest.mark.trl1,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]


def injection(samples, tokenizer, state=None, **changes) -> Injection:
    options = {"fraction": 0.1, "weight": 0.7, "loss": "kl", "seed": 0}
    return Injection(
        samples, state or GuardState(), pad_id=tokenizer.pad_token_id, **(options | changes)
    )


def gradients(model) -> np.ndarray:
    trained = [p for p in model.parameters() if p.requires_grad]
    return np.concatenate([p.grad.double().numpy().ravel() for p in trained])


COMPLETIONS = [
    {
        "prompt": [{"role": "user", "content": f"第{n}期怎么还款"}],
        "completion": [{"role": "assistant", "content": "今天可以分期" * (1 + n % 3)}],
    }
    for n in range(24)
]
VARIANTS = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 4},
    "packed": {"packing": True, "max_length": 96, "gradient_accumulation_steps": 2},
    "wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 48},
    # Without a `max_length`, which TRL 1.x does not enforce here and therefore refuses.
    "padding-free": {"padding_free": True, "max_length": None, "gradient_accumulation_steps": 4},
    "completion only": {"data": COMPLETIONS, "completion_only_loss": True},
    "checkpointed": {"gradient_checkpointing": True, "gradient_accumulation_steps": 4},
    "not checkpointed": {"gradient_checkpointing": False},
    "LoRA": {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])},
    "LoRA accumulated": {
        "peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
        "gradient_accumulation_steps": 4,
    },
    "LoRA packed": {
        "peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
        "packing": True,
        "max_length": 96,
    },
}


QUICK = ("plain", "accumulated", "packed", "LoRA")


def window_gradient(
    make_trainer, samples, tokenizer, variant, *, guarded: bool
) -> tuple[np.ndarray, Injection | None]:
    """The gradient an optimizer step is given."""
    trainer = make_trainer(max_steps=1, max_grad_norm=0.0, **variant)
    one = None
    if guarded:
        state = GuardState(task_samples=27)
        one = injection(samples, tokenizer, state)
        attach_kl(trainer, one)
        one.begin_step()  # 3 of 30 samples are due: all three
    captured = {}
    trainer.create_optimizer_and_scheduler(1)
    optimizer_step = trainer.optimizer.step

    def keep_gradients(*args, **kwargs):
        captured["gradient"] = gradients(trainer.model)
        return optimizer_step(*args, **kwargs)

    trainer.optimizer.step = keep_gradients
    trainer.train()
    return captured["gradient"], one


def error_of_the_term(make_trainer, samples, tokenizer, variant) -> tuple[float, Injection]:
    """How far what the guard adds to a window's gradient is from the definition, relative to it."""
    plain, _ = window_gradient(make_trainer, samples, tokenizer, variant, guarded=False)
    guarded, one = window_gradient(make_trainer, samples, tokenizer, variant, guarded=True)
    fresh = make_trainer(**variant)
    fresh.model.eval()
    naive_kl_term(fresh.model, samples, 0.7).backward()
    expected = gradients(fresh.model)
    assert np.linalg.norm(expected) > 0.01
    assert one is not None
    return float(np.linalg.norm(guarded - plain - expected) / np.linalg.norm(expected)), one


@pytest.mark.parametrize(
    "variant", [v if v in QUICK else pytest.param(v, marks=pytest.mark.run) for v in VARIANTS]
)
def test_the_gradient_of_a_window_is_task_plus_kl(make_trainer, samples, tokenizer, variant):
    error, one = error_of_the_term(make_trainer, samples, tokenizer, VARIANTS[variant])
    assert error < (1e-4 if "LoRA" in variant else 1e-5)  # peft's adapters are float32
    rows = 2 * VARIANTS[variant].get("gradient_accumulation_steps", 1)
    # Packed rows hold several samples each; where packing cuts them anywhere, a row counts as one.
    counted = one.take_counts()[0]
    assert counted > rows if variant in ("packed", "LoRA packed") else counted == rows


REENTRANT = {
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": True},
}


@pytest.mark.parametrize(
    "variant",
    [
        {"gradient_checkpointing": False},
        VARIANTS["checkpointed"],
        pytest.param(REENTRANT, marks=pytest.mark.run),
        pytest.param(VARIANTS["LoRA accumulated"], marks=pytest.mark.run),
    ],
)
def test_micro_batches_add_the_gradient_of_one_forward(
    make_trainer, samples, tokenizer, variant, monkeypatch
):
    monkeypatch.setattr(
        teacher_forcing, "BUDGET", teacher_forcing.ForwardBudget(1, 1)
    )  # each sample in one of its own
    error, _ = error_of_the_term(make_trainer, samples, tokenizer, variant)
    assert error < (1e-4 if "peft_config" in variant else 1e-5)


@pytest.mark.parametrize("budget", [teacher_forcing.BUDGET, teacher_forcing.ForwardBudget(1, 1)])
def test_what_training_does_at_random_does_not_move_the_term(
    make_trainer, samples, tokenizer, budget, monkeypatch
):
    monkeypatch.setattr(teacher_forcing, "BUDGET", budget)
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.5)
    noisy = make_trainer(peft_config=adapter).model
    for name, parameter in noisy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.3)
    noisy.get_input_embeddings().neftune_noise_alpha = 50.0
    noisy.get_input_embeddings().register_forward_hook(neftune_post_forward_hook)
    noisy.train()
    one = injection(samples, tokenizer, GuardState(task_samples=27))
    one.begin_step()
    term = one.take_term(noisy)
    term.backward()
    found = gradients(noisy)
    noisy.zero_grad()
    assert all(module.training for module in noisy.modules())
    assert float(naive_kl_term(noisy, samples, 0.7)) != pytest.approx(
        float(term.detach()), rel=1e-3
    )
    noisy.eval()
    expected = naive_kl_term(noisy, samples, 0.7)
    expected.backward()
    assert float(term.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    np.testing.assert_allclose(found, gradients(noisy), rtol=1e-3, atol=1e-5)


def test_ranks_deal_samples_into_equal_numbers_of_forwards(tokenizer, monkeypatch):
    """Unequal numbers would hang a model in pieces, which every forward gathers anew."""
    budget = teacher_forcing.ForwardBudget(tokens=400, logits=4 * len(tokenizer) * 120)
    monkeypatch.setattr(teacher_forcing, "BUDGET", budget)
    rng = np.random.default_rng(0)
    model = tiny_model(tokenizer, seed=1)
    for ranks in (1, 2, 4, 8):
        due = [
            RehearsalSample(f"r-{n}", (1,) * int(p), (2,) * int(g), {})
            for n, (p, g) in enumerate(rng.integers(1, 150, (6 * ranks, 2)))
        ]
        due.sort(key=lambda sample: sample.lengths)
        batches = injection({}, tokenizer, world_size=ranks)._batches(model, due)
        assert sorted(i for batch in batches for i in batch) == list(range(6)), (
            "of each rank's samples"
        )
        assert 1 < len(batches) <= 6
        for rank in range(ranks):
            mine = [sample.lengths for sample in due[rank::ranks]]
            for batch in batches:
                width = max(sum(mine[i]) for i in batch)
                assert len(batch) == 1 or len(batch) * width <= budget.tokens


def full_reference(model):
    """The logits of another model at every gold token."""

    def reference(policy, chosen):
        found = []
        for sample in chosen:
            row = torch.tensor([[*sample.prompt, *sample.gold]])
            with torch.no_grad():
                found.append(model(input_ids=row).logits[0, len(sample.prompt) - 1 : -1])
        return found

    return reference


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_full_references_give_the_kl_of_either_direction(
    make_trainer, samples, tokenizer, direction
):
    policy, other = make_trainer().model, tiny_model(tokenizer, seed=2)
    one = injection(
        samples,
        tokenizer,
        GuardState(task_samples=27),
        direction=direction,
        reference=full_reference(other),
    )
    one.begin_step()
    total, tokens = 0.0, 0
    for sample in samples.values():
        row = torch.tensor([[*sample.prompt, *sample.gold]])
        here = slice(len(sample.prompt) - 1, -1)
        p, q = (torch.softmax(m(input_ids=row).logits[0, here], -1) for m in (other, policy))
        first, second = (p, q) if direction == "forward" else (q, p)
        total += float((first * (first / second).log()).sum())
        tokens += len(sample.gold)
    assert total / tokens > 0.1
    assert float(one.take_term(policy).detach()) == pytest.approx(0.7 * total / tokens, rel=1e-5)


def test_the_model_without_its_adapter_is_a_reference(make_trainer, samples, tokenizer):
    trainer = make_trainer(peft_config=ADAPTER)
    reference = adapter_off(trainer.accelerator, tokenizer.pad_token_id)
    one = injection(samples, tokenizer, GuardState(task_samples=27), reference=reference)
    one.begin_step()
    moved = float(one.take_term(trainer.model).detach())
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    one = injection(samples, tokenizer, GuardState(task_samples=27), reference=reference)
    one.begin_step()
    assert moved > 1e-3
    assert float(one.take_term(trainer.model).detach()) == pytest.approx(0.0, abs=1e-12)
    assert trainer.model.active_adapters == ["default"]


def test_the_term_equals_the_definition_and_is_large(make_trainer, samples, tokenizer):
    trainer = make_trainer()
    state = GuardState(task_samples=27)
    one = injection(samples, tokenizer, state)
    one.begin_step()
    term = one.take_term(trainer.model)
    expected = naive_kl_term(trainer.model, samples, 0.7)
    assert float(term) > 0.1
    assert float(term) == pytest.approx(float(expected), rel=1e-5)
    assert one.take_term(trainer.model) is None
    assert one.take_mean_kl() == pytest.approx(float(expected) / 0.7, rel=1e-5)


def test_two_ranks_together_add_what_one_process_adds(make_trainer, samples, tokenizer):
    """Each rank's term, averaged as DDP averages gradients, is the one-process term."""
    model = make_trainer().model
    alone = injection(samples, tokenizer, GuardState(task_samples=18))
    alone.begin_step()
    whole = alone.take_term(model)
    ranks = []
    for rank in (0, 1):
        one = injection(samples, tokenizer, GuardState(task_samples=18), rank=rank, world_size=2)
        one.begin_step()
        ranks.append(one.take_term(model))
    assert float(sum(ranks)) / 2 == pytest.approx(float(whole), rel=1e-12)


def test_the_boost_multiplies_the_term(make_trainer, samples, tokenizer):
    model = make_trainer().model
    terms = []
    for boost in (1.0, 2.25):
        one = injection(samples, tokenizer, GuardState(task_samples=27, boost=boost))
        one.begin_step()
        terms.append(float(one.take_term(model)))
    assert terms[1] == pytest.approx(2.25 * terms[0], rel=1e-12)


def test_attached_without_due_samples_trains_to_identical_weights(make_trainer, samples, tokenizer):
    plain = make_trainer()
    plain.train()
    guarded = make_trainer()
    one = injection(samples, tokenizer, fraction=0.01)
    attach_kl(guarded, one)
    guarded.train()
    assert one.take_counts()[0] == 8, "the wrapped loss was never called"
    for a, b in zip(plain.model.parameters(), guarded.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_evaluation_losses_carry_no_kl(make_trainer, samples, tokenizer, rows):
    import datasets

    held_out = datasets.Dataset.from_list(rows[:6])
    plain = make_trainer().evaluate(
        make_trainer()._prepare_dataset(
            held_out, tokenizer, make_trainer().args, False, None, "eval"
        )
    )["eval_loss"]
    guarded = make_trainer()
    one = injection(samples, tokenizer, GuardState(task_samples=27))
    attach_kl(guarded, one)
    one.begin_step()
    prepared = guarded._prepare_dataset(held_out, tokenizer, guarded.args, False, None, "eval")
    assert guarded.evaluate(prepared)["eval_loss"] == plain
    assert one.take_mean_kl() is None


def test_cross_entropy_is_offered_for_comparison(make_trainer, samples, tokenizer):
    model = make_trainer().model
    one = injection(samples, tokenizer, GuardState(task_samples=27), loss="ce", weight=1.0)
    one.begin_step()
    total, tokens = 0.0, 0
    for sample in samples.values():
        row = torch.tensor([[*sample.prompt, *sample.gold]])
        logits = model(input_ids=row).logits[0, len(sample.prompt) - 1 : -1].double()
        gold = torch.tensor(sample.gold)
        total += float(torch.nn.functional.cross_entropy(logits, gold, reduction="sum"))
        tokens += len(sample.gold)
    assert float(one.take_term(model)) == pytest.approx(total / tokens, rel=1e-5)


def test_backward_seconds_are_counted_apart(make_trainer, samples, tokenizer):
    trainer = make_trainer()
    state = GuardState(task_samples=27)
    one = injection(samples, tokenizer, state)
    one.begin_step()
    task = trainer.model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits.sum()
    loss = one.add(task, one.take_term(trainer.model))
    forward_seconds = state.seconds["kl"]
    loss.backward()
    assert state.seconds["kl"] > forward_seconds > 0
