"""What `guardrail look` and `simulate` print is readable at 80 columns."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from guardrail.judge.verdict import Verdict
from guardrail.live.verdict_tables import render_look
from guardrail.report.run_data import read_run
from tests.report.stories import looked_at, told


@pytest.mark.parametrize(
    ("language", "stream", "rest"),
    [
        ("zh", "指令遵循的与原回答的相似度", "另有 "),
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
