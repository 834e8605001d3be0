"""An OpenAI-compatible endpoint that answers chats: replies kept on disk, so that a stage that was killed goes on; tokens counted.

A stage is a function of its input and of the replies. It is run again as it was, and what was answered once is not asked
again: that is all there is to resuming. A request is known by its whole body, seed included. Each reply on disk is sealed
(read_back.py), and one process at a time writes them.
"""

import hashlib
import json
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guardrail.data.judged_text import JudgedText
from guardrail.engines.vllm_client import Unreachable, VllmServer
from guardrail.errors import InputError
from guardrail.files import append_whole
from guardrail.read_back import open_regular, sealed, unsealed, why_unreadable
from guardrail.text import parse_answer
from guardrail.writer_lock import hold

__all__ = ["Answerer", "ChatEndpoint", "ChatRequest", "Costs", "Reply", "user_says"]


_COUNTED = ("requests", "prompt_tokens", "completion_tokens", "without_usage")
_LONGEST_LINE = 64 << 20
_MOST_TOKENS = 10**9


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat to be answered."""

    messages: tuple[dict[str, str], ...]
    purpose: str
    """What it is for; costs are counted by it."""
    seed: int = 0
    temperature: float = 0.7
    max_tokens: int = 1024
    logprobs: bool = False
    """Whether the reply's confidence is wanted."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, its thinking apart."""

    text: str
    thinking: str = ""
    finish_reason: str = "stop"
    """`stop`, `length` where it was cut, `refused` where the endpoint would not answer, `withheld` where it shared
    text with a judged item."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    confidence: float | None = None
    """Geometric mean of its tokens' probabilities; None where it was not asked for or not given."""

    @property
    def whole(self) -> bool:
        """Whether there is an answer and it was not cut."""
        return self.finish_reason == "stop" and bool(self.text)


Answerer = Callable[[Sequence[ChatRequest]], list[Reply]]
"""Chats → a reply each, in order; every stage is handed one."""


def user_says(text: str, purpose: str, **options: Any) -> ChatRequest:
    """Return the request of a single user turn."""
    return ChatRequest(({"role": "user", "content": text},), purpose, **options)


@dataclass(slots=True)
class Costs:
    """Requests and tokens by purpose, those of earlier tries of the stage included."""

    by_purpose: dict[str, dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(_COUNTED, 0))
    )

    def add(self, purpose: str, reply: Reply) -> None:
        """Count one reply."""
        row = self.by_purpose[purpose]
        row["requests"] += 1
        row["prompt_tokens"] += reply.prompt_tokens or 0
        row["completion_tokens"] += reply.completion_tokens or 0
        row["without_usage"] += reply.completion_tokens is None

    def as_dict(self) -> dict[str, Any]:
        """Return totals and purposes for JSON; `without_usage` counts replies whose tokens the endpoint did not tell."""
        rows = {name: dict(row) for name, row in sorted(self.by_purpose.items())}
        return {key: sum(row[key] for row in rows.values()) for key in _COUNTED} | {
            "by_purpose": rows
        }


