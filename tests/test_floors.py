"""The core knows no torch: proven by importing it in a fresh interpreter."""

import subprocess
import sys

CORE = """
import importlib, pkgutil, sys
import guardrail
for name in ("sets", "drift", "probes", "anchors"):
    package = importlib.import_module(f"guardrail.{name}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"guardrail.{name}.{module.name}")
import guardrail.ladder, guardrail.ledger, guardrail.shipped
heavy = {"torch", "transformers", "trl", "peft", "accelerate", "swift", "wandb"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_sets_drift_probes_anchors_ladder_and_ledger_import_no_torch():
    done = subprocess.run([sys.executable, "-c", CORE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
