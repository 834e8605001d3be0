"""The command line of a rehearsal: `guardrail rehearse RECIPE`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from guardrail.live.terminal_words import TerminalWords

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
        from guardrail.live.terminal_words import terminal_words
        from guardrail.recipe import read_recipe
        from guardrail.rehearse.rehearsal import rehearse as run_rehearsal
        from guardrail.rehearse.stage_results import StageResult

        quiet_libraries()
        words = terminal_words(read_recipe(recipe, changes=settings or ()).language)
        # Lines come as they are seen; standard output is left to JSON where that is asked for.
        shown = console if as_json else Console()

        def show(result: StageResult) -> None:
            name, seen = words.column(result.name, 12), words.sentence(result.seen)
            _print(shown, f"{_MARKS[result.passed]} {name} {_safe(seen)}")

        facts = run_rehearsal(
            recipe,
            out,
            launcher=launcher,
            command=tuple(command or ()),
            changes=settings or (),
            limit_s=60 * limit,
            verbose=verbose,
            on_begin=lambda begun: _print(console, f"[dim]  … {words.sentence(begun)}[/]"),
            on_result=show,
        )
        if as_json:
            print_json(facts)
        else:
            profile = _profile_lines(facts["profile"], words)
            for line in (*profile, *_estimate_lines(facts["estimate"], words)):
                _print(shown, _safe(line))
            log = f"{facts['folder']}/rehearsal.log"
            _print(shown, _safe(words("all output: {path}", path=log)))
        raise typer.Exit(0 if facts["passed"] else 1)


def _safe(text: str) -> str:
    return escape(escape_controls(text))


def _print(shown: Console, text: str) -> None:
    shown.print(text, soft_wrap=True, highlight=False)


def _profile_lines(profile: dict[str, Any] | None, words: "TerminalWords") -> list[str]:
    if profile is None:
        return []
    from guardrail.live.terminal import precision_words

    opened = profile["template_opens_thinking"]
    opens = words("the template opens no thinking block")
    if opened:
        opens = words("the template opens {opened} in the prompt", opened=repr(opened))
    thinking = [words("on" if profile["thinking_pinned"] else "off")]
    if not profile["template_heeds_thinking"]:
        thinking.append(words("which the template does not heed"))
    precision = [precision_words(profile["precision"], words)]
    if profile["precision"]["updates_lost"]:
        precision.append(words("small updates are LOST"))
    rows = {
        "answers end at": words.joined(profile["answers_end_at"], "comma"),
        "pad": profile["pad"],
        "thinking": words.joined([*thinking, opens]),
        "precision": words.joined(precision),
        "engine": words(
            "{engine}, {processes} process(es) on {device}",
            engine=words.word(profile["engine"]),
            processes=profile["processes"],
            device=profile["device"],
        ),
    }
    return [words("the model's profile"), *_rows(rows, words)]


def _rows(rows: dict[str, str], words: "TerminalWords") -> list[str]:
    return [f"  {words.column(name)} {value}" for name, value in rows.items()]


def _estimate_lines(estimate: dict[str, Any] | None, words: "TerminalWords") -> list[str]:
    if estimate is None:
        return []

    def span(seconds: list[float]) -> str:
        low, high = (_seconds(one, words) for one in seconds)
        return low if low == high else words("{low} to {high}", low=low, high=high)

    low, high = estimate["share_on_looks"]
    count = estimate["tripwires"]
    wires = words("together at most 1% of the steps")
    if count is not None:
        wires = words("{count} of them", count=count)
    anchors = words("there already")
    if not estimate["anchors_there"]:
        text, answers = "{span}, once: {count} answers", estimate["anchor_answers"]
        anchors = words(text, span=span(estimate["anchors_s"]), count=answers)
    rows = {
        "anchors": anchors,
        "a look": words(
            "{span} of {items} items; {looks} looks",
            span=span(estimate["look_s"]),
            items=estimate["look_items"],
            looks=estimate["looks"],
        ),
        "a tripwire": words.joined([span(estimate["tripwire_s"]), wires]),
        "a step": words.joined(
            [
                _seconds(estimate["step_s"], words),
                words("{count} of them", count=estimate["steps"]),
            ]
        ),
        "on looks": words("{low:.0%} to {high:.0%} of the run", low=low, high=high),
        "the whole run": words(
            "{span}, evaluations and saves left out",
            span=span([3600 * hours for hours in estimate["hours"]]),
        ),
    }
    title = words(
        "extrapolated to the run (if a full batch takes as long as eight items, to each item its share)"
    )
    return [title, *_rows(rows, words)]


def _seconds(seconds: float, words: "TerminalWords") -> str:
    if seconds < 10:
        return words("{n:.2g} s", n=seconds)
    if seconds < 100:
        return words("{n:.0f} s", n=seconds)
    if seconds < 6000:
        return words("{n:.0f} min", n=seconds / 60)
    return words("{n:.1f} h", n=seconds / 3600)
