"""A W&B server that lets a run begin and then never answers again, or never answers at all."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self

_VIEWER = {"id": "u", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}
_PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}


class SilentWandb:
    """Open for the length of a `with`; `environment` makes a process take it for W&B."""

    def __init__(self, *, from_the_start: bool = False) -> None:
        self.silent = threading.Event()
        if from_the_start:
            self.silent.set()
        self.hung = 0
        """Requests that got no answer."""

    def __enter__(self) -> Self:
        outer, closing = self, threading.Event()
        self._closing = closing

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer.silent.is_set():
                    outer.hung += 1
                    closing.wait()
                    return
                asked = json.loads(body)
                data: dict[str, Any] = {"viewer": _VIEWER, "model": {**_PROJECT, "bucket": None}}
                if "upsertBucket" in asked["query"]:
                    name = asked["variables"]["name"]
                    bucket = {"id": "b", "name": name, "displayName": name, "config": "{}"}
                    data["upsertBucket"] = {
                        "bucket": bucket | {"project": _PROJECT},
                        "inserted": True,
                    }
                    outer.silent.set()
                answer = json.dumps({"data": data}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process take this server for W&B."""
        return {
            "WANDB_BASE_URL": f"http://127.0.0.1:{self.server.server_port}",
            "WANDB_API_KEY": "local-" + "x" * 40,
            "WANDB_MODE": "online",
        }
