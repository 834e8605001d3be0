"""Megatron-SWIFT, which no machine here can import: what the guard rests on is read in the installed ms-swift.

Whole runs are those of a stand-in for Megatron in ms-swift's own loop (megatron_stand_in.py), judged by a real sidecar.
"""

import ast
import re
from types import SimpleNamespace

import datasets
import pytest
import torch
from safetensors.torch import save_file

from guardrail.errors import InputError
from guardrail.guard.state import read_state
from guardrail.live.status import run_status
from guardrail.recipe import read_recipe
from guardrail.report.next_steps import recipe_changes
from guardrail.report.run_data import read_run
from guardrail.trainers.ms_swift.attach_megatron import attach_megatron
from guardrail.trainers.ms_swift.megatron import check_megatron, scale_megatron_rates
from tests.run_fixtures import anchored, command, records, script, small_recipe, warm
from tests.trainers.ms_swift.swift_fixtures import never_critical
from tests.warm import SWIFT

pytestmark = pytest.mark.swift


@pytest.fixture(scope="module")
def stand_in():
    """The script's module; ms-swift may not be there when tests are collected."""
    from tests.trainers.ms_swift import megatron_stand_in

    return megatron_stand_in


@pytest.fixture(scope="module")
def trainer_methods(stand_in):
    return stand_in.members(stand_in.of_source("trainers/base.py"), "BaseMegatronTrainer")


def test_callbacks_are_made_of_a_map_by_the_trainer_alone_and_hear_these_events(
    stand_in, trainer_methods
):
    told = ast.unparse(trainer_methods["__init__"])
    assert "self.callbacks.append(megatron_callbacks_map[callback](self))" in told
    assert "for callback in args.callbacks" in told
    assert told.index("self._load_checkpoint()") < told.index("self.callbacks = []")
    base = stand_in.members(stand_in.of_source("callbacks/base.py"), "MegatronCallback")
    events = {name: [a.arg for a in one.args.args][1:] for name, one in base.items()}
    ours = ["on_train_begin", "on_step_end", "on_save", "on_log", "on_train_end"]
    assert [events[name] for name in ours] == [[], [], ["output_dir"], ["logs"], []]
    assert events["__init__"] == ["trainer"]
    body = ast.unparse(trainer_methods["run_train_step"])
    counted, ended = body.index("state.iteration += 1"), body.index("call_event('on_step_end')")
    saved, told = body.index("self.save_checkpoint()"), body.index("call_event('on_save'")
    assert counted < ended < body.index("if state.should_save:") < saved < told
    assert body.endswith("return state.iteration < args.train_iters")


def test_a_users_callbacks_stand_before_the_flow_that_saves_and_ends(stand_in, trainer_methods):
    (added,) = (
        n
        for n in ast.walk(stand_in.of_source("arguments/megatron_args.py"))
        if isinstance(n, ast.AugAssign)
        and ast.unparse(n.target) == "self.callbacks"
        and "default_flow" in ast.unparse(n.value)
    )
    assert isinstance(added.op, ast.Add)
    assert "while self.state.iteration < self.args.train_iters" in ast.unparse(
        trainer_methods["train"]
    )
    sft = (stand_in.MEGATRON / "pipelines/train/sft.py").read_text(encoding="utf-8")
    assert "trainer.train(train_dataset, val_dataset)" in sft


def test_a_checkpoint_is_exported_before_it_is_told_of(trainer_methods):
    body = ast.unparse(trainer_methods["save_checkpoint"])
    assert "if args.save_safetensors:" in body
    assert "self.bridge.save_weights(" in body
    assert "f'checkpoint-{iteration}'" in body
    assert "f'{output_dir}-merged'" in body, "why `merge_lora` is refused"


def test_every_argument_that_is_read_is_one_of_ms_swifts(stand_in):
    places = [stand_in.MEGATRON / "arguments", stand_in.MEGATRON.parent / "arguments"]
    known = "\n".join(p.read_text("utf-8") for place in places for p in place.rglob("*.py"))
    missing = [
        name
        for name in [*stand_in.ARGUMENTS, "output_dir", "model_dir"]
        if not re.search(rf"^    {name}: |self\.{name} = ", known, re.M)
    ]
    assert missing == []


def test_rates_are_computed_from_the_bounds_of_each_group_before_a_step_has_ended(
    stand_in, trainer_methods
):
    assert "override['max_lr']" in ast.unparse(stand_in.of_source("trainers/base.py"))
    assert "self.opt_param_scheduler.step(" in ast.unparse(trainer_methods["train_step"])
    groups = [
        {"max_lr": 1e-4, "min_lr": 1e-5, "lr": 5e-5},
        {"max_lr": 2e-4, "min_lr": 0.0, "lr": 1.0},
    ]
    scale_megatron_rates(SimpleNamespace(param_groups=groups), 0.5)
    assert [(g["max_lr"], g["min_lr"], g["lr"]) for g in groups] == [
        (5e-5, 5e-6, 2.5e-5),
        (1e-4, 0.0, 0.5),
    ]
    with pytest.raises(ValueError, match="never raises the rate"):
        scale_megatron_rates(SimpleNamespace(param_groups=groups), 2.0)


