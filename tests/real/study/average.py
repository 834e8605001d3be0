"""Weights between base's and the tuned: the share of the tuned at which the domain loss meets a target (WiSE-FT)."""

from pathlib import Path
from typing import Any

import torch

from guardrail.models.load import load_model, on_accelerator
from tests.real.study.evaluate import likelihood
from tests.real.study.material import read_rows

TRIES = 6
"""Halvings of the interval: the share is known to 1/64."""


def average_to(
    target: float, study: Path, settings: dict[str, Any], checkpoint: Path, domain: str
) -> float:
    """Overwrite a checkpoint's weights by those nearest to base whose held-out domain loss is at most `target`.

    The loss is taken to fall with the share of the tuned weights. Returns that share; 1 where even the tuned weights miss.
    """
    model, tokenizer = load_model(checkpoint, dtype=torch.float32)
    model = on_accelerator(model).eval()
    base, _ = load_model(settings["base"], dtype=torch.float32)
    tuned = [weights.detach().clone() for weights in model.parameters()]
    before = [weights.detach().to(tuned[0].device) for weights in base.parameters()]
    rows = read_rows(study / f"material/{domain}-held.jsonl")

    def move_to(share: float) -> None:
        with torch.no_grad():
            for weights, old, new in zip(model.parameters(), before, tuned, strict=True):
                weights.copy_(torch.lerp(old, new, share))

    low, high = 0.0, 1.0
    for _ in range(TRIES):
        middle = (low + high) / 2
        move_to(middle)
        enough = likelihood(model, None, tokenizer, settings, rows)["loss"] <= target
        low, high = (low, middle) if enough else (middle, high)
    move_to(high)
    model.save_pretrained(checkpoint)
    return high
