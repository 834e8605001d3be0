"""Make the anchors: golds and replicates of the red-line set, golds and top-k of the rehearsal set.

Answers are drawn chunk by chunk, and every finished chunk is on disk. A draw depends on the part's seed and the item
alone, so an interrupted run goes on where it stopped, and its anchors are the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from guardrail.anchors.journal import Journal
from guardrail.anchors.progress import AnchorsProgress
from guardrail.anchors.store import (
    AnchorAnswer,
    Anchors,
    Manifest,
    TopK,
    read_anchors,
    write_anchors,
)
from guardrail.sets.items import Item, write_items
from guardrail.writer_lock import holding

__all__ = [
    "ACCEPTED_KL_ERROR",
    "TOP_KS",
    "UNMEASURED_TOP_K",
    "AnsweredText",
    "Engine",
    "make_anchors",
]

TOP_KS = (16, 32, 64, 128, 256)
"""How many log-probabilities a token may be stored; the least with an accepted error is taken."""
ACCEPTED_KL_ERROR = 0.01
"""Share of the full KL that top-k plus tail may miss."""
UNMEASURED_TOP_K = 64
"""How many are stored where no error can be measured and the recipe says nothing."""
_MEASURED_GOLDS = 32
"""Rehearsal golds the KL error is measured on."""


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

    @property
    def rows_at_once(self) -> int:
        """How many items it pays to ask at once."""
        ...

    def answer(self, items: Sequence[Item], *, seed: int) -> Sequence[AnsweredText]:
        """Return one answer per item."""
        ...

    def topk(self, items: Sequence[Item], golds: Sequence[Sequence[int]], k: int) -> Sequence[TopK]:
        """Return the model's k best log-probabilities at every gold token."""
        ...

    def topk_error(
        self, items: Sequence[Item], golds: Sequence[Sequence[int]], ks: Sequence[int], *, seed: int
    ) -> dict[int, float]:
        """Return for each k the share of the full KL that top-k plus tail misses; empty where it cannot tell."""
        ...


def make_anchors(
    folder: Path,
    manifest: Manifest,
    red_line: Sequence[Item],
    rehearsal: Sequence[Item],
    gold_engine: Engine,
    reference_engine: Engine,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Anchors:
    """Answer every item with the untouched base, store the anchors and return them.

    Red-line items get a gold (replicate 0) and `manifest.replicates` further answers drawn anew, so
    that the baseline is fresh base behaviour; greedy answers do not vary, there the gold is the
    baseline. Rehearsal items get a gold and the KL reference's log-probabilities on it, `manifest.top_k`
    of them a token; where it is `None` as few as keep the KL error within `ACCEPTED_KL_ERROR`, or
    `UNMEASURED_TOP_K` where the engine cannot tell the error.

    Args:
        folder: Where to write.
        manifest: What the anchors are made with; its seed seeds every part.
        red_line: Judged items.
        rehearsal: Injected items.
        gold_engine: Answers with the gold base.
        reference_engine: Scores with the KL reference.
        on_progress: Told the part in hand, how much of it is done and how much it is.

    Raises:
        InputError: another process is making anchors there, or what was begun is not as it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder):
        tell = on_progress or (lambda what, done, total: None)
        rounds = 0 if manifest.decoding.mode == "greedy" else manifest.replicates
        parts = [("red-line golds", red_line, 0)]
        parts += [(f"replicate {r}", red_line, r) for r in range(1, rounds + 1)]
        parts += [("rehearsal golds", rehearsal, 0)]

        chunk_size = gold_engine.rows_at_once
        journal = Journal(folder, manifest)
        progress = AnchorsProgress(folder, sum(len(items) for _, items, _ in parts))
        answers: list[AnchorAnswer] = []
        for number, (what, items, replicate) in enumerate(parts):
            done = 0
            for start in range(0, len(items), chunk_size):
                chunk = items[start : start + chunk_size]
                made = journal.chunk([item.id for item in chunk], replicate)
                if made is not None:
                    progress.tell(what, found=len(made))
                else:
                    progress.tell(what)
                    given = gold_engine.answer(chunk, seed=manifest.seed + number * 100_000)
                    made = [
                        AnchorAnswer(item.id, replicate, one.text, one.token_ids, one.finish_reason)
                        for item, one in zip(chunk, given, strict=True)
                    ]
                    journal.append(made)
                    progress.tell(what, made=len(made))
                answers += made
                done += len(chunk)
                tell(what, done, len(items))

        progress.tell("reference log-probabilities")
        golds = [a.token_ids for a in answers[len(answers) - len(rehearsal) :]]
        measured = slice(None, None, max(1, len(rehearsal) // _MEASURED_GOLDS))
        ks = TOP_KS if manifest.top_k is None else (manifest.top_k,)
        errors = reference_engine.topk_error(
            rehearsal[measured], golds[measured], ks, seed=manifest.seed
        )
        most = ks[-1] if errors or manifest.top_k is not None else UNMEASURED_TOP_K
        k = next((k for k, error in errors.items() if error <= ACCEPTED_KL_ERROR), most)
        tell("KL error", len(golds[measured]), len(golds[measured]))
        stored: Mapping[str, TopK] = {
            item.id: entry
            for item, entry in zip(
                rehearsal, reference_engine.topk(rehearsal, golds, k), strict=True
            )
        }
        tell("reference log-probabilities", len(rehearsal), len(rehearsal))
        finished = manifest.model_copy(update={"top_k": k, "kl_error": errors})
        write_items(folder / "red-line.jsonl", red_line)
        write_items(folder / "rehearsal.jsonl", rehearsal)
        write_anchors(folder, finished, answers, stored)
        journal.remove()
        progress.remove()
        return read_anchors(folder)
