"""The gradient of KL-only rows in the real GRPOTrainer, held against independent computations in float64."""

import numpy as np
import pytest
import torch
import transformers

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.trainers.trl.grpo import KL_ONLY_TOKENS
from guardrail.trainers.trl.grpo_mixing import KL_ONLY
from tests.run_fixtures import script
from tests.trainers.grpo.grpo_fixtures import (
    HERE,
    MARKS,
    Recorder,
    Scorer,
    attach,
    generation_batch,
    gradient_of,
    make_trainer,
    naive_k3,
    perturb,
)

pytestmark = MARKS


@pytest.fixture(scope="module")
def reference(base):
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval()


def norm_of_error(found, expected) -> float:
    assert np.linalg.norm(expected) > 1e-3, "nothing to compare with"
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def recorded(base, weight, *, adapter_off=False, **arguments) -> Recorder:
    trainer = make_trainer(base, Scorer(constant=True), **arguments)
    attach(trainer, weight=weight, adapter_off=adapter_off)
    perturb(trainer.model)
    return Recorder(trainer).train()


def expected_parts(run, reference, step):
    """The k3 gradients of KL-only and of task rows at this step, each divided by its tokens."""
    model = run.trainer.model
    model.load_state_dict(run.policies[step])
    model.eval()

    def without_adapter(input_ids):
        with model.disable_adapter():
            return model(input_ids=input_ids)

    heat = run.trainer.args.temperature
    pinned = without_adapter if hasattr(model, "peft_config") else reference
    parts = []
    for kind in (True, False):
        sums = [
            naive_k3(model, pinned, batch, kl_only=kind, heat=heat) for batch in run.batches[step]
        ]
        loss = sum(total for total, _ in sums) / sum(tokens for _, tokens in sums)
        parts.append(gradient_of(model, loss))
    return parts


@pytest.mark.run
@pytest.mark.parametrize(
    ("accumulation", "lora"), [(1, False), (4, False), (4, True)], ids=["one", "four", "four-lora"]
)
def test_the_gradient_is_the_kl_by_hand_and_beta_acts_on_task_rows_alone(
    base, reference, accumulation, lora
):
    shape = {
        "per_device_train_batch_size": 8 // accumulation,
        "gradient_accumulation_steps": accumulation,
        "lora": lora,
        # On by default since TRL 1.x; the task rows' KL by hand below is without it.
        "use_bias_correction_kl": False,
    }
    guarded, without = recorded(base, 0.7, **shape), recorded(base, 0.0, **shape)
    kl_only, task = expected_parts(guarded, reference, 0)
    lengths = [int(n) for batch in guarded.batches[0] for n in batch["completion_mask"].sum(1)]
    assert len(set(lengths)) > 2, "completions of one length prove nothing about padding"
    assert norm_of_error(guarded.gradients[0] - without.gradients[0], 0.7 * kl_only) < 1e-5
    # DAPO divides by the completion tokens; those of KL-only rows are not among them.
    assert guarded.trainer.loss_type == "dapo"
    assert norm_of_error(without.gradients[0], 0.3 * task) < 1e-5


@pytest.mark.run
@pytest.mark.parametrize(("accumulation", "temperature"), [(1, 1.0), (4, 0.8)])
def test_at_beta_0_lora_is_pulled_to_the_model_without_its_adapter_on_general_prompts_alone(
    base, accumulation, temperature
):
    shape = {
        "per_device_train_batch_size": 8 // accumulation,
        "gradient_accumulation_steps": accumulation,
        "lora": True,
        "beta": 0.0,
        "temperature": temperature,
        "adapter_off": True,
    }
    guarded, without = recorded(base, 0.7, **shape), recorded(base, 0.0, **shape)
    assert guarded.trainer.ref_model is None
    kl_only, _ = expected_parts(guarded, None, 0)
    assert norm_of_error(guarded.gradients[0], 0.7 * kl_only) < 1e-5
    assert not without.gradients[0].any(), "a constant reward leaves the task's rows nothing"


