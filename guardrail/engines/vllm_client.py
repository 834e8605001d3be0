"""A vLLM server over HTTP: what it serves, requests side by side, retries, adapters under names of their own.

It speaks the OpenAI interface with vLLM's own fields; of the standard library alone, so that a machine that
only asks needs no client of vLLM's.
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
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from uuid import uuid4

from guardrail.errors import InputError

__all__ = ["Served", "Unreachable", "VllmServer"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_TRIES = 6
_API = re.compile(r"/v\d+\Z")
_KEY = "VLLM_API_KEY"
"""Environment variable with the key of a server that wants one; vLLM's own name for it."""


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
        root, below = self.url.rstrip("/"), path.startswith("/v1/")
        if _API.search(root):
            root, path = (root, path[3:]) if below else (_API.sub("", root), path)
        address = root + path
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(_KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        if not address.startswith(("http://", "https://")):
            raise InputError(
                f"`{self.url}` is no address of a server; give one such as http://127.0.0.1:8000"
            )
        for left in reversed(range(_TRIES)):
            try:
                with urlopen(Request(address, data, headers), timeout=self.timeout_s) as reply:
                    return _decoded(reply.read().decode("utf-8"))
            except HTTPError as error:
                with error:
                    said = _said(error.read().decode("utf-8", "replace"))
                if error.code < 500 and error.code != 429:
                    raise _Refused(address, error.code, said) from error
                failed: str = f"it answers {error.code}: {said}"
            except (URLError, OSError, http.client.HTTPException, json.JSONDecodeError) as error:
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
        if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
            raise InputError(
                f"`{self.url}` is no vLLM server: it lists no models; give the address of one"
            )
        cards = listed["data"]
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
            max_model_len=below.get("max_model_len"),
            version=self._version(),
        )

    def _version(self) -> str:
        try:
            return str(self.ask("/version").get("version", "unknown"))
        except _Refused:
            return "unknown"

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


def _decoded(text: str) -> Any:
    """JSON where it is JSON; vLLM answers about adapters in plain words."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    return json.loads(text)


def _said(text: str) -> str:
    """The message of an error, in any of the forms servers give it."""
    try:
        content = json.loads(text)
    except ValueError:
        return text.strip()[:400] or "no message"
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return str(message)[:400]
