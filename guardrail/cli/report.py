"""Commands about a run's report: `guardrail report | resolve`."""

from typing import Annotated, Literal

import typer

from guardrail.cli.common import LangOption, RunArgument, clear_errors, console
from guardrail.errors import InputError

__all__ = ["report", "resolve"]


def report(run: RunArgument, lang: LangOption = None) -> None:
    """Rebuild the report of a run from its ledger, at any time.

    Example: `guardrail report runs/toy-sft --lang en`
    """
    with clear_errors(run, lang):
        from guardrail.report.report import build_report

        typer.echo(build_report(run, language=lang))


def resolve(
    run: RunArgument,
    by: Annotated[str, typer.Option(help="Who decides.")],
    note: Annotated[str, typer.Option(help="Why.")],
    accept: Annotated[bool, typer.Option("--accept", help="The result is taken.")] = False,
    rollback: Annotated[
        bool,
        typer.Option("--rollback", help="Its last ok checkpoint is taken, where there is one."),
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="None of its weights are taken.")
    ] = False,
    lang: LangOption = None,
) -> None:
    """Record what a person decides about a run, in its ledger and in its report.

    Every decision is kept; the newest stands first. No model and no checkpoint is touched. A run that is still going cannot be decided.

    Example: `guardrail resolve runs/toy-sft --rollback --by 王敏 --note "翻译掉得太多"`
    """
    with clear_errors(run, lang):
        from guardrail.live.terminal_words import terminal_words
        from guardrail.report.decision import record_decision
        from guardrail.report.page.texts import language_of_run
        from guardrail.report.report import build_report

        ways: dict[Literal["accept", "rollback", "abandon"], bool]
        ways = {"accept": accept, "rollback": rollback, "abandon": abandon}
        chosen = [way for way, asked in ways.items() if asked]
        if len(chosen) != 1:
            raise InputError("say one of `--accept`, `--rollback` and `--abandon`")
        decided = record_decision(run, chosen[0], by=by, note=note)
        if decided.against_advice:
            words = terminal_words(lang or language_of_run(run))
            advice = words.name("recommendation", decided.advice).replace("_", " ")
            said = words(
                "this goes against the report's advice ({advice}); ledger and report keep both",
                advice=advice,
            )
            console.print(said, style="yellow", soft_wrap=True, highlight=False, markup=False)
        typer.echo(build_report(run, language=lang))
