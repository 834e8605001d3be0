"""A plan that changes is planned again or refused, and levers stand after a resume as they stood at the save."""

import datetime
import signal
from types import SimpleNamespace

import pytest
import torch
import transformers

from guardrail.errors import InputError
from guardrail.guard.guard import Guard
from guardrail.guard.state import GuardState
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.report.facts import gather
from guardrail.report.run_data import read_run
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.guarded_train import guard_training
from tests.trainers.changed_runs import CASES, HALF, Setting, run

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore")]

IN_CI = {
    "SFT LoRA, save_only_model, resumed",
    "SFT, save_only_model, half the rate",
    "SFT, longer before its end",
    "SFT, longer after its end, by epochs",
    "SFT, out of memory before any step of a resume",
    "SFT, out of memory in the third step",
    "SFT, a second train()",
}
REFUSED = {
    "SFT, longer after its end": "the final look at step 8 has spent the run's error budget",
    "SFT, longer after its end, by epochs": "training on to 1 epochs would leave every",
    "GRPO LoRA, longer after its end": "the final look at step 8 has spent the run's error budget",
    "bf16 GRPO, longer after its end": "the final look at step 8 has spent the run's error budget",
    "SFT, resumed but trained from the start": "begins at step 0, and the guard was attached for step 4",
    "SFT, out of memory in the third step": "`auto_find_batch_size` begins the training anew",
    "SFT, a second train()": "one `trainer.train()` already",
    "SFT, a second attach()": "guarded already",
}
PLANNED_ANEW = {
    "SFT, longer before its end",
    "SFT LoRA, longer before its end, by epochs",
    "SFT, shorter",
    "SFT, saved at other steps",
    "GRPO, longer before its end",
    "bf16 GRPO LoRA, longer before its end",
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return Setting(tmp_path_factory.mktemp("changed") / "setting")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    return Setting(tmp_path_factory.mktemp("changed") / "half", half=True)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in IN_CI else [pytest.mark.full]) for n in CASES | HALF]
)
def test_a_changed_run_is_tested_to_its_end_or_refused(setting, tmp_path, name, request):
    base = request.getfixturevalue("half") if name in HALF else setting
    told = (CASES | HALF)[name](base, tmp_path / "run")
    assert REFUSED[name] in told.refused if name in REFUSED else not told.refused
    assert told.looks, "nothing was looked at"
    assert all(tested for _, _, tested in told.looks), told.looks
    assert ("replanned" in told.kinds) == (name in PLANNED_ANEW)
    if name in ("SFT, a second train()", "SFT, a second attach()"):
        assert told.records[-1]["outcome"] == "finished", "the run that is over stays as it was"
    if name in REFUSED:
        return
    assert told.records[-1]["outcome"] == "finished"
    assert told.looks[-1][1] in ("end", "best")
    spent = told.callback.guard.state.rule
    assert spent.share == 1.0, "the final look may spend all"
    if told.before is None or told.after is None:
        return
    assert told.before["lr_factor"] == 0.5, "the ladder cut the rate before the save"
    for lever in ("boost", "lr_factor"):
        assert told.after[lever] == told.before[lever]
    halved = 0.5 if "half the rate" in name else 1.0
    assert told.after["rates"] == pytest.approx([halved * rate for rate in told.before["rates"]])
    levers = next(r for r in told.records if r["kind"] == "levers")
    assert levers["rates"] == told.after["rates"]
    if "save_only_model" in name:
        assert levers["loaded_rates"] == pytest.approx([2 * rate for rate in levers["rates"]])


def test_changed_probes_are_refused_and_where_meant_base_is_asked_by_them_too(tmp_path, setting):
    out, before = tmp_path / "run", setting.probes.read_text(encoding="utf-8")
    run(setting, setting.trainer(out), kill_after=4)
    text = before.replace("short", "long").replace("< 5", ">= 5")
    setting.probes.write_text(text, encoding="utf-8")
    try:
        with pytest.raises(InputError, match=r"`probes.files` \(.*probes.py\) was '[0-9a-f]{64}'"):
            run(setting, setting.trainer(out), resume=True)
        again = {"resume": True, "changed_recipe": True}
        callback, _ = run(setting, setting.trainer(out), **again)
    finally:
        setting.probes.write_text(before, encoding="utf-8")
    records = read_ledger(out)
    (changed,) = (r for r in records if r["kind"] == "recipe_changed")
    assert [one["key"] for one in changed["changes"]] == ["probes.files"]
    asked = [{s["metric"] for s in r["streams"]} for r in records if r["kind"] == "look"]
    assert "short" in asked[0] - asked[-1]
    assert "long" in asked[-1]
    assert "short" not in callback.guard.state.baseline
    assert records[-1]["outcome"] == "finished"


def test_the_verdict_is_of_the_best_model_where_it_is_what_is_left(setting, tmp_path):
    """Its look is the last, on weights that are its checkpoint's, and the report names that checkpoint."""
    out = tmp_path / "run"
    told = CASES["SFT, the best model at its end"](setting, out)
    trainer = told.callback.trainer
    best = out / "checkpoint-2"
    assert trainer.state.best_model_checkpoint == str(best)
    saved = transformers.AutoModelForCausalLM.from_pretrained(best)
    for left, kept in zip(trainer.model.parameters(), saved.parameters(), strict=True):
        assert torch.equal(left, kept)
    looks = [r for r in told.records if r["kind"] == "look"]
    last = looks[-1]
    assert (last["trigger"], last["final"]) == ("best", True)
    assert not any(r.get("final") for r in looks[:-1])
    data = read_run(out)
    report = gather(data, "en", datetime.datetime.now(datetime.timezone.utc))
    assert data.checkpoints[-1].path == "checkpoint-2"
    assert data.level == last["level"]
    assert report.verdict.because.startswith("finished")
    assert report.verdict.because != "finished_unmeasured"


@pytest.mark.parametrize("ending", [None, RuntimeError("out of luck"), KeyboardInterrupt()])
def test_rotation_and_signal_handler_are_the_users_again_however_the_training_ends(
    tmp_path, ending
):
    class Trainer:
        args = transformers.TrainingArguments(save_total_limit=3, use_cpu=True, output_dir="unused")
        state = transformers.TrainerState()

        def train(self):
            self._run_epoch = "the guard's"
            assert self.args.save_total_limit is None
            signal.raise_signal(signal.SIGTERM)
            if ending is not None:
                raise ending
            return "trained"

    heard = []
    before = signal.signal(signal.SIGTERM, lambda *a: heard.append("the user's"))
    try:
        trainer = Trainer()
        guard = Guard(
            SimpleNamespace(language="en"), tmp_path, Ledger(tmp_path), None, (), (), GuardState()
        )
        callback = GuardCallback(guard, trainer, None, None)
        guard_training(
            trainer, callback, quiet=True, report=False, raise_on_halt=False, go_on="unused"
        )
        if ending is None:
            assert trainer.train() == "trained"
        else:
            with pytest.raises(type(ending)):
                trainer.train()
        assert callback.course.sigterm
        assert callback.save_limit == trainer.args.save_total_limit == 3
        assert "_run_epoch" not in vars(trainer)
        signal.raise_signal(signal.SIGTERM)
        assert heard == ["the user's"]
    finally:
        signal.signal(signal.SIGTERM, before)
