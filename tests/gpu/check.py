"""`make gpu-check`: what only a GPU shows, in ten minutes, as one JSON file.

Random weights at the shapes of real models, bf16, LoRA and all weights: attach, self-test, seconds of a look and of a
tripwire, what the KL term adds to a step, peak memory. Random weights never end an answer, so a look takes as long as it
can for its number of tokens. Each case is a process of its own. `--shapes tiny` runs on a CPU.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from guardrail.shipped import shipped_root
from tests.real.run import figures_of, write_recipe
from tests.run_fixtures import as_yaml

_QWEN3 = {"model_type": "qwen3", "head_dim": 128, "num_key_value_heads": 8, "vocab_size": 151936}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    | {"head_dim": 16, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 2368},
    "qwen3-0.6b": _QWEN3
    | {
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "intermediate_size": 3072,
    }
    | {"tie_word_embeddings": True},
    "qwen3-moe-small": _QWEN3
    | {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 32,
    }
    | {"num_key_value_heads": 4, "intermediate_size": 6144, "moe_intermediate_size": 768}
    | {"num_experts": 128, "num_experts_per_tok": 8},
    "qwen3-8b": _QWEN3
    | {
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "intermediate_size": 12288,
    },
}
"""config.json of Qwen3-0.6B and 8B, of a sixth of Qwen3-30B-A3B's layers, and of something for a CPU."""
CASES = [
    ("qwen3-0.6b", "lora"),
    ("qwen3-0.6b", "full"),
    ("qwen3-moe-small", "lora"),
    ("qwen3-8b", "lora"),
]
"""All weights of an 8B with AdamW in float32 take 130 GB: no case for one GPU."""


def make_base(folder: Path, shape: str) -> Path:
    """Write a model of random bf16 weights at a shape, with the toy's tokenizer, unless it is there."""
    import transformers

    if (folder / "config.json").is_file():
        return folder
    config = transformers.AutoConfig.for_model(**SHAPES[shape])
    toy = shipped_root() / "recipes/toy/base"
    tokenizer = transformers.AutoTokenizer.from_pretrained(toy)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def one_case(folder: Path, shape: str, way: str, items: int, tokens: int) -> dict[str, Any]:
    """Carry out a guarded run of six steps and return its figures."""
    from guardrail.recipe import read_recipe
    from guardrail.run import run_recipe

    base = make_base(folder.parent / shape, shape)
    file = write_recipe(folder, base, "full", 6, items, tokens)
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    cuda = torch.cuda.is_available()
    content["train"]["arguments"] |= {"use_cpu": not cuda, "save_strategy": "no", "max_length": 512}
    content["looks"] |= {"decoding": {"mode": "greedy", "max_new_tokens": tokens}}
    content["looks"].pop("batch_size")  # as the guard chooses it
    content["on_error"] = "continue"
    if way == "lora":
        content["train"]["lora"] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    file.write_text(as_yaml(content), encoding="utf-8")
    began = time.perf_counter()
    run_recipe(read_recipe(file), folder / "run")
    figures = figures_of(folder / "run")
    seconds = figures["last_log"]["seconds"]
    guarding = {k: v for k, v in seconds.items() if k not in ("train", "look_zero")}
    return {
        "shape": shape,
        "way": way,
        "seconds": round(time.perf_counter() - began, 1),
        "look_s": [round(look["seconds"], 2) for look in figures["looks"]],
        "look_answers": items // 6 * 6,
        "look_tokens": tokens,
        "tripwire_s": [round(wire["seconds"], 3) for wire in figures["tripwires"]],
        "of_training_s": {k: round(v, 3) for k, v in seconds.items()},
        "guarding_share": round(sum(guarding.values()) / seconds["train"], 3),
        "kl_self_test": figures["kl_self_test"],
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if cuda else None,
    }


def check(
    out: Annotated[Path, typer.Option(help="the JSON file")] = Path("runs/gpu-check.json"),
    work: Annotated[Path, typer.Option(help="folder of models and runs")] = Path("runs/gpu-check"),
    shapes: Annotated[str, typer.Option(help="only these, with commas; `tiny` for a CPU")] = "",
    items: Annotated[int, typer.Option(help="red-line items")] = 300,
    tokens: Annotated[int, typer.Option(help="of an answer")] = 128,
    case: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Carry out every case and write what came of it as it comes."""
    if case:
        shape, way = case.split("/")
        print(json.dumps(one_case(work / case.replace("/", "-"), shape, way, items, tokens)))
        return
    wanted = shapes.split(",") if shapes else [shape for shape, _ in CASES]
    cases = [c for c in CASES if c[0] in wanted] or [
        (s, w) for s in wanted for w in ("lora", "full")
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts: dict[str, Any] = {"device": device, "torch": torch.__version__, "cases": []}
    for shape, way in cases:
        line = [
            sys.executable,
            "-m",
            "tests.gpu.check",
            "--case",
            f"{shape}/{way}",
            "--work",
            str(work),
        ]
        line += ["--items", str(items), "--tokens", str(tokens)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        said = done.stdout.strip().splitlines()
        failed = {"shape": shape, "way": way, "failed": (done.stdout + done.stderr)[-3000:]}
        facts["cases"].append(json.loads(said[-1]) if done.returncode == 0 and said else failed)
        out.write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))
    sys.exit(any("failed" in found for found in facts["cases"]))


if __name__ == "__main__":
    typer.run(check)
