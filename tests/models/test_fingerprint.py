import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from guardrail.errors import InputError
from guardrail.models.fingerprint import model_fingerprint, weights_sha256
from guardrail.shipped import shipped_root


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(shipped_root() / "recipes/toy/base", folder)
    return folder


def test_the_hash_is_the_same_however_the_weights_are_sharded(model):
    whole = weights_sha256(model)
    tensors = load_file(model / "model.safetensors")
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({n: tensors[n] for n in part}, model / f"model-{number}.safetensors")
    (model / "model.safetensors").unlink()
    assert weights_sha256(model) == whole


def test_one_changed_weight_changes_the_hash_and_nothing_else(model):
    before = model_fingerprint(model)
    tensors = load_file(model / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name].ravel()[0] += np.float32(1e-3)
    save_file(tensors, model / "model.safetensors")
    after = model_fingerprint(model)
    assert {k for k in before if before[k] != after[k]} == {"weights"}


def test_a_changed_template_changes_only_the_template_hash(model):
    before = model_fingerprint(model)
    with (model / "chat_template.jinja").open("a") as file:
        file.write(" ")
    after = model_fingerprint(model)
    assert {k for k in before if before[k] != after[k]} == {"chat_template"}


def test_the_template_may_stand_in_the_tokenizer_config(model):
    template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    before = model_fingerprint(model)
    (model / "chat_template.jinja").unlink()
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    assert model_fingerprint(model)["chat_template"] == before["chat_template"]


def test_what_is_missing_is_named(model, tmp_path):
    (model / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        model_fingerprint(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        model_fingerprint(model)
    with pytest.raises(InputError, match="does not exist"):
        model_fingerprint(tmp_path / "absent")
