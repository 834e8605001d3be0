"""Which trackers a run has, what a resumed run repeats, and that no tracker's fault reaches the training."""

import json
import sys
from types import SimpleNamespace

import pytest
from torch.utils.tensorboard import SummaryWriter

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.read_back import sealed
from guardrail.recipe import Tracking as TrackingSection
from guardrail.recipe import read_recipe
from guardrail.track.alert_services import URLS_VARIABLE
from guardrail.track.other_trackers import require_trackers
from guardrail.track.tracking import Tracking
from guardrail.track.wandb_run import RUN_FILE, _arguments
from tests.track.inbox import Inbox


def trainer(*callbacks):
    return SimpleNamespace(callback_handler=SimpleNamespace(callbacks=list(callbacks)))


def opened(folder):
    tracking = Tracking(read_recipe("toy-sft"), folder)
    return tracking, Ledger(folder, tracking.on_record)


def error(ledger, step):
    ledger.append("error", step, error="OSError: disk full", then="continue")


def test_a_tracker_that_is_not_what_it_was_costs_its_numbers_and_not_the_run(tmp_path, caplog):
    class TensorBoardCallback:
        """Of a version that keeps its writer elsewhere."""

    tracking, ledger = opened(tmp_path)
    ledger.append("started", 0, name="t")
    tracking.begin(trainer(TensorBoardCallback()), ledger)
    ledger.append("domain_loss", 1, held_out=2.0)
    assert [r["kind"] for r in read_ledger(tmp_path)] == ["started", "domain_loss"]
    assert "tb_writer" in caplog.text


def test_tensorboard_takes_what_comes_as_the_training_closes_it_and_after(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers.integrations import TensorBoardCallback

    callback = TensorBoardCallback(SummaryWriter(str(tmp_path / "tensorboard")))
    tracking, ledger = opened(tmp_path)
    ledger.append("started", 0, name="t")
    tracking.begin(trainer(callback), ledger)
    for step in range(1, 40):
        ledger.append("domain_loss", step, held_out=float(step))
    callback.on_train_end(None, None, None)
    ledger.append("domain_loss", 40, held_out=40.0)
    seen = {}
    for file in (tmp_path / "tensorboard/guardrail").glob("events.out.tfevents.*"):
        for event in EventAccumulator(str(file)).Reload().Scalars("guardrail/domain_loss"):
            seen[event.step] = event.value
    assert seen == {step: float(step) for step in range(1, 41)}
    (trainers_own,) = (tmp_path / "tensorboard").glob(
        "events.out.tfevents.*"
    )  # ms-swift draws all of it
    assert EventAccumulator(str(trainers_own)).Reload().Tags()["scalars"] == []
    assert {r["kind"] for r in read_ledger(tmp_path)} == {"started", "domain_loss"}


def test_a_tracker_that_cannot_begin_is_left_out_and_told(tmp_path, monkeypatch):
    class SwanLabCallback:
        """transformers' own name; opening a run of it is what fails."""

    def refuse(**settings):
        raise OSError("no login")

    swanlab = SimpleNamespace(get_run=lambda: (_ for _ in ()).throw(RuntimeError()), init=refuse)
    monkeypatch.setitem(sys.modules, "swanlab", swanlab)
    callback, removed = SwanLabCallback(), []
    tracking, ledger = opened(tmp_path)
    ledger.append("started", 0, name="t")
    handler = SimpleNamespace(callbacks=[callback])
    tracking.begin(
        SimpleNamespace(callback_handler=handler, remove_callback=removed.append), ledger
    )
    assert removed == [callback]
    (told,) = (r for r in read_ledger(tmp_path) if r["kind"] == "tracking")
    assert (told["service"], told["error"]) == (
        "swanlab",
        "left out of this run: OSError: no login",
    )


def test_a_resumed_run_knows_what_was_told_and_does_not_tell_it_again(tmp_path, monkeypatch):
    with Inbox() as inbox:
        monkeypatch.setenv(URLS_VARIABLE, inbox.url("a"))
        tracking, ledger = opened(tmp_path)
        ledger.append("started", 0, name="t")
        tracking.begin(trainer(), ledger)
        error(ledger, 4)
        assert tracking._threads[0].wait(10)
        assert [m["title"] for m in inbox.got] == ["t：第 4 步评测没有做成，训练继续"]
        again, ledger = opened(tmp_path)
        ledger.append("rewound", 0, checkpoint=None)
        again.begin(trainer(), ledger)
        error(ledger, 4)
        ledger.append("crashed", 5, error="RuntimeError: boom")
        assert again._threads[0].wait(10)
        assert [m["title"] for m in inbox.got][1:] == ["t：训练在第 5 步崩溃"]


@pytest.mark.parametrize(
    "report_to", [None, "none", "all", [], ["none"], "tensorboard", ["mlflow"]]
)
def test_trackers_that_are_there_or_not_ours_are_let_through(report_to):
    require_trackers(report_to)


def test_a_missing_tracker_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"redline-guardrail\[watch\]"):
        require_trackers(["wandb"])


@pytest.mark.parametrize("change", [{"project": "somebody-elses"}, None])
def test_a_w_and_b_run_that_somebody_else_named_is_not_gone_on_with(tmp_path, change):
    """A run folder may be a stranger's, and what is logged would go to theirs."""
    path = tmp_path / RUN_FILE
    path.write_text(json.dumps(sealed({"id": "a", "project": "mine", "entity": "me"})))
    assert _arguments(TrackingSection(), tmp_path)["project"] == "mine"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text) | change) if change else text[:20])
    with pytest.raises(InputError, match=r"wandb_run\.json.*not as it was written"):
        _arguments(TrackingSection(), tmp_path)
