"""The endpoint: a killed stage goes on, costs are counted over all tries, refusals and cut answers are told apart."""

import json
from itertools import pairwise

import pytest

from guardrail.data.chat_endpoint import ChatEndpoint, user_says
from guardrail.data.prompt_templates import Prompts, shipped_prompts
from guardrail.engines.vllm_client import Unreachable, VllmServer
from guardrail.errors import InputError
from tests.data_wing.scripted_server import ScriptedServer


def _endpoint(server, journal=None, **options):
    return ChatEndpoint(VllmServer(server.url, 2, pause_s=0.001), "scripted", journal, **options)


ASKED = [user_says(f"问题{n}", "questions", seed=n) for n in range(6)]


def test_what_was_answered_before_a_kill_is_not_asked_again(tmp_path):
    journal = tmp_path / "asked.jsonl"
    with ScriptedServer(lambda prompt, body: f"答{prompt}") as server:
        server.dies_after = 3
        with pytest.raises(Unreachable):
            _endpoint(server, journal)(ASKED)
    answered = len(journal.read_bytes().splitlines())
    assert answered == 3
    with journal.open("ab") as file:
        file.write(b'{"key": "torn')  # the process was killed inside a write
    with ScriptedServer(lambda prompt, body: f"答{prompt}") as server:
        endpoint = _endpoint(server, journal)
        assert [reply.text for reply in endpoint(ASKED)] == [f"答问题{n}" for n in range(6)]
        assert len(server.asked) == 3
    assert endpoint.costs.as_dict()["requests"] == 6
    assert endpoint.costs.by_purpose["questions"]["prompt_tokens"] == 6 * 3


def test_an_address_may_end_at_the_server_or_where_a_vendors_api_begins():
    class Vendor(ScriptedServer):
        def reply(self, path, body):
            self.paths = [*getattr(self, "paths", ()), path]
            version = "/version" if path.endswith("/version") else None
            return super().reply(version or "/v1/" + path.removeprefix("/api/paas/v4/"), body)

    with Vendor(lambda prompt, body: "好") as vendor:
        root = vendor.url.removesuffix("/v1")
        client = VllmServer(f"{root}/api/paas/v4/", 1)
        assert ChatEndpoint(client, client.served().name)(ASKED[:1])[0].text == "好"
        assert vendor.paths == [
            "/api/paas/v4/models",
            "/api/paas/version",
            "/api/paas/v4/chat/completions",
        ]
    with ScriptedServer(lambda prompt, body: "好") as server:
        for url in (server.url, server.url.removesuffix("/v1"), server.url + "/"):
            assert ChatEndpoint(VllmServer(url, 1), "scripted")(ASKED[:1])[0].whole


def test_a_broken_line_of_the_journal_is_named(tmp_path):
    journal = tmp_path / "asked.jsonl"
    journal.write_text("nothing\n")
    with (
        ScriptedServer(lambda prompt, body: "") as server,
        pytest.raises(InputError, match="line 1"),
    ):
        _endpoint(server, journal)


def test_another_seed_or_temperature_is_another_request():
    with ScriptedServer(lambda prompt, body: str(body["seed"])) as server:
        endpoint = _endpoint(server)
        same = user_says("问", "a", seed=1)
        assert [r.text for r in endpoint([same, same, user_says("问", "a", seed=2)])] == [
            "1",
            "1",
            "2",
        ]
        assert len(server.asked) == 2


def test_a_refused_chat_is_a_reply_but_a_wrong_endpoint_ends_the_stage():
    with ScriptedServer(lambda prompt, body: "好") as server:
        server.refuses = lambda prompt: "敏感" in prompt
        endpoint = _endpoint(server)
        with pytest.raises(InputError, match="data_inspection_failed"):
            endpoint([user_says("敏感", "a")])
        first, second = endpoint([user_says("平常", "a")]) + endpoint([user_says("敏感", "a")])
        assert first.whole
        assert second.finish_reason == "refused"


def test_an_endpoint_with_too_short_a_context_ends_the_stage_and_a_cap_helps():
    class Short(ScriptedServer):
        def reply(self, path, body):
            if body.get("max_tokens", 0) > 64:
                said = "max_tokens=1024 cannot be greater than max_model_len=64"
                return 400, {"error": {"message": said}}
            return super().reply(path, body)

    with Short(lambda prompt, body: "好") as server:
        endpoint = _endpoint(server)
        assert endpoint([user_says("短", "a", max_tokens=8)])[0].whole
        with pytest.raises(InputError, match="--most-tokens"):
            endpoint(ASKED)
        assert _endpoint(server, most_tokens=64)(ASKED)[0].whole


def test_thinking_confidence_and_cut_answers_are_read():
    def script(prompt, body):
        if prompt == "想":
            return {
                "text": "<think>先想</think>再答",
                "logprobs": {"content": [{"logprob": -0.1}, {"logprob": -0.3}]},
            }
        return {"text": "没说完", "finish_reason": "length"}

    with ScriptedServer(script) as server:
        thought, cut = _endpoint(server, thinking=False)(
            [user_says("想", "a"), user_says("长", "a")]
        )
        assert (thought.text, thought.thinking) == ("再答", "先想")
        assert thought.confidence == pytest.approx(0.8187, abs=1e-4)
        assert not cut.whole
        assert all(
            body["chat_template_kwargs"] == {"enable_thinking": False} for _, body in server.asked
        )


def test_templates_of_ones_own_replace_the_shipped_ones_and_wrong_values_are_named(tmp_path):
    (tmp_path / "difficulty.zh.md").write_text("难吗：{{ question }}", encoding="utf-8")
    (tmp_path / "density.zh.md").write_text("{{ qestion }}", encoding="utf-8")
    prompts = Prompts(tmp_path)
    assert prompts("difficulty", question="一加一") == "难吗：一加一"
    assert "一加一" in prompts("correct", question="一加一", reference="二", answer="二")
    with pytest.raises(InputError, match="qestion"):
        prompts("density", question="问", answer="答")
    assert set(prompts.record()) == {"difficulty", "density"}


def test_every_shipped_template_is_chinese_and_has_no_half_width_commas():
    for name, path in shipped_prompts().items():
        text = path.read_text(encoding="utf-8")
        assert any("一" <= c <= "鿿" for c in text), name
        assert not any(a in ",;" and "一" <= b <= "鿿" for a, b in pairwise(text)), name


def test_a_request_is_plain_openai_where_nothing_is_pinned():
    with ScriptedServer(lambda prompt, body: "好") as server:
        _endpoint(server)([user_says("问", "a")])
        assert set(server.asked[0][1]) == {"model", "messages", "temperature", "max_tokens", "seed"}
        json.dumps(server.asked[0][1])
