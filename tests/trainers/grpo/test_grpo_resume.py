"""A GRPO run resumed from a checkpoint, in one process: weights of the run that was never interrupted."""

from dataclasses import replace

import pytest
import torch

from guardrail.guard.state import GuardState, read_state, write_state
from guardrail.trainers.grpo.forms import BothForms, attach_golds
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from tests.trainers.grpo.grpo_fixtures import MARKS, Scorer, attach, make_trainer

pytestmark = [pytest.mark.run, *MARKS]
SHAPE = {
    "rows": 12,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_steps": 6,
    "learning_rate": 5e-3,
    "save_strategy": "steps",
    "save_steps": 1,
}


def run(base, folder, form, samples, tokenizer, checkpoint=None, **changes):
    """Train to the end, from a checkpoint if there is one; every step's guard state is kept beside it."""
    trainer = make_trainer(base, Scorer(), output_dir=str(folder), **(SHAPE | changes))
    state = GuardState() if checkpoint is None or form == "none" else read_state(checkpoint)
    if form != "none":
        rollouts = attach(trainer, state, fraction=0.25)
        golds = Injection(
            samples,
            state,
            fraction=0.1,
            weight=0.7,
            loss="kl",
            seed=0,
            pad_id=tokenizer.pad_token_id,
            seen=state.golds,
        )
        attach_golds(trainer, golds)
        both = BothForms(rollouts, golds)
        trainer.add_callback(_schedule(both, folder, state))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer, state


def _schedule(forms, folder, state):
    from transformers import TrainerCallback

    class Schedule(TrainerCallback):
        """What the guard's callback does with the schedules."""

        def on_step_begin(self, args, trainer_state, control, **kwargs):
            forms.begin_step()

        def on_step_end(self, args, trainer_state, control, **kwargs):
            forms.add_counts(forms.take_counts())

        def on_save(self, args, trainer_state, control, **kwargs):
            write_state(folder / f"checkpoint-{trainer_state.global_step}", state)

    return Schedule()


def same_weights(one, other) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_weights_and_counts_are_bit_equal_in_every_pass(base, tmp_path, samples, tokenizer):
    whole, counts = run(base, tmp_path, "both", samples, tokenizer)
    for step in (2, 5):
        checkpoint = tmp_path / f"checkpoint-{step}"
        again, counted = run(base, tmp_path / f"{step}", "both", samples, tokenizer, checkpoint)
        assert same_weights(whole, again)
        assert replace(counted, seconds={}) == replace(counts, seconds={})
    assert not same_weights(whole, make_trainer(base, Scorer()))
    assert counts.rehearsal_seen > 0
    assert counts.golds.rehearsal_seen > 0


def test_without_the_guard_trl_repeats_the_order_of_the_first_pass(
    base, tmp_path, samples, tokenizer
):
    """Bit-equal from the first pass, of three steps; from the second one TRL draws the first one's order."""
    whole, _ = run(base, tmp_path, "none", samples, tokenizer)
    equal = []
    for step in (2, 5):
        checkpoint = tmp_path / f"checkpoint-{step}"
        again, _ = run(base, tmp_path / f"{step}", "none", samples, tokenizer, checkpoint)
        equal.append(same_weights(whole, again))
    assert equal == [True, False]


def test_inside_a_generation_batch_everybody_generates_anew(base, tmp_path, samples, tokenizer):
    """What is promised there is state and order of prompts; completions are drawn again, guard or not."""
    options = {"num_iterations": 2}
    whole, counts = run(base, tmp_path / "none", "none", samples, tokenizer, **options)
    checkpoint = tmp_path / "none/checkpoint-3"
    again, _ = run(base, tmp_path / "n", "none", samples, tokenizer, checkpoint, **options)
    assert not same_weights(whole, again)
    _, counts = run(base, tmp_path / "both", "both", samples, tokenizer, **options)
    checkpoint = tmp_path / "both/checkpoint-3"
    _, counted = run(base, tmp_path / "b", "both", samples, tokenizer, checkpoint, **options)
    assert counted.golds == counts.golds
    # The batch that was generated again is counted again: four prompts.
    assert (
        counted.task_samples + counted.rehearsal_seen
        == counts.task_samples + counts.rehearsal_seen + 4
    )
