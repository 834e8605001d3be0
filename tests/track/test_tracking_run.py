"""Trackers and alerts of a real guarded run, read back from what they keep on disk."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from guardrail.ledger.file import read_ledger
from guardrail.track.alert_services import URLS_VARIABLE
from guardrail.track.own_metrics import METRICS_FILE
from guardrail.track.scalars import AGAINST_STEP, is_detail, scalars
from guardrail.track.wandb_run import RUN_FILE, TABLE_COLUMNS
from tests.run_fixtures import anchored, arguments, command, small_recipe
from tests.track.inbox import Inbox
from tests.track.silent_wandb import SilentWandb
from tests.trust.written_files import unnamed

pytestmark = pytest.mark.run

SECRET = "s3cr3t-token"


def guarded(recipe, run, cwd, **environment):
    """Carry a run out to its end; its output goes to a file, for W&B's helper outlives it and holds pipes."""
    with (cwd / "output.txt").open("w+", encoding="utf-8") as output:
        started = time.perf_counter()
        code = subprocess.run(
            command("run", recipe, "--out", run),
            cwd=cwd,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=400,
            check=False,
        ).returncode
        seconds = time.perf_counter() - started
        output.seek(0)
        return code, output.read(), seconds


@pytest.fixture(scope="module")
def halted(tmp_path_factory):
    """A run that drifts at once and halts, with W&B offline, TensorBoard and an alert service."""
    folder = tmp_path_factory.mktemp("tracked")
    recipe = anchored(
        small_recipe(
            folder,
            items_an_ability=12,
            train=arguments(learning_rate=0.02, report_to=["wandb", "tensorboard"]),
            drift={"margins": {"passed": {"margin": 0.03, "critical": 0.2}}},
            tracking={"project": "debts", "group": "g1", "tags": ["toy", "回款"]},
        )
    )
    run = folder / "run"
    run.mkdir()
    line = {"step": 0, "name": "recovery_rate", "value": 0.31}
    (run / METRICS_FILE).write_text(json.dumps(line) + "\nnonsense\n", encoding="utf-8")
    with Inbox() as inbox:
        urls = f"{inbox.url(SECRET)} {inbox.url(f'closed/{SECRET}')}"
        code, output, _ = guarded(
            recipe, run, folder, WANDB_MODE="offline", **{URLS_VARIABLE: urls}
        )
        assert code == 3, output
        return run, inbox.got, output


