"""`guardrail watch`: the report page of a run, or of every run in a folder, served while it goes.

Nothing is written and no thread works in the background: a run is read on when a browser asks. Only this
machine is listened to. A page of some other site that makes its own name point here (DNS rebinding) is told
apart by the Host header and refused.
"""

import functools
import json
import logging
import os
import secrets
import sys
import threading
import time
import webbrowser
from collections.abc import Mapping
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from markupsafe import Markup
from rich.console import Console
from rich.markup import escape

from guardrail.errors import InputError
from guardrail.ledger.file import FILE_NAME
from guardrail.live.run_reader import LiveRun
from guardrail.live.status import ENDED, shown_state
from guardrail.live.status_terminal import one_line
from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.phrases import Phrases
from guardrail.report.page.texts import Language, language_of
from guardrail.report.report import page_and_facts, page_environment

__all__ = ["DEFAULT_PORT", "WatchServer", "open_server"]

DEFAULT_PORT = 8765
HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")
"""A tunnel keeps the name and may change the port, so that any port is allowed."""
_FAST_S, _SLOW_S = 1.0, 30.0
_SEARCH = (f"*/{FILE_NAME}", f"*/*/{FILE_NAME}")

logger = logging.getLogger(__name__)


class WatchServer(ThreadingHTTPServer):
    """Serves one folder: a run, a folder of runs, or one that is still to come."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, language: Language | None = None) -> None:
        """Bind to the port, 0 for a free one; `language` is each run's own where None.

        Raises:
            OSError: the port is taken or not allowed.
        """
        self.folder, self.language = folder, language
        self.started = f"{time.time_ns():x}"
        """Part of every version: a page of an earlier server is never taken for a current one."""
        self._locks: dict[str, threading.RLock] = {}
        self._runs: dict[str, LiveRun] = {}
        self._pages: dict[str, tuple[str, str]] = {}
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def lock_of(self, name: str) -> threading.RLock:
        """Return the lock of one run: reading one that is slow to read holds up no other's page."""
        return self._locks.setdefault(name, threading.RLock())

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def names(self) -> list[str]:
        """Return the runs below the folder, by path; empty where the folder itself is a run, or holds none."""
        if (self.folder / FILE_NAME).is_file():
            return []
        found = {p.parent for pattern in _SEARCH for p in self.folder.glob(pattern)}
        return sorted(str(p.relative_to(self.folder)) for p in found)

    def live(self, name: str) -> LiveRun:
        """Return a run read on until now; `name` is empty for the folder itself."""
        live = self._runs.setdefault(name, LiveRun(self.folder / name))
        live.read_on()
        return live

    def beat(self, name: str) -> dict[str, Any]:
        """Return what a page asks for each second: its version, how it goes, when to ask again."""
        names = [] if name else self.names()
        if names:
            rows = sorted(
                map(self._row, names), key=lambda row: row["last_record_at"], reverse=True
            )
            said = "|".join(f"{row['name']}:{row['status']}" for row in rows)
            version = f"{self.started}-list-{hash(said):x}"
            beat = {"kind": "list", "version": version, "poll_s": 2 * _FAST_S, "rows": rows}
            return beat | {"status": None, "state": "list", "ended": False}
        live = self.live(name)
        status = live.status()
        kind = "report" if status else "problem" if live.problem else "waiting"
        ended = status is not None and status["outcome"] in ENDED
        return {
            "kind": kind,
            "version": f"{self.started}-{kind}-{live.version}",
            "poll_s": _SLOW_S if ended else _FAST_S,
            "status": status,
            "state": shown_state(status) if status else kind,
            "problem": live.problem,
            "ended": ended,
        }

    def _row(self, name: str) -> dict[str, Any]:
        with self.lock_of(name):
            status = self.live(name).status()
        facts: dict[str, Any] = {
            "name": name,
            "link": f"run/{_quoted(name)}/",
            "status": None,
            "last_record_at": "",
        }
        if status is not None:
            keys = ("step", "planned_steps", "level", "failures")
            facts["status"] = {k: status[k] for k in keys} | {"state": shown_state(status)}
            facts["last_record_at"] = status["pace"]["last_record_at"] or ""
        return facts

    def page(self, name: str, nonce: str) -> str:
        """Return the page, built anew only where its version changed; `nonce` lets its script run."""
        beat = self.beat(name)
        cached = self._pages.get(name)
        if cached is None or cached[0] != beat["version"]:
            cached = (beat["version"], self._build(name, beat))
            self._pages[name] = cached
        return cached[1].replace(_NONCE, nonce)

    def _build(self, name: str, beat: Mapping[str, Any]) -> str:
        live = {"nonce": _NONCE, "beat": beat, "name": name, "above": "../" * (name.count("/") + 2)}
        live |= {"folder": str(self.folder / name), "heartbeat": self.heartbeat(name, beat)}
        phrases = self._phrases(name)
        if beat["kind"] != "report":
            return page_environment().get_template("watch.html.j2").render(live=live, p=phrases)
        run = self.live(name)
        assert run.data is not None
        started = time.thread_time()
        now = datetime.now(timezone.utc)
        page, _ = page_and_facts(run.data, language=phrases.language, now=now, live=live)
        run.page_s = time.thread_time() - started
        return page

    def heartbeat(self, name: str, beat: Mapping[str, Any]) -> Markup:
        """Return the bar that stands at the bottom of a page."""
        template = page_environment().get_template("heartbeat.html.j2")
        return Markup(template.render(beat=beat, p=self._phrases(name)))

    def _phrases(self, name: str) -> Phrases:
        data = self._runs[name].data if name in self._runs else None
        own = language_of(data.recipe.get("language") if data is not None else None)
        return Phrases(self.language or own)


