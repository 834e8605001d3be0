"""The command line: `guardrail run | demo | check | rehearse | anchor | serve | status | watch | report | resolve | look | simulate | average | recipes | sets | data`."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from guardrail import __version__
from guardrail.cli import anchor, average, data, live, look, rehearse, report, sets, sidecar, track
from guardrail.cli.common import (
    JsonFlag,
    LangOption,
    RecipeArgument,
    SetOption,
    clear_errors,
    console,
    forgive_the_terminal,
    never_held_up,
    print_json,
    quiet_libraries,
)
from guardrail.errors import InputError
from guardrail.exit_codes import HALTED, TERMINATED, exit_codes_said
from guardrail.files import write_whole
from guardrail.report.page.texts import Language

if TYPE_CHECKING:
    from guardrail.recipe import Recipe

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Guard a fine-tuning run against forgetting.\n\n"
    f"Exit codes of `run`: {exit_codes_said()}.\n\n"
    "Example: `guardrail demo`",
)
app.add_typer(anchor.app, name="anchor")
app.add_typer(sets.app, name="sets")
app.add_typer(data.app, name="data")


@app.command(epilog=f"Exit codes: {exit_codes_said()}. `guardrail status RUN --json` tells it too.")
def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")
    ] = False,
    resume_from: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Go on from this checkpoint of the run; later ones are moved to undone-N beside it.",
        ),
    ] = None,
    changed_recipe: Annotated[
        bool,
        typer.Option(
            "--changed-recipe",
            help="With --resume: the recipe was changed on purpose; each difference is recorded.",
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    settings: SetOption = None,
    lang: LangOption = None,
    print_command: Annotated[
        bool,
        typer.Option(
            "--print-command",
            help="Print what would be started, and its environment; start nothing. It can be pasted, once the anchors are there. Rows that ms-swift cannot read as they are, are "
            "written into the run folder.",
        ),
    ] = False,
) -> None:
    """Train with the guard on, in this process or by the launcher of the recipe's `launch` section.

    Examples: `guardrail run recipes/toy-sft.yaml --out runs/first`,
    `guardrail run recipes/toy-sft.yaml --out runs/first --resume-from checkpoint-40`,
    `guardrail run qwen3-8b-sft-lora --set train.data=rows.jsonl --set launch.processes=8 --print-command`
    """
    with never_held_up(), clear_errors(recipe, lang, settings):
        from guardrail.live.terminal_words import terminal_words
        from guardrail.recipe import read_recipe

        changes = [*(settings or ()), *([] if seed is None else [f"seed={seed}"])]
        changes += [] if lang is None else [f"language={lang}"]
        checked = read_recipe(recipe, changes=changes)
        folder = (out or Path("runs") / checked.name).resolve()
        go_on = resume_from or resume
        if changed_recipe:  # what a launcher starts hears of it too
            from guardrail.trainers.resumed_recipe import CHANGED_RECIPE_VARIABLE

            os.environ[CHANGED_RECIPE_VARIABLE] = "1"
        if print_command:
            from guardrail.launchers.launch_command import launch_command, this_node
            from guardrail.trainers.ms_swift.written_rows import with_written_rows

            node, given = this_node(checked, os.environ), with_written_rows(checked, folder)
            command = launch_command(
                given, recipe, folder, changes=changes, resume=go_on, node=node
            )
            for line in _about_command(checked, recipe, changes, command.environment):
                console.print(f"[dim]# {escape(line)}[/]", soft_wrap=True, highlight=False)
            typer.echo(command.as_shell())
            return
        if go_on and (halted_at := _halted_for_good(checked, folder, go_on)) is not None:
            from guardrail.live.closing import halted_words

            if os.environ.get("RANK", "0") == "0":
                said = halted_words(folder, halted_at, checked.language)
                console.print(said, soft_wrap=True)
            raise typer.Exit(HALTED)
        if checked.looks.engine == "sidecar" and not _is_launched():
            words = terminal_words(checked.language)
            text = "a sidecar takes the looks; start it elsewhere: guardrail serve {folder}"
            _say(words(text, folder=folder))
        if checked.launcher != "in process" and not _is_launched():
            from guardrail.launchers.start import start_run

            raise typer.Exit(
                start_run(checked, recipe, folder, changes=changes, resume=go_on, say=_say)
            )
        from guardrail.live.terminal import live_display
        from guardrail.run import run_recipe

        quiet_libraries()
        with live_display(console, checked.name, checked.language) as display:
            try:
                finished = run_recipe(
                    checked,
                    folder,
                    resume=go_on,
                    changed_recipe=changed_recipe,
                    on_record=display.on_record,
                    on_step=display.on_step,
                    on_anchors=display.on_anchors,
                )
            except BaseException as error:  # Ctrl-C leaves a run worth reading too
                if not isinstance(error, InputError) and (folder / "ledger.jsonl").is_file():
                    _close(folder, recipe, changes)
                raise
        _close(folder, recipe, changes)
        raise typer.Exit(finished.exit_code)


def _is_launched() -> bool:
    """Whether a launcher started this process, ours or the user's own."""
    return "GUARDRAIL_LAUNCHED" in os.environ or "LOCAL_RANK" in os.environ


