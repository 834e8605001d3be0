"""Small charts inside table cells: interval bars, heat-map shades, which looks a heat map shows."""

from itertools import pairwise

from markupsafe import Markup

from guardrail.judge.verdict import Stream
from guardrail.ledger.records import LookFacts
from guardrail.report.findings import harm_step
from guardrail.report.run_data import RunData

__all__ = ["heat", "interval_bar", "shown_looks"]


def interval_bar(stream: Stream, scale: float) -> Markup:
    """Return change (harm negated) with its 95 % interval against zero and margin, on ±`scale`."""
    if stream.harm is None or stream.margin is None or scale <= 0:
        return Markup("")

    def at(harm: float) -> float:
        return min(100.0, max(0.0, 50 - 50 * harm / scale))

    low = stream.harm if stream.low is None else stream.low
    high = stream.harm if stream.high is None else stream.high
    left, right = at(high), at(low)
    return Markup(
        '<span class="bar lv-{}" aria-hidden="true"><i class="zero"></i><i class="edge" style="left:{:.1f}%"></i>'
        '<i class="whisker" style="left:{:.1f}%;width:{:.1f}%"></i><i class="mean" style="left:{:.1f}%"></i></span>'
    ).format(stream.standing, at(stream.margin), left, right - left, at(stream.harm))


def heat(look: LookFacts, group: str) -> int:
    """Return the shade of a heat-map cell: harm in margins, 0 (none) to 5 (beyond eight margins)."""
    stream = look.stream("passed", group)
    if stream is None or stream.harm is None or not stream.margin:
        return 0
    return harm_step(stream.harm, stream.margin)


def shown_looks(data: RunData, at_most: int = 20) -> list[LookFacts]:
    """Return the looks of the heat map: all, or first, last, level changes and an even spread."""
    looks = list(data.looks)
    if len(looks) <= at_most:
        return looks
    changes = [b for a, b in pairwise(looks) if a.level != b.level]
    must = [looks[0], *changes[: at_most - 2], looks[-1]]
    room = at_most - len(must)
    spread = [looks[(i + 1) * len(looks) // (room + 1)] for i in range(room)]
    return sorted({k.seq: k for k in must + spread}.values(), key=lambda k: k.seq)
