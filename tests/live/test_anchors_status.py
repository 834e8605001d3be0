"""What `guardrail status` says while a run still waits for its anchors."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.anchors.progress import PROGRESS_FILE, AnchorsProgress
from guardrail.cli.main import app
from guardrail.read_back import sealed, unsealed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder as `guardrail run` leaves it before its anchors are there: 128 of 600 answers, 28 found."""
    anchors, run = tmp_path / "anchors/first", tmp_path / "run"
    anchors.mkdir(parents=True)
    run.mkdir()
    (run / "recipe.resolved.json").write_text(json.dumps({"anchors": str(anchors)}))
    progress = AnchorsProgress(anchors, 600)
    progress.tell("red-line golds", found=28)
    progress.tell("red-line golds", made=100)
    told = unsealed(json.loads((anchors / PROGRESS_FILE).read_text()))
    told["began"] = told["written"] - 50
    (anchors / PROGRESS_FILE).write_text(json.dumps(sealed(told)))
    return run


def asked(folder: Path, *options: str):
    return CliRunner().invoke(
        app, ["status", str(folder), "--lang", "en", *options], env={"COLUMNS": "80"}
    )


@pytest.mark.parametrize("of", ["run", "anchors/first"])
def test_status_of_run_or_anchors_counts_answers_and_the_time_left(run, of):
    said = asked(run.parent / of)
    assert said.exit_code == 0, said.output
    assert "128 of 600 answers, at red-line golds; about 4 min left" in said.output
    facts = json.loads(asked(run.parent / of, "--json").output)
    assert facts["outcome"] == "anchors"
    assert facts["anchors"]["left_s"] == pytest.approx(50 / 100 * 472)
    assert facts["anchors"]["silent_s"] < 60


def test_once_the_run_has_begun_its_ledger_is_told(run):
    (run / "ledger.jsonl").write_text("")
    assert "answers" not in asked(run).output


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"answers": "x", "answered": 1}'])
def test_a_progress_file_that_is_none_is_as_none(run, text):
    (run.parent / "anchors/first" / PROGRESS_FILE).write_text(text)
    said = asked(run)
    assert said.exit_code == 2
    assert "holds no ledger.jsonl" in " ".join(said.output.split())
