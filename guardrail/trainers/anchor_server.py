"""Anchors by a vLLM server: the engine that asks it, and what the manifest says of it."""

from dataclasses import dataclass
from pathlib import Path

from guardrail.anchors.make import TOP_KS, UNMEASURED_TOP_K
from guardrail.anchors.store import Manifest
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.vllm_client import Served, VllmServer
from guardrail.engines.vllm_server import ENGINE, ServerEngine
from guardrail.engines.which_weights import prove_weights
from guardrail.errors import InputError
from guardrail.models.load import load_model, load_tokenizer, where_there_is_room
from guardrail.recipe import Recipe
from guardrail.sets.items import Item

__all__ = ["AnchorServer"]

_TEXTS = 16
"""Prompts that both score to prove the weights."""
_TOKENS = 48
"""Of each."""


@dataclass(frozen=True, slots=True)
class AnchorServer:
    """The server that is to answer for the gold base."""

    server: VllmServer
    name: str | None = None
    """Under which it serves the gold base; None: its only model."""
    proven: bool = True
    """Whether the gold base is loaded here too, for a comparison and for what a server cannot measure."""

    def engine(
        self, recipe: Recipe, wanted: Manifest, red_line: list[Item], rehearsal: list[Item]
    ) -> tuple[ServerEngine, Manifest]:
        """Return who answers, and the manifest of the anchors it makes.

        What would end the work late is asked for first: the longest prompt, and log-probabilities as many as may
        be stored.

        Raises:
            InputError: the server cannot be reached, serves another model, holds too few tokens, or gives
                too few log-probabilities.
        """
        served = self.server.served(self.name)
        local = self._local(recipe, wanted) if self.proven else None
        tokenizer = load_tokenizer(recipe.gold_base)
        engine = ServerEngine(
            self.server, served, tokenizer, wanted.decoding, wanted.profile, local
        )
        prompts = engine.prompts([*red_line, *rehearsal])
        most = wanted.top_k or (UNMEASURED_TOP_K if local is None else TOP_KS[-1])
        # Side by side, for a server that cannot score prompts may still score one alone.
        engine.topk(rehearsal[:_TEXTS], [prompts[0][-1:]] * len(rehearsal[:_TEXTS]), most)
        facts = served.record()
        if local is None:
            _require_name(served, recipe.gold_base, self.server.url)
        else:
            shown = prompts[:: max(1, len(prompts) // _TEXTS)][:_TEXTS]
            # There are no golds yet: what is scored are the prompts' own tokens after the first.
            proof = prove_weights(
                engine,
                local,
                [prompt[:1] for prompt in shown],
                [prompt[1 : 1 + _TOKENS] for prompt in shown],
                what=recipe.gold_base,
            )
            facts["proof"] = proof.record()
        versions = wanted.versions | {"vllm": served.version}
        return engine, wanted.model_copy(
            update={"engine": ENGINE, "served": facts, "versions": versions}
        )

    def _local(self, recipe: Recipe, wanted: Manifest) -> InProcessEngine:
        model, tokenizer = load_model(recipe.gold_base, quantization=recipe.train.quantization)
        return InProcessEngine(
            where_there_is_room(model),
            tokenizer,
            wanted.decoding,
            wanted.profile,
            wanted.batch_size,
        )


def _require_name(served: Served, gold_base: str, url: str) -> None:
    """Without a proof the server's own word must at least name the gold base."""
    if not served.root or Path(served.root).name not in gold_base:
        raise InputError(
            f"server `{url}` says that `{served.name}` is `{served.root or 'nothing it names'}`, and the recipe's gold base is "
            f"`{gold_base}`; serve that, or leave `--unproven` out and let the weights be compared"
        )
