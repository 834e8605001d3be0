"""A vLLM server over HTTP: what it serves, requests side by side, retries, adapters under names of their own.

It speaks the OpenAI interface with vLLM's own fields; of the standard library alone, so that a machine that
only asks needs no client of vLLM's. What it answers is bounded in bytes and seconds, and where it sends requests
elsewhere nobody follows: the key would go along.
"""

import contextlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener
from uuid import uuid4

from guardrail.errors import InputError
from guardrail.redaction import redacted_text

__all__ = ["Served", "Unreachable", "VllmServer"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_TRIES = 6
_API = re.compile(r"/v\d+\Z")
_KEY = "VLLM_API_KEY"
"""Environment variable with the key of a server that wants one; vLLM's own name for it."""
_LARGEST = 16 << 20
_LARGEST_SCORES = 512 << 20
"""Bytes of a reply with `prompt_logprobs`: some 70 for each of the k of each token."""
_LARGEST_ERROR = 64 << 10


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server, as the server describes it."""

    name: str
    """By which requests ask for it."""
    root: str
    """The folder or hub name it was loaded from, in the server's eyes; empty where it does not say."""
    parent: str
    """The model an adapter sits on; empty for a whole model."""
    max_model_len: int | None
    """Tokens of prompt and answer together; None where the server does not say."""
    version: str
    """Of vLLM; `unknown` where the server does not say."""

    def record(self) -> dict[str, Any]:
        """Return it for manifest and ledger."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A server and how it is asked."""

    url: str
    """Such as `http://127.0.0.1:8000`, with or without `/v1`; another vendor's up to its version, such as `…/api/paas/v4`."""
    concurrency: int = 32
    """Requests under way at once; the server makes batches of them."""
    timeout_s: float = 600.0
    """Of one request."""
    pause_s: float = 1.0
    """Before a failed request is tried again; doubled each time."""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the decoded reply to a request, tried again while the server is down or busy.

        Args:
            path: Below the server, such as `/v1/models`.
            body: To be posted as JSON; None gets.

        Raises:
            Unreachable: the server cannot be reached, or is not well, in six tries.
            InputError: it refuses the request.
        """
        # An address may end where the API begins, which some vendors do not call v1; `/version` lies beside it.
        root, below = _checked_address(self.url).rstrip("/"), path.startswith("/v1/")
        if _API.search(root):
            root, path = (root, path[3:]) if below else (_API.sub("", root), path)
        address = root + path
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(_KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        most = _LARGEST_SCORES if body and "prompt_logprobs" in body else _LARGEST
        for left in reversed(range(_TRIES)):
            try:
                with _OPENER.open(Request(address, data, headers), timeout=self.timeout_s) as reply:
                    text = _read(reply, most, time.monotonic() + self.timeout_s)
                if text is None:
                    raise InputError(
                        f"server `{address}` answers with more than {most >> 20} MiB; no reply of this kind is so large"
                    )
                return _decoded(text)
            except HTTPError as error:
                with error:
                    said = _said(error.read(_LARGEST_ERROR).decode("utf-8", "replace"))
                if 300 <= error.code < 400:
                    raise InputError(
                        f"server `{address}` sends requests elsewhere ({error.code}); give the address that answers"
                    ) from error
                if error.code < 500 and error.code != 429:
                    raise _Refused(address, error.code, said) from error
                failed: str = f"it answers {error.code}: {said}"
            except InputError:
                raise
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                failed = str(getattr(error, "reason", "") or error) or type(error).__name__
            if left:
                time.sleep(self.pause_s * 2 ** (_TRIES - 1 - left))
        raise Unreachable(
            f"server `{address}` cannot be used ({failed}), tried {_TRIES} times; start it, mend the address, and run the "
            "command again: answers that are finished are kept where anchors are made"
        )

    def each(self, work: Callable[[Asked], Answer], rows: Sequence[Asked]) -> list[Answer]:
        """Return what `work` makes of each row, in order, several at a time; the first error ends it."""
        pool = ThreadPoolExecutor(max_workers=max(1, min(self.concurrency, len(rows))))
        try:
            return list(pool.map(work, rows))
        finally:
            pool.shutdown(cancel_futures=True)

    def served(self, name: str | None = None) -> Served:
        """Return what the server says of a model it serves; of its only whole model where no name is given.

        Raises:
            InputError: it serves no model of that name, or several and none was named.
        """
        listed = self.ask("/v1/models")
        cards = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(cards, list) or not all(map(_is_card, cards)):
            raise InputError(
                f"`{self.url}` is no vLLM server: it lists no models; give the address of one"
            )
        names = ", ".join(f"`{card['id']}`" for card in cards)
        if name is None:
            whole = [card for card in cards if not card.get("parent")]
            if len(whole) != 1:
                raise InputError(
                    f"server `{self.url}` serves {names or 'no model'}; say which with `--served-as NAME`"
                )
            card = whole[0]
        else:
            card = next((card for card in cards if card["id"] == name), None)
            if card is None:
                raise InputError(
                    f"server `{self.url}` serves no `{name}` but {names or 'nothing'}; mend `--served-as`"
                )
        parent = card.get("parent") or ""
        below = next((one for one in cards if one["id"] == parent), card)
        return Served(
            name=card["id"],
            root=card.get("root") or "",
            parent=parent,
            max_model_len=_whole(below.get("max_model_len")),
            version=self._version(),
        )

    def _version(self) -> str:
        try:
            said = self.ask("/version")
        except _Refused:
            return "unknown"
        return f"{said.get('version', 'unknown')!s:.80}" if isinstance(said, dict) else "unknown"

    @contextlib.contextmanager
    def adapter(self, folder: Path) -> Iterator[str]:
        """Load an adapter for the body under a name that was never used; give that name.

        A name that is used again may answer with what it held before, and adapters loaded in place are read
        anew at every request.

        Args:
            folder: The adapter's, which the server must see at the same path.

        Raises:
            InputError: the server does not load adapters while it runs, or not this one.
        """
        name = f"{folder.name}-{uuid4().hex[:12]}"
        try:
            self.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except InputError as error:
            raise InputError(
                f"{error}. Start it with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`, `--enable-lora` and a `--max-lora-rank` of the "
                f"adapter's, and let it see `{folder}` at the same path"
            ) from error
        try:
            yield name
        finally:
            with contextlib.suppress(InputError):  # a server that has died holds no adapter
                self.ask("/v1/unload_lora_adapter", {"lora_name": name})


class Unreachable(InputError):
    """The server is down, or answers that it is not well."""


class _Refused(InputError):
    """The server understood and says no: trying again is in vain."""

    def __init__(self, address: str, code: int, said: str) -> None:
        super().__init__(f"server `{address}` refuses ({code}): {said}{_advice(said)}")


def _advice(said: str) -> str:
    """What to start the server with, where its words tell what it lacks."""
    words = said.lower()
    if "logprobs" in words:
        return ". Start it with `--max-logprobs -1`, and leave `--logprobs-mode` at raw_logprobs"
    if "context length" in words or "max_model_len" in words or "max_total_tokens" in words:
        return ". Start it with a larger `--max-model-len`"
    return ""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *asked: Any) -> None:
        """Return None, which makes an error of it."""


_OPENER = build_opener(_NoRedirects)


def _checked_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None or bool(parts.query)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment
        fits = fits and url.isprintable() and " " not in url
    except ValueError:
        secret, fits = False, False
    if secret:
        raise InputError(
            f"`{redacted_text(url):.300}` holds a key or a password, which would stand in logs; give the address alone, "
            f"and the key in {_KEY}"
        )
    if not fits:
        raise InputError(
            f"`{redacted_text(url):.300}` is no address of a server; give one such as http://127.0.0.1:8000"
        )
    return url


def _read(reply: Any, most: int, deadline: float) -> str | None:
    """The text of a reply; None where it is larger than `most` bytes.

    Raises:
        TimeoutError: it is not there by the deadline, though something of it came now and then.
    """
    parts, size = [], 0
    while part := reply.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            return None
        if time.monotonic() > deadline:
            raise TimeoutError("the reply takes too long")
    return b"".join(parts).decode("utf-8")


def _decoded(text: str) -> Any:
    """JSON where it is JSON; vLLM answers about adapters in plain words."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    return json.loads(text, parse_constant=_no_number)


def _no_number(text: str) -> Any:
    raise ValueError(f"it answers {text}, which is no number of JSON")


def _is_card(card: Any) -> bool:
    """Whether this is a model as servers list them."""
    if not isinstance(card, dict) or not isinstance(card.get("id"), str):
        return False
    return all(isinstance(card.get(name) or "", str) for name in ("root", "parent"))


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _said(text: str) -> str:
    """The message of an error, in any of the forms servers give it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()[:400] or "no message"
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return str(message)[:400]
