"""Ledger records as numbers: named, finite, nothing invented."""

import math

import pytest

from guardrail.track.scalars import is_detail, scalars


def stream(metric="passed", group="overall", *, tested=True, **values):
    empty = dict.fromkeys(("now", "base", "harm", "margin", "z", "boundary_warn", "boundary_halt"))
    known = {"metric": metric, "group": group, "n": 40, "tested": tested, "level": "ok"}
    return known | empty | values


def look(*streams, level="ok", **fields):
    taken = {
        "kind": "look",
        "step": 4,
        "look": 1,
        "trigger": "schedule",
        "answers": "looks/1.jsonl",
    }
    return taken | {"level": level, "streams": list(streams)} | fields


def test_a_look_gives_every_stream_its_level_and_the_length_ratio():
    found = scalars(
        look(
            stream(
                now=0.7,
                base=0.9,
                harm=0.2,
                margin=0.03,
                z=4.0,
                boundary_warn=2.1,
                boundary_halt=3.3,
            ),
            stream("longer", "writing", now=math.log(200), base=math.log(100), harm=0.69),
            level="serious",
            seconds=2.5,
            benchmark={"questions": 8, "right": 6},
        )
    )
    assert found == pytest.approx(
        {
            "guardrail/level": 2.0,
            "guardrail/untested_streams": 0.0,
            "guardrail/look_seconds": 2.5,
            "guardrail/benchmark/right": 0.75,
            "guardrail/passed/overall/now": 0.7,
            "guardrail/passed/overall/base": 0.9,
            "guardrail/passed/overall/harm": 0.2,
            "guardrail/passed/overall/margin": 0.03,
            "guardrail/passed/overall/z": 4.0,
            "guardrail/passed/overall/boundary_warn": 2.1,
            "guardrail/passed/overall/boundary_halt": 3.3,
            "guardrail/longer/writing/now": math.log(200),
            "guardrail/longer/writing/base": math.log(100),
            "guardrail/longer/writing/harm": 0.69,
            "guardrail/length_ratio/writing": 2.0,
        }
    )


def test_a_look_that_tested_nothing_has_no_level():
    found = scalars(look(stream(tested=False, now=0.5), level="untested"))
    assert "guardrail/level" not in found
    assert found["guardrail/untested_streams"] == 1


def test_a_log_gives_exposure_levers_seconds_and_the_guards_share():
    found = scalars(
        {
            "kind": "log", "step": 10, "loss": 1.0, "learning_rate": 1e-4, "rehearsal_kl": 0.02, "kl_weight": 0.3,
            "kl_weight_average": 0.1, "beta": 0.04, "lr_factor": 0.5, "task_samples": 97, "rehearsal_samples": 3,
            "share": 0.03, "unique_prompts": 3, "passes": 0.02, "seconds": {"looks": 6.0, "kl": 2.0, "train": 40.0},
        }
    )  # fmt: skip
    assert found == pytest.approx(
        {
            "guardrail/kl/rehearsal": 0.02,
            "guardrail/kl/weight": 0.3,
            "guardrail/kl/weight_average": 0.1,
            "guardrail/kl/trainer_beta": 0.04,
            "guardrail/levers/lr_factor": 0.5,
            "guardrail/exposure/share": 0.03,
            "guardrail/exposure/rehearsal_samples": 3,
            "guardrail/exposure/unique_prompts": 3,
            "guardrail/exposure/repeats": 0.02,
            "guardrail/seconds/looks": 6.0,
            "guardrail/seconds/kl": 2.0,
            "guardrail/seconds/train": 40.0,
            "guardrail/cost_percent": 20.0,
        }
    )


def test_an_action_that_was_not_carried_out_moved_no_lever():
    after = {"boost": 1.5, "lr_factor": 0.5}
    record = {"kind": "action", "step": 4, "carried_out": True, "after": after}
    assert scalars(record) == {"guardrail/levers/kl_boost": 1.5, "guardrail/levers/lr_factor": 0.5}
    assert scalars(record | {"carried_out": False}) == {}


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (
            {"kind": "tripwire", "kl": 0.1, "task_kl": None, "by_ability": {"writing": 0.2}},
            {"guardrail/tripwire/gold_kl": 0.1, "guardrail/tripwire/gold_kl_writing": 0.2},
        ),
        ({"kind": "metric", "name": "回款率", "value": 0.31}, {"guardrail/own/回款率": 0.31}),
        ({"kind": "domain_loss", "held_out": 2.5}, {"guardrail/domain_loss": 2.5}),
        ({"kind": "domain_loss", "held_out": math.inf}, {}),
        ({"kind": "checkpoint", "path": "a"}, {}),
        ({"kind": "of a later version"}, {}),
    ],
)
def test_other_records(record, found):
    assert scalars(record) == found


def test_margins_z_and_boundaries_are_details():
    assert is_detail("guardrail/passed/overall/z")
    assert is_detail("guardrail/passed/overall/boundary_warn")
    assert not is_detail("guardrail/passed/overall/harm")
