"""Anchors on disk: a manifest, the answers, and the KL reference's top-k log-probabilities.

    FOLDER/manifest.json       what made them (see `Manifest`), the digests of the two files below, and its own
    FOLDER/answers.jsonl       one line an answer: item, replicate, raw text, token ids, finish reason
    FOLDER/red-line.jsonl      the items they answer, so that a model can be judged by the folder alone
    FOLDER/rehearsal.jsonl
    FOLDER/topk.safetensors    per rehearsal item `ID/ids` (n, k), `ID/logprobs` (n, k), `ID/tail` (n,)

A file that is not what the manifest's digests say is refused. Log-probabilities are written in 16 bits where that moves no distribution by more than `ROUNDING` nats; the file is
mapped into memory and read item by item, so the ranks of a host share its pages. Replicate 0 is the gold. The manifest is written last, so a folder with a manifest is complete.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from guardrail.anchors.decoding import Decoding
from guardrail.errors import InputError
from guardrail.files import whole_file, write_whole
from guardrail.models.fingerprint import file_sha256
from guardrail.models.profile import Profile
from guardrail.models.quantization import quantization_words
from guardrail.read_back import SEAL, NotAsWritten, is_regular, read_json, sealed, unsealed

__all__ = [
    "ROUNDING",
    "AnchorAnswer",
    "Anchors",
    "Manifest",
    "TopK",
    "answer_row",
    "as_stored",
    "manifest_difference",
    "read_anchors",
    "read_answer",
    "require_answers",
    "write_anchors",
]

ROUNDING = 1e-5
"""KL a token, in nats, that 16-bit log-probabilities may add at any token of the anchors."""


ANSWERS, TOPK = "answers.jsonl", "topk.safetensors"
"""The files that the manifest keeps digests of."""
_LARGEST_MANIFEST = 16 << 20

_FOR_THE_RECORD = ("engine", "batch_size", "dtype", "versions", "kl_error", "served")


class Manifest(BaseModel):
    """What made the anchors. Two manifests that differ in more than what is kept for the record do not mix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gold_base: dict[str, str]
    """Fingerprint of the model whose answers are the golds."""
    kl_reference: dict[str, str]
    """Fingerprint of the model whose log-probabilities are stored."""
    red_line: str
    """SHA-256 of the red-line items."""
    rehearsal: str
    """SHA-256 of the rehearsal items."""
    profile: Profile
    """How the gold base opens and ends its turns, thinking mode included."""
    decoding: Decoding
    replicates: int
    seed: int
    top_k: int | None
    """Log-probabilities stored a token; `None`, in what a recipe asks for: as few as are enough."""
    quantization: dict[str, Any] | None = None
    """Arguments of `BitsAndBytesConfig` the models were loaded with; None: as their folders are."""
    engine: str
    """Who answered. For the record, as are all that follow: a difference is noise, which look 0 measures."""
    batch_size: int | None
    """Prompts a batch at most, None: the machine's choice."""
    dtype: str
    """Of the weights that answered."""
    versions: dict[str, str]
    """Of libraries."""
    kl_error: dict[int, float] = Field(default_factory=dict)
    """k → share of the full KL that k log-probabilities and a tail missed; empty where nobody could measure it."""
    served: dict[str, Any] | None = None
    """Where a server answered: what it says it serves, and how its weights were proven; None in process."""


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
    logprobs: NDArray[np.floating[Any]]
    tail: NDArray[np.float32]


class _StoredTopK(Mapping[str, TopK]):
    """The distributions of a file, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Map the file; what is in it is not read."""
        self._file: Any = safe_open(path, framework="numpy")
        names = set(self._file.keys())  # type: ignore[no-untyped-call]
        ids = [name.removesuffix("/ids") for name in sorted(names) if name.endswith("/ids")]
        self._ids = dict.fromkeys(ids)
        for item in self._ids:
            if lacking := {f"{item}/logprobs", f"{item}/tail"} - names:
                raise KeyError(f"topk.safetensors has no {', '.join(sorted(lacking))}")

    def __getitem__(self, item: str) -> TopK:
        """Return an item's distributions; what rounding took or gave is spread over head and tail."""
        if item not in self:
            raise KeyError(item)
        read = self._file.get_tensor
        entry = TopK(read(f"{item}/ids"), read(f"{item}/logprobs"), read(f"{item}/tail"))
        return entry if entry.logprobs.dtype == np.float32 else _normalised(entry)

    def __contains__(self, item: object) -> bool:
        return item in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def tokens(self, item: str) -> int:
        """Return how many tokens have a distribution, without reading them."""
        return int(self._file.get_slice(f"{item}/tail").get_shape()[0])


