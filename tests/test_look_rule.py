"""By whose rule a finished model is judged: its run's, also when averaged; a recipe's that is named; the defaults."""

import json

import pytest

from guardrail.errors import InputError
from guardrail.judge.rule import DriftConfig
from guardrail.ledger.file import Ledger
from guardrail.look_rule import LookRule, look_rule, run_of
from guardrail.recipe import Recipe
from tests.run_fixtures import as_yaml

PROBE = """
MARGINS = {"shouts": (0.05, 0.10)}

def shouts(chat, case):
    return 0.0

def cluster(chat, case):
    return None
"""


def recipe(**more):
    sets = {"red_line": "r.jsonl", "rehearsal": "h.jsonl"}
    margins = {"passed": {"margin": 0.1, "critical": 0.5}}
    drift = {"margins": margins, "halt_overall": 0.004, "min_items": 12}
    return {"name": "r", "gold_base": "base", "sets": sets, "drift": drift, "seed": 3} | more


def a_run(folder, **more):
    recorded = Recipe.model_validate(recipe(**more)).model_dump(mode="json")
    folder.mkdir(parents=True)
    Ledger(folder).append("started", 0, recipe=recorded)
    return folder


def passed(rule: LookRule) -> tuple[float, float]:
    found = rule.config(seed=0).metrics["passed"]
    return found.margin, found.critical


@pytest.mark.parametrize("place", ["checkpoints/checkpoint-20", "checkpoint-20"])
def test_a_checkpoint_is_judged_by_its_runs_margins_and_budgets(tmp_path, place):
    run = a_run(tmp_path / "run", language="en")
    rule = look_rule(run / place, None, {})
    config = rule.config(seed=9)
    assert passed(rule) == (0.1, 0.5)
    assert (config.overall.halt, config.min_items) == (0.004, 12)
    assert (config.planned_looks, config.seed) == (1, 9)
    assert (rule.facts.of, rule.facts.path, rule.language) == ("run", str(run), "en")


def test_an_average_is_judged_by_the_run_it_was_made_from(tmp_path):
    run = a_run(tmp_path / "runs/first")
    averaged = tmp_path / "elsewhere/averaged"
    averaged.mkdir(parents=True)
    facts = {"model": str(run / "checkpoints/checkpoint-20"), "share": 0.7}
    (averaged / "averaged.json").write_text(json.dumps(facts), encoding="utf-8")
    assert run_of(averaged) == run
    assert passed(look_rule(averaged, None, {})) == (0.1, 0.5)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3, "share": 0.7}', '{"model": "/x"}'])
def test_an_averaged_file_that_says_nothing_names_no_run(tmp_path, text):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/averaged.json").write_text(text, encoding="utf-8")
    assert run_of(tmp_path / "model") is None


def test_a_model_of_no_run_is_judged_by_the_defaults_and_single_margins_can_change(tmp_path):
    rule = look_rule(tmp_path / "model", None, {"passed": (0.2, 0.3)})
    assert passed(rule) == (0.2, 0.3)
    assert (rule.facts.of, rule.facts.path, rule.facts.changed) == ("defaults", None, ("passed",))
    assert rule.language is None
    plain = look_rule(tmp_path / "model", None, {}).config(seed=0)
    assert plain == DriftConfig(plain.metrics, planned_looks=1)


def test_a_recipe_that_is_named_comes_before_the_runs_own_and_its_probes_are_asked(tmp_path):
    run = a_run(tmp_path / "run")
    (tmp_path / "my_probes.py").write_text(PROBE, encoding="utf-8")
    other = tmp_path / "other.yaml"
    drift = {"margins": {"passed": {"margin": 0.2, "critical": 0.6}}}
    text = as_yaml(recipe(drift=drift, probes={"files": ["my_probes.py"]}))
    other.write_text(text, encoding="utf-8")
    rule = look_rule(run / "checkpoints/checkpoint-20", str(other), {})
    assert passed(rule) == (0.2, 0.6)
    assert "shouts" in rule.config(seed=0).metrics
    assert (rule.facts.of, rule.facts.path) == ("recipe", str(other))


def test_probes_that_a_run_folder_names_are_not_carried_out_and_counted(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('carried out')", encoding="utf-8")
    run = a_run(tmp_path / "run", probes={"files": [str(tmp_path / "evil.py")]})
    rule = look_rule(run / "checkpoints/checkpoint-20", None, {})
    assert rule.facts.probes_left_out == 1
    assert not rule.business.probes


def test_a_run_whose_recipe_cannot_be_read_is_refused_until_a_recipe_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    Ledger(tmp_path / "run").append("started", 0, recipe={"name": 3})
    model = tmp_path / "run/checkpoints/checkpoint-20"
    with pytest.raises(InputError, match=r"restore the ledger .*--recipe RECIPE"):
        look_rule(model, None, {})
    other = tmp_path / "other.yaml"
    other.write_text(as_yaml(recipe()), encoding="utf-8")
    assert passed(look_rule(model, str(other), {})) == (0.1, 0.5)