@pytest.mark.run
@pytest.mark.parametrize(
    "loss_type", ["grpo", "bnpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo"]
)
def test_every_loss_type_adds_the_same_term(base, reference, loss_type):
    if loss_type == "vespo" and HERE.first == "0.29":
        with pytest.raises(InputError, match="loss_type"):
            recorded(base, 0.7, loss_type=loss_type)
        return
    shape = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    if loss_type == "luspo":
        shape["importance_sampling_level"] = "sequence"
    guarded = recorded(base, 0.7, loss_type=loss_type, **shape)
    without = recorded(base, 0.0, loss_type=loss_type, **shape)
    kl_only, _ = expected_parts(guarded, reference, 0)
    assert norm_of_error(guarded.gradients[0] - without.gradients[0], 0.7 * kl_only) < 1e-5


OTHER_SETTINGS = [
    {"top_entropy_quantile": 0.5},
    {"off_policy_mask_threshold": 0.5},
    {"importance_sampling_level": "sequence"},
    {"gradient_checkpointing": True},
    *([] if HERE.first == "0.29" else [{"entropy_coef": 0.1}]),
]


@pytest.mark.run
@pytest.mark.parametrize("settings", OTHER_SETTINGS, ids=lambda settings: next(iter(settings)))
def test_settings_of_the_task_loss_do_not_reach_the_term(base, reference, settings):
    shape = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2} | settings
    guarded, without = recorded(base, 0.7, **shape), recorded(base, 0.0, **shape)
    kl_only, _ = expected_parts(guarded, reference, 0)
    assert norm_of_error(guarded.gradients[0] - without.gradients[0], 0.7 * kl_only) < 1e-5


@pytest.mark.run
def test_iterations_reuse_the_rows_on_the_policy_of_the_moment(base, reference):
    shape = {"num_iterations": 2, "max_steps": 2, "learning_rate": 5e-3, "beta": 1e-9}
    run = recorded(base, 0.7, lr_scheduler_type="constant", **shape)
    first, second = (expected_parts(run, reference, step)[0] for step in (0, 1))
    assert norm_of_error(run.gradients[0], 0.7 * first) < 1e-5
    assert norm_of_error(run.gradients[1], 0.7 * second) < 1e-5
    assert norm_of_error(first, second) > 0.01, "the policy did not move in between"
    ids = [
        {tuple(row) for b in run.batches[s] for row in b["completion_ids"].tolist()} for s in (0, 1)
    ]
    assert ids[0] == ids[1], "the second iteration generated anew"


@pytest.mark.run
@pytest.mark.parametrize(("generation", "accumulation"), [(4, 2), (2, 4)])
def test_where_generation_and_window_differ_the_mean_over_steps_is_the_weight(
    base, reference, generation, accumulation
):
    """At a learning rate of 0, over one common cycle of generation batches and optimizer steps."""
    steps = max(1, generation // accumulation)
    shape = {
        "per_device_train_batch_size": 2,
        "steps_per_generation": generation,
        "gradient_accumulation_steps": accumulation,
        "max_steps": steps,
    }
    guarded, without = recorded(base, 0.7, **shape), recorded(base, 0.0, **shape)
    micro = [batch for step in guarded.batches for batch in step]
    generations = [micro[i : i + generation] for i in range(0, len(micro), generation)]
    assert len(generations) * generation == steps * accumulation
    model, means = guarded.trainer.model.eval(), []
    for batches in generations:
        sums = [naive_k3(model, reference, b, kl_only=True) for b in batches]
        total, tokens = sum(s for s, _ in sums), sum(n for _, n in sums)
        assert tokens == int(batches[0][KL_ONLY_TOKENS]) > 0
        means.append(gradient_of(model, total / tokens))
    added = np.mean(guarded.gradients, axis=0) - np.mean(without.gradients, axis=0)
    assert norm_of_error(added, 0.7 * np.mean(means, axis=0)) < 1e-5


def test_the_boost_multiplies_the_term(base):
    state = GuardState()
    trainer = make_trainer(base, Scorer(constant=True), beta=1e-9)
    kl_only = attach(trainer, state)
    perturb(trainer.model)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batch = trainer._generate_and_score_completions(generation_batch(trainer))
    losses = []
    for boost in (1.0, 2.25):
        state.boost = boost
        losses.append(float(trainer.compute_loss(trainer.model, batch).detach()))
        assert kl_only.weight == pytest.approx(0.7 * boost)
    assert losses[0] > 0.01
    assert losses[1] == pytest.approx(2.25 * losses[0], rel=1e-6)


@pytest.mark.run
def test_truncated_completions_that_are_masked_stay_out(base, reference):
    shape = {"mask_truncated_completions": True, "use_bias_correction_kl": False}
    guarded, without = recorded(base, 0.7, **shape), recorded(base, 0.0, **shape)
    (batch,) = guarded.batches[0]
    flags, mask = batch[KL_ONLY], batch["completion_mask"]
    lengths = (batch["completion_ids"] != guarded.trainer.processing_class.pad_token_id).sum(1)
    masked = mask.sum(1) == 0
    assert sorted(set(zip(flags.tolist(), masked.tolist(), strict=True))) == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ], "the batch must hold every kind"
    assert int(batch[KL_ONLY_TOKENS]) == int(mask[flags].sum())
    # DAPO's denominator is what TRL made it, without the KL-only rows' part.
    counted = lengths if HERE.counts_masked else mask.sum(1)
    assert int(batch["num_items_in_batch"]) == int(counted[~flags].sum())
    kl_only, _ = expected_parts(guarded, reference, 0)
    assert norm_of_error(guarded.gradients[0] - without.gradients[0], 0.7 * kl_only) < 1e-5


