"""When rehearsal samples are due and which: an exact share of samples, the same on every rank."""

import random
from collections.abc import Sequence

__all__ = ["due_samples", "rehearsal_order"]


def due_samples(fraction: float, task_samples: int, seen: int = 0, world_size: int = 1) -> int:
    """Return how many rehearsal samples all ranks together should see now, beyond those seen.

    Error diffusion: the total stays within `world_size` of fraction / (1 - fraction) * task_samples. What is
    due is a multiple of `world_size`, so each rank runs the same number of forwards, whatever number of
    ranks saw the samples before.

    Args:
        fraction: Rehearsal share of all samples seen, task and rehearsal together, in (0, 1).
        task_samples: Task samples seen so far by all ranks.
        seen: Rehearsal samples seen so far by all ranks.
        world_size: Number of ranks.
    """
    # The small term keeps 0.05 / 0.95 * 19 from falling just short of 1.
    wanted = fraction / (1.0 - fraction) * task_samples + 1e-9
    return max(0, int((wanted - seen) // world_size)) * world_size


def rehearsal_order(ids: Sequence[str], start: int, count: int, seed: int) -> list[str]:
    """Return which rehearsal items positions `start` .. `start + count` of the endless order hold.

    Every pass holds each item once, in an order of its own. A pure function of its arguments, so a
    resumed run and every rank agree without shared state.
    """
    chosen: list[str] = []
    position = start
    while len(chosen) < count:
        number, offset = divmod(position, len(ids))
        shuffled = list(ids)
        random.Random(f"{seed}/{number}").shuffle(shuffled)
        taken = shuffled[offset : offset + count - len(chosen)]
        chosen += taken
        position += len(taken)
    return chosen
