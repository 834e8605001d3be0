"""Do the base's weights answer at look 0 as they did for the anchors? Else the pipeline differs, not the model."""

import math

from scipy import special

from guardrail.judge.rule import Verdict

__all__ = ["disagreements"]

_ALPHA = 0.01
"""Probability of a false refusal, over all streams together."""


def disagreements(by_item: Verdict, by_noise: Verdict | None = None) -> list[str]:
    """Return the streams in which look 0 differs from the anchors beyond a simultaneous noise bound.

    Two-sided t-tests of the mean harm over items, Bonferroni over the streams. Sampled answers carry their own
    noise. Greedy ones carry none, and yet rounding makes a long answer take another turn, always away from
    its anchor: there the harm is compared with that of the same weights under one rounding more.

    Args:
        by_item: Look 0 against the anchors, judged item by item.
        by_noise: Greedy answers against those under more rounding, the same streams; None where sampled.
    """
    noise = {} if by_noise is None else {(s.metric, s.group): s for s in by_noise.streams}
    tested = [s for s in by_item.streams if s.n >= 2]
    found = []
    for s in tested:
        other = noise.get((s.metric, s.group))
        harm, se = abs(s.harm), s.se
        if other is not None and other.n >= 2:
            harm, se = harm - abs(other.harm), math.hypot(se, other.se)
        t = harm / se
        if 2 * float(special.stdtr(s.n - 1, -t)) < _ALPHA / len(tested):
            found.append(f"{s.metric}/{s.group} is off by {s.harm:+.3f}, {t:.1f} standard errors")
    return found