KEYS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", KL_ONLY)


@pytest.fixture(scope="module")
def two_ranks(base, tmp_path_factory):
    """What each of two ranks wrote down, by run."""
    folder = tmp_path_factory.mktemp("ranks")
    done = script("trainers.grpo.grpo_fixtures", base, folder, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = (0.7, 0.0, "adapter-off")
    return {run: [np.load(folder / f"{run}-rank{r}.npz") for r in (0, 1)] for run in runs}


def summed_over_ranks(ranks, policy, reference) -> np.ndarray:
    """The gradient of 0.7 times the mean k3 of both ranks' KL-only tokens, of which rank 0 has none."""
    batches = [
        {key: torch.from_numpy(rank[f"{key}/{number}"]) for key in KEYS}
        for rank in ranks
        for number in (0, 1)
    ]
    assert [int(b[KL_ONLY].sum()) for b in batches[:2]] == [0, 0], "rank 0 has none"
    assert sum(int(b[KL_ONLY].sum()) for b in batches[2:]) == 2
    sums = [naive_k3(policy, reference, batch, kl_only=True) for batch in batches]
    total, tokens = sum(s for s, _ in sums), sum(n for _, n in sums)
    assert tokens == int(ranks[0][f"{KL_ONLY_TOKENS}/0"])
    return 0.7 * gradient_of(policy, total / tokens)


@pytest.mark.run
def test_two_ranks_of_which_one_has_kl_only_rows_add_what_one_process_adds(
    base, reference, two_ranks
):
    ranks = two_ranks[0.7]
    policy = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval()
    perturb(policy)
    expected = summed_over_ranks(ranks, policy, reference)
    for rank in (0, 1):
        added = ranks[rank]["gradient"] - two_ranks[0.0][rank]["gradient"]
        assert norm_of_error(added, expected) < 1e-5
    for key in ("counts", "steps", "mean_kl", "weight_sum"):
        assert np.array_equal(ranks[0][key], ranks[1][key]), key
    assert ranks[0]["counts"].tolist() == [6, 2]
    assert [int(rank["scored"]) for rank in ranks] == [8, 4]


@pytest.mark.run
def test_two_ranks_ask_the_model_without_its_adapter_together(base, reference, two_ranks):
    policy = make_trainer(base, Scorer(), lora=True, beta=0.0).model.eval()
    perturb(policy)
    expected = summed_over_ranks(two_ranks["adapter-off"], policy, reference)
    for rank in two_ranks["adapter-off"]:
        assert norm_of_error(rank["gradient"], expected) < 1e-5
