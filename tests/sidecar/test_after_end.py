"""What a sidecar judges when the training has ended: by the state of its last checkpoint, each look once."""

import pytest

from guardrail.errors import InputError
from guardrail.guard.bound_checkpoint import bind
from guardrail.guard.checkpoints import complete_checkpoint
from guardrail.guard.state import read_state, write_state
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.sidecar.after_end import judge_rest
from tests.guard.asked_course import BAD, GOLD, asked_course, look_due, says


@pytest.fixture
def ended(tmp_path):
    """A training that ended with four looks open."""
    course = asked_course(tmp_path, lambda action: None)
    for step in (10, 20, 30):
        look_due(course, step)
    checkpoint = course.checkpoints / "checkpoint-30"
    checkpoint.mkdir(parents=True)
    complete_checkpoint(course.guard, checkpoint, limit=None, best=None)
    course.finish(30)
    return course


def judge(course, text, said=None):
    guard = course.guard
    asked = [] if said is None else said

    def answer(ask, waiting):
        asked.append((ask.step, ask.trigger, waiting))
        says(course, ask, GOLD if ask.step < 30 else text)

    done = judge_rest(guard.meter, lambda: read_ledger(guard.run), "gold", answer)
    return done, [r for r in read_ledger(guard.run) if r["kind"] in ("look", "action")]


def test_what_is_left_is_judged_in_order_and_a_critical_end_is_looked_at_again(ended):
    said = []
    done, records = judge(ended, BAD, said)
    assert done
    assert said == [
        (0, "start", 3), (10, "schedule", 2), (20, "schedule", 1), (30, "schedule", 0),
        (30, "repeat", 0),
    ]  # fmt: skip
    assert all(r["after_end"] for r in records)
    assert records[3]["final"], "the look of the last step may spend what is left"
    assert records[-1]["action"] == "halt"
    assert not records[-1]["carried_out"]
    state = read_state(ended.checkpoints / "checkpoint-30")
    assert state.asked == []
    assert [judged.step for judged in state.history] == [10, 20, 30, 30]
    assert state.last_ok_checkpoint == "checkpoint-20"


def test_a_kill_between_ledger_and_state_records_no_look_twice(ended):
    checkpoint = ended.checkpoints / "checkpoint-30"
    before = read_state(checkpoint)
    _, once = judge(ended, GOLD)
    after = read_state(checkpoint)
    write_state(checkpoint, before, bind(ended.guard.run, checkpoint))
    _, twice = judge(ended, GOLD)
    assert twice == once
    assert read_state(checkpoint).history == after.history


@pytest.mark.parametrize("name", ["model.safetensors", "guardrail_state.json"])
def test_a_checkpoint_that_was_changed_since_is_not_judged_by(ended, name):
    checkpoint = ended.checkpoints / "checkpoint-30"
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    complete_checkpoint(ended.guard, checkpoint, limit=None, best=None)
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes().replace(b"e", b"f", 1))
    with pytest.raises(InputError, match=name):
        judge(ended, GOLD)


def test_a_run_that_goes_on_meanwhile_is_left_alone(ended):
    guard = ended.guard

    def answer(ask, waiting):
        says(ended, ask, GOLD)
        Ledger(guard.run).append("rewound", 30, checkpoint="checkpoint-30", set_aside=[])

    assert not judge_rest(guard.meter, lambda: read_ledger(guard.run), "gold", answer)
    assert [r for r in read_ledger(guard.run) if r["kind"] == "look"] == []
