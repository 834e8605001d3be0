import pytest
import torch
from transformers import get_scheduler

from guardrail.trainers.levers import scale_learning_rate

SCHEDULERS = {
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {},
    "polynomial": {},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 10},
}


def made(name: str):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=5,
        num_training_steps=60,
        scheduler_specific_kwargs=SCHEDULERS[name],
    )
    return optimizer, scheduler


def rates(optimizer, scheduler, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_cut_holds_ten_steps_later_and_after_a_resume(name):
    reference = rates(*made(name), 40)
    optimizer, scheduler = made(name)
    rates(optimizer, scheduler, 20)
    before, after = scale_learning_rate(optimizer, scheduler, 0.5)
    assert after == pytest.approx([0.5 * rate for rate in before])
    assert rates(optimizer, scheduler, 10) == pytest.approx([0.5 * r for r in reference[20:30]])
    resumed_optimizer, resumed = made(name)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert rates(resumed_optimizer, resumed, 10) == pytest.approx([0.5 * r for r in reference[30:]])


def test_reduce_on_plateau_keeps_the_cut_and_its_floor():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=0, min_lr=0.04
    )
    scale_learning_rate(optimizer, scheduler, 0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    for _ in range(3):
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.5])
def test_the_guard_never_raises_the_rate(factor):
    with pytest.raises(ValueError, match="never raises"):
        scale_learning_rate(*made("linear"), factor)
