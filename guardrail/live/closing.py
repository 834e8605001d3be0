"""What a guarded training leaves in the terminal: how it ended, what guarding cost, what to type next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from guardrail.exit_codes import BAD_INPUT, UNTESTED_END
from guardrail.judge.verdict import UNTESTED, shows_harm
from guardrail.live.status import shown_state
from guardrail.live.status_terminal import LEVEL_STYLE, cost_said, one_line, untested_said

__all__ = ["closing_words"]


def closing_words(status: Mapping[str, Any], report: Path, go_on: str) -> Text:
    """Return the closing lines; commands are whole and on lines of their own, to be copied.

    Args:
        status: Facts of `run_status`.
        report: The report page, as just written.
        go_on: How a run that was broken off goes on; said where it was.
    """
    run = shlex.quote(status["run"])
    drifted = any(a["action"] == "halt" and a["carried_out"] for a in status["actions"])
    lines = [_headline(status, drifted=drifted)]
    if drifted:
        lines += [_row("drifted", name) for name in status["looks"][-1]["alarmed"][:4]]
    if status["looks"] and (said := untested_said(status["looks"][-1])):
        lines.append(_row("last look", said))
    if status["error"] and shown_state(status) != "interrupted":
        lines.append(_row("error", one_line(status["error"], 300)))
    if status["failures"]:
        last = status["last_failure"]
        said = f"{status['failures']}, the last at step {last['step']}: {one_line(last['error'])}"
        lines.append(_row("failed looks", said))
    if status["tripwire_failures"]:
        last = status["last_tripwire_failure"]
        said = f"{status['tripwire_failures']} failed, the last at step {last['step']}: "
        lines.append(_row("tripwires", said + one_line(last["error"])))
    if sidecar := status["sidecar"]:
        left = len(sidecar["open"])
        said = (
            f"{left} looks are still to be judged: guardrail serve {run}"
            if left
            else "all looks judged"
        )
        lines.append(_row("sidecar", said))
    for service, trouble in status["tracking"].items():
        lost = f"{trouble['lost']} records lost: " if trouble["lost"] else ""
        lines.append(_row(service, lost + one_line(trouble["error"], 300)))
    lines.append(_row("last ok", one_line(status["last_ok_checkpoint"] or "no checkpoint", 300)))
    if status["cost"]["seconds"]:
        lines.append(_row("guarding took", cost_said(status["cost"])))
    lines += [_row("report", str(report)), _row("in a browser", f"guardrail watch {run}")]
    if status["outcome"] != "finished" and not drifted:
        lines.append(_row("go on", go_on))
    lines += [
        _row("in figures", f"guardrail status {run}"),
        _row("report anew", f"guardrail report {run}"),
    ]
    return Text("\n").join(lines)


def _headline(status: Mapping[str, Any], *, drifted: bool) -> Text:
    outcome, level, step = status["outcome"], status["level"] or UNTESTED, status["step"]
    shown = (level, LEVEL_STYLE.get(level, "yellow"))
    if drifted:
        said = f" at step {step}: the run drifted beyond its margins, level "
        return Text.assemble(("HALTED by the guard", "bold red"), said, shown)
    if outcome == "halted":
        said = (
            f" at step {step}: a look or a tripwire could not be measured (`on_error: halt`), no drift "
            "was shown"
        )
        return Text.assemble(("HALTED by the guard", "bold red"), said)
    if outcome == "terminated":
        where = f" at step {step} with a checkpoint" if step else " before the first step"
        return Text.assemble(("terminated", "bold yellow"), where)
    if shown_state(status) == "interrupted":
        return Text.assemble(("interrupted by hand", "bold yellow"), f" at step {step}")
    if status["exit_code"] == BAD_INPUT:
        return Text.assemble(("REFUSED", "bold red"), f" at step {step}")
    if outcome != "finished":
        return Text.assemble(("CRASHED", "bold red"), f" at step {step}")
    if status["exit_code"] == UNTESTED_END:
        return Text.assemble(
            ("finished", "bold yellow"),
            f" at step {step}, but the final weights were not tested: that is not ok",
        )
    if shows_harm(level):
        said = f" at step {step}, but the final weights are beyond their margins: "
        return Text.assemble(("finished", "bold yellow"), said, shown)
    return Text.assemble(("finished", "bold green"), f" at step {step}, level ", shown)


def _row(name: str, said: str) -> Text:
    return Text.assemble("  ", (f"{name:<14}", "dim"), said)
