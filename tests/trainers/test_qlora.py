"""QLoRA for real: anchors and training load the same 4-bit model; skipped where bitsandbytes is not installed."""

import importlib.util

import pytest

from guardrail.anchors.store import read_anchors
from guardrail.ledger import read_ledger
from guardrail.watch.report import build_report
from tests.run_fixtures import arguments, guardrail, records, small_recipe

pytestmark = [
    pytest.mark.run,
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
    ),
]

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float32"}


def test_anchors_and_training_share_the_quantised_model_and_another_is_refused(tmp_path):
    train = arguments(max_steps=4, save_steps=2) | {
        "held_out": 0.0,
        "lora": {"r": 8, "target_modules": "all-linear"},
        "quantization": NF4,
    }
    options = {
        "items_an_ability": 3,
        "looks": {"every_steps": 2},
        "drift": {"min_items": 10, "min_clusters": 10},
    }
    recipe = small_recipe(tmp_path, train=train, **options)
    run = tmp_path / "run"
    done = guardrail("run", recipe, "--out", run, cwd=tmp_path)
    assert [r["step"] for r in records(run, "look")] == [0, 2, 4], done.stderr[-3000:]
    precision = read_ledger(run)[0]["precision"]
    said = "bitsandbytes 4-bit nf4, computed in float32"
    assert (precision["quantization"], precision["tuning"]) == (said, "LoRA")
    assert read_anchors(tmp_path / "anchors").manifest.quantization == NF4
    assert abs(records(run, "kl_self_test")[0]["at_start"]) < 1e-3
    assert f"量化：{said}" in build_report(run).read_text(encoding="utf-8")
    judged = guardrail(
        "look", run / "checkpoints/checkpoint-4", "--anchors", tmp_path / "anchors",
        "--out", tmp_path / "looked", cwd=tmp_path,
    )  # fmt: skip
    assert judged.returncode in (0, 1, 3), judged.stderr[-3000:]
    small_recipe(tmp_path, train=train | {"quantization": None}, **options)
    other = guardrail("run", recipe, "--out", tmp_path / "other", cwd=tmp_path)
    assert other.returncode == 2
    assert f"quantization: anchors have {said}, the recipe none" in other.stderr
