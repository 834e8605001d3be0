"""Models of a hub, from the hub libraries' own caches: no network is needed, none is there."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.models.fingerprint import model_fingerprint
from guardrail.models.hub import is_hub_name, model_folder
from guardrail.recipe import read_recipe, with_model_folders
from guardrail.shipped import shipped_root
from tests.run_fixtures import as_yaml

BASE = shipped_root() / "recipes/toy/base"
COMMIT = "0" * 39 + "1"


@pytest.fixture
def huggingface_cache(tmp_path, monkeypatch):
    """A cache as snapshot_download leaves it."""
    import huggingface_hub.constants as constants

    repository = tmp_path / "hf" / "models--lab--toy"
    shutil.copytree(BASE, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository


@pytest.fixture
def modelscope_cache(tmp_path, monkeypatch):
    pytest.importorskip("modelscope")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")  # refused at once
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # its retries
    folder = tmp_path / "ms" / "models" / "lab" / "toy"
    shutil.copytree(BASE, folder)
    return folder


def recipe(tmp_path, **changes):

    content = {
        "name": "mine",
        "gold_base": "lab/toy",
        "sets": {"red_line": "a.jsonl", "rehearsal": "b.jsonl"},
        "train": {"data": "c.jsonl"},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(as_yaml(content | changes), encoding="utf-8")
    return read_recipe(path)


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("Qwen/Qwen3-8B", True),
        ("Qwen/Qwen3-8B@v1", True),
        ("./Qwen/Qwen3-8B", False),
        ("/models/Qwen3-8B", False),
        ("~/Qwen3", False),
        ("Qwen3-8B", False),
        ("a/b/c", False),
    ],
)
def test_hub_names_are_told_from_paths(name, yes):
    assert is_hub_name(name) is yes


def test_a_model_of_huggingface_is_the_same_model(huggingface_cache):
    for name in ("lab/toy", "lab/toy@main", f"lab/toy@{COMMIT}"):
        assert model_fingerprint(model_folder(name, "huggingface")) == model_fingerprint(BASE)


def test_a_recipe_may_name_models_of_a_hub(huggingface_cache, tmp_path):
    found = with_model_folders(recipe(tmp_path, hub="huggingface"))
    assert found.gold_base == str(huggingface_cache / "snapshots" / COMMIT)
    assert found.start_model == found.kl_reference == found.gold_base
    folder = tmp_path / "lab" / "toy"
    shutil.copytree(BASE, folder)
    assert with_model_folders(recipe(tmp_path, hub="huggingface")).gold_base == str(folder)


def test_without_a_hub_a_name_is_a_folder(tmp_path):
    with pytest.raises(
        InputError, match=r"`gold_base`: .*is no model folder.*set `hub: huggingface`"
    ):
        with_model_folders(recipe(tmp_path))


def test_a_model_that_cannot_be_had_says_so(huggingface_cache):
    with pytest.raises(InputError, match="cannot get model `lab/absent` from huggingface"):
        model_folder("lab/absent", "huggingface")


@pytest.mark.run  # its library asks the network several times before it takes the cached copy
def test_a_model_of_modelscope_is_the_same_model(modelscope_cache):
    folder = model_folder("lab/toy", "modelscope")
    assert model_fingerprint(folder) == model_fingerprint(BASE)


def test_a_checkpoint_is_averaged_with_a_base_of_a_hub(huggingface_cache, tmp_path):
    out = tmp_path / "averaged"
    line = ["average", BASE, "--base", "lab/toy", "--hub", "huggingface", "--out", out, "--json"]
    done = CliRunner().invoke(app, [*map(str, line)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["base"] == str(huggingface_cache / "snapshots" / COMMIT)
    assert model_fingerprint(out) == model_fingerprint(BASE), "a model averaged with itself"
