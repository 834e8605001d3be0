"""`guardrail alert`, `dashboard` and `log` as a user types them."""

import json
import re

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.ledger.file import Ledger
from guardrail.probes.metrics import METRICS
from guardrail.track.alert_services import URLS_VARIABLE
from guardrail.track.scalars import scalars
from tests.track.inbox import Inbox

# wandb-workspaces is written for an older pydantic.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:wandb_workspaces.*", "ignore::DeprecationWarning:pydantic.*"
)

SECRET = "s3cr3t-token"


def guardrail(*args, **environment):
    return CliRunner().invoke(app, [str(a) for a in args], env=environment)


def test_alert_test_says_which_services_took_it_and_no_address():
    with Inbox() as inbox:
        urls = f"{inbox.url(SECRET)} {inbox.url('closed/' + SECRET)}"
        named = guardrail("alert", **{URLS_VARIABLE: urls})
        assert (named.exit_code, named.output) == (0, "JSON: named\nJSON 2: named\n")
        assert inbox.got == []
        sent = guardrail("alert", "--test", **{URLS_VARIABLE: urls})
        assert (sent.exit_code, sent.output) == (1, "JSON: delivered\nJSON 2: not delivered\n")
        assert "测试" in inbox.got[0]["title"]
        good = guardrail("alert", "--test", "--json", **{URLS_VARIABLE: inbox.url(SECRET)})
    assert good.exit_code == 0
    assert json.loads(good.output) == {"services": {"JSON": True}}


def test_alert_without_a_service_is_bad_input():
    assert guardrail("alert", "--test", **{URLS_VARIABLE: ""}).exit_code == 2


def panels(definition):
    return {
        section["name"]: section["panels"]
        for section in definition["spec"]["section"]["panelBankConfig"]["sections"]
    }


@pytest.fixture
def definition(tmp_path):
    out = tmp_path / "workspace.json"
    done = guardrail(
        *("dashboard", "toy-sft", "--entity", "me", "--project", "debts", "--out", out),
        *("--lang", "en"),
    )
    assert done.exit_code == 0, done.output
    return json.loads(out.read_text(encoding="utf-8"))


def test_a_dashboard_has_its_sections_and_needs_no_network(definition):
    assert (definition["entity"], definition["project"]) == ("me", "debts")
    assert list(panels(definition)) == [
        "Verdict",
        "Drift by ability",
        "Levers",
        "Training",
        "Examples",
    ]


def test_a_dashboard_speaks_the_recipe_s_language(tmp_path):
    out = tmp_path / "workspace.json"
    done = guardrail("dashboard", "toy-sft", "--out", out)
    assert done.exit_code == 0, done.output
    found = panels(json.loads(out.read_text(encoding="utf-8")))
    assert list(found) == ["结论", "各项能力的退化", "控制量", "训练", "变差的题"]
    titles = [p["config"].get("chartTitle") or "" for section in found.values() for p in section]
    assert "退化：检查通过率" in titles
    assert {word for title in titles for word in re.findall(r"[A-Za-z]+", title)} <= {"KL", "z"}


def test_a_dashboard_draws_only_what_a_run_logs(definition):
    values = ("now", "base", "harm", "margin", "z", "boundary_warn", "boundary_halt")
    abilities = (
        "overall",
        "instruction",
        "writing",
        "translation",
        "long_text",
        "reasoning",
        "format",
        "refusal",
    )
    streams = [
        {"metric": m, "group": g, "n": 40, "level": "ok", "tested": True}
        | dict.fromkeys(values, 1.0)
        for m in (metric.name for metric in METRICS)
        for g in abilities
    ]
    numbers = (
        "rehearsal_kl", "kl_weight", "kl_weight_average", "beta", "lr_factor", "share", "unique_prompts", "passes"
    )  # fmt: skip
    records = [
        {
            "kind": "look",
            "step": 4,
            "look": 1,
            "trigger": "schedule",
            "answers": "a",
            "level": "ok",
            "streams": streams,
        },
        {"kind": "log", "seconds": {"looks": 1.0, "train": 2.0}} | dict.fromkeys(numbers, 1.0),
        {"kind": "tripwire", "kl": 0.1, "task_kl": 0.2, "by_ability": {}},
        {"kind": "action", "carried_out": True, "after": {"boost": 1.0, "lr_factor": 1.0}},
        {"kind": "domain_loss", "held_out": 1.0},
    ]
    logged = {name for record in records for name in scalars(record)}
    drawn = {
        name
        for section in panels(definition).values()
        for panel in section
        for name in panel["config"].get("metrics") or []
    }
    assert drawn - logged == {"train/loss", "train/learning_rate", "eval/loss"}
    against = {
        p["config"]["xAxis"]
        for s in panels(definition).values()
        for p in s
        if "xAxis" in p["config"]
    }
    assert against == {"train/global_step"}


def test_a_dashboard_without_a_place_is_a_file_and_says_what_makes_it_a_workspace(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = guardrail("dashboard", "toy-sft", WANDB_ENTITY="", WANDB_PROJECT="")
    assert done.exit_code == 0
    assert "--entity and --project" in done.stderr
    assert done.stdout.strip() == "toy-sft.workspace.json"
    assert list(panels(json.loads((tmp_path / done.stdout.strip()).read_text("utf-8"))))


def test_log_writes_a_line(tmp_path):
    Ledger(tmp_path).append("log", 30, loss=1.0)
    done = guardrail("log", tmp_path, "回款率", "0.31", "--step", "12")
    assert done.exit_code == 0
    assert json.loads((tmp_path / "metrics.jsonl").read_text("utf-8")) == {
        "step": 12, "name": "回款率", "value": 0.31
    }  # fmt: skip
    assert guardrail("log", tmp_path, "回款率", "0.31", "--step", "31").exit_code == 2