def _halted_for_good(recipe: "Recipe", run: Path, resume: bool | str) -> int | None:
    """The step at which the guard halted a run that would be halted there again at once; None where it would train on."""
    from guardrail.guard.resume import checkpoint_step, resumed_checkpoint, still_halted
    from guardrail.guard.state import read_state
    from guardrail.ledger.file import FILE_NAME
    from guardrail.report.run_data import read_run

    if not (run / FILE_NAME).is_file() or read_run(run).outcome != "halted":
        return None
    checkpoint = resumed_checkpoint(
        run if recipe.launcher == "swift" else run / "checkpoints", resume
    )
    if checkpoint is None:
        return None
    step = checkpoint_step(checkpoint)
    return step if still_halted(recipe, read_state(checkpoint), step) else None


def _about_command(
    recipe: "Recipe", name: str, changes: list[str], environment: dict[str, str]
) -> list[str]:
    """What to know before a printed command is pasted: that it may be, and whether its anchors are there."""
    from guardrail.live.terminal_words import terminal_words
    from guardrail.recipe_yaml import set_options

    words, folder = terminal_words(recipe.language), Path(str(recipe.anchors))
    said = [words("nothing was started; the command can be pasted into a shell as it stands")]
    if "GUARDRAIL_LAUNCHED" in environment:
        text = (
            "GUARDRAIL_LAUNCHED=1 tells its processes to train themselves and to start no launcher"
        )
        said.append(words(text))
    if (folder / "manifest.json").is_file():
        said.append(words("its anchors are there: {folder}", folder=folder))
    elif recipe.launcher == "in process":
        said.append(words("it makes its anchors first, in {folder}", folder=folder))
    else:
        make = shlex.join(["guardrail", "anchor", name, *set_options(changes)])
        said.append(words("it needs its anchors, which are not there yet: {make}", make=make))
    return said


def _say(text: str) -> None:
    console.print(f"[dim]{text}[/]", soft_wrap=True, highlight=False)


def _close(run: Path, recipe: str, changes: list[str]) -> None:
    """Write the report and say how the run ended and what to type next."""
    from guardrail.live.closing import closing_words
    from guardrail.live.status import run_status
    from guardrail.recipe_yaml import set_options
    from guardrail.redaction import redacted_change
    from guardrail.report.report import build_report

    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks and writes
        return
    report_path = build_report(run)
    said = set_options(map(redacted_change, changes))
    go_on = shlex.join(["guardrail", "run", recipe, "--out", str(run), *said, "--resume"])
    console.print(closing_words(run_status(run), report_path, go_on), soft_wrap=True)


@app.command("plugin-path")
def plugin_path(
    megatron: Annotated[
        bool, typer.Option("--megatron", help="That of `megatron sft` in place of `swift`.")
    ] = False,
) -> None:
    """Print the file that ms-swift loads: `--external_plugins $(guardrail plugin-path) --callbacks guardrail`.

    Example: `GUARDRAIL_RECIPE=my.yaml swift sft ... --external_plugins $(guardrail plugin-path) --callbacks guardrail`
    """
    from guardrail.shipped import shipped_root

    name = "megatron_guardrail.py" if megatron else "swift_guardrail.py"
    typer.echo(shipped_root() / "callbacks" / name)


