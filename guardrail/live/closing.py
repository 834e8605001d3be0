"""What a guarded training leaves in the terminal: how it ended, what guarding cost, what to type next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from guardrail.exit_codes import BAD_INPUT, UNTESTED_END
from guardrail.judge.verdict import UNTESTED, shows_harm
from guardrail.live.status import shown_state
from guardrail.live.status_terminal import (
    LEVEL_STYLE,
    cost_said,
    one_line,
    tracking_said,
    untested_said,
)
from guardrail.live.terminal_words import TerminalWords, terminal_words
from guardrail.report.next_steps import NEXT_RECIPE
from guardrail.report.page.texts import Language

__all__ = ["closing_words", "halted_words"]

_DRIFTED_SAID = 4
"""Streams that are named; how many more there are is said."""


def closing_words(
    status: Mapping[str, Any], report: Path, go_on: str, language: Language | None = None
) -> Text:
    """Return the closing lines; commands are whole and on lines of their own, to be copied.

    Args:
        status: Facts of `run_status`.
        report: The report page, as just written.
        go_on: How a run that was broken off goes on; said where it was.
        language: Of the words; by default the recipe's.
    """
    words = terminal_words(language or status["language"])
    run = shlex.quote(status["run"])
    drifted = any(a["action"] == "halt" and a["carried_out"] for a in status["actions"])
    lines = [_headline(status, words, drifted=drifted)]

    def row(name: str, said: str) -> None:
        lines.append(Text.assemble("  ", (words.column(name), "dim"), said))

    if drifted:
        alarmed = status["looks"][-1]["alarmed"]
        for name in alarmed[:_DRIFTED_SAID]:
            row("drifted", words.stream(name))
        if more := len(alarmed[_DRIFTED_SAID:]):
            row("", words("and {count} more", count=more))
    if status["looks"] and (said := untested_said(status["looks"][-1], words)):
        row("last look", said)
    if status["error"] and shown_state(status) != "interrupted":
        row("error", one_line(status["error"], 300))
    for name, count, last in (
        ("failed looks", status["failures"], status["last_failure"]),
        ("tripwires", status["tripwire_failures"], status["last_tripwire_failure"]),
    ):
        if count:
            error = one_line(last["error"])
            text = "{count} failed, the last at step {step}: {error}"
            row(name, words(text, count=count, step=last["step"], error=error))
    if sidecar := status["sidecar"]:
        left = len(sidecar["open"])
        said = words(
            "{count} looks are still to be judged: guardrail serve {run}", count=left, run=run
        )
        row("sidecar", said if left else words("all looks judged"))
    for service, trouble in status["tracking"].items():
        row(service, tracking_said(trouble, words))
    if status["injected_nothing"]:
        row("KL-only", words("no rehearsal sample was injected yet"))
    row("last ok", one_line(status["last_ok_checkpoint"] or words("no checkpoint"), 300))
    if status["cost"]["seconds"]:
        row("guarding took", cost_said(status["cost"], words))
    row("report", str(report))
    row("in a browser", f"guardrail watch {run}")
    if status["outcome"] != "finished" and not drifted:
        row("go on", go_on)
    row("in figures", f"guardrail status {run}")
    row("report anew", f"guardrail report {run}")
    return Text("\n").join(lines)


def halted_words(run: Path, step: int, language: Language) -> Text:
    """Return what is said where a run that the guard halted is resumed: that nothing is trained, and what to do instead."""
    words, at = terminal_words(language), shlex.quote(str(run))
    said = words(" at step {step}: a resume trains no further, nothing was changed", step=step)
    lines = [Text.assemble((words("HALTED by the guard"), "bold red"), said)]
    after, out = run / NEXT_RECIPE, shlex.quote(f"{run}-next")
    rows = [("report", str(run / "report.html")), ("report anew", f"guardrail report {at}")]
    if after.is_file():
        rows[1] = ("next", f"guardrail run {shlex.quote(str(after))} --out {out}")
    for name, row in rows:
        lines.append(Text.assemble("  ", (words.column(name), "dim"), row))
    return Text("\n").join(lines)


def _headline(status: Mapping[str, Any], words: TerminalWords, *, drifted: bool) -> Text:
    outcome, level, step = status["outcome"], status["level"] or UNTESTED, status["step"]
    shown = (words.name("level", level), LEVEL_STYLE.get(level, "yellow"))
    halted = (words("HALTED by the guard"), "bold red")
    if drifted:
        said = words(" at step {step}: the run drifted beyond its margins, level ", step=step)
        return Text.assemble(halted, said, shown)
    if outcome == "halted":
        said = words(
            " at step {step}: a look or a tripwire could not be measured (`on_error: halt`), no drift was shown",
            step=step,
        )
        return Text.assemble(halted, said)
    at = words(" at step {step}", step=step)
    if outcome == "terminated":
        where = words(" at step {step} with a checkpoint", step=step)
        where = where if step else words(" before the first step")
        return Text.assemble((words("terminated"), "bold yellow"), where)
    if shown_state(status) == "interrupted":
        return Text.assemble((words("interrupted by hand"), "bold yellow"), at)
    if status["exit_code"] == BAD_INPUT:
        return Text.assemble((words("REFUSED"), "bold red"), at)
    if outcome != "finished":
        return Text.assemble((words("CRASHED"), "bold red"), at)
    if status["exit_code"] == UNTESTED_END:
        said = words(
            " at step {step}, but the final weights were not tested: that is not ok", step=step
        )
        return Text.assemble((words("finished"), "bold yellow"), said)
    if shows_harm(level):
        said = words(" at step {step}, but the final weights are beyond their margins: ", step=step)
        return Text.assemble((words("finished"), "bold yellow"), said, shown)
    said = words(" at step {step}, level ", step=step)
    return Text.assemble((words("finished"), "bold green"), said, shown)
