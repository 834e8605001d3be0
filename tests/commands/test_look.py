"""The release gate on the real toy base: itself, a damaged copy, and adapters."""

import json
import shlex
import shutil

import pytest
import torch
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.models.load import load_model
from guardrail.probes.metrics import METRICS
from guardrail.recipe import Recipe
from guardrail.shipped import shipped_root
from tests.run_fixtures import as_yaml

BASE = shipped_root() / "recipes/toy/base"

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def anchors(tmp_path_factory):

    folder = tmp_path_factory.mktemp("anchored")
    recipe = {
        "name": "small",
        "gold_base": str(BASE),
        "sets": {
            "red_line": str(shipped_root() / "eval_sets/toy-redline-300/items.jsonl"),
            "rehearsal": str(shipped_root() / "rehearsal_sets/toy-general/items.jsonl"),
        },
        "train": {"data": "none.jsonl"},
        "anchors": str(folder / "anchors"),
        "looks": {"replicates": 2, "batch_size": 150, "decoding": {"max_new_tokens": 40}},
    }
    path = folder / "small.yaml"
    path.write_text(as_yaml(recipe), encoding="utf-8")
    done = CliRunner().invoke(app, ["anchor", str(path), "--json"])
    assert done.exit_code == 0, done.output
    return folder / "anchors"


def look(model, anchors, out, *more, code, terminal="C"):
    done = CliRunner().invoke(
        app,
        ["look", str(model), "--anchors", str(anchors), "--out", str(out), "--json", *more],
        env={"LANG": terminal, "LC_ALL": ""},
    )
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code in (0, 3) else " ".join(done.output.split())


@pytest.fixture
def damaged(tmp_path):
    model, tokenizer = load_model(BASE)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * p.std() * torch.randn_like(p))
    model.save_pretrained(tmp_path / "checkpoint-40")
    tokenizer.save_pretrained(tmp_path / "checkpoint-40")
    return tmp_path / "checkpoint-40"


def test_a_damaged_copy_does_not_pass_and_base_does_in_the_same_place(anchors, damaged, tmp_path):
    run = tmp_path / "gate"
    bad = look(damaged, anchors, run, "--lang", "en", code=3)
    assert (bad["level"], bad["set_aside"]) == ("critical", None)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'lang="en"' in page
    assert "40" in page
    status = CliRunner().invoke(app, ["status", str(run), "--json"])
    assert json.loads(status.stdout)["last_look_step"] == 40
    assert bad["judged_by"]["of"] == "defaults"
    same = look(BASE, anchors, run, code=0, terminal="zh_CN.UTF-8")
    assert same["level"] == "ok"
    assert any(s["tested"] for s in same["streams"])
    assert same["set_aside"] == str(run / "earlier-1")
    assert (run / "earlier-1/report.html").read_text(encoding="utf-8") == page
    assert 'lang="zh-CN"' in (run / "report.html").read_text(encoding="utf-8")


def test_averaging_a_damaged_copy_with_base_brings_its_abilities_back(anchors, damaged, tmp_path):
    line = ["average", damaged, "--base", BASE, "--share", "0.05", "--out", tmp_path / "averaged"]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert done.exit_code == 0, done.output
    assert look(tmp_path / "averaged", anchors, tmp_path / "gate", code=0)["level"] == "ok"


def test_what_its_run_tolerates_a_look_tolerates_too_and_says_so(anchors, damaged, tmp_path):
    """Also of the model averaged from its checkpoint; `--margin` still changes what it names."""
    of_run = {"red_line": "r", "rehearsal": "h"}
    tolerant = {m.name: {"margin": 5, "critical": 9} for m in METRICS}
    drift = {"margins": tolerant, "warn_overall": 0.02}
    recipe = Recipe(name="r", gold_base=str(BASE), sets=of_run, drift=drift, anchors=str(anchors))
    run = tmp_path / "run with space"
    run.mkdir()
    Ledger(run).append("started", 0, recipe=recipe.model_dump(mode="json"))
    checkpoint = run / "checkpoints/checkpoint-40"
    shutil.copytree(damaged, checkpoint)
    line = ["look", checkpoint, "--anchors", anchors, "--out", tmp_path / "gate", "--lang", "en"]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert done.exit_code == 0, done.output
    assert f"judged by the rule of its run: {run}" in done.output
    header = read_ledger(tmp_path / "gate")[0]
    assert header["rule"]["of"] == "run"
    assert header["recipe"]["drift"]["margins"] == tolerant
    assert header["recipe"]["drift"]["warn_overall"] == 0.02
    line = ["average", checkpoint, "--base", BASE, "--share", 0.9, "--out", tmp_path / "averaged"]
    said = CliRunner().invoke(app, list(map(str, line))).stdout
    command = shlex.join(["guardrail", "look", f"{tmp_path}/averaged", "--anchors", str(anchors)])
    assert said.splitlines()[-1] == f"评测它：{command}", "the run's language is Chinese"
    strict = ["--margin", "passed=0.05,0.10", "--lang", "en"]
    judged = look(tmp_path / "averaged", anchors, tmp_path / "two", *strict, code=3)
    assert judged["judged_by"] == {
        "of": "run",
        "path": str(run),
        "changed": ["passed"],
        "probes_left_out": 0,
    }
    codes = [
        s["code"] for s in json.loads((tmp_path / "two/report.json").read_text())["next_steps"]
    ]
    assert codes == ["average_less", "look_at_averaged", "look_at_another"]


def test_a_training_is_never_looked_over(anchors, tmp_path):
    (tmp_path / "run").mkdir()
    Ledger(tmp_path / "run").append("started", 0, name="first", mode="guard")
    assert "already holds a run" in look(BASE, anchors, tmp_path / "run", code=2)


def test_an_adapter_is_judged_on_its_base(anchors, tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(load_model(BASE)[0], config)
    # A run of ms-swift or of a script: its checkpoints lie right in it, its header alone has the recipe.
    recipe = Recipe(
        name="r", gold_base="b", sets={"red_line": "r", "rehearsal": "h"}, language="en"
    )
    Ledger(tmp_path).append("started", 0, recipe=recipe.model_dump(mode="json"))
    model.save_pretrained(tmp_path / "untrained")
    assert (
        look(tmp_path / "untrained", anchors, tmp_path / "a", "--base", str(BASE), code=0)["level"]
        == "ok"
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5)
    model.save_pretrained(tmp_path / "trained")
    worse = look(tmp_path / "trained", anchors, tmp_path / "b", "--base", str(BASE), code=3)
    assert worse["level"] in ("serious", "critical")
    assert 'lang="en"' in (tmp_path / "b/report.html").read_text(encoding="utf-8")
    again = json.loads((tmp_path / "b/report.json").read_text(encoding="utf-8"))["reproduce"]
    assert again["command"].endswith(f"--samples 1 --seed 0 --base {BASE.resolve()}")


def test_what_cannot_be_judged_is_named(anchors, tmp_path):
    assert "is neither a model folder" in look(tmp_path, anchors, tmp_path / "x", code=2)
    assert "holds no finished anchors" in look(BASE, tmp_path / "none", tmp_path / "x", code=2)
    other = tmp_path / "other"
    shutil.copytree(BASE, other)
    (other / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert "has another chat template" in look(other, anchors, tmp_path / "x", code=2)
    unknown = look(BASE, anchors, tmp_path / "x", "--margin", "passed", code=2)
    assert "METRIC=MARGIN,CRITICAL" in unknown
    turned = look(BASE, anchors, tmp_path / "x", "--margin", "passed=0.2,0.1", code=2)
    assert "CRITICAL not below it" in turned