def _normalised(entry: TopK) -> TopK:
    """Head and tail as one distribution: a rounding error then costs its square alone."""
    head, tail = entry.logprobs.astype(np.float64), entry.tail.astype(np.float64)
    whole = np.logaddexp(np.logaddexp.reduce(head, axis=1), tail)
    return TopK(
        entry.ids,
        (head - whole[:, None]).astype(np.float32),
        (tail - whole).astype(np.float32),
    )


def _rounded(entry: TopK) -> TopK | None:
    """The entry with 16-bit log-probabilities, None where that moves a distribution too far."""
    with np.errstate(over="ignore"):
        short = TopK(entry.ids, entry.logprobs.astype(np.float16), entry.tail)
    found = _normalised(short)
    p, q = (
        np.concatenate([one.logprobs, one.tail[:, None]], axis=1).astype(np.float64)
        for one in (entry, found)
    )
    there = np.isfinite(p)
    moved = np.where(there, np.exp(p), 0.0) * np.subtract(p, q, where=there, out=np.zeros_like(p))
    return short if bool((np.abs(moved.sum(axis=1)) <= ROUNDING).all()) else None


def as_stored(entry: TopK) -> TopK:
    """Return the distribution that comes back where this one is written."""
    short = _rounded(entry)
    return entry if short is None else _normalised(short)


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors of one recipe; the answers in memory, the distributions read when they are used."""

    manifest: Manifest
    answers: Mapping[str, tuple[AnchorAnswer, ...]]
    """item id → answers by replicate, the gold first."""
    topk: Mapping[str, TopK]
    """rehearsal item id → reference distribution."""

    def gold(self, item_id: str) -> str:
        """Return the raw gold of an item."""
        return self.answers[item_id][0].text


def answer_row(answer: AnchorAnswer) -> dict[str, Any]:
    """Return an answer as JSON has it."""
    return {
        "item": answer.item,
        "replicate": answer.replicate,
        "text": answer.text,
        "token_ids": list(answer.token_ids),
        "finish_reason": answer.finish_reason,
    }


def read_answer(row: Any) -> AnchorAnswer:
    """Return the answer that JSON holds.

    Raises:
        KeyError: a field is missing.
        TypeError: one is none of an answer's.
    """
    return AnchorAnswer(**{**row, "token_ids": tuple(row["token_ids"])})


def write_anchors(
    folder: Path, manifest: Manifest, answers: Sequence[AnchorAnswer], topk: Mapping[str, TopK]
) -> None:
    """Write the three files, the manifest last and atomically.

    Raises:
        ValueError: a distribution holds what is no log-probability, or no token's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps(answer_row(answer), ensure_ascii=False) + "\n" for answer in answers)
    write_whole(folder / ANSWERS, "".join(rows))
    tensors: dict[str, NDArray[Any]] = {}
    for item_id, whole in topk.items():
        _check(item_id, whole, manifest.profile.vocabulary)
        entry = _rounded(whole) or whole
        tensors[f"{item_id}/ids"] = entry.ids
        tensors[f"{item_id}/logprobs"] = entry.logprobs
        tensors[f"{item_id}/tail"] = entry.tail
    # Written in place, it would pull the pages away from a run that has the file mapped.
    with whole_file(folder / TOPK) as partial:
        save_file(tensors, partial)
    digests = {name: file_sha256(folder / name) for name in (ANSWERS, TOPK)}
    content = sealed({**manifest.model_dump(mode="json"), "files": digests})
    write_whole(folder / "manifest.json", json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def _check(item: str, entry: TopK, vocabulary: int) -> None:
    if not all(bool((values < 1e-3).all()) for values in (entry.logprobs, entry.tail)):  # nor NaN
        raise ValueError(f"item `{item}`: the engine gave log-probabilities above 0, or none")
    if not bool(((entry.ids >= 0) & (entry.ids < vocabulary)).all()):
        raise ValueError(f"item `{item}`: the engine gave token ids outside of the vocabulary")


def read_anchors(folder: Path) -> Anchors:
    """Return the anchors of a folder.

    Raises:
        InputError: the folder has no manifest (absent or never finished), or a file of it is missing,
            broken or lacks answers.
    """
    manifest_path = folder / "manifest.json"
    if not is_regular(manifest_path):
        raise InputError(
            f"`{folder!s:.300}` holds no finished anchors; run `guardrail anchor RECIPE`"
        )
    try:
        content = unsealed(_as_of_today(folder, read_json(manifest_path, _LARGEST_MANIFEST)))
        for name, digest in content.pop("files").items():
            if name not in (ANSWERS, TOPK) or file_sha256(folder / name) != digest:
                raise NotAsWritten(f"{name} is not what the manifest's digest says")
        manifest = Manifest.model_validate(content)
        answers: dict[str, list[AnchorAnswer]] = {}
        for line in (folder / ANSWERS).read_text(encoding="utf-8").split("\n")[:-1]:
            answer = read_answer(json.loads(line))
            answers.setdefault(answer.item, []).append(answer)
        topk = _StoredTopK(folder / TOPK)
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as error:
        kind = "" if isinstance(error, NotAsWritten) else f"{type(error).__name__}: "
        raise _damaged(folder, f"{kind}{error}"[:300]) from error
    sampled = manifest.decoding.mode == "sampled"
    for item, found in answers.items():
        # Rehearsal items have their gold alone, and so has everything where decoding is greedy.
        wanted = 1 + manifest.replicates if sampled and item not in topk else 1
        if [a.replicate for a in found] != list(range(wanted)):
            raise _damaged(folder, f"item `{item}` has {len(found)} answers instead of {wanted}")
        if item in topk and topk.tokens(item) != (gold := len(found[0].token_ids)):
            raise _damaged(
                folder,
                f"item `{item}` has {topk.tokens(item)} stored positions for {gold} gold tokens",
            )
    return Anchors(manifest, {k: tuple(v) for k, v in answers.items()}, topk)


def require_answers(folder: Path, anchors: Anchors, items: Iterable[str]) -> None:
    """Raise an InputError that names the items the anchors of a folder do not answer, if any."""
    lacking = [item for item in items if item not in anchors.answers]
    if lacking:
        raise _damaged(folder, f"no answer to {', '.join(lacking[:3])}")


def _as_of_today(folder: Path, manifest: Any) -> Any:
    if not isinstance(manifest, dict):
        return manifest
    if "thinking" in manifest and "profile" not in manifest:
        raise InputError(
            f"anchors `{folder}` were made by an earlier version, which took the tokenizer's end of sequence "
            "for the only one; run `guardrail anchor RECIPE --rebuild`"
        )
    if SEAL not in manifest and "files" not in manifest:
        raise InputError(
            f"anchors `{folder}` were made by an older version, which kept no digests of them, so that nobody can tell "
            "whether they are as they were made; run `guardrail anchor RECIPE --rebuild`"
        )
    return manifest


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(
        f"anchors `{folder}` are damaged ({what}); run `guardrail anchor RECIPE --rebuild`"
    )


def manifest_difference(found: Manifest, wanted: Manifest) -> list[str]:
    """Return one line per field in which two manifests do not mix; empty if they do."""
    differences = []
    mine, theirs = found.model_dump(mode="json"), wanted.model_dump(mode="json")
    for one in (mine, theirs):
        one["quantization"] = quantization_words(one["quantization"]) or "none"
    for name in mine:
        if name in _FOR_THE_RECORD or mine[name] == theirs[name]:
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
