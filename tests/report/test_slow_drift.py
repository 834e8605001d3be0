"""A stream that wavers around its bar: since when it drifted, where one may go back to, and which levers were in force."""

import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from guardrail.judge.verdict import Stream
from guardrail.ledger.records import LookFacts
from guardrail.live.status import describe_run, heartbeat
from guardrail.live.status_terminal import render_status
from guardrail.live.terminal import look_line
from guardrail.live.terminal_words import terminal_words
from guardrail.report.findings import onset
from guardrail.report.next_steps import recipe_changes
from guardrail.report.run_data import RunData, read_run
from tests.report.stories import finished_drifted, finished_ok, header_of, shown_text, told

SHOWN = {60: "warn", 70: "warn", 100: "serious"}
"""Steps at which the fall was shown, and how; at the other looks the bar was a little higher."""
HARM = {0: 0.0, 10: -0.01, 20: 0.05, 50: 0.118, 60: 0.122, 70: 0.108, 80: 0.115, 100: 0.128}
LOW = {step: harm - 0.05 for step, harm in HARM.items()}


def a_look(number: int, step: int, **more: Any) -> LookFacts:
    level = SHOWN.get(step, "ok")
    stream = {
        "metric": "passed",
        "group": "overall",
        "n": 300,
        "harm": HARM[step],
        "low": LOW[step],
        "high": HARM[step] + 0.05,
        "margin": 0.03,
        "level": level,
        "tested": True,
    }
    record = {"seq": number, "time": "2026-11-30T00:00:00+00:00", "step": step, "look": number}
    record |= {"level": level, "trigger": "save", "answers": "", "streams": [stream | more]}
    return LookFacts.model_validate(record | ({"level": more["level"]} if "level" in more else {}))


@pytest.fixture
def slow(tmp_path: Path) -> RunData:
    data = read_run(told(finished_drifted, tmp_path).run)
    looks = tuple(a_look(number, step) for number, step in enumerate(HARM))
    return data.model_copy(update={"looks": looks, "step": 100})


def overall(look: LookFacts) -> Stream:
    found = look.stream("passed", "overall")
    assert found is not None
    return found


def test_a_fall_that_is_not_shown_at_every_look_dates_from_the_first_that_showed_it(slow) -> None:
    last = slow.looks[-1]
    found = onset(slow, overall(last), last)
    assert (found.first_step, found.ok_step) == (60, 50)
    assert (found.looks, found.repeated) == (3, False)


def test_a_fall_that_was_made_good_is_another_one(slow) -> None:
    recovered = slow.looks[-2].model_copy(
        update={"streams": (overall(a_look(6, 80, harm=0.01, low=-0.02)),)}
    )
    data = slow.model_copy(update={"looks": (*slow.looks[:-2], recovered, slow.looks[-1])})
    found = onset(data, overall(data.looks[-1]), data.looks[-1])
    assert (found.first_step, found.ok_step, found.looks) == (100, 80, 1)


def test_a_repeat_at_the_same_weights_is_no_look_before_it(slow) -> None:
    """A stream that only the repeat showed broke before that step, and not between two looks at one step."""
    first, again = a_look(1, 20), a_look(2, 20, level="critical")
    data = slow.model_copy(update={"looks": (slow.looks[0], first, again)})
    found = onset(data, overall(again), again)
    assert (found.first_step, found.ok_step) == (20, 0)


def test_a_look_that_fell_without_being_shown_is_ok_and_not_sound() -> None:
    assert a_look(2, 20).sound
    fallen = a_look(6, 80)
    assert fallen.level == "ok"
    assert not fallen.sound
    assert a_look(6, 80, tested=False, reason="blind").sound is False, "nothing was tested"


def test_page_one_names_what_fell_on_average_and_says_where_nothing_was_injected(
    tmp_path: Path,
) -> None:
    story = told(finished_ok, tmp_path)
    path, lines = story.run / "ledger.jsonl", []
    for record in map(json.loads, (story.run / "ledger.jsonl").read_text("utf-8").splitlines()):
        if record["kind"] == "look" and record["step"] == 40:
            for stream in record["streams"]:
                if (stream["metric"], stream["group"]) == ("passed", "instruction"):
                    stream |= {"now": stream["base"] - 0.15, "harm": 0.15, "low": 0.02}
        if record["kind"] == "log":
            record |= {"unique_prompts": 0, "rehearsal_kl": None}
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    page, _ = story.build()
    head = shown_text(header_of(page))
    assert "平均已经越过容忍线，还没有证实，也可能是偶然：" in head
    assert "一道复习题也没有注入" in head
    status = heartbeat(describe_run(read_run(story.run)), datetime.now(timezone.utc))
    assert status["injected_nothing"]
    plain, _ = told(finished_ok, tmp_path / "as it was").build()
    assert "平均已经越过" not in plain
    assert "一道复习题也没有注入" not in plain


def test_one_goes_back_to_a_checkpoint_whose_look_was_sound(slow) -> None:
    checkpoint = slow.checkpoints[0]

    def saved(step: int, *, sound: bool | None) -> Any:
        update = {"step": step, "path": f"checkpoint-{step}", "level": "ok", "sound": sound}
        return checkpoint.model_copy(update=update)

    told_both = (saved(20, sound=True), saved(80, sound=False))
    data = slow.model_copy(update={"checkpoints": told_both})
    assert data.last_ok is not None
    assert data.last_ok.step == 20
    before = (saved(20, sound=None), saved(80, sound=None))
    of_before = slow.model_copy(update={"checkpoints": before}).last_ok
    assert of_before is not None
    assert of_before.step == 20, "ledgers of earlier versions do not say, and their looks do"


def test_a_lever_moved_at_the_last_step_was_never_in_force(slow) -> None:
    assert slow.actions[-1].kind == "cut_lr"
    late = slow.actions[-1].model_copy(update={"step": 100})
    data = slow.model_copy(update={"actions": (late,), "checkpoints": (), "logs": ()})
    assert data.levers.lr_factor < 1, "it stands there, as the ledger says"
    changes = {change.key: change for change in recipe_changes(data)}
    assert changes["train.arguments.learning_rate"].why == "lr_too_high_to_the_end"
    assert "rehearsal.weight" not in changes
    early = late.model_copy(update={"step": 60})
    changes = {
        change.key: change
        for change in recipe_changes(data.model_copy(update={"actions": (early,)}))
    }
    assert changes["train.arguments.learning_rate"].why == "lr_cuts_not_enough"
    assert changes["rehearsal.weight"].why == "boost"
    assert all(len(str(change.new)) < 8 for change in changes.values()), "rounded, to be read"


def test_terminals_do_not_call_a_fall_that_was_not_shown_plainly_ok(slow) -> None:
    english, chinese = terminal_words("en"), terminal_words("zh")
    assert "ok  not shown, but fallen: passed/overall" in look_line(a_look(6, 80), english).plain
    assert "未证实，但有下降：总体通过率" in look_line(a_look(6, 80), chinese).plain
    assert "fallen" not in look_line(a_look(2, 20), english).plain
    assert "fallen" not in look_line(a_look(4, 60), english).plain, "it has a level there"
    status = heartbeat(describe_run(slow), datetime.now(timezone.utc))
    assert [k["suspects"] for k in status["looks"][-2:]] == [["passed/overall"], []]
    console = Console(file=io.StringIO(), width=100)
    console.print(render_status(status))
    assert "✓✓✓~▲▲~◆" in console.file.getvalue()
