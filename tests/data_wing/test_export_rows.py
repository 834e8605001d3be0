"""Rows in the formats of other tools, several turns, system and tool turns among them."""

import json

from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.export_rows import data_juicer_row, distilabel_row
from guardrail.data.rows import DataRow, made_row, write_rows

TURNS = (
    {"role": "system", "content": "你是客服"},
    {"role": "user", "content": "查余额"},
    {"role": "assistant", "content": "请稍等"},
    {"role": "tool", "content": "12 元"},
    {"role": "user", "content": "快点"},
    {"role": "assistant", "content": "还有 12 元"},
)


def test_several_turns_become_history_and_nothing_is_lost():
    made = data_juicer_row(DataRow(TURNS, {"method": "own", "model": "m"}))
    assert (made["system"], made["history"]) == ("你是客服", [["查余额", "请稍等"]])
    assert (made["query"], made["response"]) == ("12 元\n快点", "还有 12 元")
    several = distilabel_row(DataRow(TURNS, {"method": "own", "model": "m"}))
    assert several["messages"] == [dict(turn) for turn in TURNS[:-1]]
    assert (several["generation"], several["model_name"]) == ("还有 12 元", "m")


def test_the_command_writes_a_line_a_row(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [made_row("问", "答", method="own").scored(ifd=0.5)] * 2)
    line = [
        "data",
        "export",
        tmp_path / "rows.jsonl",
        "--to",
        "distilabel",
        "--out",
        tmp_path / "o/x.jsonl",
    ]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert done.exit_code == 0, done.output
    written = [
        json.loads(text) for text in (tmp_path / "o/x.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(written) == 2
    assert (written[0]["instruction"], written[0]["generation"]) == ("问", "答")
    assert written[0]["distilabel_metadata"]["scores"] == {"ifd": 0.5}
