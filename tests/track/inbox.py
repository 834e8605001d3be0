"""An HTTP server that keeps what is posted to it, as a chat service would; below /closed it refuses."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self


class Inbox:
    """Open for the length of a `with`; `got` holds the messages."""

    def __enter__(self) -> Self:
        got: list[dict[str, Any]] = []
        self.got = got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.startswith("/closed"):
                    self.send_error(500, f"no {self.path}")
                    return
                got.append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def url(self, path: str) -> str:
        """An apprise address of this server."""
        return f"json://127.0.0.1:{self.server.server_port}/{path}"
