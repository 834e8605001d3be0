"""A run's probe files stand in its header by digest: a resume or a sidecar with others is refused by name."""

from types import SimpleNamespace

import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, newest_header, read_ledger
from guardrail.live.terminal import record_lines
from guardrail.live.terminal_words import terminal_words
from guardrail.models.fingerprint import file_sha256
from guardrail.probes.business_probes import read_business
from guardrail.sets.items import read_items, write_items
from guardrail.sidecar.serve_run import serve_run
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.ledger_header import recipe_header
from guardrail.trainers.resumed_recipe import changed_header, recipe_changes
from tests.data_wing.repaired_story import PRESSES
from tests.run_fixtures import small_recipe

MANIFEST = SimpleNamespace(
    profile=SimpleNamespace(model_dump=lambda mode: {}),
    gold_base={"weights": "base"},
    kl_reference={"weights": "base"},
)


def header(folder):
    """What a run of the recipe there begins its ledger with, in a process of its own."""
    read_business.cache_clear()
    guarded = GuardedRecipe.from_recipe(folder / "short.yaml")
    return recipe_header(guarded, MANIFEST, "base", ("trl",))


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has begun, beside its recipe and its probes."""
    (tmp_path / "mine.py").write_text(PRESSES, encoding="utf-8")
    files = {"files": ["mine.py"]}
    small_recipe(tmp_path, items_an_ability=1, probes=files, looks={"engine": "sidecar"})
    items = read_items(tmp_path / "red_line.jsonl")
    cases = [
        one.model_copy(update={"case": {"template": f"t{n // 2}"}, "cluster": None})
        for n, one in enumerate(items)
    ]
    write_items(tmp_path / "red_line.jsonl", cases)
    (tmp_path / "run").mkdir()
    Ledger(tmp_path / "run").append("started", 0, **header(tmp_path))
    return tmp_path / "run"


def test_the_header_has_each_file_s_digest_and_the_clusters_of_the_rule(tmp_path, run):
    (started,) = read_ledger(run)
    assert started["probes_sha256"] == [file_sha256(tmp_path / "mine.py")]
    names = list(started["probe_clusters"].values())
    assert len(names) == started["red_line_items"]
    assert names[:3] == ["t0", "t0", "t1"]


def test_changed_probes_are_refused_by_name_until_somebody_says_that_they_are_meant(tmp_path, run):
    before = file_sha256(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text(PRESSES.replace("归还", "立刻归还"), encoding="utf-8")
    now, after = header(tmp_path), file_sha256(tmp_path / "mine.py")
    with pytest.raises(InputError, match="--changed-recipe") as raised:
        recipe_changes(run, None, now, allowed=False)
    for said in ("`probes.files`", str(tmp_path / "mine.py"), before, after):
        assert said in str(raised.value)
    changes = recipe_changes(run, None, now, allowed=True)
    file = str(tmp_path / "mine.py")
    assert changes == [{"key": "probes.files", "file": file, "before": before, "after": after}]
    record = {"kind": "recipe_changed", "step": 0, "changes": changes}
    (line,) = record_lines(record, terminal_words("en"))
    assert f"probes.files ({file}) was {before}" in line.plain
    Ledger(run).append("recipe_changed", 0, changes=changes, header=changed_header(now))
    assert newest_header(read_ledger(run))["probes_sha256"] == [after]
    assert recipe_changes(run, tmp_path / "checkpoint-4", now, allowed=False) == []


def test_the_same_probes_elsewhere_are_no_change(tmp_path, run):
    (tmp_path / "mine.py").rename(tmp_path / "moved.py")
    recipe = tmp_path / "short.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("mine.py", "moved.py"))
    assert recipe_changes(run, None, header(tmp_path), allowed=False) == []


def test_a_sidecar_carries_out_no_other_file_than_the_run_began_with(tmp_path, run):
    before = file_sha256(tmp_path / "mine.py")
    text = PRESSES.replace("归还", "立刻归还")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is not the file") as raised:
        serve_run(run, once=True, say=lambda text: None)
    assert before in str(raised.value)
    (tmp_path / "kept.py").write_text(PRESSES, encoding="utf-8")
    with pytest.raises(
        InputError, match="anchors"
    ):  # which this run has none of: the probes are well
        serve_run(run, probes=[tmp_path / "kept.py"], once=True, say=lambda text: None)
