"""One table of exit codes, the same wherever it stands."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail import exit_codes
from guardrail.cli.main import app
from guardrail.live.status import exit_code, run_status
from guardrail.report.run_data import read_run
from tests.report.stories import (
    Story,
    crashed,
    finished_drifted,
    finished_ok,
    halted,
    halted_by_a_failed_look,
    running,
    terminated,
    told,
    unmeasured_end,
)

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_readmes_have_the_table(page):
    rows = re.findall(r"^\| (\d+) \|", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(code) for code in rows] == list(exit_codes.EXIT_CODES)


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"]])
def test_the_help_has_every_code(command):
    shown = " ".join(CliRunner().invoke(app, command, env={"COLUMNS": "200"}).output.split())
    for code, said in exit_codes.EXIT_CODES.items():
        assert f"{code} {said}" in shown


def test_ctrl_c_has_the_code_of_a_shell(monkeypatch, tmp_path):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("guardrail.recipe.read_recipe", pressed)
    done = CliRunner().invoke(app, ["run", "toy-sft", "--out", str(tmp_path / "run")])
    assert done.exit_code == exit_codes.INTERRUPTED


def blind_to_the_end(story: Story) -> None:
    """Every look measures too few items to test anything."""
    story.items = story.items[:20]
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="end"))
    story.end(20)


def interrupted(story: Story) -> None:
    story.ledger.append("crashed", 3, error="KeyboardInterrupt: ", last_ok_checkpoint=None)


def refused(story: Story) -> None:
    story.ledger.append("crashed", 0, error="InputError: look 0 disagrees", last_ok_checkpoint=None)


@pytest.mark.parametrize(
    ("tell", "code"),
    [
        (finished_ok, exit_codes.FINISHED),
        (finished_drifted, exit_codes.FINISHED),
        (unmeasured_end, exit_codes.UNTESTED_END),
        (blind_to_the_end, exit_codes.UNTESTED_END),
        (halted, exit_codes.HALTED),
        (halted_by_a_failed_look, exit_codes.HALTED),
        (terminated, exit_codes.TERMINATED),
        (crashed, exit_codes.CRASHED),
        (interrupted, exit_codes.INTERRUPTED),
        (refused, exit_codes.BAD_INPUT),
        (running, None),
    ],
)
def test_the_ledger_tells_how_a_run_exited(tmp_path, tell, code):
    story = told(tell, tmp_path)
    assert exit_code(read_run(story.run)) == run_status(story.run)["exit_code"] == code
