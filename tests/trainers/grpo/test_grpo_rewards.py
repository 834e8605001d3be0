"""On KL-only rows of the real GRPOTrainer only the KL acts: no gradient, no reward, no advantage, no metric."""

import asyncio

import datasets
import numpy as np
import pytest
import torch
import transformers

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.trainers.trl.grpo_mixing import KL_ONLY
from tests.trainers.grpo.grpo_fixtures import (
    GENERAL_TEXTS,
    HERE,
    MARKS,
    Scorer,
    attach,
    generation_batch,
    gradient_of,
    make_trainer,
    perturb,
    task_rows,
)

pytestmark = [*MARKS, pytest.mark.run]


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
