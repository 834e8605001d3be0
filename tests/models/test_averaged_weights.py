"""`guardrail average`: weights between base and fine-tuned, whole models in pieces and adapters, and what is refused."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM
from typer.testing import CliRunner

from guardrail.cli.main import app

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "tie_word_embeddings": False,
}
IDS = torch.arange(1, 9)[None]


def a_model(folder, seed, dtype=torch.bfloat16, **sizes):
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(**(SIZES | sizes))).to(dtype)
    model.save_pretrained(folder, max_shard_size="20KB")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "trainer_state.json").write_text("{}")
    return folder


@pytest.fixture
def pair(tmp_path):
    return a_model(tmp_path / "tuned", 1), a_model(tmp_path / "base", 2)


def averaged(*line, code=0):
    done = CliRunner().invoke(app, ["average", *map(str, line)], env={"LANG": "C", "LC_ALL": ""})
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def state(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_each_weight_lies_between_base_and_tuned_by_the_share(pair, tmp_path):
    tuned, base = pair
    assert len(list(tuned.glob("*.safetensors"))) == 2
    out = tmp_path / "out"
    said = averaged(tuned, "--base", base, "--share", 0.25, "--out", out)
    assert f"guardrail look {out}" in said
    made, own, theirs = state(out), state(tuned), state(base)
    for name, value in made.items():
        wanted = (0.75 * theirs[name] + 0.25 * own[name]).bfloat16().float()
        torch.testing.assert_close(value, wanted, rtol=8e-3, atol=1e-6)
        assert not torch.equal(own[name], theirs[name]) or "norm" in name
    saved = json.loads((out / "config.json").read_text())
    assert saved["dtype"] == "bfloat16"
    assert (out / "tokenizer.json").is_file()
    assert not (out / "trainer_state.json").exists(), "what a trainer goes on from is none of it"
    told = json.loads((out / "averaged.json").read_text())
    assert told["share"] == 0.25
    assert told["base_sha256"] != told["model_sha256"]


def test_an_adapter_scaled_is_its_merged_model_averaged(pair, tmp_path):
    base = a_model(tmp_path / "float", 3, torch.float32)
    torch.manual_seed(4)
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    config["base_model_name_or_path"] = "Qwen/Qwen3-8B"  # a hub's name: the base need not be here
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config))
    averaged(tmp_path / "adapter", "--share", 0.4, "--out", tmp_path / "scaled")
    own, made = (
        load_file(tmp_path / f / "adapter_model.safetensors") for f in ("adapter", "scaled")
    )
    assert any(not torch.equal(own[name], made[name]) for name in own)
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    averaged(tmp_path / "merged", "--base", base, "--share", 0.4, "--out", tmp_path / "between")
    scaled = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "scaled"
    )
    between = AutoModelForCausalLM.from_pretrained(tmp_path / "between")
    with torch.no_grad():
        torch.testing.assert_close(scaled(IDS).logits, between(IDS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("{tuned}", "--base", "{base}", "--share", "1.5"), "must lie between 0 (the base) and 1"),
        (("{tuned}",), "give what it was trained from: --base"),
        (("{tuned}", "--base", "{other}"), "has the shape"),
        (("{tuned}", "--base", "{deeper}"), "do not have the same tensors"),
        (("{tuned}", "--base", "{empty}"), "is neither a model folder"),
        (("{empty}", "--base", "{base}"), "is neither a model folder"),
        (("{dora}",), "trains more than LoRA's two matrices"),
        (("{dora}", "--base", "{base}"), "leave `--base` away"),
    ],
)
def test_what_cannot_be_averaged_is_refused_by_name_and_leaves_nothing(pair, tmp_path, line, said):
    tuned, base = pair
    places = {
        "tuned": tuned,
        "base": base,
        "other": a_model(tmp_path / "other", 5, vocab_size=72),
        "deeper": a_model(tmp_path / "deeper", 5, num_hidden_layers=3),
        "empty": tmp_path / "empty",
        "dora": tmp_path / "dora",
    }
    places["empty"].mkdir()
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, target_modules="all-linear", use_dora=True)
    get_peft_model(model, config).save_pretrained(places["dora"])
    out = tmp_path / "out"
    told = averaged(*(part.format(**places) for part in line), "--out", out, code=2)
    assert said in told
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("out")) == []


def test_json_says_what_it_was_made_from(pair, tmp_path):
    tuned, base = pair
    line = ["average", tuned, "--base", base, "--out", tmp_path / "out", "--json"]
    done = CliRunner().invoke(app, list(map(str, line)))
    facts = json.loads(done.stdout)
    assert facts.pop("averaged") == str(tmp_path / "out")
    assert facts == json.loads((tmp_path / "out/averaged.json").read_text())
    assert facts["share"] == 0.7


def test_a_folder_that_is_there_is_not_written_over(pair, tmp_path):
    tuned, base = pair
    said = averaged(tuned, "--base", base, "--out", tmp_path / "base", code=2)
    assert "is there already" in said
    assert (tmp_path / "base/config.json").is_file()


def test_quantised_weights_are_refused(pair, tmp_path):
    tuned, base = pair
    file = next(iter(sorted(tuned.glob("*.safetensors"))))
    save_file({k: v.view(torch.int16) for k, v in load_file(file).items()}, file)
    said = averaged(tuned, "--base", base, "--out", tmp_path / "out", code=2)
    assert "which cannot be averaged" in said
    assert not (tmp_path / "out").exists()
