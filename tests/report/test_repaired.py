"""Before and after a repair on the reserved slice: either sign is told plainly, and so is that there are too few items."""

import json
from pathlib import Path

import numpy as np
import pytest

from guardrail.data.repair.drifted_abilities import drifted_abilities, read_drifted_run, run_items
from guardrail.data.repair.repaired_recipe import lineage_of
from guardrail.models.fingerprint import file_sha256
from guardrail.report.page.phrases import Phrases
from guardrail.report.repaired import repaired
from guardrail.report.report import build_report
from guardrail.report.run_data import read_run
from guardrail.sets.items import items_sha256, read_items
from guardrail.sets.reserved import reserved_ids
from tests.data_wing.repaired_story import drifted_run, judged_by_probes
from tests.report.stories import shown_text, undigested

LOST = {"instruction": 0.6, "translation": 0.6, "writing": 0.6}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs: what each lost at its end."""
    folder = tmp_path_factory.mktemp("runs")
    lost = {"bad": LOST, "good": {}, "same": LOST}
    return {name: drifted_run(folder / name, failing) for name, failing in lost.items()}


def items_of(run):
    return read_items(run / "items.jsonl")


def follow(
    runs: dict[str, Path], before: str, after: str, folder: Path, *, probes=(), **drift
) -> Path:
    """A copy of a run whose recipe says that it repairs another."""
    import shutil

    run = folder / "run"
    shutil.copytree(runs[after], run)
    data = read_drifted_run(runs[before])
    red_line = run_items(data, "red_line")
    lineage = lineage_of(data, drifted_abilities(data, red_line, probes), red_line, 12)
    ledger = (run / "ledger.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    started = json.loads(ledger[0].replace(str(runs[after]), str(run)))
    started["recipe"] |= {"lineage": lineage.model_dump(mode="json"), "name": "park-repaired"}
    started["recipe"]["sets"]["red_line"] = str(run / "items.jsonl")
    started["recipe"]["drift"] |= drift
    ledger[0] = json.dumps(started, ensure_ascii=False) + "\n"
    (run / "ledger.jsonl").write_text("".join(ledger), encoding="utf-8")
    undigested(run)
    return run


@pytest.mark.parametrize(
    ("before", "after", "says", "said"),
    [
        ("bad", "good", "better", "比修补前好"),
        ("good", "bad", "worse", "比修补前差"),
        ("bad", "same", "not_told", "有没有用还看不出"),
    ],
)
def test_either_sign_is_told_and_so_is_that_nothing_can_be_told(
    runs, tmp_path, before, after, says, said
):
    run = follow(runs, before, after, tmp_path, min_items=20)
    facts = repaired(read_run(run))
    first = facts.changes[0]
    assert (first.metric, first.group, first.says) == ("passed", "overall", says)
    assert first.low <= first.harm <= first.high
    page = build_report(run).read_text(encoding="utf-8")
    assert said in shown_text(page)
    assert " object at 0x" not in page
    told = json.loads((run / "report.json").read_text(encoding="utf-8"))["repair"]
    assert told["changes"][0]["says"] == says
    assert ("配方的其余部分都没有变" in page) != bool(facts.also_changed)
    # How small a change so few items can show is said where none is shown.
    assert first.shows == pytest.approx((first.high - first.low) / 2)
    words = f"保留题共 {first.n} 道，能看出 {100 * first.shows:.1f} 个点及以上的变化。"
    assert (words in shown_text(page)) == (says == "not_told")


def test_how_small_a_change_the_slice_can_show_is_said_of_each_ability_in_either_language(
    runs, tmp_path
):
    run = follow(runs, "bad", "same", tmp_path, min_items=20)
    facts = {c.group: c for c in repaired(read_run(run)).changes if c.metric == "passed"}
    writing = facts["writing"]
    assert writing.says == "too_few"
    page = shown_text(build_report(run, language="en").read_text(encoding="utf-8"))
    change = f"{100 * min(1.0, writing.shows):.1f} points"
    assert (
        f"The slice has {writing.n} items of {Phrases('en').ability('writing')}: it can show a change of {change} or more."
        in page
    )
    said = Phrases("zh").slice_shows("writing", 8, 0.25)
    assert said == "保留题里写作有 8 道，能看出 25.0 个点及以上的变化。"


def test_figures_are_those_of_the_reserved_items_alone(runs, tmp_path):
    run = follow(runs, "bad", "good", tmp_path)
    items = read_items(run / "items.jsonl")
    kept_back = reserved_ids(items)
    assert 15 < len(kept_back) < 50

    def passed(folder):
        path = sorted((folder / "looks").iterdir())[-1]
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return np.mean([row["passed"] for row in rows if row["item"] in kept_back])

    first = repaired(read_run(run)).changes[0]
    assert first.n == first.units == len(kept_back)
    assert (first.base, first.now) == pytest.approx((passed(runs["bad"]), passed(run)))
    assert first.harm == pytest.approx(first.base - first.now)


def test_too_few_items_tell_nothing_however_much_changed(runs, tmp_path):
    facts = repaired(read_run(follow(runs, "bad", "good", tmp_path, min_items=100)))
    assert {change.says for change in facts.changes} == {"too_few"}
    assert facts.changes[0].harm < -0.3


def test_what_else_changed_is_named(runs, tmp_path):
    facts = repaired(read_run(follow(runs, "bad", "good", tmp_path, min_items=20)))
    assert facts.also_changed == ("drift.min_items",)


@pytest.fixture(scope="module")
def business_runs(tmp_path_factory):
    """As `runs`, judged by a business's own probes too."""
    folder = tmp_path_factory.mktemp("business")
    found = {name: drifted_run(folder / name, lost) for name, lost in (("bad", LOST), ("good", {}))}
    for run in found.values():
        judged_by_probes(run, folder / "mine.py")
    return found