@app.command()
def demo(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE")] = "toy-sft",
    out: Annotated[Path | None, typer.Option(help="Folder; by default runs/demo-RECIPE.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    lang: Annotated[
        Language, typer.Option("--lang", help="Language of terminal and report: zh or en.")
    ] = "en",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the result here.")
    ] = None,
) -> None:
    """Train the toy base twice, unguarded and guarded, and compare what it can still do.

    An earlier demo in the same folder is replaced.

    Example: `guardrail demo --json demo.json`, or `guardrail demo toy-sft-reckless`
    """
    with clear_errors(recipe, lang):
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe)
        folder = (out or Path("runs") / f"demo-{checked.name}").resolve()
        from guardrail.demo import render_demo, run_demo

        quiet_libraries()
        for side in ("unguarded", "guarded"):
            shutil.rmtree(folder / side, ignore_errors=True)
        result = run_demo(recipe, folder, seed, console, lang)
        if result is None:
            raise typer.Exit(TERMINATED)
        if json_file is not None:
            write_whole(json_file, json.dumps(result.facts, ensure_ascii=False, indent=2) + "\n")
        console.print(render_demo(result.facts, result.language))


@app.command()
def check(
    recipe: RecipeArgument,
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; by default runs/NAME where the recipe names data."),
    ] = None,
    lang: LangOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a recipe, its sets, models, rows, trainer arguments and anchors without training, and say what it will cost.

    Example: `guardrail check recipes/toy-sft.yaml`
    """
    with clear_errors(recipe, lang, settings):
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe, changes=settings or ())
        from guardrail.preflight.check_recipe import check_recipe

        folder = Path("runs") / checked.name if checked.train.data else None
        facts = check_recipe(checked, out or folder)
        if as_json:
            print_json(facts)
        else:
            from guardrail.live.check_terminal import check_lines
            from guardrail.live.terminal_words import terminal_words

            words = terminal_words(lang or checked.language)
            refused_here = facts.pop("refused_here", None)
            for warning in facts.pop("warnings"):
                said = f"[yellow]{words('warning: ')}[/]{escape(words.sentence(warning))}"
                console.print(said, soft_wrap=True, highlight=False)
            for line in check_lines(facts, words):
                typer.echo(line)
            typer.echo(
                words("ok") if refused_here is None else words("ok, but not on this machine")
            )


@app.command()
def recipes(
    copy: Annotated[
        str | None, typer.Option(help="Copy this shipped recipe here to edit it.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print every key with default and meaning (Markdown).")
    ] = False,
    lang: LangOption = None,
) -> None:
    """List the shipped recipes, copy one, or print what every key means.

    Examples: `guardrail recipes --copy qwen3-8b-sft-lora`, `guardrail recipes --keys --lang zh`
    """
    with clear_errors():
        from guardrail.shipped import find_recipe, shipped_recipes

        if keys:
            from guardrail.cli.recipe_reference import recipe_reference

            typer.echo(recipe_reference(lang or "en"), nl=False)
            return
        if copy is None:
            from guardrail.live.terminal_words import terminal_words

            words = terminal_words(lang or "en")
            for name, path in shipped_recipes().items():
                purpose = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
                typer.echo(words("{name}: {value}", name=name, value=words.word(purpose)))
            return
        target = Path(f"{copy}.yaml")
        if target.exists():
            raise InputError(f"`{target}` exists already; move it away first")
        shutil.copyfile(find_recipe(copy), target)
        typer.echo(target)


for command in (
    *(rehearse.rehearse, live.status, live.watch, report.report, report.resolve),
    *(
        look.look,
        look.simulate,
        average.average,
        sidecar.serve,
        track.dashboard,
        track.alert,
        track.log,
    ),
):
    app.command()(command)


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
    forgive_the_terminal()
