"""What `guardrail status` says of a run, for people and for scripts."""

import io
import json
import os
import re
import socket
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.ledger.follow import LedgerTail
from guardrail.live.status import run_status
from guardrail.live.status_terminal import levels_explained, reason_said, render_status, sparkline
from guardrail.live.terminal_words import terminal_words
from guardrail.report.pace import measure_pace, next_look_step
from guardrail.report.run_data import read_run, run_data
from guardrail.writer_lock import LOCK_FILE, release
from tests.report.stories import (
    COLLAPSE,
    HOSTILE,
    Story,
    crashed,
    finished_ok,
    halted,
    running,
    undigested,
)
from tests.run_fixtures import command

DOCS = Path(__file__).parents[2] / "docs/watching.md"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


def shown(run: Path, *options: str) -> str:
    """Standard output of `guardrail status` in a terminal of 80 columns."""
    result = CliRunner().invoke(
        app, ["status", str(run), "--lang", "en", *options], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def at(seconds: float) -> str:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds")


def test_a_finished_run_shows_level_checkpoint_cost_and_every_ability(story: Story) -> None:
    finished_ok(story)
    text = shown(story.run)
    assert "park  finished, step 40 of 100, level ok" in text
    assert "checkpoints/checkpoint-40" in text
    assert "looks 6 s, kl 2 s: 20% of the training time" in text
    for ability in ("overall", "instruction", "writing", "translation", "reasoning"):
        assert re.search(rf"{ability} +100\.0%", text)


def test_a_halted_run_has_its_own_headline_and_names_the_action(story: Story) -> None:
    halted(story)
    text = shown(story.run)
    assert "park  HALTED by the guard, step 40 of 100, level critical" in text
    assert "■" in text
    assert re.search(r"40 +halt", text)


def test_the_json_has_the_documented_keys(story: Story) -> None:
    halted(story)
    facts = json.loads(shown(story.run, "--json"))
    named = re.findall(r"^\| `([a-z_.]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    found = {*facts, *(f"pace.{k}" for k in facts["pace"]), *(f"cost.{k}" for k in facts["cost"])}
    for many in ("abilities", "looks", "actions"):
        found |= {f"{many}.{k}" for k in facts[many][0]}
    assert sorted(named) == sorted(found)


def test_no_line_is_wider_than_80_columns(tmp_path: Path) -> None:
    story = Story(tmp_path / "run").start()
    story.look(0, trigger="start")
    for step in range(1, 40):
        story.look(20 * step, COLLAPSE if step > 30 else None)
        story.log(20 * step)
    text = shown(story.run)
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 60


def test_a_thousand_looks_stay_one_screen(tmp_path: Path) -> None:
    story = Story(tmp_path / "run").start()
    story.look(0, trigger="start", write_answers=False)
    story.look(20, write_answers=False)
    undigested(story.run)
    lines = (story.run / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    look = json.loads(lines[-1])
    with (story.run / "ledger.jsonl").open("a", encoding="utf-8") as ledger:
        for n in range(2, 1001):
            record = look | {"seq": look["seq"] + n, "look": n, "step": 20 * n}
            ledger.write(json.dumps(record) + "\n")
    text = shown(story.run)
    assert "step 20000" in text
    assert len(text.splitlines()) < 60
    assert "earlier looks" in text


def test_sparkline_is_higher_where_harm_is_worse() -> None:
    margin = 0.03
    harms = [-0.1, 0.0, 0.02, 0.04, 0.1, 0.2, 0.5, None]
    assert sparkline(harms, margin) == "▁▁▂▃▅▆█·"
    assert sparkline([0.0] * 99 + [0.5], margin, cells=10) == "▁▁▁▁▁▁▁▁▁█"
    assert sparkline([0.5], None) == "·"


def test_a_run_is_stale_once_it_is_silent_for_three_times_its_usual_silence(story: Story) -> None:
    running(story)
    undigested(story.run)
    rows = [json.loads(x) for x in (story.run / "ledger.jsonl").read_text().splitlines()]
    # A step takes 10 s, a look 100 s, and once 20 steps passed without a record.
    for row in rows:
        row["time"] = at(0)
    for step in range(30, 100, 10):
        time = at(10 * (step - 20))
        rows.append({"seq": 0, "kind": "log", "step": step, "time": time, "loss": 1.0})
    rows.append(rows[-1] | {"kind": "tripwire", "kl": 0.1, "seconds": 100.0, "time": at(800)})
    (story.run / "ledger.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    last = datetime.fromisoformat(at(800))
    early = run_status(story.run, now=last + timedelta(seconds=890))
    late = run_status(story.run, now=last + timedelta(seconds=910))
    assert early["pace"]["step_s"] == 10.0
    assert early["pace"]["silence_limit_s"] == 900.0
    assert (early["stale"], late["stale"]) == (False, True)


def test_a_killed_run_is_told_at_once_in_both_languages(story: Story) -> None:
    running(story)
    assert "running" in shown(story.run)
    release(story.run)
    left = f"process 1 on {socket.gethostname()} since 2026-01-01T00:00:00+00:00\n"
    (story.run / LOCK_FILE).write_text(left)  # what kill -9 leaves: the file, and no lock on it
    facts = run_status(story.run)
    assert (facts["outcome"], facts["stale"], facts["process_gone"]) == ("running", True, True)
    english = " ".join(shown(story.run).split())
    assert "its process is GONE" in english
    assert "s ago" in english
    assert "lives no more and recorded no end" in english
    chinese = shown(story.run, "--lang", "zh")
    assert "进程已经不在" in chinese
    assert "秒前" in chinese
    assert "训练中" not in chinese


def test_a_level_that_its_word_does_not_tell_is_explained_below_the_table(story: Story) -> None:
    running(story)
    assert "not shown: beyond" not in shown(story.run)
    words = terminal_words("zh")
    levels = ["ok", "not_shown", "few_items", "untested"]
    told = [line.plain.strip() for line in levels_explained(levels, words)]
    assert [line.partition("：")[0] for line in told] == ["未证实", "没有检验", "题太少"]
    facts = run_status(story.run)
    for row in facts["abilities"]:
        row["level"] = "not_shown"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_status(facts, "zh"))
    assert console.export_text().count("未证实：平均值超过容忍线") == 1


def test_the_night_between_kill_and_resume_is_no_usual_silence() -> None:
    log = {"kind": "log", "step": 10, "time": at(0)}
    live = [
        log,
        log | {"step": 20, "time": at(10)},
        {"kind": "rewound", "step": 20, "time": at(36000)},
        log | {"step": 30, "time": at(36010)},
    ]
    assert measure_pace(live).silence_limit_s == 60.0


def test_before_the_first_step_nobody_calls_a_run_stale_early(story: Story) -> None:
    facts = run_status(story.run, now=datetime.now(timezone.utc) + timedelta(minutes=10))
    assert facts["stale"] is False
    assert facts["pace"]["step_s"] is None


@pytest.mark.parametrize(
    ("measured", "planned", "arguments", "due"),
    [
        (None, 100, {}, 0),
        (0, 100, {}, 20),
        (20, 100, {}, 40),
        (27, 100, {}, 40),
        (80, 90, {}, 90),
        (100, 100, {}, None),
        (20, None, {"save_steps": 25}, 25),
        (20, None, {"save_steps": 25, "save_strategy": "epoch"}, 40),
    ],
)
def test_next_look_is_the_next_multiple_save_or_end(
    measured: int | None, planned: int | None, arguments: dict, due: int | None
) -> None:
    recipe = {"looks": {"every_steps": 20}, "train": {"arguments": arguments}}
    assert next_look_step(recipe, measured, planned) == due


def test_a_resumed_run_shows_the_live_branch_only(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.look(40, COLLAPSE, trigger="save")
    story.ledger.append("rewound", 20, checkpoint="checkpoint-20")
    story.log(25)
    facts = run_status(story.run)
    assert [look["step"] for look in facts["looks"]] == [0, 20]
    assert (facts["level"], facts["step"], facts["rewound_to"]) == ("ok", 25, 20)
    assert "resumed" in shown(story.run)


def test_looks_read_before_are_the_looks_of_the_ledger_after_a_resume(story: Story) -> None:
    tail, known = LedgerTail(story.run), {}
    story.look(0, trigger="start")
    story.look(20)
    story.look(40, COLLAPSE)
    for change in (lambda: story.ledger.append("rewound", 20), lambda: story.look(40)):
        tail.read_on()
        kept = run_data(story.run, tail.records, (), known)
        assert kept.looks == read_run(story.run).looks
        change()
    tail.read_on()
    assert [k.level for k in run_data(story.run, tail.records, (), known).looks] == ["ok"] * 3


def test_a_ledger_cut_in_the_middle_shows_the_rest_and_says_so(story: Story) -> None:
    finished_ok(story)
    ledger = story.run / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if b'"kind": "log"' in line)
    lines[number] = lines[number][:30] + b"\n"
    ledger.write_bytes(b"".join(lines))
    facts = run_status(story.run)
    assert facts["damaged_lines"] == [number + 1]
    assert facts["outcome"] == "finished"
    assert f"ledger lines {number + 1} cannot be read" in shown(story.run)


def test_a_torn_last_line_is_no_damage(story: Story) -> None:
    running(story)
    with (story.run / "ledger.jsonl").open("ab") as ledger:
        ledger.write(b'{"seq": 9, "kind": "lo')
    assert run_status(story.run)["damaged_lines"] == []


def test_a_run_that_crashed_at_look_zero(story: Story) -> None:
    story.ledger.append("crashed", 0, error="RuntimeError: no memory", last_ok_checkpoint=None)
    text = shown(story.run)
    assert "CRASHED, step 0 of 100, no look yet" in text
    assert "RuntimeError: no memory" in text


def test_hostile_text_reaches_no_terminal(tmp_path: Path) -> None:
    story = Story(tmp_path / "run").start()
    bad = HOSTILE + "\x1b]0;owned\x07\x9b31m‮\udc80[red]markup[/red]" + "w" * 2**20
    halted(story)
    story.ledger.append("error", 40, during="look", error=bad, then=bad)
    story.ledger.append("checkpoint", 40, path=bad[:300], level="ok")
    story.ledger.append("action", 40, look=9, action=bad, carried_out=True, reason=bad)
    undigested(story.run)
    ledger = story.run / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    rows[0]["name"] = bad
    rows[-1] |= {"before": story.levers, "after": story.levers}
    for row in rows:
        for stream in row.get("streams", []):
            stream["group"] = {"writing": bad[:500]}.get(stream["group"], stream["group"])
    ledger.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = shown(story.run)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "[red]markup" in shown(story.run, "--json")
    assert not [c for c in shown(story.run, "--json") if not c.isprintable() and c != "\n"]
    assert "w" * 1000 in json.loads(shown(story.run, "--json"))["last_failure"]["error"]
    assert len(text) < 20_000


@pytest.mark.parametrize("mark", ["、", ", "])
def test_a_reason_names_its_streams_whichever_mark_the_ledger_joins_them_with(mark: str) -> None:
    reason = f"serious: passed/overall{mark}format/writing"
    assert reason_said(reason, terminal_words("en")) == "serious: passed/overall, format/writing"
    assert reason_said(reason, terminal_words("zh")) == "严重：总体通过率、写作的格式正确率"


def test_a_terminal_without_unicode_is_no_reason_to_end(story: Story) -> None:
    finished_ok(story)
    for options in ([], ["--json"]):
        done = subprocess.run(
            command("status", story.run, *options),
            env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            capture_output=True,
            check=True,
        )
    assert json.loads(done.stdout.decode("ascii"))["name"] == "park"


def test_no_ledger_is_named_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no ledger\.jsonl; give the folder"):
        run_status(tmp_path)
    result = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert result.exit_code == 2


def test_a_run_that_has_not_begun_is_told_from_a_wrong_folder(tmp_path: Path) -> None:
    (tmp_path / "recipe.resolved.json").write_text("{}")
    with pytest.raises(InputError, match=r"no ledger\.jsonl yet: its run is loading .* --watch"):
        run_status(tmp_path)


def test_following_ends_with_the_run(story: Story) -> None:
    crashed(story)
    assert "CRASHED" in shown(story.run, "--watch")
    result = CliRunner().invoke(app, ["status", str(story.run), "--watch", "--json"])
    assert result.exit_code == 2
