"""Every recipe for real models through `guardrail check`: its arguments are read by TRL's and ms-swift's own classes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from guardrail.shipped import shipped_recipes, shipped_root
from tests.run_fixtures import command, warm
from tests.warm import SWIFT, TRL

pytestmark = pytest.mark.run

NAMES = sorted(name for name in shipped_recipes() if name.startswith("qwen3"))
DENSE = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288,
    "vocab_size": 151936, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
}  # fmt: skip
MOE = DENSE | {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
    "num_hidden_layers": 48, "num_key_value_heads": 4, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_experts": 128, "num_experts_per_tok": 8, "max_position_embeddings": 262144,
}  # fmt: skip
"""The shapes of Qwen3-8B and Qwen3-30B-A3B; there are no weights to speak of."""
NOT_INSTALLED_HERE = {
    "train.arguments.deepspeed": "null",  # DeepSpeed
    "train.arguments.use_vllm": "null",  # vLLM, which TRL's recipes and ms-swift's `vllm_mode: server` ask for at once
    "train.arguments.vllm_mode": "null",
    "train.arguments.vllm_server_host": "null",
    "train.arguments.vllm_server_port": "null",
}
"""What is taken out of a recipe to be read here; all other arguments are read as they stand."""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for name, config in (("8b", DENSE), ("30b", MOE)):
        folder = tmp_path_factory.mktemp(name)
        base = shipped_root() / "recipes/toy/base"
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(base / file, folder)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
        folders[name] = folder
    (folders["8b"] / "rewards.py").write_text(
        "def score(completions, **kwargs):\n    return [0.0 for _ in completions]\n"
    )
    return folders


def check(name: str, models: dict[str, Path], folder: Path, *changes: str):
    """Run the command as the head of the recipe has it, with a local model and without what is not installed."""
    swift = name.endswith("-swift")
    given = {
        "train.data": shipped_root() / "recipes/toy/collections.jsonl",
        "gold_base": models["30b" if "30b" in name else "8b"],
    }
    if "deepspeed" in shipped_recipes()[name].read_text(encoding="utf-8"):
        given["train.arguments.deepspeed"] = NOT_INSTALLED_HERE["train.arguments.deepspeed"]
    if name == "qwen3-8b-grpo-server-swift":
        given |= NOT_INSTALLED_HERE
    if "grpo" in name and swift:
        given["train.arguments.reward_funcs"] = "[format]"  # of ms-swift's own
    elif "grpo" in name:
        given["train.rewards"] = f"[{models['8b'] / 'rewards.py'}:score]"
        given["train.arguments.use_vllm"] = NOT_INSTALLED_HERE["train.arguments.use_vllm"]
    settings = [f"{key}={value}" for key, value in given.items()] + list(changes)
    line = command(
        "check", name, "--lang", "en", *(part for one in settings for part in ("--set", one))
    )
    return warm(line, cwd=folder, loaded=SWIFT if swift else TRL)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.swift if n.endswith("-swift") else pytest.mark.trl1)
        for n in NAMES
    ],
)
def test_the_trainers_own_classes_take_every_argument_of_the_recipe(name, models, tmp_path):
    done = check(name, models, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.rstrip().endswith(("\nok", "\nok, but not on this machine"))
    assert not list(tmp_path.iterdir()), "a check wrote something"


@pytest.mark.swift
def test_the_toy_of_ms_swift_passes_as_it_is_shipped_and_check_says_which_weights_train(tmp_path):
    """Without `tuner_type` ms-swift trains LoRA, and says nothing of it."""
    for changes, trains in (
        ([], "all weights"),
        (["--set", "train.arguments.tuner_type=lora"], "an adapter (lora)"),
        (
            ["--set", "train.arguments.tuner_type=null"],
            "an adapter (lora), as ms-swift does where `tuner_type` is left out; `tuner_type: full` trains all weights",
        ),
    ):
        done = warm(
            command("check", "toy-swift-sft", "--json", *changes), cwd=tmp_path, loaded=SWIFT
        )
        assert done.returncode == 0, done.stderr[-2000:]
        facts = json.loads(done.stdout)
        assert (facts["trains"], facts["warnings"]) == (trains, [])


@pytest.mark.swift
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("qwen3-8b-sft-lora", "learning_rat=1e-4", "learning_rat"),
        ("qwen3-8b-grpo-colocate", "num_generations=7", "7"),
        ("qwen3-8b-sft-lora-swift", "lora_rnk=8", "does not know --lora_rnk 8"),
        ("qwen3-8b-sft-lora-swift", "lora_rank=many", "swift refuses a value"),
    ],
)
def test_an_argument_the_trainer_does_not_take_is_named(name, change, message, models, tmp_path):
    done = check(name, models, tmp_path, f"train.arguments.{change}")
    assert done.returncode == 2, done.stderr[-2000:]
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.swift
def test_an_accumulation_left_out_is_reckoned_as_ms_swift_fills_it_in(models, tmp_path):
    """To 16 rows a step over all ranks."""
    asked = ("qwen3-8b-sft-lora-swift", models, tmp_path, "launch.processes=8")
    left_out, said = (
        check(*asked, f"train.arguments.gradient_accumulation_steps={steps}")
        for steps in ("null", 2)
    )
    assert left_out.returncode == 0, left_out.stderr[-2000:]
    assert left_out.stdout == said.stdout


SAID = {
    "messages": [
        {"role": "user", "content": "几点开门"},
        {"role": "assistant", "content": "九点。"},
    ]
}


@pytest.mark.swift
@pytest.mark.parametrize(
    ("row", "said"),
    [
        (SAID, "the first 4:"),
        (
            {"messages": [SAID["messages"][0], {"role": "assistant", "content": "九点。" * 2000}]},
            "1 LEFT OUT (`truncation_strategy: delete`)",
        ),
        ({"foo": 1}, "line 3 has the columns 'foo'; `trainer: ms-swift` needs"),
        (
            {"messages": [*SAID["messages"], {"role": "客服", "content": "好"}]},
            "line 3 out, and 1 of the first 4 rows altogether",
        ),
        ({"query": "几点开门", "response": "九点。"}, "training rows rewritten: 1 messages"),
        ({"messages": SAID["messages"][:1]}, "line 3: ms-swift learns no token of it"),
    ],
    ids=["good", "long", "no row", "a role it does not know", "another form", "no answer"],
)
def test_the_first_rows_are_read_by_ms_swift_before_it_starts(row, said, models, tmp_path):
    rows = [SAID, SAID, row, SAID]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    )
    done = check(
        "qwen3-8b-sft-lora-swift", models, tmp_path, f"train.data={tmp_path / 'rows.jsonl'}"
    )
    well = "first 4:" in said or "LEFT OUT" in said or "rewritten" in said
    assert done.returncode == (0 if well else 2), done.stderr[-2000:]
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
