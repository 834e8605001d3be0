"""`NPROC_PER_NODE=2 swift ...` under guard: two processes on gloo, one ledger."""

import pytest

from guardrail.ledger.file import read_ledger
from tests.run_fixtures import guardrail, records
from tests.trainers.ms_swift.swift_fixtures import (
    GRPO,
    ROLLOUTS,
    measured,
    run_folder,
    short_recipe,
    swift,
)

pytestmark = [pytest.mark.full, pytest.mark.swift]


@pytest.mark.parametrize("module", ["swift_scripts", "swift_grpo_scripts"])
def test_the_kl_gradient_of_two_ranks_is_that_of_one_process(tmp_path, module):
    found = measured(module, tmp_path, ranks=2)
    for tuner in ("full", "lora"):
        facts = found[f"{tuner}, ranks"]
        assert facts["wrapped"] == "DistributedDataParallel"
        assert facts["size"] > 0.1
        assert facts["error"] < 1e-5


@pytest.mark.parametrize(
    ("command", "options"), [("sft --split_dataset_ratio 0", {}), (GRPO, ROLLOUTS)]
)
def test_two_ranks_share_looks_and_count_together(tmp_path, command, options):
    recipe = short_recipe(tmp_path)
    made = guardrail("anchor", recipe, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = swift(
        f"{command} --tuner_type full --max_steps 4 --save_steps 4",
        tmp_path,
        recipe,
        ranks=2,
        gradient_accumulation_steps=1,
        learning_rate=1e-3,
        logging_steps=1,
        **options,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = run_folder(tmp_path)
    (started,) = records(run, "started")
    assert started["processes"] == 2
    looks = records(run, "look")
    assert [r["step"] for r in looks] == [0, 2, 4]
    assert looks[0]["level"] == "ok"
    answers = (run / looks[1]["answers"]).read_text(encoding="utf-8").splitlines()
    assert len(answers) == started["red_line_items"]
    log = records(run, "log")[-1]
    # Four samples a step on each rank; every rank injects equally many.
    assert log["task_samples"] == 32
    assert log["rehearsal_samples"] == 2
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    assert records(run, "ended")[0]["outcome"] == "finished"
    assert (run / "checkpoint-4/guardrail_state.json").is_file()
    sequence = [r["seq"] for r in read_ledger(run)]
    assert sequence == list(range(len(sequence)))
