"""Anchors and looks by a real vLLM server on the toy base. Needs vLLM, whose CPU build will do (`make test-vllm`).

What every engine must obey is in test_contract.py, which a real server passes too.
"""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from typer.testing import CliRunner

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.store import read_anchors
from guardrail.cli.main import app
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.vllm_client import VllmServer
from guardrail.engines.vllm_server import ServerEngine
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root
from tests.engines.real_vllm import vllm_server
from tests.run_fixtures import arguments, command, process, records, small_recipe

pytestmark = [pytest.mark.run, pytest.mark.full, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("vllm")
BASE = shipped_root() / "recipes/toy/base"
CLOSE = 1e-3
"""Nats between the two likeliest tokens below which another kernel may take the other."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with vllm_server(BASE, tmp_path_factory.mktemp("vllm") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def anchors(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("anchored")
    file = small_recipe(folder, items_an_ability=8, train=arguments(max_steps=2))
    done = guardrail("anchor", file, "--server", server, code=0)
    assert done["engine"] == "vllm-server"
    proof = done["served"]["proof"]
    print(f"proof of the anchors: {proof}")
    assert proof["off"] <= 3 * proof["noise"]
    return folder / "anchors"


def guardrail(*line, code):
    done = CliRunner().invoke(app, [*map(str, line), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code in (0, 3) else " ".join(done.output.split())


def test_greedy_answers_are_those_in_process_but_where_two_tokens_are_equally_likely(server):
    base = load_model(BASE)
    decoding = Decoding(mode="greedy", max_new_tokens=64)
    profile = resolve_profile(BASE, base[1], thinking=False)
    here = InProcessEngine(*base, decoding, profile, 32)
    client = VllmServer(server)
    there = ServerEngine(client, client.served(), base[1], decoding, profile)
    items = read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")
    ours, theirs = here.answer(items, seed=0), there.answer(items, seed=0)
    differ = [at for at in range(len(items)) if ours[at] != theirs[at]]
    print(f"{len(differ)} of {len(items)} greedy answers differ")
    assert len(differ) <= 0.01 * len(items)
    for at in differ:
        mine, other = ours[at].token_ids, theirs[at].token_ids
        first = next(n for n, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b)
        entry = here.topk([items[at]], [mine[: first + 1]], 2)[0]
        assert set(entry.ids[-1]) == {mine[first], other[first]}
        assert entry.logprobs[-1, 0] - entry.logprobs[-1, 1] < CLOSE


def test_a_guarded_run_takes_the_anchors_of_a_server(anchors, tmp_path):
    file = anchors.parent / "short.yaml"
    done = process(command("run", file, "--out", tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert records(tmp_path / "run", "look")[0]["failed_pipeline_check"] == []
    assert read_anchors(anchors).manifest.engine == "vllm-server"


def test_adapters_one_after_another_are_judged_by_one_server(anchors, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(load_model(BASE)[0], config)
    for step, size in enumerate((0.05, 0.5)):
        torch.manual_seed(step)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "lora_B" in name:
                    p.normal_(0, size)
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
    names = set()
    with vllm_server(BASE, tmp_path / "log", "--enable-lora", "--max-lora-rank", 8) as server:
        line = ["--anchors", anchors, "--base", BASE, "--server", server]
        for step, code in ((0, 0), (1, 3)):
            out = ["--out", tmp_path / f"out-{step}"]
            found = guardrail("look", tmp_path / f"checkpoint-{step}", *line, *out, code=code)
            print(f"adapter {step}: {found['level']}, {found['served']['proof']}")
            assert found["served"]["proof"]["share"] == pytest.approx(1, abs=0.05)
            names.add(found["served"]["name"])
        assert len(names) == 2
        assert len(VllmServer(server).ask("/v1/models")["data"]) == 1
        # This vLLM dies of scoring prompts beside adapters: said before any answer is written.
        said = guardrail("anchor", small_recipe(tmp_path), *line[-2:], code=2)
        assert "serve the model without" in said
    assert not (tmp_path / "anchors").exists()


def test_a_server_that_goes_on_with_the_base_is_caught(server, anchors, tmp_path):
    model, tokenizer = load_model(BASE)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * p.std() * torch.randn_like(p))
    model.save_pretrained(tmp_path / "checkpoint-4")
    tokenizer.save_pretrained(tmp_path / "checkpoint-4")
    line = ["--anchors", anchors, "--server", server, "--out", tmp_path / "out"]
    said = guardrail("look", tmp_path / "checkpoint-4", *line, code=2)
    print(said)
    assert "Its weights are stale or another model's" in said
    with vllm_server(tmp_path / "checkpoint-4", tmp_path / "log") as fresh:
        line[3] = fresh
        found = guardrail("look", tmp_path / "checkpoint-4", *line, code=0)
    print(found["served"]["proof"])
    assert found["served"]["proof"]["share"] == pytest.approx(1, abs=0.05)
