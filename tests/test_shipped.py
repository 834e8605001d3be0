"""Everything that ships is read by the code that will read it."""

import hashlib
import json
import re
from collections import Counter

import pytest

from guardrail.recipe import Drift, read_recipe
from guardrail.sets.build.compose import QUOTAS
from guardrail.sets.items import read_items
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.shipped import install_command, shipped_recipes, shipped_root
from recipes.toy.make.build_sets import REHEARSAL_QUOTAS, build_set
from recipes.toy.make.tasks import TASKS

ROOT = shipped_root()


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_recipe_parses_and_opens_with_purpose_hardware_and_command(name):
    recipe = read_recipe(name, changes=["train.data=the-users-own.jsonl"])
    assert recipe.name == name
    head = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()[:12]
    assert head[0].startswith("# ")
    assert any("hardware:" in line.lower() for line in head)
    assert any(f"guardrail run {name}" in line for line in head)


@pytest.mark.parametrize("page", ["docs/gpu-quickstart.md", "docs/gpu-quickstart_zh.md"])
@pytest.mark.parametrize("name", ["qwen3-8b-grpo-colocate", "qwen3-8b-grpo-server"])
def test_the_quickstart_starts_grpo_as_the_recipes_heads_do(page, name):
    """Whoever changes the one has changed the other: a command that nobody has run on a GPU is wrong unseen."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").replace("\\\n", "").split())
    head = shipped_recipes()[name].read_text(encoding="utf-8").split("\n\nname:")[0]
    said = " ".join(head.replace("\\\n#", "").replace("\n#", "").split())
    for begins in re.findall("(?:Command|Server): +", said):
        command = said.split(begins)[1].split(" in a second")[0].split(" Rows are")[0]
        assert re.split(r" (?:Command|Rows|in a second)", command)[0] in text


def test_what_is_to_be_installed_keeps_the_trl_that_is_there(monkeypatch):
    for installed, constraints in (
        ("1.16.0", "constraints-trl1.txt"),
        ("0.29.1", "constraints.txt"),
    ):
        monkeypatch.setattr("guardrail.shipped.version", lambda package, found=installed: found)
        assert f"'.[modelscope]' -c {constraints}`" in install_command("modelscope")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*_sets/*/items.jsonl")), ids=lambda p: p.parent.name
)
def test_every_set_parses_and_its_readme_names_its_size_and_hash(path):
    items = read_items(path)
    readme = (path.parent.parent / "README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    row = next(line for line in readme.splitlines() if path.parent.name in line and "|" in line)
    assert digest in row
    assert f" {len(items)} " in row


def test_the_toy_sets_are_what_the_generator_makes():
    for folder, bucket, quotas, prefix, seed in (
        ("eval_sets/toy-redline-300", "redline", QUOTAS, "toy-red", 300),
        ("rehearsal_sets/toy-general", "rehearsal", REHEARSAL_QUOTAS, "toy-reh", 400),
    ):
        items = read_items(ROOT / folder / "items.jsonl")
        assert items == build_set(bucket, quotas, prefix, seed)
        assert Counter(item.ability for item in items) == quotas


def test_the_toy_red_line_has_300_items_and_every_ability_thirty():
    assert sum(QUOTAS.values()) == 300
    assert min(QUOTAS.values()) >= 30
    assert set(QUOTAS) == set(TASKS)


def test_every_ability_of_the_toy_has_templates_enough_for_a_verdict_of_its_own():
    items = read_items(ROOT / "eval_sets/toy-redline-300/items.jsonl")
    least = Drift.model_fields["min_clusters"].default
    for ability in QUOTAS:
        templates = Counter(item.cluster for item in items if item.ability == ability)
        assert len(templates) >= least, ability
        assert max(templates.values()) - min(templates.values()) <= 1


def test_the_domain_set_holds_several_hundred_different_dialogues():
    rows = read_training_rows(ROOT / "recipes/toy/collections.jsonl").rows
    assert len(rows) >= 500
    firsts = Counter(
        next(m["content"] for m in row["messages"] if m["role"] == "user") for row in rows
    )
    assert max(firsts.values()) == 1
    for row in rows:
        roles = [m["role"] for m in row["messages"] if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_the_toy_base_is_a_qwen3_of_at_most_5_million_parameters_and_8_megabytes():
    base = ROOT / "recipes/toy/base"
    assert json.loads((base / "config.json").read_text())["model_type"] == "qwen3"
    assert sum(p.stat().st_size for p in base.iterdir()) <= 8_000_000
