"""The command line: `guardrail run | demo | check | rehearse | anchor | serve | status | watch | report | resolve | look | simulate | recipes | sets | data`."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from guardrail import __version__
from guardrail.cli import anchor, data, rehearse, sets, sidecar, track
from guardrail.cli.common import (
    ConcurrencyOption,
    JsonFlag,
    LangOption,
    RecipeArgument,
    ServedAsOption,
    ServerOption,
    SetOption,
    answered_by,
    asked_server,
    clear_errors,
    console,
    forgive_the_terminal,
    never_held_up,
    print_json,
    quiet_libraries,
)
from guardrail.errors import InputError, did_you_mean
from guardrail.exit_codes import HALTED, UNTESTED_END, exit_codes_said
from guardrail.files import write_whole
from guardrail.judge.verdict import UNTESTED, rank
from guardrail.probes.metrics import METRICS
from guardrail.report.page.texts import Language

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
for command in (sidecar.serve, rehearse.rehearse, track.log, track.alert, track.dashboard):
    app.command()(command)


MarginOption = Annotated[
    list[str] | None,
    typer.Option(help="METRIC=MARGIN,CRITICAL, for example passed=0.05,0.10; may be repeated."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a guarded run.")]


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
            help="Print what would be started, and its environment; start nothing. Rows that ms-swift cannot read as they are, are "
            "written into the run folder.",
        ),
    ] = False,
) -> None:
    """Train with the guard on, in this process or by the launcher of the recipe's `launch` section.

    Examples: `guardrail run recipes/toy-sft.yaml --out runs/first`,
    `guardrail run recipes/toy-sft.yaml --out runs/first --resume-from checkpoint-40`,
    `guardrail run qwen3-8b-sft-lora --set train.data=rows.jsonl --set launch.processes=8 --print-command`
    """
    with never_held_up(), clear_errors():
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
            typer.echo(command.as_shell())
            return
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
    with clear_errors():
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe)
        folder = (out or Path("runs") / f"demo-{checked.name}").resolve()
        from guardrail.demo import render_demo, run_demo

        quiet_libraries()
        for side in ("unguarded", "guarded"):
            shutil.rmtree(folder / side, ignore_errors=True)
        result = run_demo(recipe, folder, seed, console, lang)
        if json_file is not None:
            write_whole(json_file, json.dumps(result.facts, ensure_ascii=False, indent=2) + "\n")
        console.print(render_demo(result.facts, result.language))


@app.command()
def check(
    recipe: RecipeArgument,
    settings: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/NAME.")
    ] = None,
    lang: LangOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a recipe, its sets, models, rows, trainer arguments and anchors without training, and say what it will cost.

    Example: `guardrail check recipes/toy-sft.yaml`
    """
    with clear_errors():
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe, changes=settings or ())
        from guardrail.preflight.check_recipe import check_recipe

        facts = check_recipe(checked, (out or Path("runs") / checked.name).resolve())
        if as_json:
            print_json(facts)
        else:
            from guardrail.live.terminal_words import terminal_words

            words = terminal_words(lang or checked.language)
            for warning in facts.pop("warnings"):
                said = f"[yellow]{words('warning:')}[/] {escape(warning)}"
                console.print(said, soft_wrap=True, highlight=False)
            for name, value in facts.items():
                if isinstance(value, dict):
                    value = ", ".join(f"{counted} {what}" for what, counted in value.items())
                named = words.word(name.replace("_", " "))
                typer.echo(words("{name}: {value}", name=named, value=value))
            typer.echo(words("ok"))


@app.command()
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
    with clear_errors():
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


