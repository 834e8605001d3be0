"""Answers and log-probabilities of a model that a vLLM server serves: the tokens of the prompts, not their text.

Not for the weights in training, which change under it; `rollout.py` asks the trainer's own vLLM.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.store import TopK
from guardrail.engines.in_process import Completion, InProcessEngine, completion, encode_prompts
from guardrail.engines.vllm_client import Served, Unreachable, VllmServer
from guardrail.errors import InputError
from guardrail.models.profile import Profile
from guardrail.sets.items import Item

__all__ = ["ENGINE", "ServerEngine"]

ENGINE = "vllm-server"
"""Its name in manifests and ledgers."""
_MORE_THAN_ONE = 1e-3
"""How much more than 1 the probabilities of a token may sum up to by rounding."""


@dataclass(frozen=True, slots=True)
class ServerEngine:
    """A served model with the decoding and the profile it is asked with."""

    server: VllmServer
    served: Served
    tokenizer: Any
    decoding: Decoding
    profile: Profile
    local: InProcessEngine | None = None
    """The same weights in this process, for what a server does not give: whole distributions."""

    @property
    def rows_at_once(self) -> int:
        """How many items it pays to ask at once: the last requests of a round leave the server idle."""
        return 4 * self.server.concurrency

    def prompts(self, items: Sequence[Item]) -> list[list[int]]:
        """Return each item's prompt token ids.

        Raises:
            InputError: the server holds too few tokens for the longest of them and its answer.
        """
        chats = [item.chat() for item in items]
        rows = encode_prompts(self.tokenizer, chats, thinking=self.profile.thinking)
        # One token more: a server that scores a gold writes one behind it.
        need = max(map(len, rows), default=0) + self.decoding.max_new_tokens + 1
        limit = self.served.max_model_len
        if limit is not None and need > limit:
            raise InputError(
                f"server `{self.server.url}` holds {limit} tokens (max_model_len), and the longest prompt with "
                f"`max_new_tokens` needs {need}; start it with `--max-model-len {need}` or more"
            )
        return rows

    def answer(self, items: Sequence[Item], *, seed: int) -> list[Completion]:
        """Return one completion per item.

        Sampled, every item has a seed of its own, made of `seed` and its id: prompts that share one would share
        their noise. The same seed gives the same answer as far as the server's batches let it.
        """
        prompts = self.prompts(items)
        seeds = [_seed_of(seed, item.id) for item in items]
        return self.server.each(self._answer, list(zip(prompts, seeds, strict=True)))

    def _answer(self, asked: tuple[list[int], int]) -> Completion:
        prompt, seed = asked
        sampled = self.decoding.mode == "sampled"
        # All that a model's generation_config.json may set is said, so that it has no say here either.
        choice = self._choice(
            prompt,
            max_tokens=self.decoding.max_new_tokens,
            temperature=self.decoding.temperature if sampled else 0.0,
            top_p=self.decoding.top_p if sampled else 1.0,
            top_k=self.decoding.top_k if sampled else 0,
            min_p=0.0,
            repetition_penalty=self.decoding.repetition_penalty,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            seed=seed if sampled else None,
            ignore_eos=True,  # the profile says what ends an answer, end of sequence among it
            stop_token_ids=list(self.profile.stop),
        )
        given = completion(self.tokenizer, choice["token_ids"], self.profile)
        if given.finish_reason != choice["finish_reason"]:
            raise InputError(
                f"server `{self.server.url}` ended an answer with `{choice['finish_reason']}` (stop_reason "
                f"{choice.get('stop_reason')!r}), and by the profile's stop tokens {list(self.profile.stop)} it is "
                f"`{given.finish_reason}`; start it without stop strings or tokens of its own"
            )
        return given

    def topk(self, items: Sequence[Item], golds: Sequence[Sequence[int]], k: int) -> list[TopK]:
        """Return the k best log-probabilities at every gold token, and the tail's.

        The tail is what the k leave of 1, so one below some 1e-7 is rounding.

        Raises:
            InputError: the server gives fewer than k, or no log-probabilities of the model as it is.
        """
        kept = min(k, self.profile.vocabulary)
        rows = list(zip(self.prompts(items), golds, strict=True))
        return self.server.each(partial(self._topk, k=kept), rows)

    def _topk(self, row: tuple[Sequence[int], Sequence[int]], k: int) -> TopK:
        prompt, gold = row
        best = [
            sorted(((e["logprob"], int(token)) for token, e in at.items()), reverse=True)[:k]
            for at in self._scored(prompt, gold, k)
        ]
        if short := next((at for at in best if len(at) < k), None):
            raise InputError(
                f"server `{self.server.url}` gives {len(short)} log-probabilities a token where {k} were asked "
                "for; start it with `--max-logprobs -1`"
            )
        logprobs = np.array([[value for value, _ in at] for at in best], np.float64)
        left = 1.0 - np.exp(logprobs).sum(axis=1)
        if logprobs.max() > 0 or left.min() < -_MORE_THAN_ONE:
            raise InputError(
                f"server `{self.server.url}` gives numbers that are no log-probabilities (up to {logprobs.max():.3g}, "
                f"probabilities up to {1 - left.min():.3g} a token); start it with `--logprobs-mode raw_logprobs`"
            )
        none_left = left <= 0 if k < self.profile.vocabulary else np.full(len(left), True)
        tail = np.log(np.where(none_left, 1.0, left))
        return TopK(
            np.array([[token for _, token in at] for at in best], np.int32),
            logprobs.astype(np.float32),
            np.where(none_left, -np.inf, tail).astype(np.float32),
        )

    def topk_error(
        self, items: Sequence[Item], golds: Sequence[Sequence[int]], ks: Sequence[int], *, seed: int
    ) -> dict[int, float]:
        """Return for each k the share of the full KL that top-k plus tail misses; empty where nobody can tell.

        That takes whole distributions, 152,000 numbers a token, which no server is asked for: the weights in this
        process measure it where they are here.
        """
        return {} if self.local is None else self.local.topk_error(items, golds, ks, seed=seed)

    def token_logprobs(
        self, prompts: Sequence[Sequence[int]], golds: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Return the log-probability of each gold's tokens after its prompt, in nats.

        Every token is a request of its own, which may write that token alone: of `prompt_logprobs` a vLLM that was
        started with `--enable-lora` dies. So this is for a few short golds.

        Raises:
            InputError: the server gives log-probabilities of what is left after a choice of tokens.
        """
        rows = [
            ([*prompt, *gold[:at]], token)
            for prompt, gold in zip(prompts, golds, strict=True)
            for at, token in enumerate(gold)
        ]
        found = iter(self.server.each(self._token_logprob, rows))
        values = [np.array([next(found) for _ in gold]) for gold in golds]
        if all((one == 0).all() for one in values):
            raise InputError(
                f"server `{self.server.url}` says that every token was certain; start it with `--logprobs-mode raw_logprobs`"
            )
        return values

    def _token_logprob(self, row: tuple[list[int], int]) -> float:
        before, token = row
        choice = self._choice(
            before, max_tokens=1, temperature=0.0, logprobs=1, allowed_token_ids=[token]
        )
        if choice["token_ids"] != [token] or not choice.get("logprobs"):
            raise InputError(
                f"server `{self.server.url}` wrote {choice['token_ids']} where {[token]} alone was allowed, or no "
                "log-probability with it; give the address of a vLLM server"
            )
        return float(choice["logprobs"]["token_logprobs"][0])

    def _scored(
        self, prompt: Sequence[int], gold: Sequence[int], k: int
    ) -> list[Mapping[str, Any]]:
        """At each gold token: token id → its log-probability, of the k best and the gold's own."""
        try:
            choice = self._choice(
                [*prompt, *gold], max_tokens=1, temperature=0.0, ignore_eos=True, prompt_logprobs=k
            )
        except Unreachable as error:
            raise InputError(
                f"{error}. If it was started with `--enable-lora` that is why it died: serve the model without, for vLLM "
                "scores no prompts beside adapters (vllm#29955)"
            ) from error
        found = choice.get("prompt_logprobs") or []
        if len(found) != len(prompt) + len(gold):
            raise InputError(
                f"server `{self.server.url}` gave {len(found)} of {len(prompt) + len(gold)} `prompt_logprobs`; give the "
                "address of a vLLM server"
            )
        return list(found[len(prompt) :])

    def _choice(self, prompt: Sequence[int], **more: Any) -> dict[str, Any]:
        """What the server makes of one prompt, which must be the very tokens that were sent."""
        asked = {
            "model": self.served.name,
            "prompt": list(prompt),
            "add_special_tokens": False,
            "return_token_ids": True,
        }
        said = self.server.ask("/v1/completions", asked | more)
        found = said.get("choices") if isinstance(said, dict) else None
        if not isinstance(found, list) or not found or not isinstance(found[0], dict):
            raise InputError(
                f"server `{self.server.url}` answers {said!r:.80} where completions were asked for; give the address of a "
                "vLLM server"
            )
        choice: dict[str, Any] = found[0]
        if choice.get("token_ids") is None:
            raise InputError(
                f"server `{self.server.url}` gives no `token_ids` though `return_token_ids` was asked for; take vLLM 0.10.2 "
                "or newer"
            )
        seen = choice.get("prompt_token_ids")
        if seen is not None and list(seen) != list(prompt):
            raise InputError(
                f"server `{self.server.url}` answered another prompt than was sent ({len(seen)} tokens for {len(prompt)}); "
                "start it without a setting that cuts or fills prompts"
            )
        return choice


def _seed_of(seed: int, item: str) -> int:
    """A seed of an item's own, the same wherever the item stands."""
    digest = hashlib.sha256(f"{seed}:{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # vLLM takes 63 bits
