"""What becomes of a run: use, continue, roll back or abandon, with the one reason; pure, from the ledger alone."""

from typing import Literal

from guardrail.judge.verdict import UNTESTED, Facts, shows_harm
from guardrail.report.run_data import RunData

__all__ = ["NO_FAULT", "Advice", "Recommendation", "recommend"]

Advice = Literal["use", "continue", "roll_back", "abandon", "reject", "undecided"]

NO_FAULT = ("terminated", "interrupted")
"""Reasons after which nothing has to be mended before the run goes on."""


class Recommendation(Facts):
    """The one recommendation of a report, why, and the level that badge and sentence are made from."""

    recommendation: Advice
    """`use` the weights of a training that has ended, `continue` one that has not, `roll_back` to the last ok checkpoint,
    `abandon` where there is none, or `undecided` where nothing valid was measured that could tell. Of the one model of
    `guardrail look`: `use`, `reject` or `undecided`."""
    because: str
    """The reason as a code; the page has a sentence for each."""
    level: str
    """ok, warn, serious, critical, or `untested` where no valid test says so."""


def recommend(data: RunData, silent_s: float) -> Recommendation:
    """Return the recommendation for a run.

    Harm that was shown on the newest measured weights means going back, or giving up where no checkpoint was
    ok. Without a valid measurement of the newest weights nothing is recommended: no signal is not health.
    A ledger with damaged lines never recommends to go on.

    Args:
        data: The run.
        silent_s: Seconds since the ledger's last record; an unclosed ledger that has been silent for long
            is a killed run, and one whose process is known to be gone is one at once.
    """
    found = _decide(data, silent_s)
    if data.damaged and found.recommendation in ("use", "continue"):
        return Recommendation(recommendation="undecided", because="damaged", level=UNTESTED)
    return found


def _decide(data: RunData, silent_s: float) -> Recommendation:
    level, look = data.level, data.last_look
    drifted = look is not None and look.drifted
    away: Advice = "roll_back" if data.last_ok is not None else "abandon"

    def advise(recommendation: Advice, because: str, level: str = level) -> Recommendation:
        return Recommendation(recommendation=recommendation, because=because, level=level)

    if data.outcome == "empty":
        return advise("undecided", "nothing_recorded", UNTESTED)
    if data.one_look:
        if look is None or not look.tested:
            return advise("undecided", "look_untested", UNTESTED)
        return advise("reject", "look_drifted") if drifted else advise("use", "look_ok")
    if data.outcome == "halted":
        if any(a.kind == "halt" and a.carried_out for a in data.actions):
            return advise(away, "halted_on_drift")
        return advise(away if drifted else "undecided", "halted_on_failure")
    going = data.outcome == "running" and not data.process_gone
    if going and silent_s <= data.pace.silence_limit_s:
        if level == UNTESTED:
            return advise("undecided" if data.failures else "continue", "running_unmeasured")
        unopposed = data.watching and level in ("serious", "critical")
        because = "running" if level == "ok" else "running_drifted"
        return advise(away if unopposed else "continue", because)
    if data.outcome != "finished":
        return _decide_broken_off(data, away, drifted)
    if not data.tested_at_the_end:
        return advise(away if drifted else "undecided", "finished_unmeasured", UNTESTED)
    if shows_harm(level):
        return advise(away, "finished_drifted")
    recovered = any(k.drifted for k in data.looks)
    return advise("use", "finished_recovered" if recovered else "finished_ok")


def _decide_broken_off(data: RunData, away: Advice, drifted: bool) -> Recommendation:
    """Crashed, terminated, interrupted, or silent without an end."""
    look, level = data.last_look, data.level
    because = "silent" if data.outcome == "running" else "crashed"
    if data.process_gone:
        because = "gone"
    elif data.outcome == "terminated":
        because = "terminated"
    elif data.closing is not None and (data.closing.error or "").startswith("KeyboardInterrupt"):
        because = "interrupted"
    if look is not None and look.number == 0 and look.failed_pipeline_check:
        return Recommendation(recommendation="undecided", because="pipeline", level=UNTESTED)
    if look is not None and look.number == 0 and look.inherited and drifted:
        return Recommendation(recommendation="undecided", because="inherited", level=level)
    if drifted:
        return Recommendation(recommendation=away, because=because, level=level)
    on: Advice = "continue" if level == "ok" else "undecided"
    return Recommendation(recommendation=on, because=because, level=level)
