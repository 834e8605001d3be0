"""What a script of one's own hears of its guard, and how it learns that the guard halted it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from guardrail import exit_codes
from guardrail.errors import HaltedByGuard
from guardrail.guard.guard import Guard
from guardrail.guard.state import GuardState
from guardrail.ledger.file import read_ledger
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.guarded_train import guard_training
from guardrail.trainers.script_output import say_records
from tests.report.stories import COLLAPSE, Story, halted


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


def guarded(story: Story, train, **wanted):
    """A trainer that trains like `train`, with the end of an attached guard."""
    trainer = SimpleNamespace(
        train=train,
        state=SimpleNamespace(global_step=40),
        args=SimpleNamespace(output_dir=str(story.run / "checkpoints"), save_total_limit=None),
    )
    guard = Guard(
        SimpleNamespace(language="en"), story.run, story.ledger, None, (), (), GuardState()
    )
    callback = GuardCallback(guard, trainer, None, None)
    options = {"quiet": False, "report": True, "raise_on_halt": False, "go_on": "THE WAY ON"}
    guard_training(trainer, callback, **options | wanted)
    return trainer, callback


def breaking(error: BaseException):
    def train(*_, **__):
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("cuda gone"), "已崩溃（第 40 步）"),
        (KeyboardInterrupt(), "已被人手动中断（第 40 步）"),
    ],
)
def test_a_crash_is_in_the_ledger_reported_and_said(story, capfd, error, said):
    story.look(0, trigger="start")
    trainer, callback = guarded(story, breaking(error))
    with pytest.raises(type(error)):
        trainer.train()
    assert callback.exit_code == exit_codes.CRASHED
    assert read_ledger(story.run)[-1]["kind"] == "crashed"
    assert read_ledger(story.run)[-1]["error"].startswith(type(error).__name__)
    assert (story.run / "report.html").is_file()
    heard = capfd.readouterr()
    assert said in heard.err
    assert "THE WAY ON" in heard.err
    assert not heard.out


def test_a_ledger_that_takes_nothing_more_does_not_hide_why_the_training_ended(story, caplog):
    trainer, _ = guarded(story, breaking(RuntimeError("disk full")))
    story.ledger.path.unlink()
    story.ledger.path.mkdir()
    with pytest.raises(RuntimeError, match="disk full"):
        trainer.train()
    assert "the ledger did not take the end" in caplog.text
    assert "no report could be written" in caplog.text


def test_a_halt_shows_in_words_and_as_an_exception_where_one_is_wanted(story, capfd):
    halted(story)
    for raises in (False, True):
        trainer, callback = guarded(story, lambda: "the output", raise_on_halt=raises)
        callback.course.halted = True
        if not raises:
            assert trainer.train() == "the output"
            continue
        with pytest.raises(HaltedByGuard, match="halted the training at step 40") as caught:
            trainer.train()
        assert caught.value.checkpoint == story.run / "checkpoints/checkpoint-40"
        assert (caught.value.step, caught.value.run) == (40, story.run)
    assert capfd.readouterr().err.count("已被护栏叫停，停在第 40 步") == 2
    assert "crashed" not in {r["kind"] for r in read_ledger(story.run)}


def test_quiet_says_nothing_and_still_reports(story, capfd):
    halted(story)
    guarded(story, lambda: None, quiet=True)[0].train()
    assert capfd.readouterr() == ("", "")
    (story.run / "report.html").unlink()
    guarded(story, lambda: None, report=False)[0].train()
    assert not (story.run / "report.html").exists()


def test_lines_stand_alone_between_the_trainers_progress_bars(story, capfd):
    story.look(0, trigger="start")
    story.look(20, COLLAPSE)
    with tqdm(total=100, file=sys.stderr) as bar:
        bar.update(20)
        for record in read_ledger(story.run):
            say_records("en")(record)
    shown = capfd.readouterr().err.replace("\r", "\n").split("\n")
    found = [line.strip() for line in shown if line.strip().startswith("step")]
    assert [line.split()[:4] for line in found[:2]] == [
        ["step", "0", "look", "0"],
        ["step", "20", "look", "1"],
    ]
    assert any("repeat" in line or "cut_lr" in line for line in found[2:])


def test_a_record_that_cannot_be_shown_ends_no_training(caplog):
    say_records("en")({"kind": "look", "step": 3})
    assert "a record of step 3 could not be shown" in caplog.text
