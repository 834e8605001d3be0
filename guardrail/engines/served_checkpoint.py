"""A finished checkpoint or adapter that a vLLM server answers for, with the proof that it is this one."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.anchors.store import Anchors, TopK
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.vllm_client import Served, VllmServer
from guardrail.engines.vllm_server import ServerEngine
from guardrail.engines.which_weights import prove_weights
from guardrail.models.fingerprint import is_adapter
from guardrail.sets.items import Item

__all__ = ["served_checkpoint"]

_GOLDS = 16
"""Rehearsal golds that are scored to prove the weights."""
_TOKENS = 48
"""Of each."""


@contextlib.contextmanager
def served_checkpoint(
    server: VllmServer,
    served_as: str | None,
    model: Path,
    local: InProcessEngine,
    anchors: Anchors,
    rehearsal: Sequence[Item],
) -> Iterator[tuple[ServerEngine, dict[str, Any]]]:
    """Give, for the body, who asks the server, and what the ledger says of it.

    An adapter is loaded under a name that was never used and taken away again, unless `served_as` is an adapter
    already. The proof scores golds of the anchors and compares with the weights here; an adapter must also differ
    from what the server's own base says, a whole model from the KL reference's stored log-probabilities, as far as
    the weights here do.

    Args:
        server: Where.
        served_as: The model's name there, or that of an adapter's base; None: its only model.
        model: The checkpoint's or adapter's folder.
        local: Its weights in this process, an adapter unmerged.
        anchors: What it is judged by.
        rehearsal: Their rehearsal items.

    Raises:
        InputError: the server serves no such model, cannot load the adapter, or has other weights.
    """
    with contextlib.ExitStack() as loaded:
        named = server.served(served_as)
        below: Served | None = None
        if named.parent:
            below = server.served(named.parent)
        elif is_adapter(model):
            below, named = (
                named,
                server.served(loaded.enter_context(server.adapter(model.resolve()))),
            )
        engine = ServerEngine(server, named, local.tokenizer, local.decoding, local.profile)
        items = rehearsal[:: max(1, len(rehearsal) // _GOLDS)][:_GOLDS]
        prompts = engine.prompts(items)
        golds = [anchors.answers[item.id][0].token_ids[:_TOKENS] for item in items]
        if below is None:
            others_are = "the anchors' KL reference"
            others = [
                _stored(anchors.topk[item.id], gold)
                for item, gold in zip(items, golds, strict=True)
            ]
        else:
            others_are = f"`{below.name}`"
            base = ServerEngine(server, below, local.tokenizer, local.decoding, local.profile)
            others = base.token_logprobs(prompts, golds)
        proof = prove_weights(
            engine,
            local,
            prompts,
            golds,
            what=str(model),
            dtype=getattr(torch, anchors.manifest.dtype),
            others=others,
            others_are=others_are,
        )
        yield engine, named.record() | {"proof": proof.record()}


def _stored(entry: TopK, gold: Sequence[int]) -> NDArray[np.float64]:
    """The stored log-probability of each gold token, NaN where it is not among the kept ones."""
    hit = entry.ids[: len(gold)] == np.array(gold)[:, None]
    value = np.where(hit, entry.logprobs[: len(gold)].astype(np.float64), 0.0).sum(axis=1)
    return np.where(hit.any(axis=1), value, np.nan)
