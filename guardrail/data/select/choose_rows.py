"""Top-k by a score under quotas, and the three scores that make rows good: complex, dense, following."""

from collections import Counter
from collections.abc import Mapping

from guardrail.data.stage_folder import Made
from guardrail.errors import InputError

__all__ = ["SCORES", "choose_rows"]

SCORES = ("ifd", "superfilter", "complexity", "density", "following", "hard")


def choose_rows(
    made: Made,
    keep: int,
    *,
    by: str = "ifd",
    quotas: Mapping[str, int] | None = None,
    per_ability: int | None = None,
) -> Made:
    """Return the `keep` rows with the highest score, no ability above its quota; the rest is dropped with the reason.

    Equal scores stand in the order of the rows. What is short of a quota is reported, not filled from another ability.

    Args:
        made: Rows without fault.
        keep: Rows to keep.
        by: The score.
        quotas: Ability → most rows of it; abilities not named have `per_ability`.
        per_ability: Most rows of any ability; None sets no limit.

    Raises:
        InputError: a row lacks the score, or `keep` is below 1.
    """
    if keep < 1:
        raise InputError(f"rows to keep must be at least 1, got {keep}")
    lacking = [row.id for row in made.rows if by not in row.scores]
    if lacking:
        raise InputError(
            f"{len(lacking)} rows have no score `{by}`, such as {lacking[0]}; let it be made (see `guardrail data select --help`) "
            f"or choose by one of {', '.join(sorted({name for row in made.rows for name in row.scores})) or 'none'}"
        )
    chosen = Made(dropped=list(made.dropped), facts=dict(made.facts))
    taken: Counter[str] = Counter()
    limits = dict(quotas or {})
    order = sorted(range(len(made.rows)), key=lambda n: -made.rows[n].scores[by])
    for number in order:
        row = made.rows[number]
        limit = limits.get(row.ability, per_ability)
        if len(chosen.rows) == keep:
            chosen.drop(f"{by} too low", row)
        elif limit is not None and taken[row.ability] >= limit:
            chosen.drop("ability's quota is full", row)
        else:
            taken[row.ability] += 1
            chosen.rows.append(row)
    short = {name: limit - taken[name] for name, limit in limits.items() if taken[name] < limit}
    chosen.facts |= {"chosen_by": by, "abilities": dict(taken), "short_of_quota": short}
    return chosen
