import pytest
import torch
from transformers import SchedulerType, get_scheduler

from guardrail.errors import InputError
from guardrail.guard.apply_levers import (
    base_rates,
    hold_cut,
    scale_learning_rate,
    scheduler_steps,
)

pytestmark = pytest.mark.trl1

SCHEDULERS = {
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {},
    "polynomial": {},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
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


AT_EVALUATION = {
    "reduce_lr_on_plateau": {"factor": 0.8, "patience": 1, "min_lr": 1e-3},
    "greedy": {"factor": 0.8, "patience": 1, "min_lr": 1e-3, "max_lr": 0.2, "reset_start": 4},
}
METRICS = [3.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.8, 0.7, 0.6] * 4


def rates_at_evaluation(optimizer, scheduler, metrics) -> list[float]:
    seen = []
    for metric in metrics:
        optimizer.step()
        scheduler.step(metric)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def made_at_evaluation(name: str):
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    scheduler = get_scheduler(name, optimizer, scheduler_specific_kwargs=AT_EVALUATION[name])
    return optimizer, scheduler


@pytest.mark.parametrize("name", sorted(AT_EVALUATION))
def test_a_cut_holds_for_schedulers_that_step_at_evaluation(name):
    reference = rates_at_evaluation(*made_at_evaluation(name), METRICS)
    assert len(set(reference)) > 2
    optimizer, scheduler = made_at_evaluation(name)
    rates_at_evaluation(optimizer, scheduler, METRICS[:12])
    scale_learning_rate(optimizer, scheduler, 0.5)
    then = rates_at_evaluation(optimizer, scheduler, METRICS[12:24])
    assert then == pytest.approx([0.5 * rate for rate in reference[12:24]])
    resumed_optimizer, resumed = made_at_evaluation(name)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    then = rates_at_evaluation(resumed_optimizer, resumed, METRICS[24:])
    assert then == pytest.approx([0.5 * rate for rate in reference[24:]])


def cut_and_saved(made_one):
    """An optimizer and scheduler that were cut after some steps, what was saved of them, and their rates."""
    optimizer, scheduler = made_one
    scale_learning_rate(optimizer, scheduler, 0.5)
    saved = {"saved": base_rates(optimizer, scheduler), "saved_steps": scheduler_steps(scheduler)}
    return optimizer, scheduler, saved


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_cut_that_was_loaded_is_left_and_one_that_was_not_is_put_in_force(name):
    reference = rates(*made(name), 12)
    optimizer, scheduler = made(name)
    rates(optimizer, scheduler, 7)
    optimizer, scheduler, saved = cut_and_saved((optimizer, scheduler))
    loaded_optimizer, loaded = made(name)
    loaded_optimizer.load_state_dict(optimizer.state_dict())
    loaded.load_state_dict(scheduler.state_dict())
    before, after = hold_cut(loaded_optimizer, loaded, 0.5, **saved)
    assert before == after == saved["saved"]
    fresh_optimizer, fresh = made(name)
    before, after = hold_cut(fresh_optimizer, fresh, 0.5, **saved)
    assert before == pytest.approx([2 * rate for rate in after])
    assert rates(fresh_optimizer, fresh, 12) == pytest.approx([0.5 * r for r in reference])


@pytest.mark.parametrize("name", sorted(AT_EVALUATION))
def test_the_same_for_schedulers_that_step_at_evaluation(name):
    optimizer, scheduler = made_at_evaluation(name)
    rates_at_evaluation(optimizer, scheduler, METRICS[:12])
    optimizer, scheduler, saved = cut_and_saved((optimizer, scheduler))
    loaded_optimizer, loaded = made_at_evaluation(name)
    loaded_optimizer.load_state_dict(optimizer.state_dict())
    loaded.load_state_dict(scheduler.state_dict())
    before, after = hold_cut(loaded_optimizer, loaded, 0.5, **saved)
    assert before == after == saved["saved"]
    before, after = hold_cut(*made_at_evaluation(name), 0.5, **saved)
    assert after == pytest.approx([0.5 * rate for rate in before])


def test_a_new_rate_that_happens_to_be_the_cut_one_is_cut_too():
    optimizer, scheduler = made("linear")
    rates(optimizer, scheduler, 7)
    *_, saved = cut_and_saved((optimizer, scheduler))
    new = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), lr=0.05)
    fresh = get_scheduler("linear", new, num_warmup_steps=0, num_training_steps=60)
    assert base_rates(new, fresh) == saved["saved"]
    _, after = hold_cut(new, fresh, 0.5, **saved)
    assert after == pytest.approx([0.025])


def test_an_optimizer_that_steps_with_another_rate_than_its_scheduler_says_is_refused():
    optimizer, scheduler = made("linear")
    rates(optimizer, scheduler, 7)
    *_, saved = cut_and_saved((optimizer, scheduler))
    for key in ("lr", "initial_lr"):
        kept = optimizer.param_groups[0][key]
        optimizer.param_groups[0][key] = 2 * kept
        with pytest.raises(InputError, match=r"the guard's cut to 0\.5 of the rate would not hold"):
            hold_cut(optimizer, scheduler, 0.5, **saved)
        optimizer.param_groups[0][key] = kept


def test_every_scheduler_of_transformers_is_covered():
    covered = SCHEDULERS.keys() | AT_EVALUATION.keys()
    assert {kind.value for kind in SchedulerType} == covered


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.5])
def test_the_guard_never_raises_the_rate(factor):
    with pytest.raises(ValueError, match="never raises"):
        scale_learning_rate(*made("linear"), factor)
