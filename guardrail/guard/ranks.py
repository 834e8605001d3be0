"""Several processes as one guard: work they share, and failures they agree on.

Every rank calls the same functions in the same order. A rank that fails says so in the exchange the others
wait in, so that all stop at the same step and none waits for ever.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import distributed

from guardrail.engines.decode import GenerationStopped

__all__ = ["RankFailed", "Ranks", "dealt", "failure_kind"]

Thing = TypeVar("Thing")
Result = TypeVar("Result")

Kind = Literal["stopped", "other"]
"""An answer that was told to end is no failure of a look: it is owed."""


class RankFailed(RuntimeError):
    """A rank failed, this one or another; every rank raises it at the same place."""

    def __init__(self, rank: int, error: str, kind: Kind) -> None:
        super().__init__(f"rank {rank} failed: {error}")
        self.kind = kind


def failure_kind(error: Exception) -> Kind:
    """Return the kind of an error of this rank, or of the one that a rank has told."""
    if isinstance(error, RankFailed):
        return error.kind
    return "stopped" if isinstance(error, GenerationStopped) else "other"


def dealt(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Return which of the things of these sizes each rank takes, in their order; a pure function.

    The largest go first, each to the rank that has least, so no rank has much more than another.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        rank = loads.index(min(loads))
        shares[rank].append(i)
        loads[rank] += sizes[i]
    return [sorted(share) for share in shares]


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; one process alone exchanges nothing."""

    rank: int = 0
    size: int = 1
    device: torch.device | str = "cpu"
    """Where the ranks exchange numbers."""

    @property
    def writes(self) -> bool:
        """Whether this rank writes ledger, answers and checkpoint state."""
        return self.rank == 0

    def summed(self, numbers: Sequence[int]) -> list[int]:
        """Return the sums over all ranks, which must ask together; cheap enough for every step."""
        if self.size == 1:  # nobody to ask, and no device to wait for
            return list(numbers)
        summed = torch.tensor(numbers, device=self.device)
        distributed.all_reduce(summed)
        return list(summed.tolist())

    def shared(
        self,
        things: Sequence[Thing],
        work: Callable[[Sequence[Thing]], Sequence[Result]],
        *,
        sizes: Sequence[int] | None = None,
    ) -> list[Result]:
        """Return `work` of all things, each rank doing a share of about the same size.

        Args:
            things: The same on every rank.
            work: Returns one result a thing, in order. Results must pickle.
            sizes: How much work each thing is, the same on every rank; by default all are alike.

        Raises:
            RankFailed: `work` failed on some rank. One process alone raises the error itself.
        """
        if self.size == 1:
            return list(work(things))
        shares = dealt(sizes or [1] * len(things), self.size)
        with self._failure_shared():
            mine = list(work([things[i] for i in shares[self.rank]]))
        parts = self._exchange(mine)
        whole: list[Any] = [None] * len(things)
        for share, part in zip(shares, parts, strict=True):
            for i, result in zip(share, part, strict=True):
                whole[i] = result
        return whole

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Run the body on every rank; where it fails on one, it fails on all.

        Raises:
            RankFailed: the body failed on some rank. One process alone raises the error itself.
        """
        with self._failure_shared():
            yield
        self._exchange(None)

    @contextlib.contextmanager
    def _failure_shared(self) -> Iterator[None]:
        """Tell the others of an error in the body, in place of what they wait for."""
        try:
            yield
        except RankFailed:
            raise  # all know
        except Exception as error:
            if self.size == 1:
                raise
            message = f"{type(error).__name__}: {error}"
            kind = failure_kind(error)
            self._gather(_Message(None, message, kind))
            raise RankFailed(self.rank, message, kind) from error

    def _exchange(self, mine: Any) -> list[Any]:
        """Return what every rank gave; raise if one failed instead."""
        if self.size == 1:
            return [mine]
        messages = self._gather(_Message(mine))
        for rank, message in enumerate(messages):
            if message.failed is not None:
                raise RankFailed(rank, message.failed, message.kind)
        return [message.given for message in messages]

    def _gather(self, message: "_Message") -> "list[_Message]":
        messages: list[Any] = [None] * self.size
        distributed.all_gather_object(messages, message)
        return messages


@dataclass(frozen=True, slots=True)
class _Message:
    """What a rank says in an exchange: what it has, or why it failed."""

    given: Any
    failed: str | None = None
    kind: Kind = "other"
