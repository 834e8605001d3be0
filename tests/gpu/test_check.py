"""`make gpu-check` at a shape for CPUs."""

import json
import sys

import pytest

from tests.run_fixtures import process

pytestmark = pytest.mark.run


def test_the_tiny_shape_yields_every_figure(tmp_path):
    line = [
        sys.executable,
        "-m",
        "tests.gpu.check",
        "--shapes",
        "tiny",
        "--items",
        12,
        "--tokens",
        8,
    ]
    done = process([*line, "--out", tmp_path / "found.json", "--work", tmp_path / "work"])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["device"] == "cpu"
    assert [case["way"] for case in found["cases"]] == ["lora", "full"]
    for case in found["cases"]:
        assert len(case["look_s"]) == 3
        assert min(case["look_s"]) > 0
        assert len(case["tripwire_s"]) >= 2
        assert 0 < case["guarding_share"] < 1
        assert case["kl_self_test"][0]["perturbed"] > 0