def test_a_business_s_metrics_are_told_before_and_after_with_its_clusters(business_runs, tmp_path):
    mine = business_runs["bad"].parent.parent / "mine.py"
    run = follow(
        business_runs, "bad", "good", tmp_path, probes=[mine], min_items=20, min_clusters=5
    )
    facts = repaired(read_run(run))
    (told,) = [k for k in facts.changes if (k.metric, k.group) == ("presses", "overall")]
    assert told.now == told.start == 0.0
    assert told.base > 0.3
    assert told.harm == pytest.approx(told.now - told.base)
    assert told.says == "better"
    clusters = {
        f"t{n // 2}" for n, i in enumerate(items_of(run)) if i.id in reserved_ids(items_of(run))
    }
    assert told.units == len(clusters) < told.n
    assert "presses" in shown_text(build_report(run).read_text(encoding="utf-8"))
    assert "probes.files" not in facts.also_changed


def test_a_business_s_metrics_of_other_probes_are_not_compared(business_runs, tmp_path):
    mine = business_runs["bad"].parent.parent / "mine.py"
    run = follow(business_runs, "bad", "good", tmp_path, probes=[mine])
    ledger = run / "ledger.jsonl"
    lines = ledger.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[0] = lines[0].replace(
        f'"probes_sha256": ["{file_sha256(mine)}"], "probe_',
        f'"probes_sha256": ["{"0" * 64}"], "probe_',
    )
    ledger.write_text("".join(lines), encoding="utf-8")
    facts = repaired(read_run(run))
    assert {change.metric for change in facts.changes} & {"presses"} == set()
    assert facts.changes[0].metric == "passed"
    assert "probes.files" in facts.also_changed


@pytest.mark.parametrize(
    "change", ["rewritten", "gone", "other items", "no lineage", "broken lineage"]
)
def test_answers_that_are_not_those_of_the_repair_are_not_compared(runs, tmp_path, change):
    run = follow(runs, "bad", "good", tmp_path)
    ledger = run / "ledger.jsonl"
    lines = ledger.read_text(encoding="utf-8").splitlines(keepends=True)
    started = json.loads(lines[0])
    lineage = started["recipe"]["lineage"]
    if change == "rewritten":
        lineage["answers_sha256"] = "0" * 64
    elif change == "gone":
        lineage["run"] = str(tmp_path / "nowhere")
    elif change == "other items":
        lineage["red_line_sha256"] = items_sha256([])
    elif change == "no lineage":
        del started["recipe"]["lineage"]
    else:
        lineage["answers_sha256"] = "../../etc"
    lines[0] = json.dumps(started) + "\n"
    ledger.write_text("".join(lines), encoding="utf-8")
    facts = repaired(read_run(run))
    if change in ("no lineage", "broken lineage"):
        assert facts is None
        return
    assert facts.changes == ()
    assert facts.problem == {"other items": "other_items"}.get(change, "unread")
    assert "无法比较" in build_report(run).read_text(encoding="utf-8")
