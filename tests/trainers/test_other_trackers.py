"""trackio and SwanLab through the callbacks that transformers has for them, in a real training.

Both are skipped where they are not installed; neither is part of the tests' environment.
"""

import json
import sqlite3
import subprocess
import sys

import pytest
from transformers import TrainerCallback

from guardrail.ledger.file import Ledger
from guardrail.recipe import read_recipe
from guardrail.track.scalars import scalars
from guardrail.track.tracking import Tracking

pytestmark = pytest.mark.run


def wire(step):
    return {"kl": step / 10, "task_kl": None, "by_ability": {"writing": step / 5}, "step": step}


class Wires(TrainerCallback):
    """Puts a tripwire on record at every step."""

    def __init__(self, ledger):
        self.ledger = ledger

    def on_step_end(self, args, state, control, **kwargs):
        record = wire(state.global_step)
        self.ledger.append("tripwire", record.pop("step"), **record)


def trained(make_trainer, folder, tracker):
    """Train four steps with one tracker; return the wires as a tracker should hold them."""
    trainer = make_trainer(report_to=tracker)
    tracking = Tracking(read_recipe("toy-sft"), folder)
    ledger = Ledger(folder, tracking.on_record)
    ledger.append("started", 0, name="t")
    tracking.begin(trainer, ledger)
    trainer.add_callback(Wires(ledger))
    trainer.train()
    ledger.append("ended", 4, outcome="finished")
    assert tracking._threads[0].new_losses() is None
    return {step: scalars(wire(step) | {"kind": "tripwire"}) for step in range(1, 5)}


def test_trackio_holds_every_number_at_its_step(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    wanted = trained(make_trainer, tmp_path, "trackio")
    seen = {}
    for file in (tmp_path / "trackio").rglob("*.db"):
        with sqlite3.connect(file) as database:
            for (metrics,) in database.execute("select metrics from metrics"):
                row = json.loads(metrics)
                if "guardrail/tripwire/gold_kl" in row:
                    seen[row.pop("train/global_step")] = row
    assert seen == wanted


def test_swanlab_holds_numbers_and_the_table(make_trainer, tmp_path, monkeypatch):
    swanlab = pytest.importorskip("swanlab")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_LOG_DIR", str(tmp_path / "swanlog"))
    trained(make_trainer, tmp_path, "swanlab")
    swanlab.finish()
    (log,) = (tmp_path / "swanlog").rglob("*.swanlab")
    assert b"guardrail/tripwire/gold_kl_writing" in log.read_bytes()


def test_neither_is_imported_by_the_guard_itself():
    code = "import sys, guardrail.track.tracking as t; print([m for m in t.OTHER_TRACKERS if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
