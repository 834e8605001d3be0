"""Megatron-SWIFT, which no machine here can import: what the guard rests on is read in the installed ms-swift."""

import ast
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from guardrail.errors import InputError
from guardrail.guard.ranks import Ranks
from guardrail.trainers.ms_swift.megatron import MegatronGuard, scale_megatron_rates

pytestmark = pytest.mark.swift


def source(file: str) -> ast.Module:
    root = Path(importlib.util.find_spec("swift").origin).parent / "megatron"
    return ast.parse((root / file).read_text(encoding="utf-8"))


def functions(tree: ast.Module, owner: str) -> dict[str, ast.FunctionDef]:
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner)
    return {n.name: n for n in found.body if isinstance(n, ast.FunctionDef)}


@pytest.fixture(scope="module")
def trainer_methods():
    return functions(source("trainers/base.py"), "BaseMegatronTrainer")


def test_callbacks_are_made_of_a_map_by_the_trainer_alone_and_hear_these_events(trainer_methods):
    told = ast.unparse(trainer_methods["__init__"])
    assert "self.callbacks.append(megatron_callbacks_map[callback](self))" in told
    assert "for callback in args.callbacks" in told
    base = functions(source("callbacks/base.py"), "MegatronCallback")
    events = {name: [a.arg for a in one.args.args][1:] for name, one in base.items()}
    ours = ["on_train_begin", "on_step_end", "on_save", "on_train_end"]
    assert [events[name] for name in ours] == [[], [], ["output_dir"], []]
    assert events["__init__"] == ["trainer"]
    body = ast.unparse(trainer_methods["run_train_step"])
    counted, ended = body.index("state.iteration += 1"), body.index("call_event('on_step_end')")
    saved, told = body.index("self.save_checkpoint()"), body.index("call_event('on_save'")
    assert counted < ended < body.index("if state.should_save:") < saved < told
    assert body.endswith("return state.iteration < args.train_iters")


def test_a_users_callbacks_stand_before_the_flow_that_saves_and_ends():
    (added,) = (
        n
        for n in ast.walk(source("arguments/megatron_args.py"))
        if isinstance(n, ast.AugAssign)
        and ast.unparse(n.target) == "self.callbacks"
        and "default_flow" in ast.unparse(n.value)
    )
    assert isinstance(added.op, ast.Add)
    assert "while self.state.iteration < self.args.train_iters" in ast.unparse(
        functions(source("trainers/base.py"), "BaseMegatronTrainer")["train"]
    )


def test_a_checkpoint_is_exported_before_it_is_told_of(trainer_methods):
    body = ast.unparse(trainer_methods["save_checkpoint"])
    assert "if args.save_safetensors:" in body
    assert "self.bridge.save_weights(" in body
    assert "f'checkpoint-{iteration}'" in body


def test_rates_are_computed_from_the_bounds_of_each_group():
    assert "override['max_lr']" in ast.unparse(source("trainers/base.py"))
    groups = [
        {"max_lr": 1e-4, "min_lr": 1e-5, "lr": 5e-5},
        {"max_lr": 2e-4, "min_lr": 0.0, "lr": 1.0},
    ]
    scale_megatron_rates(SimpleNamespace(param_groups=groups), 0.5)
    assert [(g["max_lr"], g["min_lr"]) for g in groups] == [(5e-5, 5e-6), (1e-4, 0.0)]
    with pytest.raises(ValueError, match="never raises the rate"):
        scale_megatron_rates(SimpleNamespace(param_groups=groups), 2.0)


@pytest.fixture
def default_flow(monkeypatch):
    """ms-swift's own callback, loaded without the package around it."""
    root = Path(importlib.util.find_spec("swift").origin).parent / "megatron/callbacks"
    package = ModuleType("swift_callbacks_alone")
    package.__path__ = [str(root)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return importlib.import_module(f"{package.__name__}.default_flow").DefaultFlowCallback


@dataclass
class Looks:
    """A course whose looks are due every three steps and answered two steps later; the second answer halts."""

    halted: bool = False
    asks_at_save: bool = False
    step: int = 0

    def __post_init__(self) -> None:
        self.asked, self.applied, self.closed = [], [], []

    def begin(self, step, last_step, *, best_follows):
        self.span = (step, last_step, best_follows)

    def attend(self, step, *, saving):
        self.step, self.asks_at_save = step, step % 3 == 0 or saving

    def ask(self, step):
        if self.asks_at_save:
            self.asked.append(step)
        self.asks_at_save = False

    def answered(self):
        done = len(self.applied)
        return done < len(self.asked) and self.step + 1 >= self.asked[done] + 2

    def apply(self, step):
        self.applied.append((self.asked[len(self.applied)], step))
        self.halted = len(self.applied) == 2

    def finish(self, step):
        self.closed.append(step)


def trainer(**changes):
    arguments = {
        "train_iters": 20,
        "save_steps": 10,
        "save_safetensors": True,
        "async_save": False,
        "callbacks": ["guardrail", "print", "default_flow"],
        "manual_gc": False,
        "global_batch_size": 8,
        "logging_steps": 5,
        "eval_steps": None,
        "eval_iters": 0,
    }
    state = {"iteration": 0, "should_save": False, "should_log": False, "should_eval": False}
    state["consumed_train_samples"] = 0
    return SimpleNamespace(
        args=SimpleNamespace(**(arguments | changes)), state=SimpleNamespace(**state)
    )


def test_a_halt_saves_and_ends_at_its_step_by_ms_swifts_own_flow(default_flow):
    one = trainer()
    looks = Looks()
    callbacks = [MegatronGuard(one, looks, Ranks()), default_flow(one)]
    saved = []
    for callback in callbacks:
        callback.on_train_begin()
    while one.state.iteration < one.args.train_iters:  # BaseMegatronTrainer.train
        one.state.iteration += 1
        for callback in callbacks:
            callback.on_step_end()
        if one.state.should_save:
            one.state.should_save = False
            saved.append(one.state.iteration)
            for callback in callbacks:
                callback.on_save(output_dir=f"checkpoint-{one.state.iteration}")
    for callback in callbacks:
        callback.on_train_end()
    assert looks.span == (0, 20, False)
    assert looks.applied == [(3, 5), (6, 8)]
    assert one.state.iteration == 8
    assert saved == [3, 6, 8], "looks bring a save of their own, and so does the halt"
    assert looks.closed == [8]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"save_safetensors": False}, "--save_safetensors false"),
        ({"async_save": True}, "--async_save true"),
        ({"callbacks": ["print", "default_flow", "guardrail"]}, "behind `default_flow`"),
    ],
)
def test_what_cannot_be_looked_at_or_halted_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        MegatronGuard(trainer(**changes), Looks(), Ranks())
