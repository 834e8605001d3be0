"""A small OpenAI-compatible server whose answers a function of the test writes; deterministic, and it can be unwell or die."""

import json
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any

from tests.engines.toy_server import _handler

Script = Callable[[str, dict[str, Any]], Any]
"""(last user turn or raw prompt, body) → the answer's text, or a whole `choice`."""


class ScriptedServer:
    """Serves `scripted` until it is closed; a context manager."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str | None] = set()
        self.dies_after: int | None = None
        """Answers after which nobody listens any more."""
        self.refuses: Callable[[str], bool] = lambda prompt: False
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> "ScriptedServer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop_listening()
        self._thread.join()

    def stop_listening(self) -> None:
        self._http.shutdown()
        self._http.socket.close()

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"version": "scripted"}
        if path == "/v1/models":
            return 200, {"data": [{"id": "scripted"}]}
        raw = path == "/v1/completions"
        prompt = body["prompt"] if raw else body["messages"][-1]["content"]
        with self._lock:
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise ConnectionAbortedError
            self.asked.append((path, body))
        if self.refuses(prompt):
            return 400, {"error": {"message": "data_inspection_failed"}}
        said = self.script(prompt, body)
        choice = said if isinstance(said, dict) else {"text": said}
        text = choice.pop("text")
        whole = {
            "finish_reason": "stop",
            **({"text": text} if raw else {"message": {"content": text}}),
        }
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(text)}
        return 200, json.loads(json.dumps({"choices": [whole | choice], "usage": usage}))
