"""Anchors on disk: a manifest, the answers, and the KL reference's top-k log-probabilities.

    FOLDER/manifest.json       what made them (see `Manifest`)
    FOLDER/answers.jsonl       one line an answer: item, replicate, raw text, token ids, finish reason
    FOLDER/red-line.jsonl      the items they answer, so that a model can be judged by the folder alone
    FOLDER/rehearsal.jsonl
    FOLDER/topk.safetensors    per rehearsal item `ID/ids` (n, k), `ID/logprobs` (n, k), `ID/tail` (n,)

Replicate 0 is the gold. The manifest is written last, so a folder with a manifest is complete.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from guardrail.anchors.decoding import Decoding
from guardrail.errors import InputError
from guardrail.files import write_whole

__all__ = [
    "AnchorAnswer",
    "Anchors",
    "Manifest",
    "TopK",
    "answer_line",
    "manifest_difference",
    "read_anchors",
    "read_answer",
    "require_answers",
    "write_anchors",
]


class Manifest(BaseModel):
    """What made the anchors. Two manifests that differ in any field but `versions` do not mix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gold_base: dict[str, str]
    """Fingerprint of the model whose answers are the golds."""
    kl_reference: dict[str, str]
    """Fingerprint of the model whose log-probabilities are stored."""
    red_line: str
    """SHA-256 of the red-line items."""
    rehearsal: str
    """SHA-256 of the rehearsal items."""
    thinking: bool
    decoding: Decoding
    replicates: int
    seed: int
    top_k: int | None
    """Log-probabilities stored a token; `None`, in what a recipe asks for: as few as are enough."""
    batch_size: int
    engine: str
    dtype: str
    versions: dict[str, str]
    """Library versions, for the record; a difference is not refused."""
    kl_error: dict[int, float] = Field(default_factory=dict)
    """k → share of the full KL that k log-probabilities and a tail missed, for the record."""


@dataclass(frozen=True, slots=True)
class AnchorAnswer:
    """One answer of the gold base."""

    item: str
    replicate: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True, slots=True)
class TopK:
    """The KL reference's distribution at each token of a rehearsal gold.

    `ids` and `logprobs` have shape (tokens, k), natural logarithms; `tail` (tokens,) is the
    logarithm of the probability outside the k, -inf where there is none.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    tail: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors of one recipe, read into memory."""

    manifest: Manifest
    answers: Mapping[str, tuple[AnchorAnswer, ...]]
    """item id → answers by replicate, the gold first."""
    topk: Mapping[str, TopK]
    """rehearsal item id → reference distribution."""

    def gold(self, item_id: str) -> str:
        """Return the raw gold of an item."""
        return self.answers[item_id][0].text


def answer_line(answer: AnchorAnswer) -> str:
    """Return an answer as one line of JSON."""
    return json.dumps(
        {
            "item": answer.item,
            "replicate": answer.replicate,
            "text": answer.text,
            "token_ids": list(answer.token_ids),
            "finish_reason": answer.finish_reason,
        },
        ensure_ascii=False,
    )


def read_answer(line: str) -> AnchorAnswer:
    """Return the answer a line of JSON holds."""
    row = json.loads(line)
    return AnchorAnswer(**{**row, "token_ids": tuple(row["token_ids"])})


def write_anchors(
    folder: Path, manifest: Manifest, answers: Sequence[AnchorAnswer], topk: Mapping[str, TopK]
) -> None:
    """Write the three files, the manifest last and atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(answer_line(answer) + "\n" for answer in answers)
    write_whole(folder / "answers.jsonl", lines)
    tensors: dict[str, NDArray[Any]] = {}
    for item_id, entry in topk.items():
        tensors[f"{item_id}/ids"] = entry.ids
        tensors[f"{item_id}/logprobs"] = entry.logprobs
        tensors[f"{item_id}/tail"] = entry.tail
    save_file(tensors, folder / "topk.safetensors")
    write_whole(folder / "manifest.json", manifest.model_dump_json(indent=2) + "\n")


def read_anchors(folder: Path) -> Anchors:
    """Return the anchors of a folder.

    Raises:
        InputError: the folder has no manifest (absent or never finished), or a file of it is missing,
            broken or lacks answers.
    """
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise InputError(f"`{folder}` holds no finished anchors; run `guardrail anchor RECIPE`")
    try:
        manifest = Manifest.model_validate_json(manifest_path.read_text(encoding="utf-8"))
        answers: dict[str, list[AnchorAnswer]] = {}
        with (folder / "answers.jsonl").open(encoding="utf-8") as file:
            for line in file:
                answer = read_answer(line)
                answers.setdefault(answer.item, []).append(answer)
        tensors = load_file(folder / "topk.safetensors")
        ids = [name.removesuffix("/ids") for name in tensors if name.endswith("/ids")]
        topk = {
            i: TopK(tensors[f"{i}/ids"], tensors[f"{i}/logprobs"], tensors[f"{i}/tail"])
            for i in ids
        }
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from error
    sampled = manifest.decoding.mode == "sampled"
    for item, found in answers.items():
        # Rehearsal items have their gold alone, and so has everything where decoding is greedy.
        wanted = 1 + manifest.replicates if sampled and item not in topk else 1
        if [a.replicate for a in found] != list(range(wanted)):
            raise _damaged(folder, f"item `{item}` has {len(found)} answers instead of {wanted}")
    return Anchors(manifest, {k: tuple(v) for k, v in answers.items()}, topk)


def require_answers(folder: Path, anchors: Anchors, items: Iterable[str]) -> None:
    """Raise an InputError that names the items the anchors of a folder do not answer, if any."""
    lacking = [item for item in items if item not in anchors.answers]
    if lacking:
        raise _damaged(folder, f"no answer to {', '.join(lacking[:3])}")


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(
        f"anchors `{folder}` are damaged ({what}); run `guardrail anchor RECIPE --rebuild`"
    )


def manifest_difference(found: Manifest, wanted: Manifest) -> list[str]:
    """Return one line per field in which two manifests do not mix; empty if they do."""
    differences = []
    mine, theirs = found.model_dump(mode="json"), wanted.model_dump(mode="json")
    for name in mine:
        if name in ("versions", "kl_error") or mine[name] == theirs[name]:
            continue
        if name == "top_k" and theirs[name] is None:
            continue  # the recipe leaves it to the measured error
        if isinstance(mine[name], dict):
            parts = [k for k in mine[name] if mine[name][k] != theirs[name].get(k)]
            differences += [
                f"{name}.{k}: anchors have {_short(mine[name][k])}, the recipe {_short(theirs[name].get(k))}"
                for k in parts
            ]
        else:
            differences.append(
                f"{name}: anchors have {_short(mine[name])}, the recipe {_short(theirs[name])}"
            )
    return differences


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
