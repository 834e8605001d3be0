"""The trainer's own vLLM answers the looks of a guarded GRPO run. Needs vLLM, whose CPU build will do."""

import json

import pytest

from tests.run_fixtures import process, records, small_recipe

pytestmark = [pytest.mark.run, pytest.mark.full]
pytest.importorskip("vllm")

COLOCATED = {
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_max_model_length": 512,
    "temperature": 1.3,
}


def train(folder, stale_from=None, **changes):
    import sys

    recipe = small_recipe(
        folder,
        items_an_ability=12,
        trainer="trl-grpo",
        train={"held_out": 0.0},
        rehearsal={"fraction": 0.1, "allow_large_fraction": True},
        looks={"every_steps": 3},
    )
    run = folder / "run"
    options = {"vllm": True, "stale_from": stale_from, "arguments": COLOCATED | changes}
    line = [
        sys.executable,
        "-m",
        "tests.trainers.grpo.grpo_scripts",
        recipe,
        run,
        json.dumps(options),
    ]
    # In one process the trainer reaches vLLM's weights; its engine would otherwise be a process of its own.
    return run, process(line, VLLM_ENABLE_V1_MULTIPROCESSING=0, VLLM_CPU_KVCACHE_SPACE=1)


def test_looks_are_answered_by_the_trainers_vllm_with_the_current_weights(tmp_path):
    run, done = train(tmp_path, learning_rate=5e-3, lr_scheduler_type="constant")
    assert done.returncode == 0, done.stderr[-3000:]
    assert records(run, "started")[0]["engine"] == "the trainer's vLLM"
    first, *later = records(run, "look")
    # The anchors were made in process: another engine agrees with them on the same weights.
    assert first["failed_pipeline_check"] == []

    def passed(look):
        return next(
            s for s in look["streams"] if (s["metric"], s["group"]) == ("passed", "overall")
        )

    assert passed(first)["now"] > 0.8
    # Reckless training is seen, so vLLM has the weights of the moment and not those it began with.
    assert passed(later[-1])["now"] < passed(first)["now"] - 0.15
    # It computes in bfloat16 and the trainer in float32: what rounding explains is measured.
    (handover,) = records(run, "handover_test")
    for proof in (handover, first["proof"]):
        assert abs(proof["share"] - 1) < 0.1
    assert all(look["proof"]["off"] <= 3 * look["proof"]["noise"] for look in (first, *later))
    told = json.loads((run / "told.json").read_text())
    assert told["rollouts"] == [1.3, 0], (
        "rollouts decode as the user said, looks as the recipe says"
    )


def test_a_vllm_that_goes_on_with_old_weights_ends_the_run(tmp_path):
    run, done = train(tmp_path, 1, learning_rate=5e-3, lr_scheduler_type="constant")
    assert done.returncode == 0, done.stderr[-3000:]
    assert records(run, "look")[0]["step"] == 0
    (error,) = records(run, "error")
    assert "the trainer's vLLM has not the weights at step" in error["error"]
    assert records(run, "ended")[0]["outcome"] == "halted"


def test_a_vllm_too_short_for_a_look_is_refused_at_look_0(tmp_path):
    _, done = train(tmp_path, vllm_max_model_length=96)
    assert done.returncode != 0
    assert "set `vllm_max_model_length` to" in done.stderr
