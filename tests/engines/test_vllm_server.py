"""The client and the engine of a vLLM server against a small one of the tests' own that answers with the toy base."""

import pytest

from guardrail.anchors.decoding import Decoding
from guardrail.engines.vllm_client import VllmServer
from guardrail.engines.vllm_server import ServerEngine
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_tokenizer
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root
from tests.engines.toy_server import ToyServer
from tests.run_fixtures import free_port

pytestmark = pytest.mark.run
BASE = shipped_root() / "recipes/toy/base"
GREEDY = Decoding(mode="greedy", max_new_tokens=8)


@pytest.fixture(scope="module")
def items():
    return read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::60]


@pytest.fixture
def toy(request):
    with ToyServer(BASE, **getattr(request, "param", {})) as server:
        yield server


def client(toy):
    return VllmServer(toy.url, concurrency=4, pause_s=0.01)


def engine(toy, decoding=GREEDY):
    tokenizer = load_tokenizer(BASE)
    profile = resolve_profile(BASE, tokenizer, thinking=False)
    server = client(toy)
    return ServerEngine(server, server.served(), tokenizer, decoding, profile)


def test_a_server_says_what_it_serves(toy):
    served = client(toy).served()
    assert (served.name, served.root, served.parent) == ("toy", str(BASE), "")
    assert (served.max_model_len, served.version) == (1024, "0.0.toy")
    assert VllmServer(toy.url + "/v1/").served("toy") == served


def test_a_model_it_does_not_serve_is_refused_with_those_it_does(toy):
    with pytest.raises(InputError, match="serves no `qwen` but `toy`"):
        client(toy).served("qwen")
    toy.models["other"], toy.roots["other"] = toy.models["toy"], "other"
    assert client(toy).served().name == "toy"  # the other is an adapter on it
    toy.models = {"a": 0, "b": 0}
    toy.roots = {"a": "a", "b": "b"}
    with pytest.raises(InputError, match=r"`a`, `b`; say which with `--served-as NAME`"):
        client(toy).served()


def test_an_address_that_is_none_of_a_server_is_refused(toy, monkeypatch):
    with pytest.raises(InputError, match="is no address of a server; give one such as http"):
        VllmServer("127.0.0.1:8000").served()
    monkeypatch.setattr(toy, "reply", lambda path, body: (200, "<html>a page</html>"))
    with pytest.raises(InputError, match="is no vLLM server: it lists no models"):
        client(toy).served()


def test_a_busy_server_is_asked_again(toy, items):
    asked = engine(toy)
    plain = asked.answer(items, seed=0)
    toy.unwell = 12  # of four side by side three each
    assert asked.answer(items, seed=0) == plain


def test_a_server_that_stays_away_is_named_with_what_to_do(toy, items):
    asked = engine(toy)
    toy.unwell = 10_000
    with pytest.raises(InputError, match=r"it answers 503: loading.*tried 6 times; start it"):
        asked.answer(items, seed=0)
    with pytest.raises(InputError, match=r"Connection refused.*tried 6 times"):
        VllmServer(f"http://127.0.0.1:{free_port()}", pause_s=0.001).served()


def test_a_refusal_is_not_asked_again(toy):
    before = len(toy.asked)
    with pytest.raises(InputError, match=r"refuses \(404\): The model `x` does not exist"):
        client(toy).ask("/v1/completions", {"model": "x", "prompt": [1], "max_tokens": 1})
    assert len(toy.asked) == before + 1


def test_the_key_of_the_environment_is_sent(toy, monkeypatch):
    client(toy).served()
    assert toy.keys == {None}
    monkeypatch.setenv("VLLM_API_KEY", "one")
    client(toy).served()
    assert toy.keys == {None, "Bearer one"}


def test_a_request_says_all_of_the_decoding_and_a_seed_of_its_own(toy, items):
    sampled = Decoding(temperature=0.9, top_p=0.7, top_k=9, max_new_tokens=4)
    engine(toy, sampled).answer(items, seed=3)
    engine(toy).answer(items, seed=3)
    first, *others = toy.completions()
    said = {"temperature": 0.9, "top_p": 0.7, "top_k": 9, "repetition_penalty": 1.0, "min_p": 0.0}
    assert first.items() >= (said | {"max_tokens": 4, "presence_penalty": 0.0}).items()
    assert first["stop_token_ids"] == [2]
    assert all(isinstance(token, int) for token in first["prompt"])
    assert len({body["seed"] for body in [first, *others][: len(items)]}) == len(items)
    last = others[-1]
    assert (last["temperature"], last["top_p"], last["top_k"], last["seed"]) == (0.0, 1.0, 0, None)


