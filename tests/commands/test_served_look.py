"""The release gate with a server that answers: a checkpoint, an adapter under a new name, and stale weights caught."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.ledger.file import read_ledger
from guardrail.models.load import load_model
from guardrail.shipped import shipped_root
from tests.engines.toy_server import ToyServer
from tests.run_fixtures import anchored, small_recipe

BASE = shipped_root() / "recipes/toy/base"

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def anchors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anchored")
    decoding = {"mode": "greedy", "max_new_tokens": 24}
    anchored(small_recipe(folder, items_an_ability=8, looks={"decoding": decoding}))
    return folder / "anchors"


def look(model, anchors, out, toy, *more, code):
    line = ["look", model, "--anchors", anchors, "--out", out, "--json", "--server", toy.url, *more]
    done = CliRunner().invoke(app, [*map(str, line)])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code in (0, 3) else " ".join(done.output.split())


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    model, tokenizer = load_model(BASE)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * p.std() * torch.randn_like(p))
    folder = tmp_path_factory.mktemp("trained") / "checkpoint-40"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    model = get_peft_model(
        load_model(BASE)[0], LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5)
    folder = tmp_path_factory.mktemp("trained") / "adapter-8"
    model.save_pretrained(folder)
    return folder


def test_a_server_of_the_checkpoint_judges_it(anchors, damaged, tmp_path):
    with ToyServer(damaged) as toy:
        bad = look(damaged, anchors, tmp_path / "bad", toy, "--concurrency", "3", code=3)
    assert bad["level"] == "critical"
    assert bad["served"]["root"] == str(damaged)
    assert bad["served"]["proof"]["share"] == pytest.approx(1, abs=0.01)
    header = read_ledger(tmp_path / "bad")[0]
    assert (header["engine"], header["served"]) == ("vllm-server", bad["served"])
    with ToyServer(BASE) as toy:
        same = look(BASE, anchors, tmp_path / "same", toy, "--served-as", "toy", code=0)
    assert same["level"] == "ok"
    again = json.loads((tmp_path / "same/report.json").read_text(encoding="utf-8"))["reproduce"]
    assert again["command"].endswith(f"--server {toy.url} --served-as toy")
    # The base is its own KL reference: what is between them is the rounding of the stored numbers.
    assert same["served"]["proof"]["moved"] < 2e-3


def test_a_server_that_goes_on_with_the_base_is_caught(anchors, damaged, tmp_path):
    with ToyServer(BASE) as toy:
        said = look(damaged, anchors, tmp_path / "x", toy, code=2)
        assert toy.completions() == []
    assert "Its weights are stale or another model's" in said
    assert "of the way from the anchors' KL reference" in said
    assert not (tmp_path / "x/ledger.jsonl").exists()


def test_an_adapter_is_judged_on_its_base_under_a_name_of_its_own(anchors, adapter, tmp_path):
    with ToyServer(BASE) as toy:
        found = look(adapter, anchors, tmp_path / "a", toy, "--base", BASE, code=3)
        assert list(toy.models) == ["toy"]
        assert {body["model"] for body in toy.completions()} == {found["served"]["name"]}
    assert found["served"]["name"].startswith("adapter-8-")
    assert found["served"]["parent"] == "toy"
    assert found["served"]["proof"]["share"] == pytest.approx(1, abs=0.01)


def test_an_adapter_that_is_not_in_force_is_caught(anchors, adapter, tmp_path):
    with ToyServer(BASE, stale_adapters=True) as toy:
        said = look(adapter, anchors, tmp_path / "x", toy, "--base", BASE, code=2)
        assert list(toy.models) == ["toy"]
    assert "it has gone 0 %" in said


def test_an_adapter_that_the_server_already_has_is_asked_as_it_is(anchors, adapter, tmp_path):
    more = ["--base", BASE, "--served-as", "mine"]
    with ToyServer(BASE) as toy:
        toy.models["mine"], toy.roots["mine"] = load_model(BASE)[0], str(adapter)
        assert "it has gone 0 %" in look(adapter, anchors, tmp_path / "x", toy, *more, code=2)
        toy.models["mine"] = PeftModel.from_pretrained(load_model(BASE)[0], adapter)
        found = look(adapter, anchors, tmp_path / "a", toy, *more, code=3)
        assert found["served"]["name"] == "mine"
        assert "mine" in toy.models


def test_a_server_that_serves_something_else_is_named(anchors, tmp_path):
    with ToyServer(BASE, max_model_len=48) as toy:
        said = look(BASE, anchors, tmp_path / "x", toy, "--served-as", "qwen", code=2)
        assert "serves no `qwen` but `toy`" in said
        assert "--max-model-len" in look(BASE, anchors, tmp_path / "x", toy, code=2)
