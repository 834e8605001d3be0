"""A small server that speaks what the client uses of vLLM's interface and answers with a model through transformers.

It can be unwell, die, be started with too little, and go on with weights it should no longer have.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig


class ToyServer:
    """Serves a model's folder as `toy` until it is closed; a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        dtype: torch.dtype = torch.float32,
        max_model_len: int = 1024,
        max_logprobs: int = -1,
        gives_token_ids: bool = True,
        runtime_adapters: bool = True,
        stale_adapters: bool = False,
        temperature_in_logprobs: float = 1.0,
    ) -> None:
        self.folder = folder
        self.models: dict[str, Any] = {"toy": _load(folder).to(dtype)}
        self.roots = {"toy": str(folder)}
        self.max_model_len, self.max_logprobs = max_model_len, max_logprobs
        self.gives_token_ids = gives_token_ids
        self.runtime_adapters, self.stale_adapters = runtime_adapters, stale_adapters
        self.temperature_in_logprobs = temperature_in_logprobs
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Path and body of every request, in the order they came."""
        self.keys: set[str | None] = set()
        self.unwell = 0
        """How many of the next requests are answered 503."""
        self.dies_after: int | None = None
        """Answers after which nobody listens any more."""
        self._one_at_a_time = threading.Lock()
        ThreadingHTTPServer.request_queue_size = 64
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> "ToyServer":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self.stop_listening()
        self._thread.join()

    def stop_listening(self) -> None:
        """From now on connections are refused, those that wait for an answer among them."""
        self._http.shutdown()
        self._http.socket.close()

    def completions(self) -> list[dict[str, Any]]:
        """The bodies of the requests for an answer, what is only scored left out."""
        bodies = [body for path, body in self.asked if path == "/v1/completions"]
        return [body for body in bodies if "repetition_penalty" in body]

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and content for a request."""
        with self._one_at_a_time:
            self.asked.append((path, body))
            if self.unwell:
                self.unwell -= 1
                return 503, {"error": {"message": "loading"}}
            if "repetition_penalty" in body and self.dies_after is not None:
                self.dies_after -= 1
                if self.dies_after < 0:
                    raise ConnectionAbortedError
            return {
                "/version": self._version,
                "/v1/models": self._models,
                "/v1/completions": self._complete,
                "/v1/load_lora_adapter": self._load_adapter,
                "/v1/unload_lora_adapter": self._unload_adapter,
            }[path](body)

    def _version(self, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"version": "0.0.toy"}

    def _models(self, body: dict[str, Any]) -> tuple[int, Any]:
        cards = [
            {"id": name, "root": self.roots[name], "parent": None if name == "toy" else "toy"}
            for name in self.models
        ]
        cards[0]["max_model_len"] = self.max_model_len
        return 200, {"object": "list", "data": cards}

    def _load_adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        if not self.runtime_adapters:
            return 404, {"detail": "Not Found"}
        name, path = body["lora_name"], body["lora_path"]
        if body.get("load_inplace") or name in self.models:
            return 400, {
                "error": {"message": f"The lora adapter '{name}' has already been loaded."}
            }
        base = _load(self.folder)
        self.models[name] = base if self.stale_adapters else PeftModel.from_pretrained(base, path)
        self.roots[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _unload_adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        del self.models[body["lora_name"]]
        return 200, "Success"

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt, count = body["prompt"], body.get("prompt_logprobs")
        if body["model"] not in self.models:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if len(prompt) + body["max_tokens"] > self.max_model_len:
            limit = self.max_model_len
            return 400, {"error": {"message": f"maximum context length is {limit} tokens"}}
        if count is not None and -1 < self.max_logprobs < count:
            said = f"Requested prompt logprobs of {count}, which is greater than max allowed: {self.max_logprobs}"
            return 400, {"error": {"message": said}}
        model = self.models[body["model"]].eval()
        new = _generated(model, body)
        stops = body.get("stop_token_ids", [])
        choice: dict[str, Any] = {
            "index": 0,
            "text": "",
            "finish_reason": "stop" if new[-1] in stops else "length",
            "stop_reason": new[-1] if new[-1] in stops else None,
        }
        if body.get("return_token_ids") and self.gives_token_ids:
            choice |= {"token_ids": new, "prompt_token_ids": prompt}
        if count is not None:
            choice["prompt_logprobs"] = self._scored(model, prompt, count)
        if body.get("logprobs"):
            value = float(self._logprobs(model, prompt)[-1, new[0]])
            choice["logprobs"] = {"token_logprobs": [value], "tokens": [""], "top_logprobs": [None]}
        return 200, {"object": "text_completion", "model": body["model"], "choices": [choice]}

    def _logprobs(self, model: Any, ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].float()
        return torch.log_softmax(logits, -1) / self.temperature_in_logprobs

    def _scored(self, model: Any, ids: list[int], count: int) -> list[dict[str, Any] | None]:
        logprobs = self._logprobs(model, ids)
        rows: list[dict[str, Any] | None] = [None]
        for at, token in enumerate(ids[1:]):
            best = logprobs[at].topk(count).indices.tolist()
            kept = dict.fromkeys([token, *best])
            rows.append({str(t): {"logprob": logprobs[at, t].item(), "rank": 1} for t in kept})
        return rows


def _load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)


def _generated(model: Any, body: dict[str, Any]) -> list[int]:
    """New tokens; the last is a stop token where one ended them, as vLLM gives them."""
    if "allowed_token_ids" in body:
        return list(body["allowed_token_ids"])
    prompt = torch.tensor([body["prompt"]])
    sampled = body["temperature"] > 0
    options: dict[str, Any] = {"do_sample": sampled}
    if sampled:
        torch.manual_seed(body["seed"])
        options |= {name: body[name] for name in ("temperature", "top_p", "top_k")}
    config = GenerationConfig(
        max_new_tokens=body["max_tokens"],
        repetition_penalty=body.get("repetition_penalty", 1.0),
        eos_token_id=body.get("stop_token_ids") or None,
        pad_token_id=0,
        **options,
    )
    new = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    return [int(token) for token in new[0, prompt.shape[1] :]]


def _handler(toy: ToyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            toy.keys.add(self.headers["Authorization"])
            try:
                code, content = toy.reply(self.path, body)
            except ConnectionAbortedError:
                self.close_connection = True
                threading.Thread(target=toy.stop_listening).start()
                return
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *said: object) -> None:
            pass

    return Handler
