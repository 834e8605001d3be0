"""A look is read back as it was written, whichever version wrote it; one of a later version is not guessed at."""

import json
from pathlib import Path

import numpy as np
import pytest

from guardrail.judge.rule import DriftConfig, MetricRule, MetricValues, RuleState, judge
from guardrail.judge.verdict import Verdict
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.ledger.records import LOOK_VERSION, ActionFacts, Benchmark, Levers, LookFacts
from guardrail.live.status import run_status
from guardrail.live.terminal import record_lines
from guardrail.live.terminal_words import terminal_words
from guardrail.report.recommendation import recommend
from guardrail.report.run_data import read_run
from guardrail.track.alerts import AlertRule
from guardrail.track.scalars import scalars

OLD_LEDGER = """\
{"seq": 0, "time": "2026-09-01T08:00:00.000+00:00", "kind": "started", "step": 0, "name": "park", "mode": "guard", "recipe": {}}
{"seq": 1, "time": "2026-09-01T08:00:09.000+00:00", "kind": "look", "step": 0, "look": 0, "trigger": "start", "answers": "looks/look-0000-step-0.jsonl", "seconds": 8.1, "inherited": false, "planned_steps": 60, "failed_pipeline_check": [], "level": "ok", "streams": [{"metric": "passed", "group": "overall", "n": 300, "base": 0.9, "now": 0.9, "harm": 0.0, "se": 0.01, "low": -0.02, "high": 0.02, "margin": 0.03, "z": -2.9, "z_critical": -6.0, "boundary_warn": 3.2, "boundary_halt": 3.9, "level": "ok", "tested": true, "reason": ""}, {"metric": "passed", "group": "safety", "n": 12, "base": 0.8, "now": 0.8, "harm": 0.0, "se": null, "low": null, "high": null, "margin": 0.03, "z": null, "z_critical": null, "boundary_warn": null, "boundary_halt": null, "level": "ok", "tested": false, "reason": "12 items, 30 are needed"}]}
{"seq": 2, "time": "2026-09-01T08:01:00.000+00:00", "kind": "look", "step": 20, "look": 1, "trigger": "schedule", "answers": "looks/look-0001-step-20.jsonl", "seconds": 8.0, "level": "serious", "streams": [{"metric": "passed", "group": "overall", "n": 300, "base": 0.9, "now": 0.7, "harm": 0.2, "se": 0.02, "low": 0.16, "high": 0.24, "margin": 0.03, "z": 7.1, "z_critical": 3.1, "boundary_warn": 3.2, "boundary_halt": 3.9, "level": "serious", "tested": true, "reason": "", "attention": false}]}
{"seq": 3, "time": "2026-09-01T08:01:00.100+00:00", "kind": "action", "step": 20, "look": 1, "action": "cut_lr", "carried_out": true, "reason": "serious: passed/overall", "before": {"boost": 1.0, "lr_factor": 1.0}, "after": {"boost": 1.5, "lr_factor": 0.5}}
{"seq": 4, "time": "2026-09-01T08:02:00.000+00:00", "kind": "look", "step": 40, "look": 2, "trigger": "schedule", "answers": "looks/look-0002-step-40.jsonl", "seconds": 8.0, "level": "ok", "streams": [{"metric": "passed", "group": "overall", "n": 300, "base": 0.9, "now": 0.9, "harm": 0.0, "margin": 0.03, "level": "ok", "tested": false, "reason": "all planned looks are used up"}]}
"""  # fmt: skip
"""Of versions that named no version: one called a look ok that tested nothing, one knew no attention."""


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    (tmp_path / "ledger.jsonl").write_text(OLD_LEDGER, encoding="utf-8")
    return tmp_path


def verdict() -> Verdict:
    """Of one stream that fell, one that moved within its margin, and two that could not be tested."""
    rules = {name: MetricRule("lower", 0.03, 0.08, 0.0) for name in ("passed", "format")}
    fallen, moved = np.ones(90), np.ones(90)
    fallen[:40], moved[:2] = 0.0, 0.0
    base = np.ones((90, 4))
    values = {"passed": MetricValues(base, fallen), "format": MetricValues(base, moved)}
    groups = ["writing"] * 85 + ["safety"] * 5
    config = DriftConfig(rules, planned_looks=3)
    return judge(values, groups, config, RuleState(), expected=["拒答"])[0]


