"""KL-only prompts in the real GRPOTrainer, held against independent computations in float64."""

import asyncio
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import transformers
import trl
from packaging.version import Version

from guardrail.errors import InputError
from guardrail.trainers.grpo_mixing import KL_ONLY
from guardrail.trainers.state import GuardState
from guardrail.trainers.trl_grpo import KL_ONLY_TOKENS, attach_kl_only
from guardrail.trainers.trl_grpo_seams import SEAMS, find_seams
from guardrail.trainers.versions import ANY_VERSION
from tests.run_fixtures import script
from tests.trainers.grpo_fixtures import (
    GENERAL_TEXTS,
    Recorder,
    Scorer,
    attach,
    gradient_of,
    make_trainer,
    naive_k3,
    perturb,
    save_base,
    task_rows,
)

pytestmark = [
    pytest.mark.trl1,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
    ),
]
HERE = next(s for s in SEAMS if Version(s.first) <= Version(trl.__version__) < Version(s.beyond))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("grpo") / "base")


@pytest.fixture(scope="module")
def reference(base):
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval()


def norm_of_error(found, expected) -> float:
    assert np.linalg.norm(expected) > 1e-3, "nothing to compare with"
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def generation_batch(trainer) -> list[dict[str, object]]:
    """The rows of the first generation batch, as the dataloader hands them over."""
    return next(iter(trainer.get_train_dataloader()))


# --- Only the KL acts ----------------------------------------------------------------------------


def kl_only_rows(trainer) -> list[dict[str, object]]:
    first = len(trainer.train_dataset.tasks)
    rows = [trainer.train_dataset[first + n] for n in (0, 1, 2, 0)]
    return [dict(row) for row in rows for _ in range(trainer.num_generations)]


@pytest.mark.parametrize("lora", [False, True])
def test_a_batch_of_kl_only_prompts_has_no_gradient_until_the_policy_moves(base, lora):
    scorer = Scorer()
    bonus = {} if HERE.first == "0.29" else {"entropy_coef": 0.5}
    trainer = make_trainer(base, scorer, lora=lora, **bonus)
    kl_only = attach(trainer)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    norms = []
    for move in (lambda: None, lambda: perturb(trainer.model)):
        move()
        batch = trainer._generate_and_score_completions(kl_only_rows(trainer))
        assert bool(batch[KL_ONLY].all())
        assert batch["advantages"].tolist() == [0.0] * 8
        loss = trainer.compute_loss(trainer.model, batch)
        norms.append(np.linalg.norm(gradient_of(trainer.model, loss)))
        assert kl_only.take_mean_kl() == pytest.approx(float(loss.detach()) / 0.7, abs=1e-7)
    assert norms[0] < 1e-6
    assert norms[1] > 1e-2
    assert scorer.calls == 0
    assert "reward" not in trainer._metrics["train"]


def test_random_values_in_kl_only_slots_change_nobodys_advantage(base):
    """The reward function raises at a KL-only row; what is put into their slots reaches no one."""

    def advantages(rewards_of_kl_only_rows):
        scorer = Scorer()
        trainer = make_trainer(base, scorer)
        attach(trainer)
        rewards = trainer._calculate_rewards

        def with_values(inputs, *rest):
            given = rewards(inputs, *rest)
            flags = torch.tensor([KL_ONLY in row for row in inputs])
            assert int(flags.sum()) == 4
            assert bool(given[flags].isnan().all())
            if rewards_of_kl_only_rows is not None:
                given[flags] = rewards_of_kl_only_rows
            return given

        trainer._calculate_rewards = with_values
        trainer.model.train()
        torch.manual_seed(0)
        batch = trainer._generate_and_score_completions(generation_batch(trainer))
        return batch["advantages"], batch[KL_ONLY], scorer

    plain, flags, scorer = advantages(None)
    random, _, _ = advantages(100.0 * torch.rand(4, 1))
    assert torch.equal(plain, random)
    assert plain[flags].tolist() == [0.0] * 4
    groups = torch.tensor(scorer.rewards).view(-1, 2)
    by_hand = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    assert plain[~flags].tolist() == pytest.approx(by_hand.ravel().tolist(), rel=1e-5)
    assert float(by_hand.abs().max()) > 0.5, "rewards that are all equal prove nothing"
    assert len(scorer.prompts) == 4


