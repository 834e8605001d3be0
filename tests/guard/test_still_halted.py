"""Whether a run that goes on is halted at once again, which `guardrail run --resume` asks before it touches anything."""

import pytest

from guardrail.guard.resume import still_halted
from guardrail.guard.state import GuardState
from guardrail.judge.ladder import Judged
from guardrail.recipe import read_recipe

BAD = ("critical", ("passed/overall",), {"passed/overall": 0.5})
HALTED = GuardState(history=[Judged(20, *BAD), Judged(20, *BAD, repeat=True)])


@pytest.mark.parametrize(
    ("changes", "step", "halted"),
    [
        ((), 20, True),
        ((), 10, False),  # a checkpoint whose own look was another one
        (("looks.engine=sidecar",), 23, True),  # its verdict came three steps late
        (("mode=watch",), 20, False),
    ],
)
def test_a_run_is_halted_again_by_the_ladder_of_now(changes, step, halted) -> None:
    assert still_halted(read_recipe("toy-sft", changes=changes), HALTED, step) is halted


def test_a_run_that_has_had_no_look_is_not_halted() -> None:
    assert not still_halted(read_recipe("toy-sft"), GuardState(), 0)
