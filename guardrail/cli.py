"""The command line: `guardrail run | demo | check | anchor | status | report | recipes | sets`."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from guardrail import __version__, cli_anchor, cli_sets
from guardrail.cli_common import (
    HALTED,
    JsonFlag,
    RecipeArgument,
    clear_errors,
    console,
    print_json,
    quiet_libraries,
)
from guardrail.errors import InputError

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Guard a fine-tuning run against forgetting.\n\n"
    "Exit codes: 0 ok, 1 the guard halted the run, 2 bad input.\n\n"
    "Example: `guardrail demo`",
)
app.add_typer(cli_anchor.app, name="anchor")
app.add_typer(cli_sets.app, name="sets")


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a guarded run.")]


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
) -> None:
    """Train with the guard on.

    Example: `guardrail run recipes/toy-sft.yaml --out runs/first`
    """
    with clear_errors():
        from guardrail.recipe import read_recipe

        overrides = {} if seed is None else {"seed": seed}
        checked = read_recipe(recipe, **overrides)
        folder = (out or Path("runs") / checked.name).resolve()
        from guardrail.run import run_recipe
        from guardrail.watch.live import live_display
        from guardrail.watch.report import build_report

        quiet_libraries()
        with live_display(console, checked.name) as display:
            try:
                finished = run_recipe(
                    checked,
                    folder,
                    resume=resume,
                    on_record=display.on_record,
                    on_step=display.on_step,
                    on_anchors=display.on_anchors,
                )
            except Exception as error:
                if not isinstance(error, InputError) and (folder / "ledger.jsonl").is_file():
                    console.print(f"crashed; report: {build_report(folder)}")
                raise
        report_path = build_report(folder)
        if finished.halted:
            console.print("[bold red]HALTED by the guard[/]: the run drifted beyond its margins")
        else:
            console.print("[green]finished[/]")
        console.print(f"report: {report_path}\nnext: guardrail status {folder}", soft_wrap=True)
        if finished.halted:
            raise typer.Exit(HALTED)


@app.command()
def demo(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE")] = "toy-sft",
    out: Annotated[Path | None, typer.Option(help="Folder; by default runs/demo-RECIPE.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the result here.")
    ] = None,
) -> None:
    """Train the toy base twice, unguarded and guarded, and compare what it can still do.

    An earlier demo in the same folder is replaced.

    Example: `guardrail demo --json demo.json`, or `guardrail demo toy-sft-reckless`
    """
    with clear_errors():
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe)
        folder = (out or Path("runs") / f"demo-{checked.name}").resolve()
        from guardrail.demo import render_demo, run_demo

        quiet_libraries()
        for side in ("unguarded", "guarded"):
            shutil.rmtree(folder / side, ignore_errors=True)
        result = run_demo(recipe, folder, seed, console)
        if json_file is not None:
            json_file.write_text(
                json.dumps(result.facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
            )
        console.print(render_demo(result.facts))


@app.command()
def check(recipe: RecipeArgument, as_json: JsonFlag = False) -> None:
    """Check a recipe, its sets, models, data and anchors without training.

    Example: `guardrail check recipes/toy-sft.yaml`
    """
    with clear_errors():
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe)
        from guardrail.run import preflight
        from guardrail.sets.compose import passes_per_prompt
        from guardrail.trainers.attach import anchors_standing

        guardrail, rows = preflight(checked)
        facts = {
            "recipe": checked.name,
            "training_rows": len(rows),
            "red_line_items": len(guardrail.red_line),
            "rehearsal_items": len(guardrail.rehearsal),
            "rehearsal_fraction": checked.rehearsal.fraction,
            "passes_per_prompt_and_epoch": round(
                passes_per_prompt(len(rows), checked.rehearsal.fraction, len(guardrail.rehearsal)),
                2,
            ),
            "anchors": anchors_standing(guardrail),
        }
        if as_json:
            print_json(facts)
        else:
            for name, value in facts.items():
                typer.echo(f"{name.replace('_', ' ')}: {value}")
            typer.echo("ok")


@app.command()
def status(run: RunArgument, as_json: JsonFlag = False) -> None:
    """Show where a run stands: level, levers, looks, actions.

    Example: `guardrail status runs/toy-sft`
    """
    with clear_errors():
        from guardrail.watch.status import render_status, run_status

        facts = run_status(run)
        if as_json:
            print_json(facts)
        else:
            Console().print(render_status(facts))


@app.command()
def report(run: RunArgument) -> None:
    """Rebuild the report of a run from its ledger, at any time.

    Example: `guardrail report runs/toy-sft`
    """
    with clear_errors():
        from guardrail.watch.report import build_report

        typer.echo(build_report(run))


@app.command()
def recipes(
    copy: Annotated[
        str | None, typer.Option(help="Copy this shipped recipe here to edit it.")
    ] = None,
) -> None:
    """List the shipped recipes, or copy one.

    Example: `guardrail recipes --copy toy-sft`
    """
    with clear_errors():
        from guardrail.shipped import find_recipe, shipped_recipes

        if copy is None:
            for name, path in shipped_recipes().items():
                purpose = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
                typer.echo(f"{name}: {purpose}")
            return
        target = Path(f"{copy}.yaml")
        if target.exists():
            raise InputError(f"`{target}` exists already; move it away first")
        shutil.copyfile(find_recipe(copy), target)
        typer.echo(target)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"guardrail {__version__}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options of every command."""
