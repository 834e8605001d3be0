"""Anchors by a vLLM server that serves the toy base: the same as made here, and gone on with where it died."""

import json

import pytest

from guardrail.anchors.make import UNMEASURED_TOP_K
from guardrail.anchors.store import read_anchors
from guardrail.engines.vllm_client import VllmServer
from guardrail.errors import InputError
from guardrail.shipped import shipped_root
from guardrail.trainers.anchor_server import AnchorServer
from guardrail.trainers.attach import Guardrail
from tests.engines.toy_server import ToyServer
from tests.run_fixtures import small_recipe

pytestmark = pytest.mark.run
BASE = shipped_root() / "recipes/toy/base"


def recipe(folder, mode="greedy", **changes):
    folder.mkdir(exist_ok=True)
    decoding = {"mode": mode, "max_new_tokens": 6, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    looks = {"replicates": 2, "decoding": decoding}
    return small_recipe(folder, items_an_ability=2, looks=looks, **changes)


def anchors(file, toy, *, proven=True, **more):
    server = VllmServer(toy.url, concurrency=4, pause_s=0.005)
    return Guardrail.from_recipe(file).anchors(server=AnchorServer(server, proven=proven), **more)


@pytest.fixture
def toy():
    with ToyServer(BASE) as server:
        yield server


def test_a_server_makes_the_anchors_that_this_process_makes(toy, tmp_path):
    here = Guardrail.from_recipe(recipe(tmp_path / "here")).anchors()
    file = recipe(tmp_path / "there")
    there = anchors(file, toy)
    assert there.answers == here.answers
    assert there.manifest.top_k == here.manifest.top_k
    assert there.manifest.kl_error == pytest.approx(here.manifest.kl_error)
    for item, entry in here.topk.items():
        kept = {(at, int(t)): v for at, row in enumerate(entry.ids) for t, v in zip(row, entry.logprobs[at], strict=True)}  # fmt: skip
        found = there.topk[item]
        for at, row in enumerate(found.ids):
            for t, v in zip(row, found.logprobs[at], strict=True):
                # Half precision on disk; the last of the k may be another of the same size.
                assert v == pytest.approx(kept.get((at, int(t)), min(entry.logprobs[at])), abs=0.02)

    manifest = there.manifest
    assert (manifest.engine, manifest.versions["vllm"]) == ("vllm-server", "0.0.toy")
    assert manifest.served["root"] == str(BASE)
    assert manifest.served["proof"]["off"] <= 3 * manifest.served["proof"]["noise"]
    # A run, which asks in process, takes them: its look 0 finds out whether the engines agree.
    Guardrail.from_recipe(file).check_anchors(read_anchors(tmp_path / "there/anchors"))


def test_a_server_that_dies_in_the_middle_is_gone_on_with(tmp_path):
    with ToyServer(BASE) as toy:
        whole = anchors(recipe(tmp_path / "whole", "sampled"), toy)
        answers = len(toy.completions())
    file = recipe(tmp_path / "cut", "sampled")
    with ToyServer(BASE) as toy:
        toy.dies_after = 14 + 6  # a chunk, and into the next
        with pytest.raises(InputError, match="finished are kept"):
            anchors(file, toy)
    with ToyServer(BASE) as toy:
        assert anchors(file, toy).answers == whole.answers
        assert len(toy.completions()) < answers
    drawn = [{answer.token_ids for answer in answers} for answers in whole.answers.values()]
    assert max(len(answers) for answers in whole.answers.values()) == 3
    assert max(map(len, drawn)) > 1  # the toy is so sure of some that its draws are the same


def test_answers_begun_in_process_are_not_gone_on_with_by_a_server(toy, tmp_path):
    file = recipe(tmp_path / "mixed")

    def stop(what, done, total):
        if what == "red-line golds":
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        Guardrail.from_recipe(file).anchors(on_progress=stop)
    begun = (tmp_path / "mixed/anchors/answers.partial.jsonl").read_text().splitlines()
    assert len(begun) > 1
    anchors(file, toy)
    made = Guardrail.from_recipe(file)
    assert len(toy.completions()) == len(made.red_line) + len(made.rehearsal)


def test_a_server_of_other_weights_makes_no_anchors(toy, tmp_path):
    import torch

    with torch.no_grad():
        for p in toy.models["toy"].parameters():
            p.add_(0.02 * p.std() * torch.randn_like(p))
    with pytest.raises(InputError, match="weights are stale or another model's"):
        anchors(recipe(tmp_path), toy)
    assert not (tmp_path / "anchors/answers.partial.jsonl").exists()
    assert toy.completions() == []


def test_what_would_end_the_work_late_is_refused_at_once(tmp_path):
    with (
        ToyServer(BASE, max_logprobs=20) as toy,
        pytest.raises(InputError, match="--max-logprobs -1"),
    ):
        anchors(recipe(tmp_path), toy)
    assert toy.completions() == []
    with (
        ToyServer(BASE, max_model_len=64) as toy,
        pytest.raises(InputError, match="--max-model-len"),
    ):
        anchors(recipe(tmp_path), toy)


def test_unproven_anchors_say_so(toy, tmp_path):
    made = anchors(recipe(tmp_path / "a"), toy, proven=False).manifest
    assert "proof" not in made.served
    assert (made.top_k, made.kl_error) == (UNMEASURED_TOP_K, {})
    pinned = recipe(tmp_path / "b", rehearsal={"top_k": 5})
    assert anchors(pinned, toy, proven=False).manifest.top_k == 5
    toy.roots["toy"] = "/models/Qwen3-8B"
    with pytest.raises(InputError, match=r"says that `toy` is `/models/Qwen3-8B`.*leave `--unprov"):
        anchors(pinned, toy, proven=False, rebuild=True)


def test_the_command_says_who_answered(toy, tmp_path):
    from typer.testing import CliRunner

    from guardrail.cli.main import app

    file = str(recipe(tmp_path))

    def anchor(*more):
        return CliRunner().invoke(app, ["anchor", file, *more])

    assert "give its address with `--server URL`" in anchor("--served-as", "toy").output
    assert "give its address with `--server URL`" in anchor("--unproven").output
    assert "serves no `qwen`" in anchor("--server", toy.url, "--served-as", "qwen").output
    done = anchor("--server", toy.url, "--concurrency", "2", "--unproven")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert f"vLLM 0.0.toy, which says it serves {BASE}; its weights were not compared" in said
    assert "not measured" in said
    rebuilt = anchor("--server", toy.url, "--rebuild")
    assert "rounding explains" in rebuilt.output
    facts = json.loads(anchor("--json").stdout)
    assert (facts["engine"], facts["served"]["name"]) == ("vllm-server", "toy")
