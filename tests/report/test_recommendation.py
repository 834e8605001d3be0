"""Continue, roll back, abandon: the recommendation for every way a run can go."""

import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from guardrail.report.page.phrases import Phrases
from guardrail.report.page.texts import LANGUAGES
from guardrail.report.recommendation import Recommendation, recommend
from guardrail.report.run_data import read_run
from guardrail.writer_lock import LOCK_FILE
from tests.report.stories import (
    COLLAPSE,
    Story,
    crashed,
    finished_drifted,
    finished_ok,
    halted,
    halted_at_once,
    halted_by_a_failed_look,
    header_of,
    only_look_zero,
    recovered,
    refused_by_the_pipeline_check,
    running,
    running_drifted,
    shown_text,
    terminated,
    told,
    unmeasured_end,
)

RECOMMENDED = [
    (finished_ok, "use", "finished_ok", "ok"),
    (recovered, "use", "finished_recovered", "ok"),
    (finished_drifted, "roll_back", "finished_drifted", "serious"),
    (halted, "roll_back", "halted_on_drift", "critical"),
    (halted_at_once, "abandon", "halted_on_drift", "critical"),
    (halted_by_a_failed_look, "undecided", "halted_on_failure", "untested"),
    (unmeasured_end, "undecided", "finished_unmeasured", "untested"),
    (crashed, "continue", "crashed", "ok"),
    (terminated, "continue", "terminated", "ok"),
    (refused_by_the_pipeline_check, "undecided", "pipeline", "untested"),
    (running, "continue", "running", "ok"),
    (running_drifted, "continue", "running_drifted", "serious"),
    (only_look_zero, "continue", "running", "ok"),
]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


def recommended(story: Story, silent_s: float = 0.0) -> Recommendation:
    return recommend(read_run(story.run), silent_s)


@pytest.mark.parametrize(("tell", "recommendation", "because", "level"), RECOMMENDED)
def test_every_way_a_run_can_go_has_its_recommendation(
    tmp_path: Path, tell, recommendation: str, because: str, level: str
) -> None:
    assert recommended(told(tell, tmp_path)) == Recommendation(
        recommendation=recommendation, because=because, level=level
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("tell", [row[0] for row in RECOMMENDED])
def test_level_and_sentence_never_disagree(tmp_path: Path, tell, language) -> None:
    story = told(tell, tmp_path)
    page, facts = story.build(language=language)
    level = facts["verdict"]["level"]
    answer = header_of(page).split('<dl class="answers">')[1].split("</dd>")[0]
    assert f'class="badge lv-{level}"' in answer.split("</span>")[0]
    t = Phrases(language).t["level_sentence"]
    said = {key: text.split("{count}")[-1 if language == "zh" else 0] for key, text in t.items()}
    first = shown_text(answer).split("。" if language == "zh" else ". ")[0]
    assert said[level] in first
    assert not [key for key, text in said.items() if key != level and text in first]


def test_harm_that_nobody_opposes_is_not_waited_out(tmp_path: Path) -> None:
    story = told(running_drifted, tmp_path, mode="watch")
    assert recommended(story).recommendation == "abandon"


def test_a_ledger_that_fell_silent_is_not_called_running(tmp_path: Path) -> None:
    story = told(running, tmp_path)
    assert recommended(story, 59.0).because == "running"
    silent = recommended(story, 3 * 86_400.0)
    assert (silent.recommendation, silent.because) == ("continue", "silent")
    page, facts = story.build(now=datetime.now(timezone.utc) + timedelta(days=3))
    assert "进程很可能已经被杀掉" in shown_text(page)
    assert facts["next_steps"][0]["code"] == "check_process"


def test_a_run_told_to_end_has_nothing_to_mend(tmp_path: Path) -> None:
    page, facts = told(terminated, tmp_path).build()
    assert facts["next_steps"][0]["code"] == "resume_now"
    assert "排除故障" not in shown_text(page)
    assert "在第 22 步收到终止信号（SIGTERM），存好检查点后停下" in shown_text(page)


def test_a_run_told_to_end_before_its_first_step_claims_no_checkpoint(story: Story) -> None:
    story.end(0, "terminated")
    page, facts = story.build()
    assert facts["verdict"]["because"] == "terminated"
    assert facts["next_steps"][0]["code"] == "resume_now"
    text = shown_text(page)
    assert "还没走第一步就收到终止信号（SIGTERM），没有可存的检查点" in text
    assert "存好检查点" not in text
    assert "修好之后" not in text


def test_a_run_with_harm_that_crashed_goes_back(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.look(40, {"translation": 0.3, "instruction": 0.2}, trigger="schedule")
    story.ledger.append("crashed", 45, error="RuntimeError: x", last_ok_checkpoint=None)
    assert recommended(story).recommendation == "roll_back"


def test_a_look_of_which_nothing_was_tested_decides_nothing(story: Story) -> None:
    story.look(0, trigger="start")
    story.items = story.items[:20]
    story.baseline = {k: v[:20] for k, v in (story.baseline or {}).items()}
    story.checkpoint(20, story.look(20, trigger="end"))
    story.end(20)
    data = read_run(story.run)
    assert data.looks[-1].level == "untested"
    assert data.last_ok is None
    verdict = recommended(story)
    assert (verdict.recommendation, verdict.level) == ("undecided", "untested")


def damage(story: Story, line: int) -> None:
    path = story.run / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line][: len(lines[line]) // 2] + b"\n"
    path.write_bytes(b"".join(lines))


def test_a_damaged_ledger_never_recommends_to_go_on(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    damage(story, 3)
    verdict = recommended(story)
    assert (verdict.recommendation, verdict.because) == ("undecided", "damaged")
    page, facts = story.build()
    assert facts["damaged_ledger_lines"] == [4]
    assert "账本有 1 行读不出来" in shown_text(header_of(page))


def test_damage_does_not_hide_harm(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    damage(story, 2)
    assert recommended(story).recommendation == "roll_back"


def test_an_empty_ledger_decides_nothing(story: Story) -> None:
    (story.run / "ledger.jsonl").write_text("")
    assert recommended(story).because == "nothing_recorded"


def test_inherited_harm_that_the_recipe_refuses_is_not_this_run_s(tmp_path: Path) -> None:
    story = Story(tmp_path / "run").start()
    story.look(0, COLLAPSE, trigger="start", inherited=True)
    story.ledger.append("crashed", 0, error="InputError: beyond", last_ok_checkpoint=None)
    verdict = recommended(story)
    assert (verdict.recommendation, verdict.because) == ("undecided", "inherited")
    assert "这部分退化是继承来的" in shown_text(header_of(story.build()[0]))


def test_a_killed_run_is_called_so_at_once_and_its_resume_stands_first(tmp_path: Path) -> None:
    """Seconds after `kill -9` the ledger is not silent yet; the lock says that nobody holds it."""
    story = told(running, tmp_path)
    assert recommend(read_run(story.run), 0.0).because == "running"
    left_behind = f"process 1 on {socket.gethostname()} since then\n"
    (story.run / LOCK_FILE).write_text(left_behind, encoding="utf-8")
    data = read_run(story.run)
    assert data.process_gone
    assert recommend(data, 0.0).because == "gone"
    page, facts = story.build()
    head = shown_text(header_of(page))
    assert "训练已中断：进程不在了" in head
    assert "不需要人工处理" not in head
    assert facts["next_steps"][0]["code"] == "resume"
    assert facts["next_steps"][0]["command"].endswith("--resume")
