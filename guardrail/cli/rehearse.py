"""The command line of a rehearsal: `guardrail rehearse RECIPE`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from guardrail.cli.common import (
    JsonFlag,
    RecipeArgument,
    SetOption,
    clear_errors,
    console,
    print_json,
    quiet_libraries,
)
from guardrail.report.page.escape_controls import escape_controls

__all__ = ["rehearse"]

_MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]–[/]"}


def rehearse(
    recipe: RecipeArgument,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- swift ...]", help="The swift command of a recipe with `trainer: ms-swift`."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default runs/NAME-rehearsal.")
    ] = None,
    launcher: Annotated[
        str, typer.Option(help="What stands before `guardrail run`; by default this Python.")
    ] = "",
    limit: Annotated[
        float, typer.Option(min=0.1, metavar="MINUTES", help="A command that takes longer hangs.")
    ] = 30.0,
    settings: SetOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the last lines of what failed.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Go through a whole guarded run in minutes, on your own model and launcher, before the night's run.

    With eight items of either set: anchors, attach and KL self-test, look 0, two steps, a save with its look,
    kill -9, resume, a halt. Then the model's profile, and what the run will take. Everything lies in a folder
    of its own (`rehearsal.log` has all that was printed), and an earlier rehearsal there is replaced.

    Exit codes: 0 all of it passed, 1 something did not, 2 bad input.

    Examples: `guardrail rehearse my-recipe.yaml`,
    `guardrail rehearse my-recipe.yaml --launcher "torchrun --nproc_per_node 2 -m"`,
    `guardrail rehearse my-recipe.yaml -- swift sft --model Qwen/Qwen3-8B --dataset rows.jsonl`
    """
    with clear_errors(recipe, changes=settings):
        from guardrail.rehearse.rehearsal import rehearse as run_rehearsal
        from guardrail.rehearse.stage_results import StageResult

        quiet_libraries()
        # Lines come as they are seen; standard output is left to JSON where that is asked for.
        shown = console if as_json else Console()

        def show(result: StageResult) -> None:
            _print(shown, f"{_MARKS[result.passed]} {result.name:<12} {_safe(result.seen)}")

        facts = run_rehearsal(
            recipe,
            out,
            launcher=launcher,
            command=tuple(command or ()),
            changes=settings or (),
            limit_s=60 * limit,
            verbose=verbose,
            on_begin=lambda begun: _print(console, f"[dim]  … {begun}[/]"),
            on_result=show,
        )
        if as_json:
            print_json(facts)
        else:
            for line in (*_profile_lines(facts["profile"]), *_estimate_lines(facts["estimate"])):
                _print(shown, _safe(line))
            _print(shown, f"all output: {_safe(facts['folder'])}/rehearsal.log")
        raise typer.Exit(0 if facts["passed"] else 1)


def _safe(text: str) -> str:
    return escape(escape_controls(text))


def _print(shown: Console, text: str) -> None:
    shown.print(text, soft_wrap=True, highlight=False)


def _profile_lines(profile: dict[str, Any] | None) -> list[str]:
    if profile is None:
        return []
    from guardrail.live.terminal import precision_words
    from guardrail.live.terminal_words import terminal_words

    opens = profile["template_opens_thinking"]
    lost = "; small updates are LOST" if profile["precision"]["updates_lost"] else ""
    heeds = "" if profile["template_heeds_thinking"] else ", which the template does not heed"
    rows = {
        "answers end at": ", ".join(profile["answers_end_at"]),
        "pad": profile["pad"],
        "thinking": f"{'on' if profile['thinking_pinned'] else 'off'}{heeds}; the template opens "
        + (f"{opens!r} in the prompt" if opens else "no thinking block"),
        "precision": precision_words(profile["precision"], terminal_words("en")) + lost,
        "engine": f"{profile['engine']}, {profile['processes']} process(es) on {profile['device']}",
    }
    return ["the model's profile", *(f"  {name:<14} {value}" for name, value in rows.items())]


def _estimate_lines(estimate: dict[str, Any] | None) -> list[str]:
    if estimate is None:
        return []
    low, high = estimate["share_on_looks"]
    count = estimate["tripwires"]
    wires = "together at most 1% of the steps" if count is None else f"{count} of them"
    rows = {
        "anchors": "there already"
        if estimate["anchors_there"]
        else f"{_span(estimate['anchors_s'])}, once: {estimate['anchor_answers']} answers",
        "a look": f"{_span(estimate['look_s'])} of {estimate['look_items']} items; {estimate['looks']} looks",
        "a tripwire": f"{_span(estimate['tripwire_s'])}; {wires}",
        "a step": f"{_seconds(estimate['step_s'])}; {estimate['steps']} of them",
        "on looks": f"{low:.0%} to {high:.0%} of the run",
        "the whole run": _span([3600 * hours for hours in estimate["hours"]])
        + ", evaluations and saves left out",
    }
    title = "extrapolated to the run (if a full batch takes as long as eight items, to each item its share)"
    return [title, *(f"  {name:<14} {value}" for name, value in rows.items())]


def _span(seconds: list[float]) -> str:
    low, high = map(_seconds, seconds)
    return low if low == high else f"{low} to {high}"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
