"""The model in the trainer is the recipe's: tensors against the folder, in whatever precision it was loaded."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from guardrail.errors import InputError
from guardrail.trainers.checks.identity import check_weights
from tests.trainers.conftest import tiny_model

pytestmark = pytest.mark.trl1


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def folder(request, tokenizer, tmp_path):
    model = tiny_model(tokenizer, seed=1, dtype=request.param)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def load(folder, dtype):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def adapter():
    """Of random weights; new each time, for PEFT writes the base's name into it."""
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_weights_pass_in_any_precision_and_below_an_adapter(folder, dtype):
    model = load(folder, dtype)
    plain = check_weights("start_model", folder, model)
    assert plain > 10
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert check_weights("start_model", folder, adapted) == plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_was_trained_a_little_is_another(folder, dtype):
    model = load(folder, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-2 * parameter.abs().mean() * torch.randn_like(parameter)
    with pytest.raises(InputError, match=r"not the recipe's `start_model`.*tensor `.*` differs"):
        check_weights("start_model", folder, model.to(dtype))


def test_an_adapter_is_compared_with_its_folder_as_well_as_its_base(folder, tmp_path):
    adapted = get_peft_model(load(folder, torch.float32), adapter())
    adapted.save_pretrained(tmp_path / "adapter")
    below = check_weights("start_model", folder, adapted)
    assert check_weights("start_model", tmp_path / "adapter", adapted) > below
    other = get_peft_model(load(folder, torch.float32), adapter())
    with pytest.raises(InputError, match="lora_"):
        check_weights("start_model", tmp_path / "adapter", other)


def test_what_was_resized_cannot_be_compared_and_does_not_count(folder):
    model = load(folder, torch.float32)
    known = check_weights("start_model", folder, model)
    model.resize_token_embeddings(len(model.get_input_embeddings().weight) + 8)
    assert check_weights("start_model", folder, model) == known - 1
