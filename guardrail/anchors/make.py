"""Make the anchors: golds and replicates of the red-line set, golds and top-k of the rehearsal set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from guardrail.anchors.store import (
    AnchorAnswer,
    Anchors,
    Manifest,
    TopK,
    read_anchors,
    write_anchors,
)
from guardrail.sets.items import Item

__all__ = ["AnsweredText", "Engine", "make_anchors"]


class AnsweredText(Protocol):
    """What an engine returns for one prompt."""

    @property
    def text(self) -> str:
        """The raw answer."""
        ...

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its tokens, end of sequence included."""
        ...

    @property
    def finish_reason(self) -> str:
        """`stop` or `length`."""
        ...


class Engine(Protocol):
    """Who answers: made with a model, its decoding and its thinking mode."""

    def answer(self, items: Sequence[Item], *, seed: int) -> Sequence[AnsweredText]:
        """Return one answer per item."""
        ...

    def topk(self, items: Sequence[Item], golds: Sequence[Sequence[int]], k: int) -> Sequence[TopK]:
        """Return the model's k best log-probabilities at every gold token."""
        ...


def make_anchors(
    folder: Path,
    manifest: Manifest,
    red_line: Sequence[Item],
    rehearsal: Sequence[Item],
    gold_engine: Engine,
    reference_engine: Engine,
    on_progress: Callable[[str, int], None] | None = None,
) -> Anchors:
    """Answer every item with the untouched base, store the anchors and return them.

    Red-line items get a gold (replicate 0) and `manifest.replicates` further answers drawn anew, so
    that the baseline is fresh base behaviour; greedy answers do not vary, there the gold is the
    baseline. Rehearsal items get a gold and the KL reference's log-probabilities on it.

    Args:
        folder: Where to write.
        manifest: What the anchors are made with; its seed seeds replicate r with seed + r.
        red_line: Judged items.
        rehearsal: Injected items.
        gold_engine: Answers with the gold base.
        reference_engine: Scores with the KL reference.
        on_progress: Called with what was done and how many items.
    """
    tell = on_progress or (lambda what, count: None)
    rounds = 0 if manifest.decoding.mode == "greedy" else manifest.replicates
    answers: list[AnchorAnswer] = []

    def keep(items: Sequence[Item], replicate: int) -> Sequence[AnsweredText]:
        given = gold_engine.answer(items, seed=manifest.seed + replicate)
        for item, one in zip(items, given, strict=True):
            answers.append(
                AnchorAnswer(item.id, replicate, one.text, one.token_ids, one.finish_reason)
            )
        return given

    for replicate in range(rounds + 1):
        keep(red_line, replicate)
        tell("red-line golds" if replicate == 0 else f"replicate {replicate}", len(red_line))
    golds = [one.token_ids for one in keep(rehearsal, 0)]
    tell("rehearsal golds", len(rehearsal))
    stored: Mapping[str, TopK] = {
        item.id: entry
        for item, entry in zip(
            rehearsal, reference_engine.topk(rehearsal, golds, manifest.top_k), strict=True
        )
    }
    tell("reference log-probabilities", len(rehearsal))
    write_anchors(folder, manifest, answers, stored)
    return read_anchors(folder)
