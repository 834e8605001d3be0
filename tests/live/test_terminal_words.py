"""Terminals speak the recipe's language, and both languages fill in the same values."""

import ast
import io
import logging
import re
import string
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import guardrail
from guardrail.cli.main import app
from guardrail.live.closing import closing_words
from guardrail.live.spoken_log import spoken_log
from guardrail.live.status import run_status
from guardrail.live.status_terminal import render_status
from tests.report.stories import Story, crashed, finished_ok, halted, running

PACKAGE = Path(guardrail.__file__).parent
CHINESE = yaml.safe_load((PACKAGE / "live/terminal_words.zh.yaml").read_text(encoding="utf-8"))
CODES = {
    "KL",
    "park",
    "guardrail",
    "watch",
    "status",
    "report",
    "run",
    "resume",
    "out",
    "mine",
    "yaml",
    "html",
}
"""What stays as it is in Chinese: names and commands to copy."""


def fields(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def said_in_the_code() -> set[str]:
    """Every English text that the code asks a translation of, where it stands there as it is."""
    found = set()
    for path in [
        *PACKAGE.glob("live/*.py"),
        *PACKAGE.glob("cli/*.py"),
        *PACKAGE.glob("track/*.py"),
        *PACKAGE.glob("launchers/*.py"),
        PACKAGE / "demo.py",
    ]:
        calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
        for call in calls:
            asked = ast.unparse(call.func).rpartition(".")[2] in ("words", "_words")
            if asked and isinstance(call.args[0], ast.Constant):
                found.add(call.args[0].value)
    return found


def test_every_text_of_the_code_has_a_translation() -> None:
    assert said_in_the_code() - set(CHINESE) == set()


def test_both_languages_fill_in_the_same_values() -> None:
    assert [en for en, zh in CHINESE.items() if fields(en) != fields(str(zh))] == []


def test_the_demo_calls_its_sides_by_the_guard_they_have() -> None:
    """A word for fortresses says nothing to who reads of a guard that is on or off."""
    assert (CHINESE["unguarded"], CHINESE["guarded"]) == ("不开护栏", "开护栏")
    assert [en for en, zh in CHINESE.items() if "设防" in str(zh)] == []
    assert [en for en, zh in CHINESE.items() if "训练已越过" in str(zh)] == []


@pytest.mark.parametrize("told", [finished_ok, halted, crashed, running])
def test_no_english_word_is_left_in_chinese(tmp_path: Path, told) -> None:
    story = Story(tmp_path / "r").start()
    told(story)
    status = run_status(story.run)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_status(status, "zh"))
    console.print(closing_words(status, Path("/r/report.html"), "guardrail run mine.yaml", "zh"))
    text = re.sub(r"\S*/\S*|RuntimeError: [a-z ]+", "", console.export_text())
    assert sorted({word for word in re.findall(r"[A-Za-z]{2,}", text)} - CODES) == []
    assert "结论" in text


def test_the_shipped_recipes_are_listed_in_chinese() -> None:
    told = CliRunner().invoke(app, ["recipes", "--lang", "zh"])
    assert "toy-sft：几分钟看懂护栏" in told.output
    assert "Purpose" not in told.output
    assert "toy-sft: Purpose:  see the guard work" in CliRunner().invoke(app, ["recipes"]).output


def test_what_engines_log_is_said_in_the_language_of_the_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = "answering: 174 of 300 prompts are answered, others are at token 12 of 80 at most"
    logger = logging.getLogger("guardrail.engines.decode")
    with spoken_log("zh"):
        logger.warning(said)
    logger.warning(said)
    assert caplog.messages == [
        "正在作答：300 道题答完了 174 道，其余写到第 12 个词元（最多 80 个）",
        said,
    ]
