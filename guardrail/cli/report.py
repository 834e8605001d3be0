"""Commands about a run's report: `guardrail report | resolve`."""

from typing import Annotated

import typer

from guardrail.cli.common import LangOption, RunArgument, clear_errors
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
        bool, typer.Option("--rollback", help="The run goes back to its last ok checkpoint.")
    ] = False,
    lang: LangOption = None,
) -> None:
    """Record what a person decides about a run, in its ledger and in its report.

    Every decision is kept; the newest stands first. A run that is still going cannot be decided.

    Example: `guardrail resolve runs/toy-sft --rollback --by 王敏 --note "翻译掉得太多"`
    """
    with clear_errors(run, lang):
        from guardrail.report.decision import record_decision
        from guardrail.report.report import build_report

        if accept == rollback:
            raise InputError("say either `--accept` or `--rollback`")
        record_decision(run, "accept" if accept else "rollback", by=by, note=note)
        typer.echo(build_report(run, language=lang))
