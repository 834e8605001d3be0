"""The lines that end `guardrail run`: an honest headline, the cost, commands to copy."""

from pathlib import Path

import pytest

from guardrail.live.closing import closing_words, halted_words
from guardrail.live.serve import open_server
from guardrail.live.status import run_status
from tests.report.stories import (
    HOSTILE,
    Story,
    crashed,
    finished_drifted,
    finished_ok,
    halted,
    halted_by_a_failed_look,
    unmeasured_end,
)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "a run").start()


def closing(story: Story) -> str:
    go_on = f"guardrail run 'my recipe.yaml' --out '{story.run}' --resume"
    return closing_words(run_status(story.run), story.run / "report.html", go_on, "en").plain


def test_a_finished_run_names_level_cost_and_every_next_command(story: Story) -> None:
    finished_ok(story)
    text = closing(story)
    assert text.startswith("finished at step 40, level ok\n")
    assert "looks 6 s, kl 2 s: 20% of the training time" in text
    assert str(story.run / "report.html") in text
    for command in ("watch", "status", "report"):
        assert f"guardrail {command} '{story.run}'" in text
    assert "--resume" not in text


def test_a_halt_on_drift_names_the_streams_and_does_not_offer_to_go_on(story: Story) -> None:
    halted(story)
    text = closing(story)
    assert text.startswith("HALTED by the guard at step 40: the run drifted beyond its margins")
    assert "and 5 more" in text, "nine streams are above ok, four are named"
    assert "passed/overall" in text
    assert "checkpoints/checkpoint-20" in text
    assert "--resume" not in text


def test_a_halt_on_a_failed_look_is_not_called_drift(story: Story) -> None:
    halted_by_a_failed_look(story)
    text = closing(story)
    assert "a look or a tripwire could not be measured" in text
    assert "TimeoutError: server gone" in text
    assert f"guardrail run 'my recipe.yaml' --out '{story.run}' --resume" in text


def test_a_crash_names_its_error_and_how_to_go_on(story: Story) -> None:
    crashed(story)
    text = closing(story)
    assert text.startswith("CRASHED at step 33")
    assert "RuntimeError: cuda gone" in text
    assert "--resume" in text


def test_a_ctrl_c_is_not_called_a_crash(story: Story) -> None:
    story.look(0, trigger="start")
    story.ledger.append("crashed", 7, error="KeyboardInterrupt: ", last_ok_checkpoint=None)
    text = closing(story)
    assert text.startswith("interrupted by hand at step 7")
    assert "--resume" in text
    server = open_server(story.run, 0)
    assert "已被人手动中断" in server.heartbeat("", server.beat(""))
    server.server_close()


@pytest.mark.parametrize(
    ("told", "said"),
    [(finished_drifted, "beyond their margins"), (unmeasured_end, "were not tested")],
)
def test_an_end_that_is_not_ok_is_not_called_so(story: Story, told, said: str) -> None:
    told(story)
    assert f"but the final weights {'are ' if told is finished_drifted else ''}{said}" in closing(
        story
    )


def test_hostile_errors_are_dead(story: Story) -> None:
    story.ledger.append("crashed", 3, error=HOSTILE + "\x1b[2J\udc80", last_ok_checkpoint=None)
    assert not [c for c in closing(story) if not c.isprintable() and c != "\n"]


def test_a_run_told_to_end_before_its_first_step_claims_no_checkpoint(story: Story) -> None:
    story.end(0, "terminated")
    assert closing(story).startswith("terminated before the first step\n")


def test_a_halted_run_that_is_resumed_is_told_what_to_do_instead(story: Story) -> None:
    halted(story)
    said = str(halted_words(story.run, 40, "en"))
    assert said.startswith("HALTED by the guard at step 40: a resume trains no further")
    assert f"guardrail report '{story.run}'" in said
    (story.run / "recipe.next.yaml").touch()
    said = str(halted_words(story.run, 40, "en"))
    assert f"guardrail run '{story.run}/recipe.next.yaml' --out '{story.run}-next'" in said