@pytest.mark.run
def test_reward_metrics_are_those_of_the_task_rows(base, tmp_path):
    scorer = Scorer()
    trainer = make_trainer(
        base, scorer, max_steps=4, log_completions=True, output_dir=str(tmp_path)
    )
    attach(trainer)
    trainer.train()
    assert scorer.calls == 4
    for log, rewards in zip(
        trainer.state.log_history, np.array(scorer.rewards).reshape(4, 4), strict=False
    ):
        groups = rewards.reshape(2, 2)
        assert log["reward"] == pytest.approx(rewards.mean(), rel=1e-6)
        assert log["rewards/scorer/mean"] == pytest.approx(rewards.mean(), rel=1e-6)
        assert log["reward_std"] == pytest.approx(rewards.std(ddof=1), rel=1e-6)
        assert log["frac_reward_zero_std"] == pytest.approx(np.mean(groups[:, 0] == groups[:, 1]))


def text_reward(prompts, **rest):
    assert all(prompt.startswith("逾期") for prompt in prompts)
    return [1.0] * len(prompts)


async def async_reward(prompts, completion_ids, answer, **rest):
    await asyncio.sleep(0)
    assert all(value is not None for value in answer)
    return [None if len(ids) % 2 else float(len(ids)) for ids in completion_ids]


def logging_reward(prompts, answer, trainer_state, **rest):
    if "log_extra" in rest:
        rest["log_extra"]("asked", [p[0]["content"] for p in prompts])
        rest["log_metric"]("count", len(prompts))
    return torch.ones(len(prompts))


@pytest.mark.run
def test_async_and_logging_reward_functions_keep_their_place(base, tmp_path):
    trainer = make_trainer(
        base,
        [async_reward, logging_reward],
        max_steps=2,
        log_completions=True,
        output_dir=str(tmp_path),
    )
    attach(trainer)
    trainer.train()
    rewards = trainer._logs["rewards"]["logging_reward"]
    flagged = [bool(np.isnan(value)) for value in rewards]
    assert sum(flagged) == 4
    if "log_extra" in HERE.batch_wide:
        asked = list(trainer._logs["extra"]["asked"])
        assert [value is None for value in asked] == flagged
        prompts = [prompt[0]["content"] for prompt in trainer._logs["prompt"]]
        assert [a for a in asked if a] == [p for p in prompts if p not in GENERAL_TEXTS]
        assert trainer.state.log_history[0]["count"] == 4


def test_a_reward_model_scores_copies_of_task_rows_in_place_of_kl_only_rows(base):
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, dtype="auto"
    )
    trainer = make_trainer(base, model, reward_processing_classes=[tokenizer])
    attach(trainer)
    texts = []
    trainer.reward_funcs[0].register_forward_pre_hook(
        lambda module, args, kwargs: texts.extend(tokenizer.batch_decode(kwargs["input_ids"])),
        with_kwargs=True,
    )
    trainer.model.train()
    batch = trainer._generate_and_score_completions(generation_batch(trainer))
    assert len(texts) == 8
    assert not any(said in text for said in GENERAL_TEXTS for text in texts)
    assert batch["advantages"][batch[KL_ONLY]].tolist() == [0.0] * 4
    assert bool((batch["advantages"][~batch[KL_ONLY]] != 0).any())


@pytest.mark.run
def test_a_generation_batch_of_kl_only_prompts_alone_trains_and_logs(base):
    """One group a generation batch: every second one has nobody to reward."""
    scorer, state = Scorer(), GuardState()
    trainer = make_trainer(
        base, scorer, per_device_train_batch_size=2, max_steps=4, learning_rate=1e-3
    )
    attach(trainer, state)
    trainer.train()
    logs = trainer.state.log_history[:4]
    assert [("reward" in log, "rewards/scorer/mean" in log) for log in logs] == [
        (True, True),
        (False, False),
    ] * 2
    assert all(np.isfinite(log["loss"]) and np.isfinite(log["grad_norm"]) for log in logs)
    assert (state.task_samples, state.rehearsal_seen, scorer.calls) == (2, 2, 2)
    assert state.weight_sum == pytest.approx(2 * 0.7)


def too_few(**rows):
    return [1.0]


def test_a_wrong_number_of_rewards_is_named(base):
    trainer = make_trainer(base, too_few)
    attach(trainer)
    trainer.model.train()
    with pytest.raises(InputError, match="`too_few` returned 1 rewards for 4 completions"):
        trainer._generate_and_score_completions(generation_batch(trainer))


def test_evaluation_is_left_alone(base):
    scorer = Scorer()
    trainer = make_trainer(base, scorer, per_device_eval_batch_size=4)
    state = GuardState()
    attach(trainer, state)
    held_out = datasets.Dataset.from_list(task_rows(4))
    trainer.evaluate(held_out)
    assert len(scorer.rewards) == 8
    assert trainer.state.log_history[-1]["eval_reward"] == pytest.approx(
        np.mean(scorer.rewards), rel=1e-6
    )
    assert (state.task_samples, state.rehearsal_seen) == (0, 0)


