"""Commands that judge outside of a training: `guardrail look | simulate`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

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
)
from guardrail.errors import InputError, did_you_mean
from guardrail.exit_codes import HALTED, UNTESTED_END
from guardrail.judge.verdict import UNTESTED, rank
from guardrail.probes.metrics import METRICS

__all__ = ["look", "simulate"]

MarginOption = Annotated[
    list[str] | None,
    typer.Option(help="METRIC=MARGIN,CRITICAL, for example passed=0.05,0.10; may be repeated."),
]


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
    with clear_errors(lang=lang):
        from rich.progress import Progress

        from guardrail.live.terminal_words import terminal_words
        from guardrail.live.verdict_tables import gate_said, render_look
        from guardrail.look import free_folder, look_at
        from guardrail.report.page.texts import language_of_run
        from guardrail.report.report import build_report

        quiet_libraries()
        asked = asked_server(server, served_as, concurrency)
        # Of the run it is from: its checkpoints lie in `checkpoints`, those of ms-swift in the run folder.
        language = lang or language_of_run(*model.resolve().parents[:2])
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
            typer.echo(gate_said(looked.verdict.level, fail_on, language))
        if looked.verdict.level == UNTESTED:
            raise typer.Exit(UNTESTED_END)
        if rank(looked.verdict.level) >= rank(fail_on):
            raise typer.Exit(HALTED)


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
        language = lang or (language_of_run(run) if is_run else "en")
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
        if name not in known:
            raise InputError(
                f"`--margin {text}`: unknown metric `{name}`{did_you_mean(name, known)}; known are {', '.join(known)}"
            )
        found[name] = (tolerated, critical)
    return found
