"""Looks taken beside the training: how late a verdict came, and which were never judged, wherever a run is shown."""

import json
from pathlib import Path

import pytest

from guardrail.ledger.file import Ledger
from guardrail.live.closing import closing_words
from guardrail.live.serve import open_server
from guardrail.live.status import run_status
from tests.report.stories import Story, shown_text, undigested


def rewritten(story: Story, number: int, **changes: object) -> None:
    """Change a record of the ledger."""
    undigested(story.run)
    lines = story.ledger.path.read_text(encoding="utf-8").splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | changes, ensure_ascii=False)
    story.ledger.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    story.ledger = Ledger(story.run)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Looks at 0, 20 and 40 were asked for; that of 20 came at 35, that of 40 before the end not at all."""
    story = Story(tmp_path / "run").start()
    undigested(story.run)
    header = json.loads(story.ledger.path.read_text(encoding="utf-8").splitlines()[0])
    header["recipe"]["looks"] |= {"engine": "sidecar"}
    rewritten(story, 0, **header)
    story.look(0, trigger="start")
    for look, step in ((1, 20), (2, 40)):
        told = {"look": look, "nonce": str(look), "checkpoint": "x", "samples": 1}
        story.ledger.append("asked", step, trigger="save", **told)
    story.look(20)
    rewritten(story, -1, applied_step=35)
    return story


@pytest.mark.parametrize(
    ("language", "late", "left"),
    [("zh", "第 35 步生效", "还没有结论"), ("en", "applied at step 35", "are not judged yet")],
)
def test_the_report_says_how_late_and_what_is_left(story: Story, language, late, left) -> None:
    story.end(40)
    page, facts = story.build(language=language)
    assert late in shown_text(page)
    assert left in shown_text(page)
    assert [ask["step"] for ask in facts["asked"]] == [20, 40]


def test_status_counts_an_end_that_waits_as_untested_until_it_is_judged(story: Story) -> None:
    story.end(40)
    status = run_status(story.run)
    assert status["exit_code"] == 4
    assert status["sidecar"]["open"] == [{"step": 40, "trigger": "save"}]
    assert "guardrail serve" in closing_words(status, story.run / "report.html", "").plain
    story.look(40)
    rewritten(story, -1, after_end=True)
    status = run_status(story.run)
    assert (status["exit_code"], status["sidecar"]["open"]) == (0, [])
    levers = {"boost": 1.0, "lr_factor": 1.0}
    told = {"action": "halt", "carried_out": False, "before": levers, "after": levers}
    story.ledger.append("action", 40, look=2, after_end=True, **told)
    assert run_status(story.run)["exit_code"] == 3, "it would have halted the run"


def test_what_was_answered_beside_is_no_time_of_the_training(story: Story) -> None:
    story.log(41)
    status = run_status(story.run)
    assert status["cost"]["seconds"] == {}
    assert status["next_look_step"] == 60, "40 is asked for"


def test_the_live_page_tells_of_the_sidecar(story: Story) -> None:
    server = open_server(story.run, 0, "en")
    try:
        bar = server.heartbeat("", server.beat(""))
    finally:
        server.server_close()
    assert "Sidecar: none seen, open looks: 1" in bar
