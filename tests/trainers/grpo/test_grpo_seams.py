"""What the GRPO seam asks of a trainer before a run: a self-test, and refusals by name."""

import pytest
import torch
import trl

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.recipe import read_recipe
from guardrail.trainers.checks.trainer_fits_recipe import check_trainer_fits
from guardrail.trainers.trl.grpo import attach_kl_only
from guardrail.trainers.trl.grpo_versions import SEAMS, find_seams
from tests.trainers.grpo.grpo_fixtures import (
    HERE,
    MARKS,
    Scorer,
    attach,
    make_trainer,
    perturb,
)

pytestmark = [*MARKS, pytest.mark.run]


@pytest.mark.parametrize(("lora", "beta"), [(False, 0.3), (True, 0.3), (True, 0.0)])
def test_the_self_test_is_zero_at_the_reference_and_sees_a_perturbation(base, lora, beta):
    trainer = make_trainer(base, Scorer(), lora=lora, beta=beta)
    kl_only = attach(trainer, adapter_off=beta == 0)
    (probe,) = kl_only.probes(trainer.model)
    with torch.no_grad():
        at_start = probe.measure()
        perturb(trainer.model)
        perturbed = probe.measure()
    assert abs(at_start) < 1e-9
    assert perturbed > 1e-3
    assert kl_only.stored_kl(trainer.model) is None


def test_a_dataset_without_prompts_is_refused_by_its_columns(base):
    trainer = make_trainer(base, Scorer())
    trainer.train_dataset = trainer.train_dataset.rename_column("prompt", "messages")
    with pytest.raises(InputError, match=r"no column `prompt`, .* it has messages, answer"):
        attach(trainer)


BAD = {
    "scale_rewards": "batch",
    "multi_objective_aggregation": "normalize_then_sum",
    "train_dataset": [{"prompt": "streamed"}],
    "processing_class": object(),
    "rollout_func": print,
    "tools": [print],
    "args.sync_ref_model": True,
    "args.remove_unused_columns": True,
    "loss_type": "unheard_of",
    "environments": [object()],
    "environment_factories": {None: object},
    "use_liger_kernel": True,
    "aux_loss_enabled": True,
}


@pytest.mark.parametrize("path", [rule.path for rule in HERE.rules])
def test_what_would_let_more_than_the_kl_act_is_refused(base, path):
    trainer = make_trainer(base, Scorer())
    find_seams(trainer)
    owner, name = (trainer.args, path[5:]) if path.startswith("args.") else (trainer, path)
    getattr(owner, name)
    setattr(owner, name, BAD[path])
    with pytest.raises(InputError, match=rf"`{name}` to be .*; got ") as refused:
        attach(trainer)
    assert len(str(refused.value)) < 300


def test_images_and_a_second_attach_are_refused(base):
    trainer = make_trainer(base, Scorer())
    trainer.train_dataset = trainer.train_dataset.add_column("image", [None] * 8)
    with pytest.raises(InputError, match="column `image`"):
        attach(trainer)
    trainer = make_trainer(base, Scorer())
    attach(trainer)
    with pytest.raises(InputError, match="attach to a trainer once"):
        attach(trainer)


def test_at_beta_0_the_trainer_alone_has_no_reference(base):
    with pytest.raises(InputError, match="at beta 0 the trainer has none"):
        attach(make_trainer(base, Scorer(), lora=True, beta=0.0))


def test_another_trainer_is_refused(make_sft_trainer):
    with pytest.raises(InputError, match=r"trl\.GRPOTrainer, got SFTTrainer"):
        attach(make_sft_trainer())


@pytest.fixture
def make_sft_trainer(request):
    return request.getfixturevalue("make_trainer")


@pytest.mark.parametrize("name", sorted(HERE.methods))
def test_a_changed_method_is_named(base, name):
    trainer = make_trainer(base, Scorer())
    setattr(trainer, name, lambda model, something_else: None)
    with pytest.raises(InputError, match=rf"`{name}` of GRPOTrainer takes `model something_else`"):
        attach(trainer)


def test_an_absent_attribute_or_method_is_named(base):
    trainer = make_trainer(base, Scorer())
    del trainer._metrics
    with pytest.raises(InputError, match=r"has no `_metrics`; supported is trl from 0\.29"):
        attach(trainer)
    del trainer.rollout_func
    with pytest.raises(InputError, match="has no `rollout_func`; supported is"):
        attach(trainer)


def test_another_sampler_is_refused(base):
    class OneByOne(trl.GRPOTrainer):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    trainer = make_trainer(base, Scorer())
    trainer.__class__ = OneByOne
    with pytest.raises(InputError, match="returns a SequentialSampler, expected"):
        attach(trainer)


def test_a_version_nobody_tried_is_held_to_the_one_before_it(base, monkeypatch, caplog):
    trainer = make_trainer(base, Scorer())
    for module in ("checks.versions", "trl.grpo_versions"):
        monkeypatch.setattr(f"guardrail.trainers.{module}.version", lambda package: "1.17.2")
    if HERE is SEAMS[-1]:
        assert find_seams(trainer) is HERE
    else:
        with pytest.raises(InputError, match="has no `environment_factories`; supported is"):
            find_seams(trainer)
    assert "trl 1.17.2: newer than" in caplog.text


def test_grpo_is_not_to_find_its_batch_size_whatever_the_mode(base):
    trainer = make_trainer(base, Scorer())
    trainer.args.auto_find_batch_size = True
    for mode in ("guard", "watch"):
        recipe = read_recipe("toy-grpo").model_copy(update={"mode": mode})
        with pytest.raises(InputError, match="`auto_find_batch_size` cuts GRPO's groups"):
            check_trainer_fits(recipe, trainer, grpo=True)


@pytest.mark.parametrize("changes", [{"fraction": 0.0}, {"fraction": 1.0}, {"weight": -1.0}])
def test_numbers_out_of_range_are_refused(base, changes):
    trainer = make_trainer(base, Scorer())
    with pytest.raises(InputError, match="mend the recipe"):
        attach(trainer, **changes)
    with pytest.raises(InputError, match="got 0 prompts"):
        attach_kl_only(trainer, [], GuardState(), fraction=0.1, weight=1.0, seed=0)


def test_too_few_task_prompts_for_a_generation_batch_are_refused(base):
    trainer = make_trainer(base, Scorer(), rows=2)
    with pytest.raises(InputError, match="2 prompts, one generation batch takes 4"):
        attach(trainer, fraction=0.05)
