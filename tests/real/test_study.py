"""The study's arithmetic: rates of equal domain loss, the order of its cells, its tables."""

import hashlib
import json

import pytest

from tests.real.study.arms import MAIN, SINGLE, WATCHED
from tests.real.study.guarding_table import cost_table, detection_table
from tests.real.study.plan import Cell, cells, equal_rate, equal_rates, rows_of
from tests.real.study.table import (
    frontier,
    passed_by_kind,
    passed_interval,
    spread,
    table,
)
from tests.real.study.take_known import take_known
from tests.real.study.write_pages import PAGES, Cells, read_cells, written_into
from tests.real.teach_base import BATCH, rate_at, rows_at


def row(arm, rate, seed, domain, others=3.2, **more):
    return {
        "arm": arm,
        "rate": rate,
        "seed": seed,
        "domain": {"loss": domain, "kl": 0.1},
        "others": {"loss": others, "kl": 0.1},
        "passed": {"all": 0.5},
        "passed_items": {"a": 1.0, "b": 0.0},
        "language_faults": 0.1,
        "characters": 20.0,
        "spent": {"training": 60.0, "peak_gb": 4.0},
        "trained": {"steps": 60, "halted": False, "actions": []},
        **more,
    }


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"rate": 3e-5}))
    (tmp_path / "cells").mkdir()
    return tmp_path


def put(study, *rows):
    for number, one in enumerate(rows):
        (study / f"cells/{one['arm']}-{one['rate']}-{number}.json").write_text(json.dumps(one))


def test_the_rate_of_equal_loss_lies_between_the_rates_that_enclose_it():
    rate, met = equal_rate([(4e-5, 3.0), (1e-5, 4.0), (1e-4, 2.9)], 3.5)
    assert met
    assert rate == pytest.approx(2e-5)


def test_where_no_rate_meets_the_target_the_nearest_is_taken_and_said_to_miss():
    assert equal_rate([(1e-5, 4.0), (4e-5, 3.0)], 2.0) == (4e-5, False)


def test_the_sweep_comes_first_and_what_follows_from_it_once_it_is_there(study):
    first = list(cells(study))
    swept = [c for c in first if c.arm in MAIN]
    assert {c.quick for c in swept if c.rate != 3e-5} == {True}
    assert {c.quick for c in swept if c.rate == 3e-5} == {False}
    assert "averaged" not in {c.arm for c in first}, "its share is found by the target"
    assert (
        len(swept) + len([c for c in first if c.arm in WATCHED])
        == sum(len(arm.factors) for arm in MAIN.values() if not arm.averaged) + 3 * len(WATCHED) - 2
    )  # one of them has one seed
    assert {c.arm for c in first if not c.quick} == {
        "base",
        *(name for name, arm in MAIN.items() if 1.0 in arm.factors),
        *(name for name, arm in SINGLE.items() if arm.rate_of is None),
    }
    put(study, row("nothing", 3e-5, 0, 3.5), row("kl3", 3e-5, 0, 3.508))
    found = dict.fromkeys(c for c in cells(study) if c.arm == "kl3")
    assert list(found) == [Cell("kl3", 3e-5, seed) for seed in (0, 1, 2)]
    for name, arm in MAIN.items():
        put(study, *(row(name, f * 3e-5, 0, 4.0 - 0.5 * f) for f in arm.factors))
    assert equal_rates(rows_of(study), 3e-5)["kl3"] == {"rate": 3e-5, "met": True, "target": 3.5}
    assert not equal_rates(rows_of(study), 3e-5)["slow"]["met"]
    assert (
        equal_rates(rows_of(study), 3e-5)["kl3-ladder"] == equal_rates(rows_of(study), 3e-5)["kl3"]
    )
    later = list(cells(study))
    assert {c for c in later if c.arm == "kl3" and not c.quick} == {
        Cell("kl3", 3e-5, seed) for seed in (0, 1, 2)
    }
    assert {c.arm for c in later} == {"base", *MAIN, *SINGLE, *WATCHED}


def test_the_table_tells_change_against_base_with_its_spread():
    base = row("base", 0.0, 0, 4.0, others=3.0)
    rows = [row("kl3", 3e-5, s, 3.0 + 0.1 * s, others=3.0 + 0.1 * s) for s in (0, 1, 2)]
    text = table({"kl3": rows}, base)
    assert "| kl3 | 3.0e-05 | 3 | -0.900 ± 0.248 | 0.100 ± 0.248 |" in text
    assert spread([0.5], 2) == "0.50"
    assert frontier(rows, base).startswith("<svg")