_NONCE = "nonce-" + secrets.token_hex(16)
"""Stands in a built page where each answer puts its own."""


def _name_in(host: str) -> str | None:
    """The name in a Host header, without its port; None where it holds none, whatever stands there."""
    try:
        return urlsplit(f"//{host.strip()}").hostname
    except ValueError:  # half a bracket of an IPv6 address
        return None


def _quoted(name: str) -> str:
    return quote(name, errors="surrogateescape")


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    protocol_version = "HTTP/1.1"
    server_version = "guardrail"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        if _name_in(self.headers.get("Host") or "") not in _NAMES:
            self._send(
                HTTPStatus.FORBIDDEN,
                "text/plain",
                f"refused: this server answers to {' and '.join(_NAMES)} only\n",
            )
            return
        try:
            status, kind, body, nonce = self._answer(self.path.partition("?")[0])
        except Exception:
            # The one boundary: a page that cannot be built must not end the watching, nor stay unsaid.
            logger.exception("`%s` could not be answered", one_line(self.path, 300))
            status, kind, nonce = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", ""
            body = "this page could not be built; the terminal of `guardrail watch` says why\n"
        self._send(status, kind, body, nonce)

    do_HEAD = do_GET

    def _answer(self, path: str) -> tuple[HTTPStatus, str, str, str]:
        missing = (HTTPStatus.NOT_FOUND, "text/plain", "there is no such page\n", "")
        folder, _, asked = path.rpartition("/")
        name = ""
        if folder:
            name = unquote(folder.removeprefix("/run/"), errors="surrogateescape")
            if folder != f"/run/{_quoted(name)}" or name not in self.server.names():
                return missing
        if asked == "version":
            with self.server.lock_of(name):
                beat = self.server.beat(name)
                said = {k: beat[k] for k in ("kind", "version", "poll_s")}
                said |= {"heartbeat": self.server.heartbeat(name, beat)}
            return HTTPStatus.OK, "application/json", json.dumps(said), ""
        if asked == "":
            nonce = secrets.token_urlsafe(16)
            with self.server.lock_of(name):
                page = self.server.page(name, nonce)
            return HTTPStatus.OK, "text/html", page, nonce
        return missing

    def _send(self, status: HTTPStatus, kind: str, body: str, nonce: str = "") -> None:
        data = body.encode("utf-8", errors="backslashreplace")
        script = f"'nonce-{nonce}'" if nonce else "'none'"
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
            f"connect-src 'self'; script-src {script}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of a request a second."""


def open_server(
    folder: Path, port: int = DEFAULT_PORT, language: Language | None = None
) -> WatchServer:
    """Return a server that listens and is still to be run with `serve_forever`.

    Raises:
        InputError: the folder is a file, or the port is taken or not allowed.
    """
    if folder.is_file():
        raise InputError(f"`{folder}` is a file; give the folder of a run, or of several")
    try:
        return WatchServer(folder, port, language)
    except OSError as error:
        raise InputError(
            f"port {port} of {HOST} cannot be used ({error.strerror}); give another with --port, or "
            "--port 0 for any free one"
        ) from error


def serve(
    server: WatchServer, console: Console, *, open_browser: bool, language: Language = "en"
) -> None:
    """Answer until Ctrl-C; say where the page is, and open it where there is a screen to open it on."""
    say = functools.partial(console.print, soft_wrap=True, highlight=False)
    words = terminal_words(language)
    try:
        say(words("watching {folder}", folder=escape(one_line(server.folder))))
        say(words("  {url}   (Ctrl-C ends the watching, not the run)", url=server.url))
        if "SSH_CONNECTION" in os.environ:
            there = f"ssh -N -L {server.server_address[1]}:{HOST}:{server.server_address[1]}"
            say(words("  from your own machine: {there} THIS_MACHINE", there=there))
        if open_browser and (sys.platform in ("darwin", "win32") or _has_display()):
            webbrowser.open(server.url)
        server.serve_forever()
    except KeyboardInterrupt:
        say(words("stopped watching"))
    finally:
        server.server_close()


def _has_display() -> bool:
    """Without a screen `webbrowser` would start a text browser in this very terminal."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
