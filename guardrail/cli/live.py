"""Commands that show a run while it goes: `guardrail status | watch`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guardrail.cli.common import (
    JsonFlag,
    LangOption,
    RunArgument,
    clear_errors,
    console,
    print_json,
    spoken_in,
)
from guardrail.errors import InputError

__all__ = ["status", "watch"]


def status(
    run: RunArgument,
    as_json: JsonFlag = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay and follow the run until it ends, or Ctrl-C.")
    ] = False,
    lang: LangOption = None,
) -> None:
    """Show where a run stands: heartbeat, level, levers, abilities over looks, actions, cost.

    Example: `guardrail status runs/toy-sft --watch`
    """
    with clear_errors(run, lang):
        if watch and as_json:
            raise InputError("`--json` prints once; leave `--watch` away, or ask again in a loop")
        from guardrail.live.anchors_status import anchors_said, anchors_status
        from guardrail.live.follow_status import follow_status
        from guardrail.live.status import run_status
        from guardrail.live.status_terminal import render_status
        from guardrail.live.terminal_words import terminal_words
        from guardrail.report.page.texts import language_of_run

        if watch:
            follow_status(run, Console(), lang)
            return
        before = anchors_status(run)
        facts = before or run_status(run)
        if as_json:
            print_json(facts)
            return
        if before:
            Console().print(anchors_said(before, terminal_words(lang or language_of_run(run))))
        else:
            Console().print(render_status(facts, lang))


def watch(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's folder, one still to come, or one of several."),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8765,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    lang: LangOption = None,
) -> None:
    """Serve the report of a run while it goes: one page on this machine that updates itself.

    Example: `guardrail watch runs/first`, or `guardrail watch runs` for every run in a folder
    """
    with clear_errors(run, lang):
        from guardrail.live.serve import open_server, serve

        server = open_server(run, port, lang)
        serve(server, console, open_browser=not no_open, language=lang or spoken_in(run))
