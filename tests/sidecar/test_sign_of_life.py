"""One sidecar a run, heard of every few seconds; what is said of one that is at work, away, silent or gone."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger
from guardrail.live.sidecar_status import read_alive, sidecar_said
from guardrail.live.status import run_status
from guardrail.live.terminal_words import terminal_words
from guardrail.read_back import named_place, sealed
from guardrail.sidecar.serve_run import serve_run
from guardrail.sidecar.sign_of_life import SignOfLife


def quiet(text):
    pass


@pytest.fixture
def run(tmp_path):
    """A run that has asked for two looks."""
    ledger = Ledger(tmp_path)
    ledger.append("started", 0, recipe={"looks": {"engine": "sidecar"}})
    for look, step in enumerate((0, 400)):
        told = {"trigger": "start" if step == 0 else "save", "checkpoint": "x", "samples": 1}
        ledger.append("asked", step, look=look, nonce=str(look), **told)
    return tmp_path


def alive(run, **changes):
    told = {
        "run": named_place(run),
        "doing": "judging",
        "step": 400,
        "waiting": 1,
        "trouble": None,
        "host": "gpu2",
        "pid": 7,
    }
    told |= {"time": datetime.now(timezone.utc).isoformat()} | changes
    (run / "sidecar").mkdir(exist_ok=True)
    (run / "sidecar/alive.json").write_text(json.dumps(sealed(told)), encoding="utf-8")


def said(run):
    sidecar = run_status(run)["sidecar"]
    return sidecar_said(sidecar, terminal_words("en")), sidecar["trouble"]


def test_a_second_one_is_refused_and_the_next_is_let_in(run):
    with SignOfLife(run, quiet) as life:
        life.tell("judging", 400, 1)
        with pytest.raises(InputError, match=r"a sidecar serves .* already: process"):
            SignOfLife(run, quiet).__enter__()
    assert read_alive(run)["doing"] == "ended"
    with SignOfLife(run, quiet):
        pass


def test_one_on_another_machine_keeps_others_out_while_it_is_heard_of(run):
    alive(run)
    with pytest.raises(InputError, match="process 7 on `gpu2`"):
        SignOfLife(run, quiet).__enter__()
    alive(run, time=(datetime.now(timezone.utc) - timedelta(minutes=2)).isoformat())
    with SignOfLife(run, quiet):
        pass


def test_status_says_how_it_stands(run):
    assert said(run) == (
        "none has been seen, 2 waiting (step 0, 400); start `guardrail serve RUN`",
        True,
    )
    alive(run)
    assert said(run) == ("judging step 400, 1 waiting", False)
    alive(run, doing="unreachable", trouble="refused")
    assert said(run)[0].startswith("cannot reach its server, tries again (refused)")
    alive(run, time=(datetime.now(timezone.utc) - timedelta(minutes=12)).isoformat())
    assert said(run)[0].startswith("no sign of life for 12 min (process 7 on gpu2), 2 waiting")
    alive(run, doing="ended")
    assert said(run)[1], "looks are left that nobody judges"
    (run / "sidecar/alive.json").write_text("{", encoding="utf-8")
    assert said(run)[0].startswith("none has been seen")


def test_a_run_that_looks_by_itself_is_not_served(tmp_path):
    with pytest.raises(InputError, match="leave `--once` away"):
        serve_run(tmp_path, once=True, say=quiet)
    Ledger(tmp_path).append(
        "started", 0, recipe={"looks": {}}, weights={"start_model": "", "gold_base": ""}
    )
    with pytest.raises(InputError, match=r"takes its looks itself"):
        serve_run(tmp_path, once=True, say=quiet)
