"""Looks by ms-swift's own vLLM: what of ms-swift that rests on, a server's answers, and real runs with vLLM's CPU build."""

import ast
import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrail.anchors.decoding import Decoding
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_tokenizer
from guardrail.sets.items import read_items
from guardrail.trainers.ms_swift.plugin import RECIPE_VARIABLE
from guardrail.trainers.ms_swift.swift_vllm import _USED, swift_vllm
from tests.run_fixtures import process, records
from tests.trainers.ms_swift import swift_fixtures
from tests.trainers.ms_swift.swift_fixtures import (
    BASE,
    ROLLOUTS,
    launch_variables,
    run_folder,
    short_recipe,
    trainer_line,
)

pytestmark = [pytest.mark.swift]
GREEDY = Decoding(mode="greedy", max_new_tokens=6)


def methods(file: str, name: str) -> dict[str, ast.FunctionDef]:
    """The methods of a class of the installed ms-swift, read and not imported."""
    root = Path(importlib.util.find_spec("swift").origin).parent
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    (found,) = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name)
    return {n.name: n for n in found.body if isinstance(n, ast.FunctionDef)}


def calls(function: ast.FunctionDef) -> list[str]:
    """What a method calls of its own, in the order of the lines."""
    found = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
    found.sort(key=lambda n: (n.lineno, n.col_offset))
    return [ast.unparse(n.func) for n in found]


def test_ms_swift_wakes_hands_over_writes_and_puts_to_sleep_in_one_method():
    own = methods("rlhf_trainers/rollout_mixin.py", "RolloutTrainerMixin")
    base = methods("rlhf_trainers/base_rollout_mixin.py", "BaseRolloutTrainerMixin")
    assert set(_USED) <= {*own, *base}
    body = own["_fast_infer"]
    order = calls(body)
    steps = [
        "self._move_model_to_vllm",
        "self._infer_single_or_multi_turn",
        "sleep_vllm_engine",
    ]
    assert [order.index(name) for name in steps] == sorted(order.index(name) for name in steps)
    assert order.index("self.engine.engine.wake_up") < order.index("self._move_model_to_vllm")
    told = ast.unparse(body)
    assert "self.state.global_step != self._last_loaded_step or args.sleep_level == 2" in told
    # How it decodes is asked for there, whoever calls, in both modes.
    rollout = ast.unparse(own["_rollout"])
    assert "request_config = self._get_request_config()" in rollout
    assert "self._server_rollout(" in rollout
    assert "self._colocate_rollout(" in rollout
    assert [a.arg for a in own["_rollout"].args.args] == [
        "self",
        "samples",
        "request_config",
        "is_global_inputs",
    ]


class Trainer:
    """What a swift trainer has that a `swift rollout` server answers, with ms-swift's own kinds of requests and answers."""

    def __init__(self, tokenizer, **changes) -> None:
        self.args = SimpleNamespace(
            use_vllm=True, async_generate=False, multi_turn_scheduler=None, use_gym_env=None
        )
        for name, value in changes.items():
            setattr(self.args, name, value)
        self.processing_class, self.vllm_mode = tokenizer, "server"
        self.accelerator, self.vllm_tensor_parallel_size = SimpleNamespace(process_index=0), 1
        self._last_loaded_step, self.handed_over = 0, 0
        self.answer, self.finish, self.prefix, self.messages = [5, 6, 2], "stop", [], None
        self.asked = None

    def to_samples(self, rows):
        return rows

    def _preprocess_inputs(self, samples):
        return samples

    def _get_request_config(self):
        raise AssertionError("the trainer's own decoding was asked for")

    def _infer_single_or_multi_turn(self, samples, config):
        raise AssertionError("turns were taken")

    def _fast_infer(self, samples):
        self.handed_over += self._last_loaded_step != 0
        self._last_loaded_step = 0
        return self._infer_single_or_multi_turn(samples, None)

    def _rollout(self, samples, config):
        from swift.infer_engine.protocol import (
            ChatCompletionResponse,
            ChatCompletionResponseChoice,
            ChatMessage,
            RolloutOutput,
            UsageInfo,
        )

        self.asked = self._get_request_config()
        outputs = []
        for row in samples:
            prompt = self.processing_class.apply_chat_template(
                row["messages"],
                add_generation_prompt=True,
                return_dict=False,
                **row["chat_template_kwargs"],
            )
            scored = [{"token": "", "bytes": [], "logprob": -0.5} for _ in self.answer]
            choice = ChatCompletionResponseChoice(
                index=0,
                message=ChatMessage(role="assistant", content=""),
                finish_reason=self.finish,
                logprobs={"content": scored},
                token_ids=self.answer,
            )
            response = ChatCompletionResponse(
                model="m",
                choices=[choice],
                usage=UsageInfo(1, 1, 2),
                prompt_token_ids=self.prefix + list(prompt),
            )
            outputs.append(RolloutOutput(response=response, messages=self.messages))
        return outputs


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BASE)


@pytest.fixture(scope="module")
def guarded():
    from guardrail.shipped import shipped_root

    items = read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::60]
    return SimpleNamespace(recipe=SimpleNamespace(thinking=False), red_line=items)


