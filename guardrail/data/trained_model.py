"""A model trained on rows by the project's own SFT path, and asked in this process: what trained rounds are made of.

These models score and label; none of them is shipped, so they are trained unguarded.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from guardrail.build_trainer import build_trainer
from guardrail.data.chat_endpoint import ChatRequest, Costs, Reply
from guardrail.data.judged_text import JudgedText
from guardrail.data.rows import DataRow
from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.guard.bound_checkpoint import changed_file, file_digests
from guardrail.models.profile import Profile
from guardrail.read_back import NotAsWritten, read_json, sealed, unsealed
from guardrail.recipe import Recipe
from guardrail.text import parse_answer

__all__ = ["LocalAnswerer", "is_trained", "note_trained", "train_on"]

_DONE = "trained"
"""Says of a folder which rows its model was trained on, and the digests of the model's files."""
_LARGEST = 1 << 20
"""Bytes of that file."""


def train_on(recipe: Recipe, rows: Sequence[DataRow], folder: Path) -> Path:
    """Train the recipe's start model on rows and return the folder; one that is finished there is not trained again.

    Everything of the recipe's `train` counts but its data and held-out share. Rows must be the same at a second call; a
    folder trained on others is refused.

    Raises:
        InputError: the recipe is not for TRL's SFT, or the folder holds a model of other rows, or one that was changed
            since it was trained.
    """
    if recipe.trainer != "trl-sft":
        raise InputError(
            f"recipe `{recipe.name}` has `trainer: {recipe.trainer}`; trained rounds need `trl-sft`"
        )
    ids = [row.id for row in rows]
    if is_trained(folder, ids):
        return folder
    changed = recipe.model_copy(update={"train": recipe.train.model_copy(update={"held_out": 0.0})})
    trainer: Any = build_trainer(
        changed, [{"messages": list(row.messages)} for row in rows], folder / "checkpoints"
    )
    trainer.train()
    trainer.save_model(str(folder))
    trainer.processing_class.save_pretrained(str(folder))
    note_trained(folder, ids)
    return folder


def note_trained(folder: Path, ids: Sequence[str]) -> None:
    """Say in a model's folder that it is finished, the ids of the rows it was trained on, and what its files are."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    content = sealed({"rows": _sha256(ids), "files": file_digests(folder, names)})
    write_whole(folder / _DONE, json.dumps(content, indent=2) + "\n")


def is_trained(folder: Path, ids: Sequence[str]) -> bool:
    """Return whether a folder holds a model that was trained to the end on the rows of these ids; settings may be one of them.

    Raises:
        InputError: it holds one of other ids, or one that is not as it was when it was finished.
    """
    done, again = folder / _DONE, "take the folder away, and it is trained anew"
    if not done.exists():
        return False
    try:
        content = unsealed(read_json(done, _LARGEST))
        found, files = content["rows"], dict(content["files"])
    except (OSError, NotAsWritten, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"`{done}` is not as it was written ({error!s:.200}), or of an older version; {again}"
        ) from error
    if found != _sha256(ids):
        raise InputError(
            f"`{folder}` holds a model trained on other rows or by other settings; give a new `--out`, or take the folder away"
        )
    if (name := changed_file(folder, files)) is not None:
        raise InputError(
            f"`{folder / name}` is not as it was when the model had been trained; {again}"
        )
    return True


def _sha256(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


class LocalAnswerer:
    """A model's folder as an `Answerer`, with the confidence of every reply."""

    def __init__(
        self,
        folder: Path,
        *,
        thinking: bool,
        judged: JudgedText | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Name the model; it is loaded when it is first asked, since the last one of a stage never is.

        Args:
            folder: The model's.
            thinking: `enable_thinking` of its template.
            judged: What no reply may be given with; None gives every reply.
            batch_size: Chats at once; None takes what fits.
        """
        self._folder, self._thinking, self._batch_size = folder, thinking, batch_size
        self._judged = judged or JudgedText({})
        self.costs = Costs()

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Profile]:
        from guardrail.models.end_of_turn import resolve_profile
        from guardrail.models.load import load_model, on_accelerator

        model, tokenizer = load_model(self._folder)
        profile = resolve_profile(self._folder, tokenizer, thinking=self._thinking)
        return on_accelerator(model).eval(), tokenizer, profile

    def __call__(self, requests: Sequence[ChatRequest]) -> list[Reply]:
        """Return a reply each, in order; requests alike in seed, temperature and length are answered together.

        Raises:
            InputError: the model's template cannot render a plain question.
        """
        groups: dict[tuple[int, float, int], list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            groups[request.seed, request.temperature, request.max_tokens].append(number)
        replies: dict[int, Reply] = {}
        for (seed, temperature, most), numbers in groups.items():
            some = self._answered([requests[n] for n in numbers], seed, temperature, most)
            replies |= dict(zip(numbers, map(self._judged.cleared, some), strict=True))
        for number, request in enumerate(requests):
            self.costs.add(request.purpose, replies[number])
        return [replies[n] for n in range(len(requests))]

    def _answered(
        self, requests: Sequence[ChatRequest], seed: int, temperature: float, most: int
    ) -> list[Reply]:
        from guardrail.anchors.decoding import Decoding
        from guardrail.engines.in_process import InProcessEngine, encode_prompts

        decoding = Decoding(
            mode="sampled" if temperature > 0 else "greedy",
            temperature=temperature or 1.0,
            max_new_tokens=most,
        )
        model, tokenizer, profile = self._loaded
        engine = InProcessEngine(model, tokenizer, decoding, profile, self._batch_size)
        chats = [list(request.messages) for request in requests]
        prompts = encode_prompts(tokenizer, chats, thinking=profile.thinking)
        completions = engine.complete(prompts, seed=seed)
        told = engine.mean_logprobs(prompts, [c.token_ids for c in completions])
        replies = []
        for prompt, made, logprob in zip(prompts, completions, told, strict=True):
            said = parse_answer(made.text)
            replies.append(
                Reply(
                    said.text,
                    said.thinking,
                    made.finish_reason,
                    len(prompt),
                    len(made.token_ids),
                    math.exp(logprob),
                )
            )
        return replies
