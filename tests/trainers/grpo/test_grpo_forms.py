"""Golds beside GRPO's loss, the anchored form, in the real GRPOTrainer against float64; and both forms at once."""

import datasets
import numpy as np
import pytest
import torch

from guardrail.guard.state import GuardState, Seen, read_state, write_state
from guardrail.trainers.grpo.forms import BothForms, attach_golds
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from tests.trainers.conftest import naive_kl_term
from tests.trainers.grpo.grpo_fixtures import (
    MARKS,
    Recorder,
    Scorer,
    attach,
    gradient_of,
    make_trainer,
    perturb,
    task_rows,
)

pytestmark = [*MARKS, pytest.mark.run]


def golds(samples, tokenizer, state, **changes) -> Injection:
    """Three of thirty samples are due in the first step: all there are."""
    options = {"fraction": 0.1, "weight": 0.7, "loss": "kl", "seed": 0} | changes
    return Injection(samples, state, pad_id=tokenizer.pad_token_id, **options)


def trained(base, form, samples, tokenizer, **arguments):
    """One optimizer step under a form of KL-only samples: its recorder and its injection."""
    trainer = make_trainer(base, Scorer(constant=True), **arguments)
    state, one = GuardState(), None
    if form != "anchored":
        rollouts = attach(trainer, state)
    if form != "literal":
        seen = Seen(task_samples=27)
        one = golds(samples, tokenizer, state, seen=seen)
        attach_golds(trainer, one)
        one = one if form == "anchored" else BothForms(rollouts, one)
        one.begin_step()
    perturb(trainer.model)
    return Recorder(trainer).train(), one


def plain(base, **arguments) -> Recorder:
    trainer = make_trainer(base, Scorer(constant=True), **arguments)
    perturb(trainer.model)
    return Recorder(trainer).train()


SHAPES = [(1, False), (4, False), (4, True)]


@pytest.mark.run
@pytest.mark.parametrize(("accumulation", "lora"), SHAPES, ids=["one", "four", "four-lora"])
@pytest.mark.parametrize("form", ["anchored", "both"])
def test_golds_add_their_kl_by_hand_whatever_the_accumulation(
    base, samples, tokenizer, form, accumulation, lora
):
    shape = {
        "per_device_train_batch_size": 8 // accumulation,
        "gradient_accumulation_steps": accumulation,
        "lora": lora,
    }
    guarded, one = trained(base, form, samples, tokenizer, **shape)
    if form == "anchored":
        without = plain(base, **shape)
    else:
        without, _ = trained(base, "literal", samples, tokenizer, **shape)
    model = guarded.trainer.model
    model.load_state_dict(guarded.policies[0])
    term = naive_kl_term(model, samples, 0.7)
    expected = gradient_of(model, term)
    assert np.linalg.norm(expected) > 0.1
    added = guarded.gradients[0] - without.gradients[0]
    assert np.linalg.norm(added - expected) / np.linalg.norm(expected) < 1e-5
    numbers = one.numbers() if form == "anchored" else one.numbers()["golds"]
    assert numbers["rehearsal_kl"] * 0.7 == pytest.approx(float(term), rel=1e-5)
    assert numbers["rehearsal_samples"] == 3
    # Eight completions, of which half answer KL-only prompts where those are rolled out.
    assert one.take_counts() == ([8] if form == "anchored" else [4])


def test_the_window_carries_the_golds_once_under_boost(base, samples, tokenizer):
    trainer = make_trainer(base, Scorer(constant=True), beta=0.0)
    assert trainer.ref_model is None, "the anchored form needs no reference model"
    state = GuardState(task_samples=27, boost=2.25)
    one = golds(samples, tokenizer, state)
    attach_golds(trainer, one)
    trainer.current_gradient_accumulation_steps = 4
    trainer.model.train()
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    one.begin_step()
    losses = [float(trainer.compute_loss(trainer.model, batch).detach()) for _ in range(2)]
    term = float(naive_kl_term(trainer.model, samples, 0.7 * 2.25))
    assert term > 0.1
    assert losses[0] - losses[1] == pytest.approx(term, rel=1e-5)


def test_evaluation_carries_no_golds(base, samples, tokenizer):
    trainer = make_trainer(base, Scorer(), per_device_eval_batch_size=4)
    state = GuardState(task_samples=27)
    one = golds(samples, tokenizer, state)
    attach_golds(trainer, one)
    one.begin_step()
    trainer.evaluate(datasets.Dataset.from_list(task_rows(4)))
    assert one.take_mean_kl() is None
    assert one.take_counts() == [0]


def test_both_forms_count_for_themselves_and_both_counts_survive_a_checkpoint(
    base, samples, tokenizer, tmp_path
):
    trainer, state = make_trainer(base, Scorer()), GuardState()
    rollouts = attach(trainer, state)
    both = BothForms(rollouts, golds(samples, tokenizer, state, seen=state.golds))
    both.add_counts([*rollouts.take_counts(), 36])
    both.begin_step()
    assert state.golds == Seen(task_samples=36, rehearsal_seen=4, weight_sum=0.7)
    assert (state.task_samples, state.rehearsal_seen) == (0, 0)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert both.exposure()["golds"]["share"] == pytest.approx(0.1)


def test_both_forms_are_probed_each_against_its_own_reference(base, samples, tokenizer):
    """The rollouts' reference is the model itself, the golds' stored one another's, and pinned it is its own."""
    trainer, state = make_trainer(base, Scorer()), GuardState()
    both = BothForms(attach(trainer, state), golds(samples, tokenizer, state))
    probes = both.probes(trainer.model)
    with torch.no_grad():
        at_start = [probe.measure() for probe in probes]
        assert both.stored_kl(trainer.model) > 0.1
        perturb(trainer.model)
        assert [probe.measure() > 1e-3 for probe in probes] == [True, True]
    assert max(map(abs, at_start)) < 1e-6
