"""The human decision: recorded in the ledger, kept for good, shown in the report."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.live.status import run_status
from guardrail.live.status_terminal import render_status
from guardrail.report.decision import record_decision
from tests.report.stories import (
    finished_ok,
    halted,
    halted_at_once,
    header_of,
    running,
    shown_text,
    told,
)


def resolve(run: Path, *args: str):
    return CliRunner().invoke(app, ["resolve", str(run), *args])


def test_decisions_are_all_kept_and_the_newest_stands_first(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    page, _ = story.build()
    assert "还没有人做决定" in shown_text(header_of(page))
    done = resolve(story.run, "--accept", "--by", "王敏", "--note", "先发版")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(story.run / "report.html")
    done = resolve(story.run, "--rollback", "--by", "李雷", "--note", "翻译掉得太多\n<b>不行</b>")
    assert done.exit_code == 0, done.output
    kept = [r for r in read_ledger(story.run) if r["kind"] == "decision"]
    assert [(r["decision"], r["by"]) for r in kept] == [("accept", "王敏"), ("rollback", "李雷")]
    assert kept[1]["seq"] == kept[0]["seq"] + 1
    page = (story.run / "report.html").read_text(encoding="utf-8")
    header = shown_text(header_of(page))
    assert header.index("李雷") < header.index("王敏")
    assert "人的决定：回滚" in header
    assert "<b>不行</b>" not in page
    assert "还没有人做决定" not in header


def test_a_resume_takes_no_decision_away(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    record_decision(story.run, "rollback", by="王敏", note="退回")
    Ledger(story.run).append("rewound", 20, checkpoint="checkpoint-20")
    _, facts = story.build()
    assert [d["by"] for d in facts["decisions"]] == ["王敏"]
    assert facts["outcome"] == "running"


def test_a_run_that_is_still_written_cannot_be_decided(tmp_path: Path) -> None:
    story = told(running, tmp_path)
    before = read_ledger(story.run)
    done = resolve(story.run, "--accept", "--by", "王敏", "--note", "好")
    assert done.exit_code == 2
    assert "still being written" in done.output
    assert read_ledger(story.run) == before


@pytest.mark.parametrize(
    "args",
    [
        ("--by", "王敏", "--note", "x"),
        ("--accept", "--rollback", "--by", "王敏", "--note", "x"),
        ("--accept", "--by", " ", "--note", "x"),
        ("--accept", "--by", "王敏", "--note", "长" * 4001),
        ("--accept", "--by", "王敏"),
        ("--accept", "--abandon", "--by", "王敏", "--note", "x"),
    ],
)
def test_half_a_decision_is_refused(tmp_path: Path, args) -> None:
    story = told(halted, tmp_path)
    assert resolve(story.run, *args).exit_code == 2
    assert not any(r["kind"] == "decision" for r in read_ledger(story.run))


@pytest.mark.parametrize(
    ("by", "note", "named"), [("NAME", "x", "--by NAME"), ("王敏", " TEXT ", "--note TEXT")]
)
def test_a_command_of_the_report_that_was_pasted_as_it_stands_is_refused(tmp_path, by, note, named):
    story = told(halted, tmp_path)
    done = resolve(story.run, "--accept", "--by", by, "--note", note, "--lang", "en")
    assert done.exit_code == 2
    assert f"`{named}` is the report's placeholder; write your own in its place" in done.output
    assert not any(r["kind"] == "decision" for r in read_ledger(story.run))


def test_where_no_checkpoint_is_ok_one_abandons_and_the_page_offers_just_that(tmp_path):
    story = told(halted_at_once, tmp_path)
    page, facts = story.build(language="en")
    assert facts["verdict"]["recommendation"] == "abandon"
    ways = re.findall("guardrail resolve \\S+ (--[a-z]+)", shown_text(page))
    assert ways == ["--abandon", "--accept"]
    refused = resolve(story.run, "--rollback", "--by", "王敏", "--note", "退回")
    assert refused.exit_code == 2
    assert "has no ok checkpoint to go back to; `--abandon` gives its weights up" in refused.output
    done = resolve(story.run, "--abandon", "--by", "王敏", "--note", "重来", "--lang", "en")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(story.run / "report.html")
    page = (story.run / "report.html").read_text(encoding="utf-8")
    assert "Human decision: Abandoned" in shown_text(header_of(page))


def test_weights_that_are_accepted_against_the_advice_are_kept_as_such(tmp_path):
    story = told(halted_at_once, tmp_path)
    done = resolve(story.run, "--accept", "--by", "王敏", "--note", "先发版", "--lang", "en")
    assert done.exit_code == 0, done.output
    assert "this goes against the report's advice (abandon)" in done.stderr
    (kept,) = (r for r in read_ledger(story.run) if r["kind"] == "decision")
    assert (kept["decision"], kept["advice"]) == ("accept", "abandon")
    page = (story.run / "report.html").read_text(encoding="utf-8")
    assert "against the report's advice then (Abandon)" in shown_text(header_of(page))
    status = run_status(story.run)
    assert status["decision"]["against_advice"] is True
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_status(status, "en"))
    console.print(render_status(status, "zh"))
    text = " ".join(console.export_text().split())
    assert "accept, by 王敏 at step 20: 先发版; against the report's advice" in text
    assert "接受这个结果（王敏，第 20 步）：先发版；与报告的建议相反" in text


def test_an_accepted_run_that_the_report_recommends_goes_against_nothing(tmp_path):
    story = told(finished_ok, tmp_path)
    done = resolve(story.run, "--accept", "--by", "王敏", "--note", "好", "--lang", "en")
    assert "against" not in done.output
    assert run_status(story.run)["decision"]["against_advice"] is False


def test_a_damaged_ledger_is_not_written_to(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    ledger = story.run / "ledger.jsonl"
    ledger.write_text("{\n" + ledger.read_text(encoding="utf-8"), encoding="utf-8")
    before = ledger.read_bytes()
    with pytest.raises(InputError, match="line 1"):
        record_decision(story.run, "accept", by="王敏", note="好")
    assert ledger.read_bytes() == before
