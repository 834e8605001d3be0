"""Teacher forcing: what a model predicts at each token of given answers. Everything that asks goes this way.

Logits are built at answer tokens alone: at a vocabulary of 152,000 those of a prompt cost more than the
rest of the model.
"""

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import DataParallel
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "BUDGET",
    "ForwardBudget",
    "answer_logits",
    "cut_by_zero3",
    "each_answer",
    "micro_batches",
    "takes",
    "undisturbed",
    "vocabulary",
]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ForwardBudget:
    """What one forward may take; a single row may take more."""

    tokens: int
    """Rows times their padded length."""
    logits: int
    """Bytes of the logits in float32."""

    def halved(self) -> "ForwardBudget":
        """Return half of it."""
        return ForwardBudget(self.tokens // 2, self.logits // 2)


BUDGET = ForwardBudget(tokens=2048, logits=256 * 2**20)
"""Of every forward. At a vocabulary of 152,000 the logits bind: 441 positions."""


def micro_batches(
    rows: Sequence[tuple[int, int]], words: int, budget: ForwardBudget | None = None
) -> list[list[int]]:
    """Return which rows go into one forward together; a pure function of the lengths.

    Rows stand by prompt length, so that they share the positions that predict their answers.

    Args:
        rows: Prompt and answer tokens of each row.
        words: Size of the vocabulary.
        budget: Of one forward; by default `BUDGET`.
    """
    most = budget or BUDGET
    batches: list[list[int]] = []
    first = last = 0
    for i in sorted(range(len(rows)), key=lambda i: rows[i]):
        prompt, end = rows[i][0], sum(rows[i])
        count = len(batches[-1]) + 1 if batches else 0
        width = max(last, end)
        if (
            count
            and count * width <= most.tokens
            and 4 * count * (width - first) * words <= most.logits
        ):
            batches[-1].append(i)
            last = width
        else:
            batches.append([i])
            first, last = prompt, end
    return batches


def cut_by_zero3(model: Any) -> bool:
    """Return whether DeepSpeed holds each parameter in pieces and puts it together in every forward."""
    return hasattr(model, "module") and hasattr(next(model.parameters()), "ds_id")


def _below(model: Any) -> Any:
    """The model without the wrapper whose forward belongs to the task's loss.

    A forward that is computed again inside the backward pass must not enter DDP's or DeepSpeed's, which
    would prepare another backward; gradients are averaged by the parameters' own hooks all the same.
    ZeRO-3's engine stays: it finds the parameters it must gather.
    """
    if isinstance(model, (DistributedDataParallel, DataParallel)):
        return model.module
    if type(model).__name__ == "DeepSpeedEngine" and not cut_by_zero3(model):
        return model.module
    return model


def vocabulary(model: Any) -> int:
    """Return how many logits a model gives for a token."""
    below = _below(model)
    if cut_by_zero3(below):
        below = below.module  # the engine's own `config` is DeepSpeed's
    return int(below.config.get_text_config().vocab_size)


@functools.cache
def _parameters(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def takes(model: Any, name: str) -> bool:
    """Whether the model below all wrappers (PEFT's, the trainers'), which hand arguments on, has a parameter."""
    return any(name in _parameters(type(module).forward) for module in model.modules())


@functools.cache
def _say_all_logits(model: str) -> None:
    logger.warning(
        "%s has no `logits_to_keep`: teacher forcing builds the logits of prompts too",
        model,
    )


def answer_logits(
    model: Any, prompts: Sequence[Sequence[int]], golds: Sequence[Sequence[int]], *, pad_id: int
) -> list[Tensor]:
    """Return for each row the logits that predict its gold, (gold tokens, vocabulary), from one forward.

    Gradients flow unless the caller turned them off.

    Args:
        model: A causal language model, wrapped or not.
        prompts: Prompt token ids of each row, at least one each.
        golds: Answer token ids of each row, at least one each.
        pad_id: Padding token id; rows are padded on the right.
    """
    model = _below(model)
    device = next(model.parameters()).device
    ends = [len(prompt) + len(gold) for prompt, gold in zip(prompts, golds, strict=True)]
    ids = torch.full((len(ends), max(ends)), pad_id)
    mask = torch.zeros_like(ids)
    for row, (prompt, gold) in enumerate(zip(prompts, golds, strict=True)):
        ids[row, : ends[row]] = torch.tensor([*prompt, *gold])
        mask[row, : ends[row]] = 1
    starts = [len(prompt) - 1 for prompt in prompts]
    options: dict[str, Any] = {}
    if takes(model, "output_router_logits"):
        options["output_router_logits"] = False  # the router's loss is the task's alone
    if takes(model, "logits_to_keep"):
        # The int form cuts the tail of the padded rows, which is wrong for all but the longest.
        kept = sorted({at for s, e in zip(starts, ends, strict=True) for at in range(s, e - 1)})
        options["logits_to_keep"] = torch.tensor(kept, device=device)
        starts = [kept.index(start) for start in starts]
    else:
        _say_all_logits(type(model).__name__)
    logits = model(
        input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False, **options
    ).logits
    return [
        logits[row, start : start + len(gold)]
        for row, (start, gold) in enumerate(zip(starts, golds, strict=True))
    ]


def each_answer(
    model: Any,
    prompts: Sequence[Sequence[int]],
    golds: Sequence[Sequence[int]],
    use: Callable[[int, Tensor], Result],
    *,
    pad_id: int,
    budget: ForwardBudget | None = None,
) -> list[Result]:
    """Return what `use` makes of each row's number and logits, in the caller's order, without gradient.

    Out of memory halves the budget and goes on, for no rank waits for another in here: the model is whole.

    Raises:
        torch.OutOfMemoryError: one row alone does not fit.
    """
    most = budget or BUDGET
    found: dict[int, Result] = {}
    while len(found) < len(prompts):
        left = [i for i in range(len(prompts)) if i not in found]
        lengths = [(len(prompts[i]), len(golds[i])) for i in left]
        try:
            for batch in micro_batches(lengths, vocabulary(model), most):
                rows = [left[k] for k in batch]
                with torch.no_grad():
                    logits = answer_logits(
                        model, [prompts[i] for i in rows], [golds[i] for i in rows], pad_id=pad_id
                    )
                    for i in rows:
                        found[i] = use(i, logits.pop(0))
            continue
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        most = most.halved()
        logger.warning(
            "out of memory; teacher forcing goes on with %d tokens a forward", most.tokens
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return [found[i] for i in range(len(prompts))]


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Lift for the body what training does to a forward at random; restore the exact modes after it.

    That is dropout (LoRA's, attention's), NEFTune's noise on the embeddings and router jitter: all ask for
    `training`. Layers under gradient checkpointing need it for that, so they keep it, and lift it for what
    they compute, now and when they compute it again in the backward pass, where this body has ended.
    """
    modes = [(module, module.training) for module in model.modules()]
    layers = [m for m, training in modes if training and "_gradient_checkpointing_func" in vars(m)]
    checkpoints = [(m, m._gradient_checkpointing_func) for m in layers if m.gradient_checkpointing]
    for module, _ in modes:
        module.training = False
    for layer, own in checkpoints:
        layer.training = True
        layer._gradient_checkpointing_func = functools.partial(_checkpointed_calm, own, layer)
    try:
        yield
    finally:
        for layer, own in checkpoints:
            layer._gradient_checkpointing_func = own
        for module, training in modes:
            module.training = training


def _checkpointed_calm(
    own: Callable[..., Any], layer: Any, function: Callable[..., Any], *args: Any
) -> Any:
    """Call a layer's checkpointing function on the layer with all of its modules in eval mode."""

    def calm(*inputs: Any) -> Any:
        modes = [(module, module.training) for module in layer.modules()]
        for module, _ in modes:
            module.training = False
        try:
            return function(*inputs)
        finally:
            for module, training in modes:
                module.training = training

    return own(calm, *args)
