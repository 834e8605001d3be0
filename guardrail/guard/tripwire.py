"""The tripwire: how far the policy has moved from the start model, measured without generating."""

import math
import time
from collections.abc import Sequence

from guardrail.engines.in_process import InProcessEngine
from guardrail.guard.guard import Guard
from guardrail.guard.tripwire_plan import (
    FIRST_TOKENS,
    Moved,
    WatchedTokens,
    look_early,
    sample_golds,
    share_of_the_run,
    spacing,
    within,
)

__all__ = ["no_tripwires", "set_tripwires", "tripwire"]


def set_tripwires(
    guard: Guard,
    engine: InProcessEngine,
    task_prompts: Sequence[list[int]],
    *,
    step_tokens: float | None,
    steps: int,
) -> None:
    """Choose what tripwires watch and how often, measure it on the start model, and write both down.

    The start model answers the prompts of the new task that are watched. Where the recipe leaves the
    spacing to their cost and the run ends before the first would fall, there are none.

    Args:
        guard: The run's.
        engine: The start model.
        task_prompts: Prompts of the new task, tokenised; those that fit the budget are watched.
        step_tokens: Tokens of an optimizer step over all ranks, None if unknown.
        steps: Of the run.
    """
    started = time.perf_counter()
    looks = guard.recipe.looks
    look = _look_tokens(guard, engine)
    task = within(task_prompts, look // 20)  # half of what a tripwire may cost
    task_tokens = sum(len(prompt) + FIRST_TOKENS for prompt in task)
    golds = _golds(guard, engine, look // 10 - task_tokens)
    tokens = golds.tokens + task_tokens
    every = looks.tripwire_every_steps
    if every is None:
        every = spacing(tokens, step_tokens, looks.every_steps)
    fall = every <= steps
    if fall:
        _measure_start(guard, engine, golds, task)
    guard.ledger.append(
        "tripwires",
        0,
        every_steps=every if fall else 0,
        golds=len(golds.golds),
        task_prompts=len(task),
        tokens=tokens,
        of_a_look=round(tokens / look, 4),
        of_the_run=step_tokens and round(share_of_the_run(tokens, step_tokens, every), 4),
    )
    if fall:
        guard.state.tripwire_every = every
        _record(guard, 0, [wire.moved(wire.base) for wire in _wires(guard)], started)


def no_tripwires(guard: Guard) -> None:
    """Do without tripwires, on every rank alike, where setting them failed."""
    guard.state.tripwire_every = 0


def tripwire(guard: Guard, engine: InProcessEngine, step: int) -> bool:
    """Record how far the policy has moved; return whether to look early.

    It never acts: the most it does is bring a look forward, out of the reserve.
    """
    started = time.perf_counter()
    moves = [wire.moved(_logprobs(guard, engine, wire)) for wire in _wires(guard)]
    return _record(guard, step, moves, started)


def _look_tokens(guard: Guard, engine: InProcessEngine) -> int:
    """Prompt and answer tokens of a look whose answers are as long as base's."""
    items = list(guard.red_line)
    answers = sum(len(guard.anchors.answers[item.id][0].token_ids) for item in items)
    return (guard.recipe.looks.samples or 1) * (sum(map(len, engine.prompts(items))) + answers)


def _golds(guard: Guard, engine: InProcessEngine, budget: int) -> WatchedTokens:
    """The golds that are watched."""
    items = guard.meter.judged_items
    return sample_golds(
        [item.ability for item in items],
        engine.prompts(items),
        [guard.anchors.answers[item.id][0].token_ids for item in items],
        budget,
        seed=guard.recipe.seed,
    )


def _measure_start(
    guard: Guard, engine: InProcessEngine, golds: WatchedTokens, task: list[list[int]]
) -> None:
    """Keep what the start model gives the golds, and what it answers to the task's prompts."""
    golds.base = _logprobs(guard, engine, golds)
    wire = None
    if task:
        short = engine.cut_answers(FIRST_TOKENS)
        seed = guard.recipe.seed
        answers = guard.ranks.shared(task, lambda mine: short.complete(mine, seed=seed))
        wire = WatchedTokens(task, [list(answer.token_ids) for answer in answers])
        wire.base = _logprobs(guard, engine, wire)
    guard.state.gold_wire, guard.state.task_wire = golds, wire


def _wires(guard: Guard) -> list[WatchedTokens]:
    """The golds, and the task's answers if any are watched."""
    both = (guard.state.gold_wire, guard.state.task_wire)
    return [wire for wire in both if wire is not None]


def _record(guard: Guard, step: int, moves: Sequence[Moved], started: float) -> bool:
    """Write a tripwire to the ledger; return whether to look early."""
    state, looks = guard.state, guard.recipe.looks
    early = state.extra_looks < looks.reserve and look_early(
        moves, looks.early_look_kl, state.wire_at_look
    )
    state.wire = max(move.kl for move in moves)
    seconds = time.perf_counter() - started
    state.spend("tripwires", seconds)
    golds, task = moves[0], moves[1] if len(moves) > 1 else None
    watched = _wires(guard)[0].golds
    guard.ledger.append(
        "tripwire",
        step,
        kl=round(golds.kl, 6),
        se=_finite(golds.se),
        golds=len(watched),
        tokens=sum(map(len, watched)),
        by_ability={ability: round(kl, 6) for ability, kl in golds.by_group.items()},
        task_kl=None if task is None else round(task.kl, 6),
        task_se=None if task is None else _finite(task.se),
        early_look=early,
        seconds=round(seconds, 3),
    )
    return early


def _logprobs(guard: Guard, engine: InProcessEngine, wire: WatchedTokens) -> list[float]:
    pairs = list(zip(wire.prompts, wire.golds, strict=True))
    return guard.ranks.shared(
        pairs, lambda mine: engine.mean_logprobs([p for p, _ in mine], [g for _, g in mine])
    )


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