# --- The gradient --------------------------------------------------------------------------------


def recorded(base, weight, **arguments) -> Recorder:
    trainer = make_trainer(base, Scorer(constant=True), **arguments)
    attach(trainer, weight=weight)
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

    pinned = without_adapter if hasattr(model, "peft_config") else reference
    parts = []
    for kind in (True, False):
        sums = [naive_k3(model, pinned, batch, kl_only=kind) for batch in run.batches[step]]
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


# --- Mixing --------------------------------------------------------------------------------------


@pytest.mark.run
def test_attached_without_a_due_prompt_trains_to_identical_weights(base):
    shape = {"max_steps": 6, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "rows": 7}
    plain = make_trainer(base, Scorer(), **shape)
    plain.train()
    guarded, state = make_trainer(base, Scorer(), **shape), GuardState()
    attach(guarded, state, fraction=0.001)
    guarded.train()
    assert (state.task_samples, state.rehearsal_seen) == (12, 0), (
        "the wrapped methods were not called"
    )
    for a, b in zip(plain.model.parameters(), guarded.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(
        next(plain.model.parameters()), next(make_trainer(base, Scorer()).model.parameters())
    )


@pytest.mark.parametrize("fraction", [0.01, 0.03, 0.05, 0.1, 1 / 3])
def test_the_share_of_groups_is_exact_at_every_moment(base, fraction):
    trainer = make_trainer(base, Scorer(), rows=41, per_device_train_batch_size=4)
    attach(trainer, fraction=fraction)
    sampler = trainer._get_train_sampler()
    order = [row for number in range(40) for row in sampler.order(number)]
    flagged = np.array(order) >= 41
    counts = np.cumsum(flagged) - fraction * np.arange(1, len(order) + 1)
    assert counts.max() <= 1e-6
    assert counts.min() > -1.0
    assert flagged.sum() >= 10
    # Every KL-only prompt before any twice, and a pass holds each task prompt at most once.
    drawn = [row for row in order if row >= 41]
    assert {len(set(drawn[i : i + 3])) for i in range(0, len(drawn) - 2, 3)} == {3}
    tasks = [row for row in sampler.order(3) if row < 41]
    assert len(tasks) == len(set(tasks)) > 41 - 4


def test_without_due_prompts_the_order_is_the_trainers_own(base):
    trainer = make_trainer(base, Scorer(), rows=9, num_iterations=2, steps_per_generation=2)
    plain = trainer._get_train_sampler()
    passes = [list(plain), list(plain)]
    attach(trainer, fraction=1e-4)
    sampler = trainer._get_train_sampler()
    assert len(sampler) == len(plain) == len(passes[0])
    assert list(sampler) == passes[0]
    trainer.state.global_step = sampler.groups // 8 * 4
    assert list(sampler) == passes[1]
    assert passes[0] != passes[1]


def test_every_rank_and_every_run_draws_the_same(base):
    orders = []
    for seed in (0, 0, 1):
        trainer = make_trainer(base, Scorer(), rows=30, per_device_train_batch_size=4)
        attach(trainer, fraction=0.3, seed=seed)
        orders.append([trainer._get_train_sampler().order(n) for n in range(3)])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def told_prompts(trainer) -> list[list[str]]:
    """A list that grows by the prompts of each generation batch."""
    prompts = []
    generate = trainer._generate_and_score_completions

    def told(inputs):
        prompts.append([row["prompt"][0]["content"] for row in inputs])
        return generate(inputs)

    trainer._generate_and_score_completions = told
    return prompts


@pytest.mark.run
def test_a_resumed_run_draws_what_the_unkilled_one_drew(base, tmp_path):
    """In the second pass too, where TRL alone would repeat the first permutation."""

    def run(folder, resume, **arguments):
        trainer = make_trainer(
            base,
            Scorer(),
            rows=6,
            per_device_train_batch_size=4,
            max_steps=8,
            output_dir=str(folder),
            **arguments,
        )
        attach(trainer, fraction=0.25)
        prompts = told_prompts(trainer)
        trainer.train(resume_from_checkpoint=resume)
        return prompts

    whole = run(tmp_path, None, save_strategy="steps", save_steps=1)
    assert len(whole) == 8
    assert sum(p in GENERAL_TEXTS for step in whole for p in step) == 8
    assert sorted(map(tuple, whole[:4])) != sorted(map(tuple, whole[4:]))
    for step in (3, 4, 6):
        checkpoint = str(tmp_path / f"checkpoint-{step}")
        assert run(tmp_path / "again", checkpoint) == whole[step:]


@pytest.mark.run
def test_counts_follow_the_prompts_generated(base):
    state = GuardState()
    trainer = make_trainer(
        base,
        Scorer(),
        max_steps=6,
        num_iterations=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        rows=20,
    )
    kl_only = attach(trainer, state, fraction=0.25)
    trainer.train()
    # Three generations of four groups, each used twice.
    assert (state.task_samples, state.rehearsal_seen) == (9, 3)
    assert kl_only.exposure() == {
        "task_samples": 9,
        "rehearsal_samples": 3,
        "share": 0.25,
        "unique_prompts": 3,
        "passes": 1.0,
    }
    assert state.weight_sum == pytest.approx(6 * 0.7)


def test_plain_text_prompts_get_rendered_chats(base):
    trainer = make_trainer(base, text_reward)
    texts = [{"prompt": f"逾期{number}", "answer": "可以"} for number in range(8)]
    trainer.train_dataset = datasets.Dataset.from_list(texts)
    attach(trainer)
    rows = list(trainer.train_dataset)
    assert [row["prompt"] for row in rows[:8]] == [text["prompt"] for text in texts]
    assert rows[8]["prompt"].startswith("<|im_start|>user\n您好<|im_end|>\n<|im_start|>assistant")
    assert rows[8]["answer"] is None
    trainer.train()
    assert trainer.state.log_history[0]["reward"] == 1.0


# --- Ranks ---------------------------------------------------------------------------------------


@pytest.mark.run
def test_two_ranks_of_which_one_has_kl_only_rows_add_what_one_process_adds(
    base, reference, tmp_path
):
    done = script("trainers.grpo_fixtures", base, tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr[-3000:]
    told = {w: [np.load(tmp_path / f"{w}-rank{r}.npz") for r in (0, 1)] for w in (0.7, 0.0)}
    ranks = told[0.7]
    keys = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", KL_ONLY)
    batches = [
        {key: torch.from_numpy(rank[f"{key}/{number}"]) for key in keys}
        for rank in ranks
        for number in (0, 1)
    ]
    assert [int(b[KL_ONLY].sum()) for b in batches[:2]] == [0, 0], "rank 0 has none"
    assert sum(int(b[KL_ONLY].sum()) for b in batches[2:]) == 2
    policy = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval()
    perturb(policy)
    sums = [naive_k3(policy, reference, batch, kl_only=True) for batch in batches]
    total, tokens = sum(s for s, _ in sums), sum(n for _, n in sums)
    assert tokens == int(ranks[0][f"{KL_ONLY_TOKENS}/0"])
    expected = 0.7 * gradient_of(policy, total / tokens)
    for rank in (0, 1):
        added = told[0.7][rank]["gradient"] - told[0.0][rank]["gradient"]
        assert norm_of_error(added, expected) < 1e-5
    for key in ("counts", "steps", "mean_kl", "weight_sum"):
        assert np.array_equal(ranks[0][key], ranks[1][key]), key
    assert ranks[0]["counts"].tolist() == [6, 2]
    assert [int(rank["scored"]) for rank in ranks] == [8, 4]


# --- The self-test and the refusals --------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
def test_the_self_test_is_zero_at_the_reference_and_sees_a_perturbation(base, lora):
    trainer = make_trainer(base, Scorer(), lora=lora)
    kl_only = attach(trainer)
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    at_start, perturbed = kl_only.self_test(
        trainer.model,
        lambda: perturb(trainer.model),
        lambda: trainer.model.load_state_dict(kept) and None,
    )
    assert abs(at_start) < 1e-9
    assert perturbed > 1e-3
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, kept[name])


BAD = {
    "beta": 0.0,
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
    with pytest.raises(InputError, match="`train_dataset` to be"):
        attach(trainer)


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


def test_a_version_nobody_tried_is_refused(base, monkeypatch):
    trainer = make_trainer(base, Scorer())
    monkeypatch.setattr("guardrail.trainers.versions.version", lambda package: "1.3.0")
    with pytest.raises(
        InputError, match=r"trl 1\.3\.0: not supported; supported is trl from 0\.29"
    ):
        attach(trainer)


def test_a_version_let_through_is_held_to_the_one_before_it(base, monkeypatch):
    trainer = make_trainer(base, Scorer())
    for module in ("versions", "trl_grpo_seams"):
        monkeypatch.setattr(f"guardrail.trainers.{module}.version", lambda package: "1.17.2")
    monkeypatch.setenv(ANY_VERSION, "1")
    if HERE is SEAMS[-1]:
        assert find_seams(trainer) is HERE
    else:
        with pytest.raises(InputError, match="has no `environment_factories`; supported is"):
            find_seams(trainer)


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
