"""Which prompts the real GRPOTrainer draws once KL-only prompts are mixed in, and what is counted."""

import datasets
import numpy as np
import pytest
import torch

from guardrail.guard.state import GuardState
from tests.trainers.grpo.grpo_fixtures import (
    GENERAL_TEXTS,
    MARKS,
    Scorer,
    attach,
    make_trainer,
)

pytestmark = [*MARKS, pytest.mark.run]


def text_reward(prompts, **rest):
    assert all(prompt.startswith("逾期") for prompt in prompts)
    return [1.0] * len(prompts)


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