@pytest.fixture(scope="module")
def logged(halted):
    """Everything W&B keeps of the run, by kind of record."""
    run, _, _ = halted
    (folder,) = run.glob("wandb/offline-run-*")
    (file,) = folder.glob("*.wandb")
    lines = subprocess.run(
        [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", file],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    kinds: dict[str, list] = {"folder": folder}
    for line in lines:
        record = json.loads(line)
        kinds.setdefault(record["type"], []).append(record.get(record["type"]))
    return kinds


def rows(logged):
    return [record["item"] for record in logged["history"]]


def test_wandb_holds_every_number_of_the_ledger_at_its_step(halted, logged):
    names = set()
    for record in read_ledger(halted[0]):
        if not scalars(record):
            continue
        wanted = scalars(record) | {AGAINST_STEP: record["step"]}
        names |= set(wanted)
        fits = [row for row in rows(logged) if wanted.keys() <= row.keys()]
        assert any(all(row[k] == pytest.approx(v) for k, v in wanted.items()) for row in fits), (
            wanted
        )
    assert {
        "guardrail/level", "guardrail/passed/overall/harm", "guardrail/passed/overall/margin",
        "guardrail/passed/overall/z", "guardrail/passed/overall/boundary_warn", "guardrail/passed/reasoning/now",
        "guardrail/tripwire/gold_kl", "guardrail/tripwire/task_kl", "guardrail/kl/weight", "guardrail/levers/lr_factor",
        "guardrail/exposure/share", "guardrail/exposure/unique_prompts", "guardrail/exposure/repeats",
        "guardrail/cost_percent", "guardrail/seconds/looks", "guardrail/length_ratio/overall",
        "guardrail/fluency/overall/harm", "guardrail/over_refusal/overall/harm", "guardrail/format/overall/now",
        "guardrail/own/recovery_rate", "guardrail/domain_loss",
    } <= names  # fmt: skip


def test_wandb_holds_nothing_twice_beside_the_trainers_own(halted, logged):
    found = Counter(name for row in rows(logged) for name in row)
    levels = [r for r in read_ledger(halted[0]) if "guardrail/level" in scalars(r)]
    assert found["guardrail/level"] == len(levels)
    assert found["train/loss"] > 0
    assert not [name for name in found if name.startswith("train/guardrail")]


def test_every_number_is_drawn_against_the_global_step(logged):
    defined = {m["name"]: m for m in logged["metric"] if "name" in m}
    ours = {name for row in rows(logged) for name in row if name.startswith("guardrail/")}
    plain = {
        name.split("._")[0].split(".")[0] if "worst" in name or "report" in name else name
        for name in ours
    }
    for name in plain:
        assert defined[name]["step_metric"] == AGAINST_STEP, name
        assert defined[name]["options"].get("hidden", False) == is_detail(name), name


def test_every_look_has_its_table_of_worst_items(halted, logged):
    looks = [r for r in read_ledger(halted[0]) if r["kind"] == "look" and r["look"] > 0]
    tables = [
        row
        for row in rows(logged)
        if "guardrail/worst_items._type" in row or "guardrail/worst_items.path" in row
    ]
    assert [row[AGAINST_STEP] for row in tables] == [r["step"] for r in looks]
    for row in tables:
        table = json.loads(
            (logged["folder"] / "files" / row["guardrail/worst_items.path"]).read_text("utf-8")
        )
        assert table["columns"] == TABLE_COLUMNS
        assert table["data"]
        step, ability, item, question, base, now, why = table["data"][0]
        assert step == row[AGAINST_STEP]
        assert ability
        assert item
        assert question
        assert base != now
        assert "→" in why


def test_wandb_alerts_on_every_action_and_the_service_gets_the_same_once(halted, logged):
    run, got, _ = halted
    actions = [r for r in read_ledger(run) if r["kind"] == "action"]
    assert [a["action"] for a in actions][-1] == "halt"
    titles = [alert["title"] for alert in logged["alert"]]
    assert len(titles) >= len(actions)
    assert logged["alert"][-1]["level"] == "ERROR"
    assert [m["title"][:63] for m in got] == titles
    assert len(set(titles)) == len(titles)
    assert str(run / "report.html") in got[-1]["message"]


def test_the_report_is_an_artifact_and_a_panel(halted, logged):
    (panel, *later) = [row for row in rows(logged) if "guardrail/report.path" in row]
    page = (logged["folder"] / "files" / (later or [panel])[-1]["guardrail/report.path"]).read_text(
        "utf-8"
    )
    assert "自动停止" in page or "halted" in page
    reports = [a for a in logged["artifact"] if a["type"] == "report"]
    files = {entry["path"] for entry in reports[-1]["manifest"]["contents"]}
    assert files == {"report.html", "report.json", "ledger.jsonl"}


def test_the_run_is_filed_as_the_recipe_says_under_the_id_that_is_kept(halted, logged):
    (header,) = {
        json.dumps(r, sort_keys=True): r for r in logged["run"] if r.get("project")
    }.values()
    assert header["project"] == "debts"
    assert header["run_group"] == "g1"
    assert header["tags"] == ["toy", "回款"]
    assert header["display_name"] == "run"
    assert logged["exit"][0]["exit_code"] == 3
    assert json.loads((halted[0] / RUN_FILE).read_text())["id"] == header["run_id"]
    assert unnamed(halted[0], "run") == []


def test_tensorboard_holds_every_number_at_its_step(halted):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = halted[0]
    seen = {}
    for file in sorted((run / "tensorboard").rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):  # a repeated look logs a step twice
                seen.setdefault((name, event.step), []).append(pytest.approx(event.value, rel=1e-5))
    assert ("train/loss", 2) in seen
    for record in read_ledger(run):
        for name, value in scalars(record).items():
            assert value in seen[name, record["step"]], name


def test_a_bad_line_of_the_users_metrics_and_a_service_that_refuses_are_told(halted):
    run, _, output = halted
    assert [r["line"] for r in read_ledger(run) if r["kind"] == "metric_refused"] == [2]
    told = [r for r in read_ledger(run) if r["kind"] == "tracking"]
    assert {r["service"] for r in told} == {"alerts"}
    assert told[-1]["error"] == "JSON 2 did not take an alert"
    assert "JSON 2 did not take an alert" in output


def test_no_secret_is_written_anywhere(halted):
    run, _, output = halted
    assert SECRET not in output
    for file in run.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_a_server_that_falls_silent_neither_slows_nor_holds_up_the_run(tmp_path):
    recipe = anchored(
        small_recipe(
            tmp_path,
            looks={"every_steps": 6},
            train=arguments(report_to="wandb", save_steps=6),
            tracking={"end_timeout_s": 4, "project": "p"},
        )
    )
    run = tmp_path / "run"
    with SilentWandb() as server:
        code, output, _ = guarded(recipe, run, tmp_path, **server.environment)
        over = time.time()
        assert server.hung > 0
    assert code == 0, output
    assert (run / "report.html").is_file()
    ledger = read_ledger(run)
    ended = next(r for r in ledger if r["kind"] == "ended")
    steps = [r["step"] for r in ledger if r["kind"] == "log"]
    assert steps == [2, 4, 6, 8, 10, 12]
    assert over - datetime.fromisoformat(ended["time"]).timestamp() < 30
    told = [r for r in ledger if r["kind"] == "tracking"]
    assert told
    assert {r["service"] for r in told} == {"wandb"}
    assert "wandb sync" in output


OPEN = """
import sys, json
from pathlib import Path
from guardrail.recipe import Tracking
from guardrail.track.wandb_run import open_run
opened = open_run(Tracking(project="p"), Path(sys.argv[1]))
opened.run.log({"a": 1.0})
print(json.dumps({"id": opened.run.id, "trouble": opened.trouble, "offline": opened.run.offline}))
opened.run.finish()
"""


def opened(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[0])


def test_a_resumed_run_goes_on_under_its_id(tmp_path):
    first, second = (opened(tmp_path, WANDB_MODE="offline") for _ in range(2))
    assert first == second
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{first['id']}"))) == 2


def test_a_server_that_never_answers_leaves_an_offline_run(tmp_path):
    with SilentWandb(from_the_start=True) as server:
        found = opened(tmp_path, WANDB_INIT_TIMEOUT="2", **server.environment)
    assert found["offline"]
    assert "could not be reached" in found["trouble"]
    assert "wandb sync" in found["trouble"]