def test_items_passed_are_compared_over_kinds_of_task():
    """One kind of three lost as a whole is one draw of three and not ten of thirty."""
    ids = [f"zh-easy-red-{n:03d}-{kind}" for kind in ("a", "b", "to_c") for n in range(10)]
    all_passed = row("x", 1, 0, 1, passed_items=dict.fromkeys(ids, 1.0))
    one_kind = row("y", 1, 0, 1, passed_items={i: float(not i.endswith("to_c")) for i in ids})
    mean, low, high = passed_interval([all_passed], [one_kind])
    assert mean == pytest.approx(1 / 3)
    assert (low, high) == (0.0, 1.0)
    rows = [row("x", 1, s, 1, passed={"all": 0.5, "a": s / 2, "to_c": 1.0}) for s in (0, 1)]
    text = passed_by_kind({"x": rows}, row("base", 0, 0, 1, passed={"all": 1, "a": 1, "to_c": 1}))
    assert "| x | 0.25 (0.00–0.50) | 1.00 (1.00–1.00) |" in text


def test_the_base_is_taught_rows_that_follow_from_the_step():
    general = [(f"g{n}", "a") for n in range(20)]
    tasks = [(f"t{n}", "a") for n in range(9)]
    assert all(r in general for r in rows_at(3, BATCH, 0, general, tasks))
    mixed = rows_at(11, 2, 6, general, tasks)
    assert mixed == rows_at(11, 2, 6, general, tasks)
    assert [r[0] for r in mixed if r in tasks] == ["t6", "t7", "t8", "t0", "t1", "t2"]
    assert len(mixed) == BATCH
    assert rate_at(0, 100, 1.0) == 0.05
    assert rate_at(99, 100, 1.0) == 0.02


def test_what_guarding_cost_is_told_by_the_runs_own_clock():
    trained = {
        "steps": 50,
        "levels": [[0, "ok"], [50, "ok"]],
        "seconds": {"train": 160.0, "kl": 10.0, "looks": 40.0, "tripwires": 10.0},
    }
    text = cost_table({"kl3": [row("kl3", 3e-5, 0, 4.0, trained=trained, planned_steps=50)]})
    assert "| kl3 | 1 | 2.0 | 10.0 | 10.0 | 40.0 | 10.0 | 1.60 |" in text


def test_a_watched_run_tells_what_was_lost_when_the_guard_first_spoke():
    trained = {
        "levels": [[0, "ok"], [10, "ok"], [20, "serious"]],
        "tripwires": [[3, 0.1, False], [13, 0.4, True]],
    }
    curve = [[10, 3.1], [20, 3.3], [30, 3.5]]
    rows = {"watched": [row("watched", 3e-5, 0, 4.0, trained=trained, curve=curve)]}
    text = detection_table(rows, row("base", 0.0, 0, 4.0, others=3.0))
    assert "| ok@0, ok@10, serious@20 | +0.500 | 20 | +0.300 (60%) | 13 |" in text


def test_known_cells_are_taken_where_the_base_is_the_same(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(b"weights")
    (tmp_path / "study.json").write_text(json.dumps({"base": str(tmp_path / "base")}))
    own = row("kl3", 3e-5, 1, 3.4, base_sha256=hashlib.sha256(b"weights").hexdigest())
    other = row("kl3", 3e-5, 2, 3.4, base_sha256="another")
    (tmp_path / "known.jsonl").write_text("\n".join(map(json.dumps, (own, other))) + "\n")
    take_known(tmp_path, tmp_path / "known.jsonl")
    assert [p.name for p in (tmp_path / "cells").iterdir()] == ["kl3-3.00e-05-1.json"]
    assert rows_of(tmp_path) == [own]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_figure_in_a_table_of_the_pages_is_typed(page):
    text, cells = page.read_text("utf-8"), Cells(read_cells())
    language = "zh" if page.stem.endswith("_zh") else "en"
    assert "<!-- study: " in text
    assert written_into(text, cells, language) == text
    assert written_into(text.replace("0.064 ± 0.016 |", "0.063 ± 0.016 |"), cells, language) == text