@pytest.mark.parametrize(
    ("toy", "said"),
    [
        ({"max_model_len": 40}, r"holds 40 tokens .* start it with `--max-model-len \d+` or more"),
        ({"gives_token_ids": False}, "no `token_ids`.*take vLLM 0.10.2 or newer"),
    ],
    indirect=["toy"],
)
def test_what_a_server_lacks_to_answer_is_said(toy, items, said):
    with pytest.raises(InputError, match=said):
        engine(toy).answer(items, seed=0)


@pytest.mark.parametrize(
    ("toy", "said"),
    [
        ({"max_logprobs": 20}, r"greater than max allowed: 20. Start it with `--max-logprobs -1`"),
        ({"temperature_in_logprobs": 4.0}, r"start it with `--logprobs-mode raw_logprobs`"),
    ],
    indirect=["toy"],
)
def test_log_probabilities_that_cannot_be_had_are_said(toy, items, said):
    with pytest.raises(InputError, match=said):
        engine(toy).topk(items[:1], [[5, 6, 7]], 64)


@pytest.mark.parametrize("toy", [{"temperature_in_logprobs": float("inf")}], indirect=True)
def test_scores_of_what_a_choice_has_left_are_refused(toy):
    with pytest.raises(InputError, match="--logprobs-mode raw_logprobs"):
        engine(toy).token_logprobs([[5, 6]], [[7, 8]])


def test_a_server_that_dies_of_scoring_prompts_is_told_why(toy, items):
    asked = engine(toy)
    toy.unwell = 10_000
    with pytest.raises(InputError, match=r"started with `--enable-lora`.*serve the model without"):
        asked.topk(items[:1], [[5]], 4)


def test_an_end_that_is_not_the_profiles_is_refused(toy, items, monkeypatch):
    own = toy.reply

    def stop_early(path, body):
        code, content = own(path, body)
        if path == "/v1/completions":
            content["choices"][0]["finish_reason"] = "stop"
        return code, content

    monkeypatch.setattr(toy, "reply", stop_early)
    cut = engine(toy, Decoding(mode="greedy", max_new_tokens=2))
    with pytest.raises(InputError, match=r"ended an answer with `stop`.* it is `length`"):
        cut.answer(items, seed=0)


def test_a_prompt_that_was_changed_on_the_way_is_refused(toy, items, monkeypatch):
    own = toy.reply

    def cut_prompt(path, body):
        if path == "/v1/completions":
            body["prompt"] = body["prompt"][2:]
        return own(path, body)

    monkeypatch.setattr(toy, "reply", cut_prompt)
    with pytest.raises(InputError, match="answered another prompt than was sent"):
        engine(toy).answer(items, seed=0)


def test_without_the_weights_here_the_error_of_top_k_is_not_known(toy, items):
    assert engine(toy).topk_error(items, [[5]] * len(items), (4, 16), seed=0) == {}


def test_an_adapter_is_loaded_under_a_new_name_and_taken_away(toy, tmp_path):
    from peft import LoraConfig, get_peft_model

    from guardrail.models.load import load_model

    get_peft_model(load_model(BASE)[0], LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        tmp_path
    )
    names = set()
    for _ in range(2):
        with client(toy).adapter(tmp_path) as name:
            served = client(toy).served(name)
            assert (served.parent, served.root) == ("toy", str(tmp_path))
            assert served.max_model_len == 1024
            names.add(name)
        assert name not in toy.models
    assert len(names) == 2
    loaded = [body for path, body in toy.asked if path == "/v1/load_lora_adapter"]
    assert not any("load_inplace" in body for body in loaded)


@pytest.mark.parametrize("toy", [{"runtime_adapters": False}], indirect=True)
def test_a_server_that_loads_no_adapters_is_told_how_to_start(toy, tmp_path):
    with (
        pytest.raises(InputError, match=r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        client(toy).adapter(tmp_path),
    ):
        pass
