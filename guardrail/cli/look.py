"""Commands that judge outside of a training: `guardrail look | simulate`."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from guardrail.cli.common import (
    ConcurrencyOption,
    JsonFlag,
    LangOption,
    ProbesOption,
    ServedAsOption,
    ServerOption,
    answered_by,
    asked_server,
    clear_errors,
    console,
    print_json,
    quiet_libraries,
    terminal_language,
)
from guardrail.errors import InputError, did_you_mean
from guardrail.exit_codes import HALTED, UNTESTED_END
from guardrail.judge.verdict import UNTESTED, rank
from guardrail.probes.metrics import METRICS
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.texts import Language

if TYPE_CHECKING:
    from guardrail.ledger.records import LookRuleFacts
    from guardrail.live.terminal_words import TerminalWords

__all__ = ["look", "simulate"]

MarginOption = Annotated[
    list[str] | None,
    typer.Option(help="METRIC=MARGIN,CRITICAL, for example passed=0.05,0.10; may be repeated."),
]


def look(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A checkpoint's, adapter's or averaged model's folder."
        ),
    ],
    anchors: Annotated[Path, typer.Option(help="The gold base's anchors (`guardrail anchor`).")],
    base: Annotated[Path | None, typer.Option(help="The model an adapter sits on.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder; an earlier look there is set aside. By default runs/look-MODEL, or the next free look-MODEL-N."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Judge by its `drift` and `probes` (a file, or a shipped name); by default by the recipe of the run that MODEL is from.",
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
    lang: Annotated[
        Language | None,
        typer.Option(
            help="Language of terminal and report: zh or en; by default that of the recipe it judges by, else of this terminal."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Judge a finished model against the anchors, with the whole error budget on one look.

    By the margins and budgets of its run, where MODEL is a checkpoint in a run folder or was averaged from one; of `--recipe`; or else by
    the defaults. The output says which. `--margin` changes single ones. A business's own probes are asked with `--recipe` alone.

    With `--server` a vLLM server answers, once a few golds have shown that it has the model's weights; an adapter is
    loaded there and taken away again.

    Exit codes: 0 within its margins, 1 crashed, 2 bad input, 3 drifted, 4 nothing could be tested.

    Example: `guardrail look runs/first/checkpoints/checkpoint-100 --anchors anchors/toy-sft`
    """
    from guardrail.look_rule import look_rule, run_of

    with clear_errors(recipe or run_of(model), lang):
        from rich.progress import Progress

        from guardrail.live.spoken_log import spoken_log
        from guardrail.live.terminal_words import terminal_words
        from guardrail.live.verdict_tables import gate_said, render_look
        from guardrail.look import free_folder, look_at
        from guardrail.report.report import build_report

        quiet_libraries()
        asked = asked_server(server, served_as, concurrency)
        rule = look_rule(model, recipe, _margins(margin or ()))
        language = lang or rule.language or terminal_language()
        words = terminal_words(language)
        folder = out.resolve() if out else free_folder(Path("runs"), model)
        with spoken_log(language), Progress(console=console, transient=True) as progress:
            bar = progress.add_task(words("answers"), total=None)
            looked = look_at(
                model,
                anchors,
                folder,
                base=base,
                rule=rule,
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
            judged_by = {"judged_by": rule.facts.model_dump(mode="json")}
            print_json({"model": str(model), **verdict, **judged_by, **facts})
        else:
            Console().print(render_look(looked.verdict, language))
            for line in _rule_said(rule.facts, words):
                console.print(escape(escape_controls(line)), soft_wrap=True, highlight=False)
            by = answered_by(looked.served, language)
            console.print(words("answered by: {who}", who=by), soft_wrap=True)
            if looked.set_aside is not None:
                said = words("an earlier look there is now in {path}", path=looked.set_aside)
                console.print(said, soft_wrap=True)
            console.print(words("report: {path}", path=report_path), soft_wrap=True)
            typer.echo(gate_said(looked.verdict.level, fail_on, language))
        if looked.verdict.level == UNTESTED:
            raise typer.Exit(UNTESTED_END)
        if rank(looked.verdict.level) >= rank(fail_on):
            raise typer.Exit(HALTED)


def _rule_said(rule: "LookRuleFacts", words: "TerminalWords") -> list[str]:
    """By whose rule a look judged, and what of it was changed or left out."""
    if rule.of == "run":
        said = [words("judged by the rule of its run: {path}", path=rule.path)]
    elif rule.of == "recipe":
        said = [words("judged by the rule of the recipe: {path}", path=rule.path)]
    else:
        said = [
            words(
                "judged by the default rule: the model is from no run folder; `--recipe RECIPE` judges by a recipe's"
            )
        ]
    if rule.changed:
        named = words.joined([words.name("metric", metric) for metric in rule.changed])
        said.append(words("`--margin` changed the margins of: {metrics}", metrics=named))
    if rule.probes_left_out:
        said.append(
            words(
                "warning: the run was also judged by a business's own probes (`probes.files`), which this look leaves out; if you trust "
                "them, name the recipe: `--recipe RECIPE`"
            )
        )
    return said


def simulate(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A trajectory (JSON), a run folder or its ledger."),
    ],
    margin: MarginOption = None,
    verdicts_only: Annotated[
        bool, typer.Option("--verdicts-only", help="Judge every look and leave the ladder out.")
    ] = False,
    probes: ProbesOption = None,
    lang: LangOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Replay a run or a scripted trajectory through the drift rule and the ladder.

    A trajectory is `{"abilities": [n names], "planned_looks": T, "metrics": {NAME: {"worse": "lower" or
    "higher", "margin": 0.03, "critical": 0.08, "base": [n][K], "looks": [T][n]}}}` with `null` where a metric
    does not apply.

    Example: `guardrail simulate runs/first --margin passed=0.05,0.10`
    """
    with clear_errors(file, lang):
        from guardrail.simulate import read_run_trajectory, read_trajectory
        from guardrail.simulate import simulate as replay

        is_run = file.is_dir() or file.name == "ledger.jsonl"
        if probes and not is_run:
            raise InputError(f"`--probes` belongs to a run; `{file}` is a trajectory, leave it out")
        trajectory = read_run_trajectory(file, probes or ()) if is_run else read_trajectory(file)
        from guardrail.report.page.texts import language_of_run

        run = file if file.is_dir() else file.parent
        language = lang or (language_of_run(run) if is_run else terminal_language())
        if trajectory.probe_files:
            from guardrail.live.terminal_words import terminal_words

            words = terminal_words(language)
            said = words(
                "the run was also judged by a business's own probes and cluster rule (`probes.files`); this replay leaves them out, "
                "so its verdicts may differ from the run's; with `--probes FILE` you name the file, if you trust it"
            )
            console.print(
                f"[yellow]{words('warning: ')}[/]{escape(said)}", soft_wrap=True, highlight=False
            )
        margins = _margins(margin or (), trajectory.config.metrics)
        looks = replay(trajectory, margins, verdicts_only=verdicts_only)
        if as_json:
            print_json({"looks": [look.as_json() for look in looks]})
            return
        from guardrail.live.verdict_tables import render_simulation

        Console().print(render_simulation(looks, language))


def _margins(given: Iterable[str], more: Iterable[str] = ()) -> dict[str, tuple[float, float]]:
    found, known = {}, list(dict.fromkeys([*(metric.name for metric in METRICS), *more]))
    for text in given:
        name, _, numbers = text.partition("=")
        try:
            tolerated, critical = (float(part) for part in numbers.split(","))
        except ValueError as error:
            raise InputError(
                f"`--margin {text}` must read METRIC=MARGIN,CRITICAL, for example passed=0.05,0.10"
            ) from error
        if not 0 <= tolerated <= critical < math.inf:
            raise InputError(
                f"`--margin {text}`: MARGIN is 0 or more and CRITICAL not below it, for example passed=0.05,0.10"
            )
        if name not in known:
            raise InputError(
                f"`--margin {text}`: unknown metric `{name}`{did_you_mean(name, known)}; known are {', '.join(known)}"
            )
        found[name] = (tolerated, critical)
    return found
