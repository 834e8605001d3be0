"""Guarded `swift` commands on the toy base, in processes of their own."""

import json
import sys
from pathlib import Path
from typing import Any

from guardrail.shipped import shipped_root
from guardrail.trainers.ms_swift.plugin import RECIPE_VARIABLE
from tests.run_fixtures import anchored, free_port, process, script, small_recipe, warm
from tests.warm import SWIFT

BASE = shipped_root() / "recipes/toy/base"
CALLBACK = shipped_root() / "callbacks/swift_guardrail.py"


# What runs on any CPU in a minute; the rest is what a user would type.
ON_CPU = (
    "--model_type qwen3 --template qwen3 --use_hf true --check_model false --torch_dtype float32 "
    "--bf16 false --fp16 false --use_cpu true --report_to none --max_length 192 --logging_steps 2 "
    "--per_device_train_batch_size 4 --seed 3 --callbacks guardrail"
)
GRPO = "rlhf --rlhf_type grpo --use_vllm false --split_dataset_ratio 0"
ROLLOUTS = {"reward_funcs": "shorter", "num_generations": 4, "max_completion_length": 16}
RECKLESS = "--lr_scheduler_type constant_with_warmup --max_steps 24 --save_steps 4"
REWARD = """
from swift.rewards import ORM, orms


class Shorter(ORM):
    def __call__(self, completions, **kwargs):
        return [-float(len(text)) for text in completions]


orms["shorter"] = Shorter
"""


def swift(command: str, folder: Path, recipe: object, *, ranks: int = 1, **options: object):
    """Run `swift COMMAND` on the toy base as a user would, with the guard's two options."""
    variables = {RECIPE_VARIABLE: recipe} | (launch_variables(ranks) if ranks > 1 else {})
    return process(swift_line(command, folder, **options), cwd=folder, **variables)


def warm_swift(command: str, folder: Path, recipe: object, **options: object):
    """The same without the launcher, whose one job is to start this module, and with ms-swift loaded."""
    line = trainer_line(command, folder, **options)
    return warm(line, cwd=folder, loaded=SWIFT, **{RECIPE_VARIABLE: recipe})


def trainer_line(command: str, folder: Path, **options: object) -> list[str]:
    """What `swift COMMAND` starts and waits for."""
    kind, *rest = swift_line(command, folder, **options)[1:]
    return [sys.executable, "-m", f"swift.cli.{kind}", *rest]


def launch_variables(ranks: int) -> dict[str, object]:
    """What tells `swift` to start torchrun, at a port nobody listens at."""
    return {"NPROC_PER_NODE": ranks, "MASTER_PORT": free_port()}


def swift_line(command: str, folder: Path, **options: object) -> list[str]:
    """The command line of `swift COMMAND`, with the files it names."""
    plugins = [folder / "reward.py"] if "grpo" in command else []
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    program = Path(sys.executable).with_name("swift")
    line = [program, *command.split(), *ON_CPU.split(), "--external_plugins", *plugins, CALLBACK]
    given = {"model": BASE, "dataset": rows(folder), "output_dir": folder / "out"}
    for name, value in (given | options).items():
        line += [f"--{name}", value]
    return [*map(str, line)]


def rows(folder: Path) -> Path:
    """Sixty dialogues of the toy's domain."""
    whole = shipped_root() / "recipes/toy/collections.jsonl"
    file = folder / "rows.jsonl"
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)[:60]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def never_critical() -> dict[str, Any]:
    """A recipe's drift section under which the ladder runs through all its steps."""
    margin = {"margin": 0.03, "critical": 1.0}
    names = (
        "passed format missed_refusal over_refusal shorter longer similarity language translation"
    )
    margins = {name: margin for name in names.split()}
    return {"margins": margins | {"fluency": {"margin": 0.25, "critical": 99.0}}}


def reckless_recipe(folder: Path) -> Path:
    """A ladder that runs through all its steps: no level is critical, and a KL too weak to save the run."""
    content = {
        "looks": {"every_steps": 2, "tripwire_every_steps": 4, "early_look_kl": 0.0}
        | {"batch_size": 100, "benchmark_questions": 0},
        "drift": never_critical(),
        "ladder": {"cooldown_looks": 0, "max_lr_cuts": 2, "persistent_serious_looks": 2},
        "rehearsal": {"fraction": 0.1, "allow_large_fraction": True, "weight": 0.02},
    }
    return anchored(small_recipe(folder, items_an_ability=10, **content))


def short_recipe(folder: Path, **changes: Any) -> Path:
    """A run of few steps in which samples are injected from the start; `changes` as in `small_recipe`."""
    quick = {
        "items_an_ability": 5,
        "rehearsal": {"fraction": 0.1, "allow_large_fraction": True} | changes.pop("rehearsal", {}),
        "looks": {"every_steps": 2},
    }
    return anchored(small_recipe(folder, **quick | changes))


def run_folder(folder: Path) -> Path:
    (run,) = (folder / "out").iterdir()
    return run


def measured(module: str, folder: Path, ranks: int = 1) -> dict:
    """The facts a script of this folder finds inside ms-swift's trainers."""
    recipe = small_recipe(folder, items_an_ability=4)
    done = script(
        f"trainers.ms_swift.{module}",
        recipe,
        rows(folder),
        folder / "proof",
        ranks=ranks,
        loaded=SWIFT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "proof/facts.json").read_text(encoding="utf-8"))
