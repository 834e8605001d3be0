"""Rewards of a GRPO batch that holds KL-only rows: scored, averaged and logged without them.

Hooks: `reward_funcs` (public), each wrapped so that it sees task rows alone; `_calculate_rewards` (private), where rewards
of all ranks come together; `_metrics` (private), corrected after TRL has written to it, for no event comes between.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from guardrail.errors import InputError
from guardrail.trainers.trl.grpo_versions import Seams

__all__ = ["TaskRewards"]


class TaskRewards:
    """Lets reward functions, reward models and reward metrics of a TRL `GRPOTrainer` see task rows alone."""

    def __init__(self, trainer: Any, seams: Seams) -> None:
        """Keep the trainer; nothing is wrapped yet."""
        self._trainer, self._seams = trainer, seams
        self.flags: list[bool] | None = None
        """Which rows of the batch being generated are KL-only; None while none can be, in evaluation."""
        self.lengths = 0
        """Tokens of this rank's KL-only completions in that batch, those cut and masked included."""
        self._everyone: Tensor | None = None
        self._rewards: Tensor | None = None

    def calculate(
        self,
        original: Callable[..., Tensor],
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[Any],
    ) -> Tensor:
        """Around `_calculate_rewards`: rewards of all ranks, NaN for KL-only rows.

        Shapes must agree between ranks, so a copy of a task row stands in a KL-only row's place.
        """
        if self.flags is None:
            return original(inputs, prompts, completions, completion_ids_list)
        flags = self.flags
        self.lengths = sum(
            len(ids) for ids, flag in zip(completion_ids_list, flags, strict=True) if flag
        )
        rows: list[Any] = inputs
        lists = [prompts, completions, completion_ids_list]
        if all(flags):
            rows = [{"prompt": row["prompt"]} for row in inputs]
        else:
            stand_in = flags.index(False)
            places = [stand_in if flag else place for place, flag in enumerate(flags)]
            rows, *lists = ([values[p] for p in places] for values in (inputs, *lists))
        rewards = original(rows, *lists)
        self._everyone = self._trainer.accelerator.gather(
            torch.tensor(flags, device=rewards.device).int()
        ).bool()
        self._rewards = rewards.masked_fill(self._everyone.unsqueeze(1), torch.nan)
        return self._rewards

    def of_task_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the user's reward function, called with task rows alone; 0 for KL-only rows."""
        name = getattr(function, "__name__", type(function).__name__)
        call = type(function).__call__

        def scores(returned: Any, flags: Sequence[bool]) -> list[Any]:
            values = list(returned)
            if len(values) != len(flags) - sum(flags):
                raise InputError(
                    f"reward function `{name}` returned {len(values)} rewards for "
                    f"{len(flags) - sum(flags)} completions; return one each"
                )
            return _spread(values, flags, 0.0)

        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):

            @functools.wraps(function)
            async def scored_async(**rows: Any) -> Any:
                flags = self.flags
                if flags is None or not any(flags):
                    return await function(**rows)
                kept = self._task_rows(rows, flags)
                return scores([] if all(flags) else await function(**kept), flags)

            return scored_async

        @functools.wraps(function)
        def scored(**rows: Any) -> Any:
            flags = self.flags
            if flags is None or not any(flags):
                return function(**rows)
            kept = self._task_rows(rows, flags)
            return scores([] if all(flags) else function(**kept), flags)

        return scored

    def _task_rows(self, rows: Mapping[str, Any], flags: Sequence[bool]) -> dict[str, Any]:
        """A reward function's arguments without KL-only rows; what it logs a row gets its gaps back."""
        kept = {
            name: values
            if name in self._seams.batch_wide
            else [value for value, flag in zip(values, flags, strict=True) if not flag]
            for name, values in rows.items()
        }
        if "log_extra" in self._seams.batch_wide:
            log = rows["log_extra"]
            kept["log_extra"] = lambda column, values: log(column, _spread(values, flags, None))
        return kept

    def leave_out_of_metrics(self, rows: int, kl_rows: int) -> None:
        """Correct the reward metrics TRL just appended: KL-only rows have no reward."""
        metrics = self._trainer._metrics["train"]
        if kl_rows == rows:
            names = [n for n in metrics if n.startswith("rewards/")]
            for name in [*names, "reward", "reward_std", "frac_reward_zero_std"]:
                metrics[name].pop()
                if not metrics[name]:
                    del metrics[name]
            return
        zero = metrics["frac_reward_zero_std"]
        constant = zero[-1] * rows - (kl_rows if self._seams.unscored_is_zero else 0)
        zero[-1] = constant / (rows - kl_rows)
        if self._seams.unscored_is_zero:
            assert self._rewards is not None
            assert self._everyone is not None
            total = self._rewards[~self._everyone].nansum(dim=1)
            metrics["reward"][-1] = total.mean().item()
            metrics["reward_std"][-1] = total.std().item()


def _spread(values: Sequence[Any], flags: Sequence[bool], fill: Any) -> list[Any]:
    """Values of the task rows at their places among all rows."""
    left = iter(values)
    return [fill if flag else next(left) for flag in flags]