def written(trainer, tokenizer, guarded, decoding=GREEDY):
    vllm = swift_vllm(trainer, guarded)
    profile = resolve_profile(BASE, tokenizer, thinking=False)
    return vllm.write([list(prompt) for prompt in vllm.chats], decoding, profile, seed=3)


def test_a_server_is_handed_the_weights_and_asked_with_the_recipes_decoding(tokenizer, guarded):
    trainer = Trainer(tokenizer)
    found = written(trainer, tokenizer, guarded)
    assert [one.token_ids for one in found] == [[5, 6, 2]] * len(guarded.red_line)
    assert found[0].logprobs == [-0.5] * 3
    assert trainer.handed_over == 1
    asked = trainer.asked
    assert (asked.temperature, asked.top_p, asked.top_k, asked.max_tokens) == (0.0, 1.0, -1, 6)
    assert (asked.logprobs, asked.return_details, asked.seed) == (True, True, None)
    assert tokenizer.eos_token in asked.stop
    with pytest.raises(AssertionError, match="own decoding"):
        trainer._get_request_config()  # rollouts have theirs back


def test_a_server_that_reads_another_prompt_is_refused(tokenizer, guarded):
    trainer = Trainer(tokenizer)
    trainer.prefix = [7]
    with pytest.raises(InputError, match="reads another prompt than the anchors'"):
        written(trainer, tokenizer, guarded)


def test_an_end_that_is_none_and_several_turns_are_refused(tokenizer, guarded):
    trainer = Trainer(tokenizer)
    trainer.answer = [5, 6]
    with pytest.raises(InputError, match="none of the profile's stop tokens"):
        written(trainer, tokenizer, guarded)
    trainer.messages = []
    with pytest.raises(InputError, match="several turns"):
        written(trainer, tokenizer, guarded)


def test_colocated_prompts_draw_by_the_seed_and_engines_apart(tokenizer, guarded):
    trainer, seeds = Trainer(tokenizer), []
    trainer.vllm_mode, trainer.engine = "colocate", SimpleNamespace(max_model_len=4096)
    for rank, ranks in ((0, 1), (1, 1), (1, 2)):
        trainer.accelerator.process_index, trainer.vllm_tensor_parallel_size = rank, ranks
        written(trainer, tokenizer, guarded, Decoding(max_new_tokens=6))
        seeds.append(trainer.asked.seed)
    assert seeds[0] != seeds[1]
    assert seeds[0] == seeds[2], "the ranks of one engine draw alike"
    trainer.engine.max_model_len = 20
    with pytest.raises(InputError, match="set `--vllm_max_model_len` to"):
        written(trainer, tokenizer, guarded)


@pytest.mark.parametrize("option", ["async_generate", "multi_turn_scheduler", "use_gym_env"])
def test_where_a_rollout_is_more_than_an_answer_the_model_itself_looks(tokenizer, guarded, option):
    assert swift_vllm(Trainer(tokenizer, **{option: "x"}), guarded) is None
    assert swift_vllm(Trainer(tokenizer, use_vllm=False), guarded) is None


COLOCATED = (
    "rlhf --rlhf_type grpo --use_vllm true --vllm_mode colocate --vllm_max_model_len 512 "
    "--vllm_enforce_eager true --split_dataset_ratio 0 --max_steps 4 --save_steps 4"
)
ON_CPU = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": 0,
    "VLLM_CPU_KVCACHE_SPACE": 1,
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": 1,
}
APART = """
from tests.trainers.grpo.grpo_scripts import keep_weights_apart
keep_weights_apart()
"""


@pytest.mark.run
@pytest.mark.full
@pytest.mark.parametrize(
    "tuner",
    [
        "--tuner_type full",
        "--tuner_type lora",
        "--tuner_type lora --vllm_enable_lora true",
    ],
)
def test_looks_are_answered_by_the_colocated_vllm_with_the_current_weights(
    tmp_path, monkeypatch, tuner
):
    pytest.importorskip("vllm")
    monkeypatch.setattr(swift_fixtures, "REWARD", swift_fixtures.REWARD + APART)
    recipe = short_recipe(tmp_path, trainer="ms-swift", train=None)
    more = ROLLOUTS | {"gradient_accumulation_steps": 2, "learning_rate": 1e-3}
    line = trainer_line(f"{COLOCATED} {tuner}", tmp_path, **more)
    place = ON_CPU | {RECIPE_VARIABLE: recipe, "MASTER_PORT": launch_variables(1)["MASTER_PORT"]}
    done = process(line, cwd=tmp_path, **place)
    assert done.returncode == 0, done.stderr[-3000:]
    run = run_folder(tmp_path)
    assert records(run, "started")[0]["engine"] == "the trainer's vLLM"
    looks = records(run, "look")
    assert [look["step"] for look in looks] == [0, 2, 4]
    # The anchors were made in process: another engine agrees with them on the same weights.
    assert looks[0]["failed_pipeline_check"] == []
    for proof in (records(run, "handover_test")[0], *(look["proof"] for look in looks)):
        assert proof["off"] <= 3 * proof["noise"]
        assert proof["share"] is None or math.isclose(proof["share"], 1, abs_tol=0.01)
    if "lora" in tuner:
        assert all(look["proof"]["share"] for look in looks[1:])
