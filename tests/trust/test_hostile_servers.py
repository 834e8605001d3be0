"""A server that answers without end, slowly, deeply, with what is no number, or sends the key elsewhere."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from guardrail.data.chat_endpoint import ChatEndpoint, user_says
from guardrail.engines import vllm_client
from guardrail.engines.vllm_client import VllmServer
from guardrail.errors import InputError
from tests.data_wing.scripted_server import ScriptedServer


class Hostile:
    """Answers every request by a function of the handler; a context manager."""

    def __init__(self, answer):
        self.heads = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.heads.append(dict(self.headers))
                answer(self)

            do_POST = do_GET

            def log_message(self, *said):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._http.shutdown()
        self._http.server_close()


def says(text, code=200, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def client(url, **options):
    return VllmServer(url, 1, pause_s=0.001, **options)


def test_a_reply_without_end_is_refused_with_its_bound(monkeypatch):
    monkeypatch.setattr(vllm_client, "_LARGEST", 1 << 20)
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while len(sent) < 400:
                handler.wfile.write(b"[" * (1 << 16))
                sent.append(1)
        except OSError:
            pass

    with Hostile(endless) as server, pytest.raises(InputError, match="more than 1 MiB"):
        client(server.url).ask("/v1/models")
    assert len(sent) < 400, "the rest is not read"


def test_a_reply_that_drips_is_given_up_though_something_always_comes():
    def drips(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    with Hostile(drips) as server, pytest.raises(InputError, match="the reply takes too long"):
        client(server.url, timeout_s=0.2).ask("/v1/models")


def test_the_key_follows_no_redirect(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "topsecret")
    with Hostile(says("{}")) as thief, Hostile(says("", 302, Location=thief.url)) as server:
        for body in (None, {}):
            with pytest.raises(InputError, match=r"sends requests elsewhere \(302\)"):
                client(server.url).ask("/v1/models", body)
        assert thief.heads == []


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', "[" * 100_000, '{"a": ' + "9" * 6000 + "}", '{"a"', '{"a": Infinity}'],
)
def test_a_reply_that_is_no_json_is_one_line(text):
    with Hostile(says(text)) as server, pytest.raises(InputError) as caught:
        client(server.url).ask("/v1/models")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "listed", [[], {}, {"data": [1]}, {"data": [{"id": 5}]}, {"data": [{"id": "a", "root": [1]}]}]
)
def test_models_that_are_none_are_one_line(listed):
    with (
        Hostile(says(json.dumps(listed))) as server,
        pytest.raises(InputError, match="is no vLLM server"),
    ):
        client(server.url).served()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host:80/v1",
        "https://hunter2@host/v1",
        "http://host/v1?api_key=hunter2",
        "file:///etc/passwd",
        "http://host\n.evil",
        "http://[host",
        "http://",
        "ftp://user:hunter2@host",
    ],
)
def test_an_address_with_a_secret_or_of_no_server_is_refused_and_not_repeated(url):
    with pytest.raises(InputError) as caught:
        client(url).ask("/v1/models")
    assert "hunter2" not in str(caught.value)


ODD_REPLIES = [
    {"choices": [{"message": {"content": ["parts"]}}]},
    {"choices": [{"message": {"content": {"a": 1}}}]},
    {"choices": [{"message": "text"}]},
    {"choices": {"0": 1}},
    {"choices": []},
    {"choices": [{"message": {"content": "x", "reasoning": 5}}]},
    {"choices": [{"message": {"content": "x"}}], "usage": "none"},
    [],
    "words",
]


@pytest.mark.parametrize("reply", ODD_REPLIES, ids=range(len(ODD_REPLIES)))
def test_a_reply_that_is_none_of_the_interface_s_is_one_line(reply):
    with Hostile(says(json.dumps(reply))) as server, pytest.raises(InputError, match="OpenAI"):
        ChatEndpoint(client(server.url), "m")([user_says("问", "a")])


def test_numbers_no_endpoint_can_mean_are_taken_for_none(tmp_path):
    told = {
        "text": "好\ud800",
        "finish_reason": ["x" * 500],
        "logprobs": {"content": [{"logprob": 5.0}, {"logprob": "a"}]},
    }
    with ScriptedServer(lambda prompt, body: dict(told)) as server:
        endpoint = ChatEndpoint(client(server.url), "m", tmp_path / "asked.jsonl")
        (reply,) = endpoint([user_says("问", "a")])
    assert reply.confidence is None
    assert len(reply.finish_reason) <= 40
    again = ChatEndpoint(client("http://127.0.0.1:9"), "m", tmp_path / "asked.jsonl")
    assert again([user_says("问", "a")]) == [reply]
    body = {
        "choices": [{"message": {"content": "x"}}],
        "usage": {"prompt_tokens": "9", "completion_tokens": -4},
    }
    with Hostile(says(json.dumps(body))) as server:
        endpoint = ChatEndpoint(client(server.url), "m")
        endpoint([user_says("问", "a")])
    assert endpoint.costs.as_dict()["without_usage"] == 1
