"""What `guardrail look` and `simulate` print is readable at 80 columns."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from guardrail.judge.verdict import Verdict
from guardrail.live.verdict_tables import gate_said, render_look
from guardrail.report.run_data import read_run
from tests.report.stories import looked_at, told


@pytest.mark.parametrize(
    ("language", "stream", "rest"),
    [
        ("zh", "指令遵循：与原回答的相似度", "另有 "),
        ("en", "similarity/instruction", "more streams are ok"),
    ],
)
def test_a_look_names_its_streams_in_full_at_80_columns(tmp_path: Path, language, stream, rest):
    look = read_run(told(looked_at, tmp_path, mode="look").run).last_look
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_look(Verdict(level=look.level, streams=look.streams), language))
    text = console.export_text()
    assert stream in text
    assert rest in text


def test_shares_are_told_in_points_as_in_status(tmp_path: Path) -> None:
    look = read_run(told(looked_at, tmp_path, mode="look").run).last_look
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(render_look(Verdict(level=look.level, streams=look.streams), "en"))
    lines = console.export_text().splitlines()
    overall = next(line.split() for line in lines if "passed/overall" in line)
    (stream,) = (s for s in look.streams if s.name == "passed/overall")
    assert overall[1:4] == ["100.0%", f"{stream.now:.1%}", f"{100 * stream.harm:+.1f}"]
    assert overall[4] == f"{100 * stream.low:+.1f}…{100 * stream.high:+.1f}"
    assert overall[-2:] == ["3", "critical"]
    shorter = next(line.split() for line in lines if "shorter/overall" in line)
    assert (shorter[3], shorter[-2]) == (f"{look.stream('shorter', 'overall').harm:+.2f}", "0.1")
    assert any("of shares are in points" in line for line in lines)


def test_a_look_calls_every_stream_what_the_report_calls_it(tmp_path: Path) -> None:
    story = told(looked_at, tmp_path, mode="look")
    look = read_run(story.run).last_look
    first = next(s for s in look.streams if s.metric == "passed" and s.group != "overall")
    beyond = {"tested": True, "level": "ok", "attention": True, "reason": "", "z": 1.0}
    beyond |= {"margin": 0.03, "low": 0.01, "high": 0.3}
    unproven = first.model_copy(update=beyond | {"harm": 0.2})
    within = first.model_copy(update=beyond | {"harm": 0.02, "group": "writing"})
    hidden = within.model_copy(update={"harm": 0.2, "metric": "format", "attention": False})
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_look(Verdict(level="ok", streams=(unproven, within, hidden)), "zh"))
    lines = console.export_text().splitlines()
    told_of = ("通过率", "格式正确率")
    assert [line.split()[-1] for line in lines if any(t in line for t in told_of)] == [
        "未证实",
        "留意",
        "未证实",
    ]
    assert not any("正常，见报告" in line for line in lines)
    assert any(line.startswith("未证实：") for line in lines)


@pytest.mark.parametrize(
    ("level", "fail_on", "said"),
    [
        ("ok", "warn", "把关：放行（退出码 0）"),
        ("warn", "warn", "把关：不放行（退出码 3），结论是“警告”"),
        ("serious", "critical", "报告仍建议不要使用这份权重"),
        ("untested", "critical", "把关：不放行（退出码 4）"),
    ],
)
def test_a_gate_says_open_or_closed_and_what_an_open_one_does_not_mean(
    level: str, fail_on: str, said: str
) -> None:
    assert said in gate_said(level, fail_on, "zh")
    assert "exit code" in gate_said(level, fail_on, "en")
