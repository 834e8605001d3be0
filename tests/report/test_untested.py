"""What was not tested is never shown as ok, wherever a verdict stands."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from guardrail.ledger.file import read_ledger
from guardrail.live.closing import closing_words
from guardrail.live.status import run_status
from guardrail.live.status_terminal import render_status
from guardrail.live.terminal import record_lines
from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.phrases import Phrases
from guardrail.report.run_data import read_run
from guardrail.track.alerts import AlertRule
from guardrail.track.scalars import scalars
from tests.report.stories import Story, header_of, shown_text, undigested

EN = terminal_words("en")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


def blind_to_the_end(story: Story) -> Story:
    """Too few items to test anything, from the first look to the last."""
    story.items = story.items[:20]
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="end"))
    story.end(20)
    return story


def as_earlier_versions_wrote_it(story: Story) -> Story:
    """What is untested now was called ok, with `tested` false beside it."""
    undigested(story.run)
    text = story.ledger.path.read_text(encoding="utf-8")
    story.ledger.path.write_text(text.replace('"untested"', '"ok"'), encoding="utf-8")
    return story


def in_the_terminal(story: Story) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render_status(run_status(story.run), "en"))
    return capture.get()


def looks(story: Story) -> list[dict]:
    return [r for r in read_ledger(story.run) if r["kind"] == "look"]


@pytest.mark.parametrize(
    "ledger", [blind_to_the_end, lambda s: as_earlier_versions_wrote_it(blind_to_the_end(s))]
)
def test_a_run_that_tested_nothing_is_nowhere_ok(story: Story, ledger) -> None:
    ledger(story)
    status = run_status(story.run)
    assert (status["level"], status["exit_code"], status["last_ok_checkpoint"]) == (
        "untested",
        4,
        None,
    )
    assert [look["level"] for look in status["looks"]] == ["untested", "untested"]
    shown = in_the_terminal(story)
    assert "NOT TESTED" in shown
    assert "level untested" in shown
    assert " ok " not in shown.replace("last ok ", "")
    words = closing_words(status, story.run / "report.html", "go on", "en").plain
    assert words.startswith(
        "finished at step 20, but the final weights were not tested: that is not ok"
    )
    for language in ("zh", "en"):
        page, facts = story.build(language=language)
        assert facts["verdict"] == {
            "recommendation": "undecided", "because": "finished_unmeasured", "level": "untested"
        }  # fmt: skip
        assert {s["level"] for k in facts["looks"] for s in k["streams"]} == {"untested"}
        assert "lv-ok" not in header_of(page)
        ended = {"zh": "但最终权重没有检验", "en": "but the final weights were not tested"}
        assert ended[language] in shown_text(header_of(page))
        assert str(Phrases(language).t["level_sentence"]["untested"]) in shown_text(header_of(page))


def test_trackers_and_alerts_hear_that_nothing_was_tested(story: Story) -> None:
    story.look(0, trigger="start")
    story.items = story.items[:20]
    story.baseline = {k: v[:20] for k, v in (story.baseline or {}).items()}
    for step in (20, 40):
        story.look(step)
    tested, *blind = looks(story)
    assert "guardrail/level" in scalars(tested)
    assert not any("guardrail/level" in scalars(look) for look in blind)
    assert scalars(blind[0])["guardrail/untested_streams"] == len(blind[0]["streams"])
    rule = AlertRule("park", "report.html")
    (alert,) = [alert for look in looks(story) for alert in rule.feed(look)]  # once, not at each
    assert alert.title == "park: the look at step 20 tested nothing"
    assert "没有检验不等于正常" in alert.text
    assert "题太少" in alert.text
    assert "with too few items" in alert.text
    assert "  untested" in record_lines(blind[0], EN)[0].plain


def test_a_look_that_tested_some_says_how_many_it_did_not_and_the_first_one_why(
    story: Story,
) -> None:
    level = story.look(0, trigger="start")
    assert level == "ok"
    story.look(20, trigger="end")
    story.end(20)
    look = looks(story)[-1]
    untested = [s for s in look["streams"] if not s["tested"]]
    said = (
        f"{len(untested)} of {len(look['streams'])} streams not tested: {len(untested)} few items"
    )
    assert 0 < len(untested) < len(look["streams"])
    assert {s["level"] for s in untested} == {"untested"}
    first, last = (record_lines(record, EN)[0].plain for record in (looks(story)[0], look))
    assert "streams not tested: " in first, "why, at the start"
    assert last.endswith(f"ok  ({said.partition(':')[0]})"), "then how many"
    assert said in in_the_terminal(story)
    status = run_status(story.run)
    assert (status["level"], status["exit_code"]) == ("ok", 0)
    assert status["looks"][-1]["untested"] == {"few_items": len(untested)}
    assert said in closing_words(status, story.run / "report.html", "go on", "en").plain
    page, _ = story.build(language="en")
    assert f"{len(untested)} of {len(look['streams'])} metrics were not tested" in shown_text(
        header_of(page)
    )


def test_an_old_stream_that_was_not_tested_is_read_as_untested(story: Story) -> None:
    story.look(0, trigger="start")
    as_earlier_versions_wrote_it(story)
    assert '"untested"' not in json.dumps(read_ledger(story.run))
    (look,) = read_run(story.run).looks
    assert look.level == "ok"
    assert {s.level for s in look.streams} == {"ok", "untested"}
    assert all((s.level == "untested") != s.tested for s in look.streams)
