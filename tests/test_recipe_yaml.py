"""What `--set` changes of a recipe."""

import os

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
    recipe = read_recipe("toy-sft", changes=["probes.files=[score.py]"])
    assert [str(path) for path in recipe.probes.files] == [str(tmp_path / "score.py")]


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


REST = """name: mine
gold_base: shipped:recipes/toy/base
sets: {red_line: red.jsonl, rehearsal: reh.jsonl}
"""
HOSTILE = {
    "a repeated key": "mode: guard\nmode: watch\n",
    "one in a section": "train: {data: d, arguments: {a: 1, a: 2}}\n",
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "an anchor alone": "train: &t {data: d}\n",
    "infinity": "train: {data: d, arguments: {x: .inf}}\n",
    "no number": "rehearsal: {weight: .nan}\n",
    "a null byte": 'train: {data: "a\\0b"}\n',
    "half a character": 'train: {data: "a\\ud800b"}\n',
    "no such user": "train: {data: ~nosuchuser/rows.jsonl}\n",
    "deep nesting": "train: {data: d, arguments: {x: " + "[" * 400 + "]" * 400 + "}}\n",
    "deeper nesting": "x: " + "[" * 100_000,
    "a long number": "seed: " + "9" * 5000 + "\n",
    "a long number in base 60": "seed: " + ":".join(["59"] * 20_000) + "\n",
    "a large number": "train: {data: d, arguments: {x: 99999999999999999999}}\n",
    "bytes": "train: {data: d, arguments: {x: !!binary aGk=}}\n",
    "a set": "train: {data: d, arguments: {x: !!set {a}}}\n",
    "an object": "train: {data: d, arguments: {x: !!python/object/apply:os.system [id]}}\n",
    "a key that is no text": "train: {data: d, arguments: {1: 2}}\n",
    "out of the package": "train: {data: 'shipped:../../etc/passwd'}\n",
    "an absolute shipped path": "train: {data: 'shipped:/etc/passwd'}\n",
    "a long name": "train: {data: " + "x" * 5000 + "}\n",
    "a large file": "# " + "x" * 2**20 + "\n",
    "a large value": "mode: " + "x" * 100_000 + "\n",
    "many wrong keys": "".join(f"key{n}: 1\n" for n in range(2000)),
    "no YAML": "train: {data: d\n",
    "no such user's anchors": "anchors: ~nosuchuser/x\n",
    "anchors out of the package": "anchors: 'shipped:../../x'\n",
    "a control character": "train: {data: \x07}\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_recipe_says_is_one_line(tmp_path, what):
    path = tmp_path / "mine.yaml"
    path.write_text(REST + HOSTILE[what], encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 3000


@pytest.mark.parametrize(
    "change",
    ["seed=&a 1", "x={a: 1, a: 2}", "seed=.inf", "seed=" + "9" * 5000, "mode=guard\nmode: watch"],
)
def test_nor_does_a_change(change):
    with pytest.raises(InputError, match=r"^`--set ") as caught:
        read_recipe("toy-sft", changes=[change])
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_a_name_is_one_that_a_folder_can_have():
    with pytest.raises(InputError, match="name"):
        read_recipe("toy-sft", changes=["name=" + "n" * 300])


def test_a_repeated_key_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(REST + "mode: guard\nmode: watch\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"key `mode` stands there twice.* \(line 5, column 1\)"):
        read_recipe(path)


def test_a_date_is_the_text_it_is(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(REST.replace("mine", "2026-11-30", 1) + "train: {data: d}\n", encoding="utf-8")
    assert read_recipe(path).name == "2026-11-30"


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(InputError, match="neither a file"):
        read_recipe(tmp_path / "mine.yaml")
