"""Models are loaded as the field loads them, and the run says in which precision it trains."""

import json

import datasets
import pytest
import torch
import trl
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from transformers.utils.quantization_config import QuantizationMethod

from guardrail.build_trainer import build_trainer
from guardrail.errors import InputError
from guardrail.live.terminal import record_lines
from guardrail.live.terminal_words import terminal_words
from guardrail.models.load import load_model
from guardrail.models.quantization import quantization_of_folder, quantization_words
from guardrail.recipe import Recipe, read_recipe
from guardrail.trainers.checks.precision import (
    check_quantization,
    describe_precision,
    keep_backward_of_4bit,
)
from tests.conftest import installed
from tests.trainers.conftest import made_rows, tiny_model

pytestmark = [
    pytest.mark.trl1,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer):
    """A model whose folder holds bfloat16 weights, as hubs do."""
    folder = tmp_path_factory.mktemp("half") / "base"
    tiny_model(tokenizer, seed=1, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_of(checkpoint, kind, *, lora=None, arguments=None, quantization=None) -> Recipe:
    content = read_recipe(f"toy-{kind}").model_dump(mode="json")
    content |= {"gold_base": str(checkpoint), "start_model": None, "kl_reference": None}
    grpo = {"num_generations": 2, "max_completion_length": 4, "beta": 0.04}
    content["train"] |= {
        "lora": lora, "held_out": 0.0, "quantization": quantization,
        "arguments": {"use_cpu": True, "bf16": False, "max_steps": 1, "report_to": "none",
                      "per_device_train_batch_size": 2}
        | (grpo if kind == "grpo" else {}) | (arguments or {}),
    }  # fmt: skip
    recipe = Recipe.model_validate(content)
    return recipe.model_copy(
        update={"start_model": str(checkpoint), "kl_reference": str(checkpoint)}
    )


@pytest.mark.parametrize("kind", ["sft", "grpo"])
@pytest.mark.parametrize(
    ("lora", "arguments", "weights"),
    [
        (None, {}, "float32"),
        (LORA, {}, "bfloat16"),
        (None, {"model_init_kwargs": {"dtype": "bfloat16"}}, "bfloat16"),
        (LORA, {"model_init_kwargs": {"dtype": "float32"}}, "float32"),
        (None, {"model_init_kwargs": {"attn_implementation": "eager"}}, "float32"),
    ],
)
def test_all_weights_are_trained_in_float32_and_adapters_on_the_checkpoints(
    checkpoint, tmp_path, kind, lora, arguments, weights
):
    recipe = recipe_of(checkpoint, kind, lora=lora, arguments=arguments)
    trainer = build_trainer(recipe, made_rows(), tmp_path)
    found = describe_precision(trainer)
    assert (found["weights"], found["tuning"]) == (weights, "LoRA" if lora else "full")
    assert found["updates_lost"] == (lora is None and weights == "bfloat16")
    assert found["quantization"] is None
    if kind == "grpo" and lora is None:
        assert str(next(trainer.ref_model.parameters()).dtype) == f"torch.{weights}"
    if "attn_implementation" in arguments.get("model_init_kwargs", {}):
        assert trainer.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("how", ["arguments", "environment"])
def test_deepspeed_keeps_its_own_float32_copy(checkpoint, tmp_path, monkeypatch, how):
    from guardrail.trainers.trl.start_model import loading_arguments

    arguments = {"deepspeed": "zero2.json"} if how == "arguments" else {}
    if how == "environment":
        monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert loading_arguments(recipe_of(checkpoint, "sft", arguments=arguments))["dtype"] == "auto"


def trainer_of(tokenizer, folder, dtype, *, lora=False, **arguments):
    return trl.SFTTrainer(
        model=tiny_model(tokenizer, seed=1, dtype=dtype),
        args=trl.SFTConfig(output_dir=str(folder), use_cpu=True, report_to="none", max_length=32,
                           **{"bf16": False} | arguments),
        train_dataset=datasets.Dataset.from_list(made_rows()),
        processing_class=tokenizer,
        peft_config=LoraConfig(**LORA) if lora else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "options", "lost"),
    [
        (torch.float32, {}, False),
        (torch.bfloat16, {}, True),
        (torch.bfloat16, {"bf16": True}, True),
        (torch.bfloat16, {"optim": "adamw_anyprecision"}, False),
        (torch.bfloat16, {"lora": True}, False),
    ],
)
def test_a_script_that_trains_half_precision_weights_as_they_are_is_warned(
    tokenizer, tmp_path, dtype, options, lost
):
    precision = describe_precision(trainer_of(tokenizer, tmp_path, dtype, **options))
    assert precision["updates_lost"] == lost
    assert precision["autocast"] == options.get("bf16", False)
    assert precision["forwards"] == ("bfloat16" if dtype == torch.bfloat16 else "float32")
    record = {"kind": "started", "step": 0, "precision": precision}
    said = "\n".join(
        line.plain for line in record_lines(json.loads(json.dumps(record)), terminal_words("en"))
    )
    assert ("all weights are trained in bfloat16 without a copy" in said) == lost
    assert f"weights {precision['weights']}, forwards {precision['forwards']}" in said


