"""What a recipe for Qwen3 is told so that it runs to its end on the toy base, on a CPU: its toy twin.

Every key of the recipe is kept; the values below take the place of its own, and the rest is the recipe's.
"""

from pathlib import Path

import yaml

from guardrail.shipped import shipped_recipes
from tests.run_fixtures import ROOT, small_recipe

GREEDY = {"mode": "greedy", "max_new_tokens": 32}
FOR_ALL = {
    "gold_base": ROOT / "recipes/toy/base",
    "hub": "null",
    "train.data": ROOT / "recipes/toy/collections.jsonl",
    "looks.decoding": "{mode: greedy, max_new_tokens: 32}",
    "train.arguments.use_cpu": "true",
    "train.arguments.report_to": "none",
    "train.arguments.gradient_accumulation_steps": "2",
    "train.arguments.logging_steps": "1",
    "train.arguments.max_steps": "2",
    "train.arguments.max_length": "192",
}
SWIFT_ON_A_CPU = {
    "train.arguments.model_type": "qwen3",  # the toy has no experts, and its template an empty thinking block
    "train.arguments.template": "qwen3",
    "train.arguments.enable_thinking": "false",
    "train.arguments.check_model": "false",
    "train.arguments.use_hf": "true",
    "train.arguments.fp16": "false",
    "train.arguments.dataloader_num_workers": "0",
}
ROLLOUTS = {"train.arguments.num_generations": "2", "train.arguments.max_completion_length": "16"}
NEED_A_GPU = ("deepspeed", "use_vllm", "vllm_", "sleep_level", "offload_", "attn_impl", "packing")
"""Arguments that are left out: DeepSpeed, vLLM and what belongs to it, and packing, which wants flash attention."""
TRL_REWARD = (
    "def score(completions, **kwargs):\n    return [-float(len(str(c))) for c in completions]\n"
)
SWIFT_REWARD = """
from swift.rewards import ORM, orms


class Score(ORM):
    def __call__(self, completions, **kwargs):
        return [-float(len(text)) for text in completions]


orms["score"] = Score
"""


def twin(name: str, folder: Path, **changes: object) -> list[str]:
    """Return what `guardrail run NAME` is given to be the recipe's twin; sets and anchors are made in `folder`.

    `changes` are keys with `__` for the dot; they come last.
    """
    recipe = yaml.safe_load(shipped_recipes()[name].read_text(encoding="utf-8"))
    given = recipe["train"]["arguments"]
    small_recipe(folder, items_an_ability=5, looks={"decoding": GREEDY})
    settings: dict[str, object] = FOR_ALL | {
        "sets.red_line": folder / "red_line.jsonl",
        "sets.rehearsal": folder / "rehearsal.jsonl",
        "anchors": folder / "anchors",
    }
    settings |= {f"train.arguments.{key}": "null" for key in given if key.startswith(NEED_A_GPU)}
    swift, grpo = recipe["trainer"] == "ms-swift", "grpo" in name
    if swift:
        settings |= SWIFT_ON_A_CPU
    if grpo:
        settings |= ROLLOUTS
        reward = folder / "reward.py"
        reward.write_text(SWIFT_REWARD if swift else TRL_REWARD, encoding="utf-8")
        if swift:
            settings |= {"train.arguments.external_plugins": reward}
            settings |= {"train.arguments.reward_funcs": "[score]"}
        else:
            del settings["train.arguments.max_length"]  # GRPOConfig has none
            settings |= {"train.rewards": f"[{reward}:score]"}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