@app.command("watch")
def watch_run(
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
    with clear_errors():
        from guardrail.live.serve import open_server, serve

        serve(open_server(run, port, lang), console, open_browser=not no_open)


@app.command()
def report(run: RunArgument, lang: LangOption = None) -> None:
    """Rebuild the report of a run from its ledger, at any time.

    Example: `guardrail report runs/toy-sft --lang en`
    """
    with clear_errors():
        from guardrail.report.report import build_report

        typer.echo(build_report(run, language=lang))


@app.command()
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
    with clear_errors():
        from guardrail.report.decision import record_decision
        from guardrail.report.report import build_report

        if accept == rollback:
            raise InputError("say either `--accept` or `--rollback`")
        record_decision(run, "accept" if accept else "rollback", by=by, note=note)
        typer.echo(build_report(run, language=lang))


@app.command()
def look(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A checkpoint's or adapter's folder.")
    ],
    anchors: Annotated[Path, typer.Option(help="The gold base's anchors (`guardrail anchor`).")],
    base: Annotated[Path | None, typer.Option(help="The model an adapter sits on.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder; an earlier look there is set aside. By default runs/look-MODEL, or the next free look-MODEL-N."
        ),
    ] = None,
    margin: MarginOption = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Answers an item; more see smaller drops.")
    ] = 1,
    fail_on: Annotated[
        Literal["warn", "serious", "critical"],
        typer.Option(help=f"Mildest level that exits with {HALTED}."),
    ] = "warn",
    seed: Annotated[int, typer.Option(help="Of sampled answers.")] = 0,
    server: ServerOption = None,
    served_as: ServedAsOption = None,
    concurrency: ConcurrencyOption = 32,
    lang: LangOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Judge a finished model by the anchors: the run's own rule, with all its budget on one look.

    With `--server` a vLLM server answers, once a few golds have shown that it has the model's weights; an adapter is
    loaded there and taken away again.

    Exit codes: 0 within its margins, 1 crashed, 2 bad input, 3 drifted, 4 nothing could be tested.

    Example: `guardrail look runs/first/checkpoints/checkpoint-100 --anchors anchors/toy-sft`
    """
    with clear_errors():
        from rich.progress import Progress

        from guardrail.live.terminal_words import terminal_words
        from guardrail.live.verdict_tables import render_look
        from guardrail.look import free_folder, look_at
        from guardrail.report.page.texts import language_of_run
        from guardrail.report.report import build_report

        quiet_libraries()
        asked = asked_server(server, served_as, concurrency)
        language = lang or language_of_run(model.resolve().parent.parent)  # of the run it is from
        words = terminal_words(language)
        folder = out.resolve() if out else free_folder(Path("runs"), model)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task(words("answers"), total=None)
            looked = look_at(
                model,
                anchors,
                folder,
                base=base,
                margins=_margins(margin or ()),
                samples=samples,
                seed=seed,
                server=asked,
                served_as=served_as,
                language=language,
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
        report_path = build_report(folder)
        if as_json:
            verdict = looked.verdict.model_dump(mode="json")
            aside = None if looked.set_aside is None else str(looked.set_aside)
            facts = {"served": looked.served, "report": str(report_path), "set_aside": aside}
            print_json({"model": str(model), **verdict, **facts})
        else:
            Console().print(render_look(looked.verdict, language))
            by = answered_by(looked.served, language)
            console.print(words("answered by: {who}", who=by), soft_wrap=True)
            if looked.set_aside is not None:
                said = words("an earlier look there is now in {path}", path=looked.set_aside)
                console.print(said, soft_wrap=True)
            console.print(words("report: {path}", path=report_path), soft_wrap=True)
        if looked.verdict.level == UNTESTED:
            raise typer.Exit(UNTESTED_END)
        if rank(looked.verdict.level) >= rank(fail_on):
            raise typer.Exit(HALTED)


@app.command()
def simulate(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A trajectory (JSON), a run folder or its ledger."),
    ],
    margin: MarginOption = None,
    verdicts_only: Annotated[
        bool, typer.Option("--verdicts-only", help="Judge every look and leave the ladder out.")
    ] = False,
    lang: LangOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Replay a run or a scripted trajectory through the drift rule and the ladder.

    A trajectory is `{"abilities": [n names], "planned_looks": T, "metrics": {NAME: {"worse": "lower" or
    "higher", "margin": 0.03, "critical": 0.08, "base": [n][K], "looks": [T][n]}}}` with `null` where a metric
    does not apply.

    Example: `guardrail simulate runs/first --margin passed=0.05,0.10`
    """
    with clear_errors():
        from guardrail.simulate import read_run_trajectory, read_trajectory
        from guardrail.simulate import simulate as replay

        is_run = file.is_dir() or file.name == "ledger.jsonl"
        trajectory = read_run_trajectory(file) if is_run else read_trajectory(file)
        looks = replay(trajectory, _margins(margin or ()), verdicts_only=verdicts_only)
        if as_json:
            print_json({"looks": [look.as_json() for look in looks]})
            return
        from guardrail.live.verdict_tables import render_simulation
        from guardrail.report.page.texts import language_of_run

        run = file if file.is_dir() else file.parent
        language = lang or (language_of_run(run) if is_run else "en")
        Console().print(render_simulation(looks, language))


def _margins(given: Iterable[str]) -> dict[str, tuple[float, float]]:
    found, known = {}, [metric.name for metric in METRICS]
    for text in given:
        name, _, numbers = text.partition("=")
        try:
            tolerated, critical = (float(part) for part in numbers.split(","))
        except ValueError as error:
            raise InputError(
                f"`--margin {text}` must read METRIC=MARGIN,CRITICAL, for example passed=0.05,0.10"
            ) from error
        if name not in known:
            raise InputError(
                f"`--margin {text}`: unknown metric `{name}`{did_you_mean(name, known)}; known are {', '.join(known)}"
            )
        found[name] = (tolerated, critical)
    return found


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
    forgive_the_terminal()