class ChatEndpoint:
    """A model of an endpoint, as an `Answerer`.

    The endpoint's key is read from the environment variable VLLM_API_KEY.
    """

    def __init__(
        self,
        server: VllmServer,
        model: str,
        journal: Path | None = None,
        *,
        thinking: bool | None = None,
        most_tokens: int | None = None,
        judged: JudgedText | None = None,
        on_reply: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Read the journal of an earlier try, if there is one.

        Args:
            server: Where it is and how it is asked.
            model: Its name there.
            journal: Where replies are kept; None keeps none.
            thinking: Pins `enable_thinking` of the chat template, which vLLM takes; None sends nothing, as endpoints
                other than vLLM want it.
            most_tokens: Of any reply, where that is less than a stage asks for; None leaves it to the stages.
            judged: What no reply may be kept with; None keeps every reply.
            on_reply: Told how many replies there are so far.

        Raises:
            InputError: the journal is no file of this folder, another process writes it, or a line of it other than its last
                is not as it was written.
        """
        self.server, self.model, self._thinking, self._tell = server, model, thinking, on_reply
        self._journal, self._known = journal, dict[str, Reply]()
        self._judged, self._most = judged or JudgedText({}), most_tokens
        self._lock = threading.Lock()
        self.costs = Costs()
        if journal is not None and (journal.exists() or journal.is_symlink()):
            hold(journal.parent)
            self._read(journal)

    def _read(self, journal: Path) -> None:
        if journal.is_symlink():
            raise InputError(
                f"`{journal}` is a link; replies are kept in the folder of the stage alone"
            )
        good = 0
        try:
            with open_regular(journal) as file:
                lines = iter(lambda: file.readline(_LONGEST_LINE + 1), b"")
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n") and len(line) <= _LONGEST_LINE:
                        break
                    self._read_line(journal, number, line)
                    good += len(line)
        except OSError as error:
            raise InputError(f"`{journal}` cannot be read ({error.strerror})") from error
        if good < journal.stat().st_size:  # what follows was being written when the process ended
            with journal.open("r+b") as file:
                file.truncate(good)

    def _read_line(self, journal: Path, number: int, line: bytes) -> None:
        try:
            entry = unsealed(json.loads(line))
            reply = self._judged.cleared(Reply(**entry["reply"]))
            self._known[entry["key"]] = reply
            self.costs.add(entry["purpose"], reply)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"`{journal}` line {number} is no reply as it was written ({why_unreadable(error):.200}); drop the line, or the file to ask "
                "all anew"
            ) from error

    def __call__(self, requests: Sequence[ChatRequest]) -> list[Reply]:
        """Return a reply each, in order; what is in the journal is not asked again.

        A chat that the endpoint refuses has a `refused` reply, unless it never answered any: then key, name or address is wrong.

        Raises:
            InputError: the endpoint cannot be used; what was answered is kept.
        """
        asked = [("/v1/chat/completions", self._body(r), r.purpose) for r in requests]
        return self._all(asked)

    def complete(
        self,
        texts: Sequence[str],
        purpose: str,
        *,
        seed: int,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str],
    ) -> list[Reply]:
        """Return what the model writes after each raw text, no chat template added; vLLM's `/v1/completions` does that.

        Args:
            texts: As the model reads them, special tokens written out.
            purpose: What it is for.
            seed: Of the first text; each one after it has the next.
            temperature: Of all.
            max_tokens: Of one.
            stop: Texts that end it.

        Raises:
            InputError: as asking does.
        """
        body = {
            "model": self.model,
            "temperature": temperature,
            "max_tokens": self._capped(max_tokens),
            "stop": list(stop),
        }
        return self._all(
            [
                (
                    "/v1/completions",
                    {**body, "prompt": text, "seed": seed + n, "add_special_tokens": False},
                    purpose,
                )
                for n, text in enumerate(texts)
            ]
        )

    def _all(self, asked: Sequence[tuple[str, dict[str, Any], str]]) -> list[Reply]:
        """The replies to path, body and purpose each; what is known is not asked again, and what is asked twice asked once."""
        keys = [_key(body) for _, body, _ in asked]
        new = {k: n for n, k in enumerate(keys) if k not in self._known}

        if self._journal is not None and new:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            hold(self._journal.parent)

        def ask(number: int) -> None:
            path, body, purpose = asked[number]
            self._keep(keys[number], purpose, self._ask(path, body))

        self.server.each(ask, list(new.values()))
        return [self._known[key] for key in keys]

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": request.temperature,
            "max_tokens": self._capped(request.max_tokens),
            "seed": request.seed,
        }
        if request.logprobs:
            body["logprobs"] = True
        if self._thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": self._thinking}
        return body

    def _capped(self, tokens: int) -> int:
        return tokens if self._most is None else min(tokens, self._most)

    def _ask(self, path: str, body: dict[str, Any]) -> Reply:
        try:
            return _read_reply(self.server.ask(path, body), self.server.url)
        except Unreachable:
            raise
        except InputError as error:
            if "max_tokens" in str(
                error
            ):  # no chat of this stage fits, and none is refused for what it says
                raise InputError(f"{error}; or give a smaller `--most-tokens`") from error
            if not self._known:
                raise
            return Reply("", finish_reason="refused", prompt_tokens=0, completion_tokens=0)

    def _keep(self, key: str, purpose: str, reply: Reply) -> None:
        reply = self._judged.cleared(reply)
        with self._lock:
            if self._journal is not None:
                entry = sealed({"key": key, "purpose": purpose, "reply": asdict(reply)})
                line = json.dumps(entry, ensure_ascii=False) + "\n"
                append_whole(self._journal, line.encode("utf-8", "backslashreplace"))
            self._known[key] = reply
            self.costs.add(purpose, reply)
            self._tell(len(self._known))


def _key(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


def _read_reply(said: Any, url: str) -> Reply:
    try:
        choice = said["choices"][0]
        message = choice.get("message") or {"content": choice["text"]}
        raw = message.get("content") or ""
        # vLLM's reasoning parser and some vendors keep the thinking apart under one of two names.
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        usage = said.get("usage") or {}
        counts = [_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        if not isinstance(raw, str) or not isinstance(thought, str):
            raise TypeError("the answer is no text")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"`{url}` does not answer as OpenAI's interface does ({str(said)[:200]!r}); give an OpenAI-compatible endpoint"
        ) from error
    answer = parse_answer(raw)
    return Reply(
        text=_text(answer.text),
        thinking=_text(answer.thinking or thought),
        finish_reason=_text(f"{choice.get('finish_reason') or 'stop'!s:.40}"),
        prompt_tokens=counts[0],
        completion_tokens=counts[1],
        confidence=_confidence(choice.get("logprobs")),
    )


def _text(said: str) -> str:
    """A reply's text as a file can hold it: half a surrogate pair becomes a sign."""
    return said.encode("utf-8", "replace").decode("utf-8")


def _tokens(count: Any) -> int | None:
    return count if type(count) is int and 0 <= count <= _MOST_TOKENS else None


def _confidence(told: Any) -> float | None:
    """Geometric mean of the tokens' probabilities; None where the endpoint tells none that are."""
    try:
        logprobs = [float(token["logprob"]) for token in told["content"]]
    except (TypeError, KeyError, ValueError):
        return None
    if not logprobs or not all(-1e9 < value <= 1e-3 for value in logprobs):
        return None
    return min(1.0, math.exp(sum(logprobs) / len(logprobs)))
