"""`guardrail serve`: the sidecar that takes a run's looks beside it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from guardrail.cli.common import (
    ConcurrencyOption,
    JsonFlag,
    ProbesOption,
    ServedAsOption,
    ServerOption,
    asked_server,
    clear_errors,
    console,
    print_json,
    quiet_libraries,
)
from guardrail.exit_codes import exit_codes_said

__all__ = ["serve"]


def serve(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The run's folder; it may still be to come.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Says where models, sets and anchors lie on this machine; all else is the run's own recipe.",
        ),
    ] = None,
    probes: ProbesOption = None,
    server: ServerOption = None,
    served_as: ServedAsOption = None,
    concurrency: ConcurrencyOption = 32,
    once: Annotated[
        bool, typer.Option("--once", help="Judge what is asked now, then exit.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take the looks of a run with `looks.engine: sidecar` on a GPU, node or CPU of its own.

    The training saves a checkpoint where a look is due and goes on; this process, which must see the run's folder, answers
    the red line with each checkpoint, the oldest first. The training applies a verdict at the step it has got to. When it has
    ended, what is left is judged here. It may be killed and started again at any time; one serves a run at once.

    Exit codes are those of the run once it has ended, 3 also where a verdict after its end would have halted it:
    EXIT_CODES. With `--once` 0.

    Example: `guardrail serve runs/first`, or with a vLLM server `guardrail serve runs/first --server http://gpu2:8000`
    """
    with clear_errors(recipe or run):
        from guardrail.recipe import read_recipe
        from guardrail.sidecar.serve_run import serve_run

        quiet_libraries()
        facts = serve_run(
            run.resolve(),
            places=None if recipe is None else read_recipe(recipe),
            probes=probes or (),
            server=asked_server(server, served_as, concurrency),
            served_as=served_as,
            once=once,
            say=lambda text: console.print(escape(text), soft_wrap=True, highlight=False),
        )
        if as_json:
            print_json(facts)
        else:
            left = f", never judged: {facts['never_judged']}" if facts["never_judged"] else ""
            console.print(
                f"run {facts['outcome']}, {len(facts['answered'])} looks answered here{left}"
            )
        raise typer.Exit(0 if once else facts["exit_code"] or 0)


serve.__doc__ = (serve.__doc__ or "").replace("EXIT_CODES", exit_codes_said())
