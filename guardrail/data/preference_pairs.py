"""Preference pairs in the forms in which DPO is trained on them: TRL's (`prompt`, `chosen`, `rejected` as lists of messages), and ms-swift's."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["preference_pair", "swift_pair"]


def preference_pair(
    prompt: Sequence[Mapping[str, str]], chosen: str, rejected: str, **facts: Any
) -> dict[str, Any]:
    """Return a pair as TRL's DPOTrainer takes it; further columns ride along, and it leaves them unread."""
    return {
        "prompt": [dict(turn) for turn in prompt],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **facts,
    }


def swift_pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pair as `swift rlhf --rlhf_type dpo` takes it: `messages` with the chosen answer, and `rejected_response`."""
    facts = {k: v for k, v in pair.items() if k not in ("prompt", "chosen", "rejected")}
    return {
        "messages": [*pair["prompt"], *pair["chosen"]],
        "rejected_response": pair["rejected"][-1]["content"],
        **facts,
    }
