"""What `--set` changes of a recipe."""

import pytest

from guardrail.errors import InputError
from guardrail.recipe import read_recipe
from guardrail.recipe_yaml import with_changes


def test_a_change_reaches_into_sections_and_leaves_the_rest(tmp_path):
    before = {"looks": {"every_steps": 20, "samples": 2}, "name": "a"}
    after = with_changes(before, ["looks.every_steps=5", "train.arguments.learning_rate=1e-5"])
    assert after["looks"] == {"every_steps": 5, "samples": 2}
    assert after["train"] == {"arguments": {"learning_rate": 1e-5}}
    assert before == {"looks": {"every_steps": 20, "samples": 2}, "name": "a"}


def test_values_are_yaml():
    after = with_changes({}, ["a=true", "b=[x, y]", "c=null", "d={k: 1}", "e=", "f=x=y"])
    assert after == {"a": True, "b": ["x", "y"], "c": None, "d": {"k": 1}, "e": None, "f": "x=y"}


def test_paths_are_relative_to_where_the_command_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "score.py").touch()
    recipe = read_recipe("toy-sft", changes=["train.data=rows.jsonl"])
    assert recipe.train.data == str(tmp_path / "rows.jsonl")
    recipe = read_recipe("toy-grpo", changes=["train.rewards=[score.py:f, package.module:g]"])
    assert recipe.train.rewards == (f"{tmp_path}/score.py:f", "package.module:g")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "must read KEY=VALUE"),
        ("=3", "must read KEY=VALUE"),
        ("looks..seed=3", "must read KEY=VALUE"),
        ("seed=[", "not valid YAML"),
        ("seed.deep=3", "`seed` is 1 and has no keys"),
        ("looks.evry_steps=3", "unknown key `looks.evry_steps`"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(change, message):
    with pytest.raises(InputError, match=message):
        read_recipe("toy-sft", changes=[change])
