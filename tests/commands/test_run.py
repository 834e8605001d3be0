"""Guarded runs for real: the toy base, the real trainer, the command line."""

import csv
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.report.facts import Report
from guardrail.sets.items import read_items, write_items
from tests.run_fixtures import anchored, arguments, guardrail, records, small_recipe, warm
from tests.trust.written_files import unnamed

pytestmark = pytest.mark.run


@pytest.mark.trl1
def test_a_guarded_run_looks_injects_logs_saves_and_reports(tmp_path):
    benchmark = tmp_path / "quiz.csv"
    options = "".join(f"{i},下面哪一个字排在第{i}位,天,地,玄,黄,A\n" for i in range(1, 9))
    benchmark.write_text(",Question,A,B,C,D,Answer\n" + options, encoding="utf-8")
    recipe = small_recipe(
        tmp_path, rehearsal={"fraction": 0.05}, sets={"benchmarks": [str(benchmark)]}
    )
    done = guardrail("run", recipe, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    looks = records(run, "look")
    assert [r["step"] for r in looks] == [0, 4, 8, 12]
    assert [r["trigger"] for r in looks] == ["start", "save", "save", "end"]
    assert all((run / r["answers"]).is_file() for r in looks)
    assert {r["benchmark"]["questions"] for r in looks} == {8}
    assert "for reference, not judged" in (run / "report.html").read_text(encoding="utf-8")
    wires = records(run, "tripwire")
    assert [r["step"] for r in wires] == [0, 2, 4, 6, 8, 10, 12]
    assert wires[0]["kl"] == wires[0]["task_kl"] == 0.0
    assert all(w["se"] > 0 and w["golds"] >= 2 for w in wires[1:])
    (plan,) = records(run, "tripwires")
    assert plan["every_steps"] == 2
    assert plan["of_a_look"] <= 0.1
    last_log = records(run, "log")[-1]
    assert last_log["task_samples"] == 48
    assert last_log["rehearsal_samples"] == 2
    test = records(run, "kl_self_test")[0]
    assert test["at_start"] == pytest.approx(0, abs=1e-4)
    assert test["perturbed"] >= 10 * test["tolerance"] > 0
    (check,) = {round(r["ratio"], 3) for r in records(run, "gradient_check")}
    assert check == 1.0
    assert [r["step"] for r in records(run, "domain_loss")] == [0, 12]
    assert records(run, "ended")[0]["outcome"] == "finished"
    assert (run / "checkpoints/checkpoint-12/guardrail_state.json").is_file()
    assert (run / "report.html").is_file()
    assert unnamed(run, "run") == unnamed(tmp_path / "anchors", "anchors") == []
    status = guardrail("status", run, "--json", cwd=tmp_path)
    assert json.loads(status.stdout)["outcome"] == "finished"
    again = guardrail("run", recipe, "--out", run, cwd=tmp_path)
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


def test_a_tripwire_brings_a_look_forward(tmp_path):
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=2,
            looks={"early_look_kl": 0.02, "every_steps": 12},
            train=arguments(learning_rate=3e-3),
        )
    )
    changed = recipe.read_text(encoding="utf-8").replace("save_steps: 4", "save_steps: 12")
    recipe.write_text(changed, encoding="utf-8")
    done = guardrail("run", recipe, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 4, done.stderr  # too few items to test anything
    assert "the final weights were not tested" in done.stderr
    looks = records(tmp_path / "run", "look")
    early = [r["step"] for r in looks if r["trigger"] == "tripwire"]
    assert early
    assert set(early) <= {2, 4, 6, 8, 10}
    wires = {r["step"]: r for r in records(tmp_path / "run", "tripwire")}
    for step in early:
        assert max(wires[step]["kl"], wires[step]["task_kl"] or 0.0) > 0.02
        assert wires[step]["early_look"]


@pytest.mark.trl1
def test_beyond_saving_halts_with_a_checkpoint_a_report_and_exit_code_3(tmp_path):
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=15,
            train=arguments(learning_rate=0.02),
            drift={"margins": {"passed": {"margin": 0.03, "critical": 0.2}}},
        )
    )
    done = guardrail("run", recipe, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "HALTED" in done.stderr
    run = tmp_path / "run"
    actions = records(run, "action")
    assert [a["action"] for a in actions[-2:]] == ["repeat_look", "halt"]
    step = actions[-1]["step"]
    assert actions[-2]["step"] == step < 12
    assert records(run, "ended")[0]["outcome"] == "halted"
    assert records(run, "ended")[0]["steps"] == step
    assert (run / f"checkpoints/checkpoint-{step}/model.safetensors").is_file()
    assert records(run, "checkpoint")[-1]["level"] == "critical"
    report = Report.model_validate_json((run / "report.json").read_bytes())
    assert report.verdict.recommendation in ("roll_back", "abandon")
    assert (report.key_figures.compute.device, report.key_figures.compute.exact) == ("cpu", True)
    assert report.start_model.sha256 == report.gold_base.sha256 is not None
    assert report.training_data.hashed_at_start
    checked = guardrail("check", run / "recipe.next.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    english = guardrail("report", run, "--lang", "en", cwd=tmp_path)
    assert english.returncode == 0, english.stderr
    assert "The guard halted the training" in (run / "report.html").read_text(encoding="utf-8")


def test_watch_mode_sees_the_same_touches_nothing_and_trains_on_a_table(tmp_path):
    train = arguments(learning_rate=0.02, warmup_steps=0, lr_scheduler_type="constant")
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=15,
            train=train | {"data": alpaca_table(tmp_path)},
            mode="watch",
        )
    )
    done = guardrail("run", recipe, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert records(run, "ended")[0]["steps"] == 12
    actions = records(run, "action")
    assert actions
    assert not any(a["carried_out"] for a in actions)
    rates = [r["learning_rate"] for r in records(run, "log")]
    assert rates == pytest.approx([0.02] * len(rates))
    (started,) = records(run, "started")
    assert started["training_rows_rewritten"] == {"alpaca": 96}
    assert started["training_rows_left_out"] == {"no answer": 1}
    assert "training rows turned into messages: 96 alpaca" in done.stderr
    assert "training rows LEFT OUT: 1 no answer" in done.stderr
    facts = Report.model_validate_json((run / "report.json").read_bytes()).training_data
    assert (facts.rewritten, facts.left_out) == ({"alpaca": 96}, {"no answer": 1})


def alpaca_table(folder) -> str:
    """A CSV as Excel saves it, whose first row has no answer."""
    rows = (Path(__file__).parents[1] / "data/cases/train/alpaca.jsonl").read_text(encoding="utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, ("instruction", "input", "output"))
        table.writeheader()
        table.writerow({"instruction": "在吗"})
        table.writerows(map(json.loads, rows.splitlines()))
    return str(folder / "rows.csv")


def test_an_untouched_base_stays_ok_at_every_look(tmp_path):
    recipe = anchored(
        small_recipe(tmp_path, items_an_ability=15, train=arguments(learning_rate=0.0))
    )
    done = guardrail("run", recipe, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    looks = records(tmp_path / "run", "look")
    assert [look["level"] for look in looks] == ["ok"] * 4
    passed = [s for look in looks for s in look["streams"] if s["metric"] == "passed"]
    assert any(s["tested"] for s in passed)
    assert any(s["harm"] != 0 for s in passed), "sampled answers must vary"


def test_anchors_of_another_template_are_refused_by_name(tmp_path):
    recipe = small_recipe(tmp_path)
    assert guardrail("anchor", recipe, cwd=tmp_path).returncode == 0
    assert "present" in guardrail("check", recipe, cwd=tmp_path).stdout
    thinking = small_recipe(tmp_path, thinking=True)
    done = guardrail("run", thinking, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "thinking: anchors have False, the recipe True" in done.stderr
    assert "--rebuild" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_error_while_looking_halts_with_a_checkpoint_or_goes_on_as_configured(tmp_path):
    """The disk refuses the answers of a look: `looks` is a file, so nothing can be written below."""
    for policy, code, steps in (("halt", 3, 4), ("continue", 4, 12)):
        folder = tmp_path / policy
        folder.mkdir()
        checkpointing = {
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": True},
        }
        recipe = anchored(
            small_recipe(
                folder, items_an_ability=4, on_error=policy, train=arguments(**checkpointing)
            )
        )
        run = folder / "run"
        code_for_blocking = (
            "import pathlib, sys\n"
            "import guardrail.guard.measure_look as g\n"
            "original = g.write_answers\n"
            "def refuse(path, *rest):\n"
            "    if 'step-0' not in path.name: raise OSError('no space left on device')\n"
            "    original(path, *rest)\n"
            "g.write_answers = refuse\n"
            "import guardrail.run as r\n"
            "train = r._train\n"
            "def kept(trainer, callback):\n"
            "    result = train(trainer, callback)\n"
            "    layer = trainer.model.model.layers[0]\n"
            "    print(layer.gradient_checkpointing, layer._gradient_checkpointing_func.keywords)\n"
            "    return result\n"
            "r._train = kept\n"
            f"sys.argv = ['guardrail', 'run', {str(recipe)!r}, '--out', {str(run)!r}]\n"
            "from guardrail.cli.main import app; app()\n"
        )
        done = warm([sys.executable, "-c", code_for_blocking], cwd=folder)
        assert done.returncode == code, done.stderr
        errors = records(run, "error")
        assert errors[0]["step"] == 4
        assert errors[0]["then"] == policy
        assert "True {'use_reentrant': True}" in done.stdout
        assert "no space left" in errors[0]["error"]
        assert records(run, "ended")[0]["steps"] == steps
        assert (run / f"checkpoints/checkpoint-{steps}").is_dir()


@pytest.mark.parametrize(("policy", "steps"), [("halt", 2), ("continue", 4)])
def test_a_tripwire_that_fails_halts_with_a_checkpoint_or_goes_on_as_configured(
    tmp_path, policy, steps
):
    train = arguments(max_steps=4)
    recipe = anchored(small_recipe(tmp_path, items_an_ability=2, on_error=policy, train=train))
    run = tmp_path / "run"
    failing_once = (
        "import sys\n"
        "from guardrail.engines.in_process import InProcessEngine as Engine\n"
        "own, calls = Engine.mean_logprobs, []\n"
        "def fail(self, *rows):\n"
        "    calls.append(0)\n"  # the first two, golds and the task's, at the start
        "    if len(calls) == 3: raise RuntimeError('device lost')\n"
        "    return own(self, *rows)\n"
        "Engine.mean_logprobs = fail\n"
        f"sys.argv = ['guardrail', 'run', {str(recipe)!r}, '--out', {str(run)!r}]\n"
        "from guardrail.cli.main import app; app()\n"
    )
    done = warm([sys.executable, "-c", failing_once], cwd=tmp_path)
    (error,) = records(run, "error")
    assert (error["step"], error["during"], error["then"]) == (2, "tripwire", policy), done.stderr
    assert "device lost" in error["error"]
    assert records(run, "ended")[0]["steps"] == steps
    assert (run / f"checkpoints/checkpoint-{steps}/guardrail_state.json").is_file()
    assert "the tripwire failed" in done.stderr
    status = json.loads(guardrail("status", run, "--json", cwd=tmp_path).stdout)
    assert (status["failures"], status["tripwire_failures"]) == (0, 1)
    told = "tripwire could not be measured" in done.stderr
    assert told == (policy == "halt"), done.stderr


def bad_rows(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("unknown_key", "unknown key `colour`"),
        ("missing_model", "is no model folder"),
        ("large_fraction", "between 0.01 and 0.10, got 0.2"),
        ("empty_set", "is empty"),
        ("broken_line", "line 2 is not valid JSON"),
        ("contaminated", "contains 1 judged or benchmark prompts"),
        ("both", "both judged and injected"),
        ("bad_argument", "SFTConfig has no `learning_rats`"),
    ],
)
def test_bad_input_is_one_clear_message_exit_code_2_and_no_run_folder(tmp_path, case, said):
    changes = {
        "unknown_key": lambda: {"colour": "red"},
        "missing_model": lambda: {"gold_base": str(tmp_path / "absent")},
        "large_fraction": lambda: {"rehearsal": {"fraction": 0.2}},
        "empty_set": lambda: {"sets": {"red_line": bad_rows(tmp_path, "empty.jsonl", "\n")}},
        "broken_line": lambda: {
            "train": arguments() | {"data": bad_rows(tmp_path, "d.jsonl", '{"text": "甲"}\n{')}
        },
        "contaminated": lambda: {"train": arguments() | {"data": leak(tmp_path)}},
        "both": lambda: {"sets": {"rehearsal": renamed(tmp_path)}},
        "bad_argument": lambda: {"train": arguments(learning_rats=1)},
    }
    small_recipe(tmp_path)
    recipe = small_recipe(tmp_path, **changes[case]())
    # In this process: eight times loading the trainer would cost more than all eight refusals.
    done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "run").exists()


def leak(folder) -> str:
    question = read_items(folder / "red_line.jsonl")[0].question
    row = {
        "messages": [
            {"role": "user", "content": f" {question} "},
            {"role": "assistant", "content": "好"},
        ]
    }
    return bad_rows(folder, "leak.jsonl", json.dumps(row, ensure_ascii=False) + "\n")


def renamed(folder) -> str:
    items = read_items(folder / "red_line.jsonl")
    path = folder / "renamed.jsonl"
    write_items(path, [item.model_copy(update={"id": f"x-{item.id}"}) for item in items])
    return str(path)


def test_several_processes_do_not_make_anchors_together(tmp_path):
    recipe = small_recipe(tmp_path)
    done = guardrail("run", recipe, "--out", tmp_path / "run", cwd=tmp_path, WORLD_SIZE=2)
    assert done.returncode == 2, done.stdout
    assert "2 processes cannot make them together" in " ".join(done.stderr.split())
    assert not (tmp_path / "anchors").exists()
