"""The KL self-test on real architectures: what rounding does is let in, what the seam breaks is not."""

import contextlib

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.kl.token_losses import pinned
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.models.rounding import coarser, forward_dtype, one_rounding_more
from guardrail.trainers.checks.self_test import kl_self_test
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from tests.trainers.conftest import foreign_samples

pytestmark = [pytest.mark.run, pytest.mark.trl1]

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,
}
FAMILIES = {
    "qwen3": (transformers.Qwen3Config, {}),
    "qwen3-moe": (
        transformers.Qwen3MoeConfig,
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "gemma3": (transformers.Gemma3TextConfig, {"query_pre_attn_scalar": 8}),
    "llama": (transformers.LlamaConfig, {}),
    "glm4": (transformers.Glm4Config, {}),
}


def family(name: str, words: int, seed: int = 1):
    torch.manual_seed(seed)
    config, more = FAMILIES[name]
    made = config(vocab_size=words, pad_token_id=0, eos_token_id=1, **SMALL, **more)
    return transformers.AutoModelForCausalLM.from_config(made)


def injection(samples):
    return Injection(samples, GuardState(), fraction=0.1, weight=1.0, loss="kl", seed=0, pad_id=0)


def stored_by(model, samples):
    """The samples with the stored log-probabilities of a model."""
    model.eval()
    with torch.no_grad():
        fresh = pinned(model, list(samples.values()), 0)
    return {sample.item: sample for sample in fresh}


def test_model(tmp_path, model, samples, **options):
    told = {
        "dtype": forward_dtype(model),
        "anchors_dtype": torch.float32,
        "start_is_kl_reference": True,
    } | options
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    ledger = Ledger(tmp_path)
    try:
        kl_self_test(injection(samples), model, ledger, **told)
    finally:
        for name, value in model.state_dict().items():
            assert torch.equal(value, kept[name]), "weights are put back"
    return read_ledger(tmp_path)[-1]


test_model.__test__ = False


@pytest.fixture
def samples(tokenizer):
    return foreign_samples(tokenizer)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("precision", ["float32", "autocast", "bf16"])
def test_anchors_in_float32_are_let_in_whatever_the_precision_that_trains(
    tmp_path, tokenizer, samples, name, precision
):
    model = family(name, len(tokenizer))
    samples = stored_by(model, samples)
    if precision == "bf16":
        model = model.bfloat16()
        model = get_peft_model(
            model, LoraConfig(r=2, target_modules=["q_proj"]), autocast_adapter_dtype=True
        )
    on = precision == "autocast"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
        dtype = torch.bfloat16 if on else forward_dtype(model)
        told = test_model(tmp_path, model, samples, dtype=dtype)
    assert told["dtype"] == ("float32" if precision == "float32" else "bfloat16")
    assert abs(told["at_start"]) <= told["tolerance"]
    assert told["perturbed"] >= 10 * told["tolerance"] > 0
    if precision == "float32":
        assert told["noise"] < 1e-6
    else:
        # The old constant for float32 weights was 1e-4 nats, whatever the forwards' precision.
        assert told["stored_noise"] > 1e-4


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_stored_log_probabilities_of_another_model_are_refused(
    tmp_path, tokenizer, samples, name, dtype
):
    """One of the same kind, a little trained: closer than any other model."""
    model = family(name, len(tokenizer))
    samples = stored_by(model, samples)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    with pytest.raises(InputError, match=r"stored log-probabilities .* where rounding explains"):
        test_model(tmp_path, model.to(dtype), samples)


@pytest.mark.parametrize("lifted", [True, False])
def test_dropout_is_lifted_for_these_forwards_and_a_seam_that_does_not_lift_it_is_refused(
    tmp_path, tokenizer, samples, monkeypatch, lifted
):
    model = family("qwen3", len(tokenizer))
    samples = stored_by(model, samples)
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.5)
    model = get_peft_model(model, adapter)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    if lifted:
        told = test_model(tmp_path, model, samples, start_is_kl_reference=False)
        assert abs(told["at_start"]) <= told["noise"]
        return
    monkeypatch.setattr(
        "guardrail.kl.token_losses.undisturbed", lambda model: contextlib.nullcontext()
    )
    with pytest.raises(InputError, match="KL of the start model, 0 nats a token, is"):
        test_model(tmp_path, model, samples, start_is_kl_reference=False)


def test_a_reference_that_follows_the_policy_is_refused(tmp_path, tokenizer, samples, monkeypatch):
    model = family("qwen3", len(tokenizer))
    stuck = injection(stored_by(model, samples))
    stuck._reference = lambda policy, chosen: [
        logits.detach()
        for logits in __import__("guardrail.kl.token_losses", fromlist=["x"]).sample_logits(
            policy, chosen, 0
        )
    ]
    with pytest.raises(InputError, match="its reference follows the policy"):
        kl_self_test(
            stuck,
            model,
            Ledger(tmp_path),
            dtype=torch.float32,
            anchors_dtype=torch.float32,
            start_is_kl_reference=True,
        )


def test_the_precision_of_forwards_is_that_of_most_weights_or_autocast(tokenizer):
    model = get_peft_model(
        family("qwen3", len(tokenizer)).bfloat16(), LoraConfig(r=2, target_modules=["q_proj"])
    )
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16, torch.float32}
    assert forward_dtype(model) == torch.bfloat16
    assert forward_dtype(family("qwen3", 50), "bf16") == torch.bfloat16
    assert coarser(torch.float16, torch.bfloat16) == torch.bfloat16


def test_more_rounding_moves_outputs_by_what_the_precision_rounds_and_leaves_no_trace(tokenizer):
    model = family("qwen3", len(tokenizer)).eval()
    row, state = torch.arange(12).view(1, -1), torch.get_rng_state()
    with torch.no_grad():
        plain = model(input_ids=row).logits
        moved = {}
        for dtype in (torch.float32, torch.bfloat16):
            with one_rounding_more(model, dtype, seed=0):
                moved[dtype] = (model(input_ids=row).logits - plain).abs().max()
        assert torch.equal(model(input_ids=row).logits, plain)
        half = model.bfloat16()(input_ids=row).logits.float()
    assert torch.equal(torch.get_rng_state(), state)
    truly = float((half - plain).abs().max())
    assert truly / 5 < float(moved[torch.bfloat16]) < truly * 5
    assert 0 < float(moved[torch.float32]) < truly / 1000
