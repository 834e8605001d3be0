"""Four metrics of debts and the debtors' financial health, from a log of outcomes.

Wang et al. (2025), "Debt Collection Negotiations with Large Language Models" (arXiv 2502.18228), by these formulas: success rate,
the share of debtors who agreed to a plan; recovery rate, the share who paid all; recovery efficiency, the mean share of the
debt repaid; collection efficiency, what was paid for each contact and each hour. Financial health is ours, since the notes give
no formula: what a month leaves after necessary expenses and the plan's instalment. Arms of an A/B test are kept apart.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardrail.errors import InputError
from guardrail.sets.read.readers import read_rows

__all__ = ["Outcome", "debt_metrics", "read_outcomes"]


_NEEDED = "it needs debtor, owed, paid, agreed, contacts"


class Outcome(BaseModel):
    """One debtor at the end of the period that is looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    debtor: str
    owed: float = Field(gt=0, allow_inf_nan=False)
    """At the start of the period."""
    paid: float = Field(ge=0, allow_inf_nan=False)
    agreed: bool
    """Whether they agreed to a plan."""
    contacts: int = Field(ge=1)
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """All contacts together."""
    income: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """A month's."""
    expenses: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Necessary ones, a month's."""
    instalment: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """A month's, by the plan."""
    arm: str = ""
    """Of an A/B test; empty without one."""


def read_outcomes(path: Path) -> list[Outcome]:
    """Return the outcomes of a file: JSONL, or whatever else imports read, within their bounds.

    Raises:
        InputError: the file cannot be read, a line is no outcome, a debtor stands twice, or there is none.
    """
    outcomes: list[Outcome] = []
    seen: set[str] = set()
    for row in read_rows(path):
        if row.problem:
            raise InputError(f"{row.where} {row.problem}; {_NEEDED}")
        try:
            # A cell that is left empty says nothing.
            outcome = Outcome.model_validate({k: v for k, v in row.value.items() if v != ""})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{row.where} is no outcome: `{'.'.join(map(str, first['loc'])):.80}`: {first['msg']:.200}; {_NEEDED}"
            ) from error
        if outcome.debtor in seen:
            raise InputError(
                f"{row.where}: debtor `{outcome.debtor:.80}` stands twice; sum up a debtor in one line"
            )
        seen.add(outcome.debtor)
        outcomes.append(outcome)
    if not outcomes:
        raise InputError(f"`{path}` holds no outcome; it needs at least one")
    return outcomes


def debt_metrics(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Return the metrics of each arm, by the arm's name; what nobody's line tells is left out.

    What was paid beyond the debt does not count. `paid_per_contact` and `paid_per_hour` are in the log's currency; the latter
    is of debtors whose minutes are known. `healthy` is the share of debtors with a plan, their income and expenses known, whom
    the instalment does not leave short; `headroom` the mean share of their income that is left, negative where short.
    """
    arms = dict.fromkeys(outcome.arm for outcome in outcomes)
    return {arm: _of_arm([o for o in outcomes if o.arm == arm]) for arm in arms}


def _of_arm(outcomes: Sequence[Outcome]) -> dict[str, float]:
    paid = [min(o.paid, o.owed) for o in outcomes]
    found: dict[str, float] = {
        "debtors": len(outcomes),
        "success_rate": fmean(o.agreed for o in outcomes),
        "recovery_rate": fmean(o.paid >= o.owed for o in outcomes),
        "recovery_efficiency": fmean(p / o.owed for p, o in zip(paid, outcomes, strict=True)),
        "paid_per_contact": sum(paid) / sum(o.contacts for o in outcomes),
    }
    timed = [(p, o.minutes) for p, o in zip(paid, outcomes, strict=True) if o.minutes is not None]
    if timed:
        found["paid_per_hour"] = 60 * sum(p for p, _ in timed) / sum(m for _, m in timed)
    left = [share for o in outcomes if (share := _headroom(o)) is not None]
    if left:
        found |= {"healthy": fmean(share >= 0 for share in left), "headroom": fmean(left)}
    return found


def _headroom(outcome: Outcome) -> float | None:
    o: Any = outcome
    if not o.agreed or None in (o.income, o.expenses, o.instalment):
        return None
    return float((o.income - o.expenses - o.instalment) / o.income)