def trainer(stand_in, iteration=0, **changes):
    arguments = stand_in.ARGUMENTS | {"output_dir": "out", "model_dir": "base"} | changes
    return SimpleNamespace(
        args=SimpleNamespace(**arguments), state=SimpleNamespace(iteration=iteration)
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rlhf_type": "dpo"}, "`dpo`"),
        ({"is_multimodal": True}, "`multimodal`"),
        ({"mcore_adapter": "there"}, "--mcore_adapter"),
        ({"iteration": 7}, "goes on at iteration 7"),
        ({"save_safetensors": False}, "--save_safetensors false"),
        ({"tuner_type": "lora"}, "--merge_lora true"),
        ({"async_save": True}, "--async_save true"),
        ({"streaming": True, "num_train_epochs": 1}, "--train_iters"),
        ({"callbacks": ["print", "default_flow", "guardrail"]}, "behind `default_flow`"),
    ],
)
def test_what_cannot_be_looked_at_resumed_or_halted_is_refused(stand_in, changes, told):
    with pytest.raises(InputError, match=told):
        check_megatron(trainer(stand_in, **changes))
    check_megatron(trainer(stand_in, tuner_type="lora", merge_lora=False))


def test_looks_in_the_training_itself_are_refused(stand_in):
    with pytest.raises(InputError, match=r"set `looks\.engine: sidecar`"):
        attach_megatron(trainer(stand_in), read_recipe("toy-sft"))


def test_another_model_than_the_recipes_is_refused(stand_in, tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    wanted = read_recipe("toy-sft", changes=["looks.engine=sidecar"])
    with pytest.raises(InputError, match="recipe and command line disagree"):
        attach_megatron(trainer(stand_in, model_dir=str(tmp_path)), wanted)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Looks of few items and short answers; no level is critical, three serious ones in a row halt."""
    return anchored(small_recipe(
        tmp_path_factory.mktemp("megatron"),
        items_an_ability=8,
        looks={
            "engine": "sidecar", "every_steps": 2, "batch_size": 100, "replicates": None,
            "decoding": {"mode": "greedy", "max_new_tokens": 16},
        },
        drift=never_critical(),
        ladder={"cooldown_looks": 0, "max_lr_cuts": 2, "persistent_serious_looks": 1},
    ))  # fmt: skip


def megatron_sft(recipe, *args, ranks=1):
    return script("trainers.ms_swift.megatron_stand_in", recipe, *args, ranks=ranks, loaded=SWIFT)


@pytest.mark.run
def test_rows_that_hold_judged_items_are_refused_before_there_is_a_run(stand_in, recipe, tmp_path):
    one = trainer(stand_in, output_dir=str(tmp_path), model_dir=str(stand_in.BASE))
    one.train = lambda rows, held_out: pytest.fail("trained")
    guard = attach_megatron(one, read_recipe(recipe)).course.guard
    rows = [{"messages": list(guard.red_line[0].chat())}]
    with pytest.raises(InputError, match=guard.red_line[0].id):
        one.train(datasets.Dataset.from_list(rows), None)
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.run
def test_a_reckless_training_of_two_ranks_is_cut_and_halted_by_ms_swifts_own_flow(recipe):
    run = recipe.parent / "reckless"
    done = megatron_sft(recipe, run, 6e-3, 20, "sidecar", ranks=2)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "the ladder begins with the rate cut" in done.stderr
    looks, actions = records(run, "look"), records(run, "action")
    assert [look["trigger"] for look in looks][:2] == ["start", "schedule"]
    assert looks[0]["failed_pipeline_check"] == []
    assert {a["action"] for a in actions} >= {"cut_lr", "repeat_look", "halt"}
    assert all(a["after"]["boost"] == 1.0 for a in actions), "there is no KL term to raise"
    cut = next(a for a in actions if a["action"] == "cut_lr")
    rates = {log["step"]: log["learning_rate"] for log in records(run, "log")}
    assert rates[cut["step"]] == pytest.approx(3e-3), "from the next step on"
    ended = records(run, "ended")[-1]
    assert (ended["outcome"], ended["step"]) == ("halted", actions[-1]["step"])
    assert ended["step"] < 20
    assert [r["processes"] for r in records(run, "started")] == [2]
    last = run / f"checkpoint-{ended['step']}"
    assert read_state(last).lr_factor == 0.25
    assert "HALT" in (run / "report.html").read_text(encoding="utf-8").upper()
    assert run_status(run)["lr_factor"] == 0.25
    assert read_run(run).kl_weights == []
    advised = {change.key for change in recipe_changes(read_run(run))}
    assert advised == {"learning_rate", "looks.every_steps"}, "and nothing of rehearsal"


@pytest.mark.run
def test_what_nobody_judged_in_time_is_judged_after_the_end(recipe):
    run = recipe.parent / "calm"
    done = megatron_sft(recipe, run, 1e-9, 8, "none")
    assert done.returncode == 4, done.stderr[-3000:]
    saved = sorted(int(path.name.split("-")[1]) for path in run.glob("checkpoint-*"))
    assert saved == [2, 4, 6, 8], "save_total_limit is 2, and each waits for its look"
    served = warm(command("serve", run, "--once"), cwd=run, loaded=SWIFT)
    assert served.returncode == 0, served.stderr[-3000:]
    looks = records(run, "look")
    assert [look["step"] for look in looks] == [0, 2, 4, 6, 8]
    assert all(look["after_end"] for look in looks)
    assert read_state(run / "checkpoint-8").asked == []
