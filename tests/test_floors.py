"""The core knows no torch, and what needs it says so where it is absent: in fresh interpreters."""

import sys

from tests.run_fixtures import process

CORE = """
import importlib, pkgutil, sys
import guardrail
for name in ("sets", "judge", "probes", "ledger", "anchors"):
    package = importlib.import_module(f"guardrail.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"guardrail.{name}."):
        importlib.import_module(module.name)
import guardrail.shipped
heavy = {"torch", "transformers", "trl", "peft", "accelerate", "swift", "wandb"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_sets_judge_probes_ledger_and_anchors_import_no_torch():
    done = process([sys.executable, "-c", CORE])
    assert done.returncode == 0, done.stderr


WITHOUT_TORCH = """
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
def find_no_torch(name, path=None, target=None):
    return None if name == "torch" else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_no_torch  # None in sys.modules would upset scipy first
from guardrail.cli.main import app
app(["run", "toy-sft", "--out", sys.argv[1]])
"""


def test_training_without_its_packages_says_what_to_install(tmp_path):
    done = process([sys.executable, "-c", WITHOUT_TORCH, tmp_path / "run"])
    assert done.returncode == 2, done.stderr
    assert "`torch` is not installed" in done.stderr
    assert "redline-guardrail[trl]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
