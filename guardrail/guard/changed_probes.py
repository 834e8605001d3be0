"""A business's probes that were changed on purpose before a resume: what they say of base, so that both sides are asked the same."""

from guardrail.guard.guard import Guard
from guardrail.judge.look_values import Measured, anchor_measurements, read_business_measured
from guardrail.ledger.file import live_records, read_ledger
from guardrail.ledger.records import read_looks
from guardrail.probes.metrics import METRICS, SHOWN

__all__ = ["baseline_of_now"]


def baseline_of_now(guard: Guard) -> Measured | None:
    """Return the guard's baseline with what the probes of now measure of it, and nothing of those before; None before look 0.

    Of the answers that the baseline is of: look 0's as they were written, or the anchors'. Looks that were judged stay judged, and
    what was spent of the error budget stays spent.

    Raises:
        InputError: look 0's answers are gone or are not those that were written, or a probe fails.
    """
    state, meter = guard.state, guard.meter
    if state.baseline is None:  # look 0 is still to come
        return None
    own = {*(metric.name for metric in METRICS), *SHOWN}
    if guard.start_is_gold_base or guard.recipe.on_inherited == "judge_new":
        first = next(k for k in read_looks(live_records(read_ledger(guard.run))) if k.number == 0)
        found = read_business_measured(
            guard.run, first.answers, first.answers_sha256, meter.judged_items, meter.business
        )
    else:
        found = anchor_measurements(meter.judged_items, guard.anchors, meter.business)
    kept = {name: table for name, table in state.baseline.items() if name in own}
    return kept | {name: found[name] for name in meter.business.probes}