def look(**fields) -> LookFacts:
    judged = verdict()
    taken = {
        "step": 20,
        "number": 1,
        "trigger": "save",
        "answers": "looks/1.jsonl",
        "seconds": 8.25,
    }
    return LookFacts(**taken | fields, level=judged.level, streams=judged.streams)


@pytest.mark.parametrize(
    "written",
    [
        look(),
        look(final=True, planned_looks=9, benchmark=Benchmark(questions=8, right=6)),
        look(number=0, inherited=True, planned_steps=60, failed_pipeline_check=("x is off",)),
    ],
)
def test_a_look_comes_back_as_it_was_written(tmp_path, written):
    assert {s.level for s in written.streams} >= {"critical", "untested"}
    Ledger(tmp_path).append("look", written.step, **written.to_record())
    (record,) = read_ledger(tmp_path)
    assert record["version"] == LOOK_VERSION
    assert list(record)[-1] == "streams", "what people read of a line stands before the long part"
    (read,) = read_run(tmp_path).looks
    assert read.model_copy(update={"time": None}) == written
    assert Verdict.model_validate(record) == Verdict.model_validate(written.model_dump())


def test_what_cannot_be_computed_is_none_from_the_rule_on():
    lonely = verdict().stream("passed", "拒答")
    assert lonely is not None
    assert (lonely.n, lonely.base, lonely.harm, lonely.z, lonely.low) == (0, None, None, None, None)
    text = json.dumps(look().to_record(), allow_nan=False)
    assert "Infinity" not in text


def test_an_action_comes_back_as_it_was_written(tmp_path):
    written = ActionFacts(
        step=20, look=1, kind="cut_lr", carried_out=True, reason="serious: passed/overall", before=Levers(),
        after=Levers(boost=1.5, lr_factor=0.5),
    )  # fmt: skip
    Ledger(tmp_path).append("action", 20, **written.to_record())
    (record,) = read_ledger(tmp_path)
    assert record["after"] == {"boost": 1.5, "lr_factor": 0.5}
    (read,) = read_run(tmp_path).actions
    assert read.model_copy(update={"time": None}) == written


def test_ledgers_of_earlier_versions_are_read_by_everybody(old_run):
    data = read_run(old_run)
    assert data.damaged == ()
    assert [k.level for k in data.looks] == ["ok", "serious", "untested"]
    assert [s.standing for k in data.looks for s in k.streams] == [
        "ok", "few_items", "serious", "no_budget"
    ]  # fmt: skip
    assert data.planned_steps == 60
    assert data.levers == Levers(boost=1.5, lr_factor=0.5)
    assert [s.name for s in data.actions[0].streams] == ["passed/overall"]
    assert recommend(data, silent_s=86_400.0).recommendation == "undecided"
    status = run_status(old_run)
    assert [k["level"] for k in status["looks"]] == ["ok", "serious", "untested"]
    records = read_ledger(old_run)
    lines = [
        line.plain for record in records for line in record_lines(record, terminal_words("en"))
    ]
    assert "  step   20  look 1   passed  70.0% (base 90.0%)  serious  passed/overall" in lines
    assert [scalars(r).get("guardrail/level") for r in records if r["kind"] == "look"] == [
        0,
        2,
        None,
    ]
    rule = AlertRule("park", "report.html", "en")
    assert [alert.title for record in records for alert in rule.feed(record)] == [
        "park: drift rose to serious at step 20, learning rate cut",
        "park: the look at step 40 tested nothing",
    ]


def test_a_look_of_a_later_version_counts_as_damage(old_run):
    path = old_run / "ledger.jsonl"
    later = f'"kind": "look", "version": {LOOK_VERSION + 1}, "step": 40'
    path.write_text(OLD_LEDGER.replace('"kind": "look", "step": 40', later), encoding="utf-8")
    data = read_run(old_run)
    assert [k.step for k in data.looks] == [0, 20]
    assert data.damaged == (5,)