def test_autocast_says_both_dtypes(tokenizer, tmp_path):
    found = describe_precision(trainer_of(tokenizer, tmp_path, torch.float32, bf16=True))
    assert (found["weights"], found["forwards"], found["autocast"]) == ("float32", "bfloat16", True)


def test_equal_words_for_equal_weights():
    assert quantization_words(None) == quantization_words({}) == ""
    stored = {"quant_method": "bitsandbytes", "_load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
              "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_use_double_quant": False,
              "bnb_4bit_quant_storage": "uint8", "llm_int8_threshold": 6.0}  # fmt: skip
    assert quantization_words(NF4) == quantization_words(stored)
    assert quantization_words(NF4) == "bitsandbytes 4-bit nf4, computed in bfloat16"
    others = [
        {"load_in_8bit": True}, {"load_in_4bit": True}, NF4 | {"bnb_4bit_use_double_quant": True},
        NF4 | {"bnb_4bit_compute_dtype": "float32"}, NF4 | {"llm_int8_skip_modules": ["lm_head"]},
        {"quant_method": "gptq", "bits": 4}, {"quant_method": "awq", "bits": 4},
    ]  # fmt: skip
    said = {quantization_words(one) for one in [NF4, *others]}
    assert len(said) == len(others) + 1


def quantise_in_name(trainer, **settings):
    method = QuantizationMethod.BITS_AND_BYTES
    trainer.model.config.quantization_config = {"quant_method": method} | settings


def test_a_model_quantised_otherwise_than_the_anchors_is_refused_with_both_named(
    checkpoint, tokenizer, tmp_path
):
    trainer = trainer_of(tokenizer, tmp_path, torch.bfloat16, lora=True)
    plain = recipe_of(checkpoint, "sft", lora=LORA)
    quantised = recipe_of(checkpoint, "sft", lora=LORA, quantization=NF4)
    check_quantization(plain, trainer)
    with pytest.raises(InputError, match=r"is not quantised, and .* bitsandbytes 4-bit nf4, comp"):
        check_quantization(quantised, trainer)
    quantise_in_name(trainer, **NF4)
    check_quantization(quantised, trainer)
    with pytest.raises(InputError, match=r"is bitsandbytes 4-bit nf4.* that is not quantised"):
        check_quantization(plain, trainer)
    quantise_in_name(trainer, **NF4 | {"bnb_4bit_compute_dtype": "float32"})
    with pytest.raises(InputError, match=r"computed in float32, and .*computed in bfloat16"):
        check_quantization(quantised, trainer)


def test_a_folder_that_is_quantised_itself_needs_no_key(checkpoint, tokenizer, tmp_path):
    """GPTQ and AWQ checkpoints: anchors and trainer load the same."""
    folder = tmp_path / "gptq"
    folder.mkdir()
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    gptq = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": gptq}))
    assert quantization_of_folder(folder) == "gptq 4-bit"
    trainer = trainer_of(tokenizer, tmp_path, torch.bfloat16, lora=True)
    trainer.model.config.quantization_config = gptq
    check_quantization(recipe_of(folder, "sft", lora=LORA), trainer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": None}, "needs an adapter"),
        ({"reference": "frozen"}, "`rehearsal.reference: frozen` does not go with"),
    ],
)
def test_a_recipe_that_cannot_be_trained_quantised_is_refused(checkpoint, changes, said):
    content = recipe_of(checkpoint, "sft", lora=LORA).model_dump(mode="json")
    content["train"] |= {"quantization": NF4, "lora": changes.get("lora", LORA)}
    content["rehearsal"]["reference"] = changes.get("reference", "stored")
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate(content)


@pytest.mark.skipif(not installed("bitsandbytes"), reason="bitsandbytes is not installed")
def test_a_look_leaves_the_backward_of_4_bit_weights_whole(checkpoint):
    """On a CPU with AVX512-BF16 bitsandbytes packs what it saw outside of training, and packed has no backward."""
    model, _ = load_model(checkpoint, quantization=NF4)
    model = get_peft_model(
        model, LoraConfig(target_modules="all-linear", init_lora_weights="gaussian")
    )
    keep_backward_of_4bit(model)
    ids = torch.arange(20, 40)[None]

    def gradients():
        model.train().zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    before = gradients()
    with torch.no_grad():
        model.eval()(input_ids=ids)
    assert any(gradient.any() for gradient in before[:-2])
    for old, new in zip(before, gradients(), strict=True):
        assert torch.equal(old, new)
