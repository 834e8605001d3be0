"""The command line of the sets: `guardrail sets import | compose | draw | lint | stats | export`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from guardrail.cli.common import JsonFlag, clear_errors, console, print_json
from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.sets.items import Item, read_items

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Build and check red-line and rehearsal sets.",
)

FOUND = 1
"""Exit code of a linter that found errors."""

ItemsArgument = Annotated[str, typer.Argument(metavar="ITEMS", help="A JSONL file of items.")]
OutOption = Annotated[Path, typer.Option("--out", help="Where to write.")]
TrainingRowsOption = Annotated[
    int | None, typer.Option(help="Training rows an epoch, to estimate passes a prompt.")
]
FractionOption = Annotated[float, typer.Option(help="Rehearsal share of all samples seen.")]
SeedOption = Annotated[int, typer.Option(help="Seeds every draw; the same seed draws the same.")]


@app.command("import")
def import_command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[FORMAT] FILE...",
            help="belle, coig, firefly, sharegpt, cmmlu, alpaca or messages; left out, it is recognised.",
        ),
    ],
    out: OutOption,
    seed: SeedOption = 0,
    limit: Annotated[
        int | None,
        typer.Option(help="Most items of a format; by default the format's own, 0: all."),
    ] = None,
    per_task: Annotated[
        int | None, typer.Option(help="Most items of a task; by default the format's own, 0: all.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Replaces what the format's publisher says.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of text files; for example gb18030.")] = "utf-8",
    allow: Annotated[
        list[str] | None, typer.Option(help="A filter that is not applied; may be repeated.")
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Do not look for duplicates.")
    ] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Count broken lines instead of stopping.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn instruction data into items: read, mend, filter, de-duplicate, draw.

    Reads JSONL, JSON, CSV, xlsx, parquet, zip and tar.gz by content. Prints how many rows were read
    and kept, and how many were lost for which reason.

    Example: `guardrail sets import belle eval_set.json --out pool/belle.jsonl`
    """
    with clear_errors():
        from guardrail.sets.read.formats import FORMATS
        from guardrail.sets.read.importer import ImportOptions, import_files

        name = words[0] if words[0] in FORMATS and not Path(words[0]).is_file() else None
        files = [Path(word) for word in words[name is not None :]]
        if not files:
            raise InputError(f"no file given after the format `{name}`; name at least one")
        options = ImportOptions(
            format=name,
            encoding=encoding,
            licence=licence,
            seed=seed,
            limit=limit,
            per_task=per_task,
            allow=frozenset(allow or ()),
            keep_duplicates=keep_duplicates,
            skip_broken=skip_broken,
        )
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as progress:
            tasks = {
                path: progress.add_task(
                    path.name, total=path.stat().st_size if path.is_file() else None
                )
                for path in files
            }
            funnel = import_files(
                files, out, options, lambda path, done: progress.update(tasks[path], completed=done)
            )
        facts = {**funnel.as_dict(), "out": str(out)}
        if as_json:
            print_json(facts)
            return
        table = Table("rows", "", show_header=False, box=None)
        table.add_row("read", f"{funnel.read:,}")
        for reason, count in funnel.as_dict()["lost"].items():
            table.add_row(f"  − {reason}", f"{count:,}")
        table.add_row("kept", f"[bold]{funnel.kept:,}[/]")
        console.print(table)
        console.print(
            f"formats: {', '.join(f'{k} {v:,}' for k, v in funnel.formats.items())}; "
            f"personal data replaced: {funnel.scrubbed}; thinking kept apart: {funnel.thinking}\n"
            f"items: {out}",
            soft_wrap=True,
            highlight=False,
        )


@app.command("compose")
def compose_command(
    pool: Annotated[
        list[str], typer.Argument(metavar="POOL...", help="Imported items (`sets import`).")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for red-line.jsonl and rehearsal.jsonl.")
    ],
    start_red_line: Annotated[
        str, typer.Option(help="Items that stay judged; `none` starts from nothing.")
    ] = "shipped:eval_sets/zh-redline-300/items.jsonl",
    start_rehearsal: Annotated[
        str, typer.Option(help="Items that stay injected; `none` starts from nothing.")
    ] = "shipped:rehearsal_sets/zh-general/items.jsonl",
    red_line: Annotated[int, typer.Option(help="Judged items.")] = 300,
    rehearsal: Annotated[int, typer.Option(help="Injected items.")] = 2000,
    replace_general: Annotated[
        bool,
        typer.Option("--replace-general", help="Draw the 80 general items from the pool instead."),
    ] = False,
    training_rows: TrainingRowsOption = None,
    fraction: FractionOption = 0.03,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Make a red-line and a rehearsal set that keep the quotas, and say what is missing.

    Example: `guardrail sets compose pool/*.jsonl --out my-sets`

    A larger red line: `guardrail sets compose pool/*.jsonl --red-line 500 --out my-sets`

    Your own general items: `guardrail sets compose pool/belle.jsonl --replace-general --out my-sets`
    """
    with clear_errors():
        from guardrail.sets.build.compose import compose
        from guardrail.sets.items import write_items

        made = compose(
            [item for path in pool for item in _items(path)],
            _items(start_red_line),
            _items(start_rehearsal),
            red_line_size=red_line,
            rehearsal_size=rehearsal,
            replace_general=replace_general,
            seed=seed,
        )
        out.mkdir(parents=True, exist_ok=True)
        write_items(out / "red-line.jsonl", made.red_line)
        write_items(out / "rehearsal.jsonl", made.rehearsal)
        facts = {**made.as_dict(), "out": str(out)}
        passes = _passes(training_rows, fraction, len(made.rehearsal))
        if as_json:
            print_json({**facts, "passes_per_prompt": passes})
            return
        for name in ("red_line", "rehearsal"):
            part = facts[name]
            table = Table("ability", "items", "missing", title=f"{name}: {part['items']} items")
            for ability in {**part["abilities"], **part["missing"]}:
                short = part["missing"].get(ability, 0)
                table.add_row(
                    ability,
                    str(part["abilities"].get(ability, 0)),
                    f"[red]{short}[/]" if short else "",
                )
            console.print(table)
        for reason, count in facts["passed_over"].items():
            console.print(f"passed over, {reason}: {count}", highlight=False)
        _tell_passes(passes)
        console.print(f"sets: {out}", soft_wrap=True)


@app.command("draw")
def draw_command(
    red_line: Annotated[str, typer.Argument(metavar="RED_LINE", help="JSONL of judged items.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for red-line.jsonl and rehearsal.jsonl.")
    ],
    count: Annotated[int, typer.Option(help="Items to take into rehearsal, 50 to 90.")] = 70,
    rehearsal: Annotated[
        str, typer.Option(help="Rehearsal items to add them to; `none` for none.")
    ] = "shipped:rehearsal_sets/zh-general/items.jsonl",
    training_rows: TrainingRowsOption = None,
    fraction: FractionOption = 0.03,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Take red-line items into rehearsal: they leave the verdict and are shown apart.

    Drawn so that every ability keeps 30 judged items.

    Example: `guardrail sets draw shipped:eval_sets/zh-redline-300/items.jsonl --count 70 --out my-sets`
    """
    with clear_errors():
        from guardrail.sets.build.compose import draw_rehearsed
        from guardrail.sets.items import write_items

        marked, drawn = draw_rehearsed(_items(red_line), count, seed)
        injected = [*_items(rehearsal), *drawn]
        out.mkdir(parents=True, exist_ok=True)
        write_items(out / "red-line.jsonl", marked)
        write_items(out / "rehearsal.jsonl", injected)
        passes = _passes(training_rows, fraction, len(injected))
        abilities = Counter(item.ability for item in drawn)
        facts = {
            "drawn": len(drawn),
            "judged": sum(not item.rehearsed for item in marked),
            "rehearsal": len(injected),
            "abilities": dict(abilities),
            "passes_per_prompt": passes,
            "out": str(out),
        }
        if as_json:
            print_json(facts)
            return
        taken = ", ".join(f"{ability} {number}" for ability, number in abilities.items())
        console.print(
            f"{len(drawn)} items are rehearsed now ({taken}); {facts['judged']} stay judged, "
            f"{len(injected)} are injected",
            highlight=False,
        )
        _tell_passes(passes)
        console.print(f"sets: {out}", soft_wrap=True)


@app.command("lint")
def lint_command(
    red_line: Annotated[str, typer.Argument(metavar="RED_LINE", help="JSONL of judged items.")],
    rehearsal: Annotated[str | None, typer.Option(help="JSONL of injected items.")] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(help="Training data to look for overlap in; may be repeated."),
    ] = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(help="Benchmark data, such as CMMLU's CSV files; may be repeated."),
    ] = None,
    training_rows: TrainingRowsOption = None,
    fraction: Annotated[
        float | None, typer.Option(help="Rehearsal share of all samples seen.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="ID, RULE:ID, or RULE for a warning that counts; may be repeated."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find what is wrong with a pair of sets: exit code 1 on errors, 0 on warnings or nothing.

    Example: `guardrail sets lint my-sets/red-line.jsonl --rehearsal my-sets/rehearsal.jsonl --training train.jsonl`
    """
    with clear_errors():
        from guardrail.sets.benchmarks import read_benchmarks
        from guardrail.sets.lint.overlap import training_texts
        from guardrail.sets.lint.set_rules import lint_sets
        from guardrail.sets.read.readers import read_rows

        rows = 0

        def counted() -> Iterator[Mapping[str, Any]]:
            nonlocal rows
            for path in training or ():
                for row in read_rows(path):
                    rows += 1
                    yield row.value

        findings = lint_sets(
            _items(red_line),
            _items(rehearsal) if rehearsal else None,
            training=training_texts(counted()) if training else None,
            training_rows=training_rows,
            benchmarks=read_benchmarks(benchmark or ()),
            rehearsal_fraction=fraction,
            allow=frozenset(allow or ()),
        )
        errors = sum(finding.level == "error" for finding in findings)
        if as_json:
            print_json(
                {
                    "errors": errors,
                    "warnings": len(findings) - errors,
                    "training_rows": rows,
                    "findings": [asdict(finding) for finding in findings],
                }
            )
        else:
            for finding in findings:
                colour = "red" if finding.level == "error" else "yellow"
                console.print(
                    f"[bold {colour}]{finding.level}[/] {escape(f'[{finding.rule}] {finding.subject}: {finding.message}')}",
                    highlight=False,
                    soft_wrap=True,
                )
            console.print(f"{errors} errors, {len(findings) - errors} warnings")
        if errors:
            raise typer.Exit(FOUND)


@app.command("stats")
def stats_command(
    items: ItemsArgument,
    picture: Annotated[Path | None, typer.Option(help="Also write an SVG picture here.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show abilities, lengths, checks, sources and licences of a set.

    Example: `guardrail sets stats shipped:eval_sets/zh-redline-300/items.jsonl --picture stats.svg`
    """
    with clear_errors():
        from guardrail.sets.build.stats import render_stats, set_stats, stats_picture

        stats = set_stats(_items(items))
        if picture is not None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            write_whole(picture, stats_picture(stats, items))
        if as_json:
            print_json(stats)
        else:
            Console().print(render_stats(stats))


@app.command("export")
def export_command(
    items: ItemsArgument,
    out: OutOption,
    to: Annotated[Literal["xlsx"], typer.Option(help="Form of the file.")] = "xlsx",
) -> None:
    """Write a set as a workbook for reviewers, with an empty column for their remarks.

    Example: `guardrail sets export shipped:eval_sets/zh-redline-300/items.jsonl --to xlsx --out review.xlsx`
    """
    with clear_errors():
        from guardrail.sets.build.workbook import export_xlsx

        out.parent.mkdir(parents=True, exist_ok=True)
        console.print(f"workbook ({to}): {export_xlsx(_items(items), out)}", soft_wrap=True)


def _items(path: str) -> list[Item]:
    """The items of a file, `shipped:` paths included; `none` is no item."""
    from guardrail.shipped import resolve

    return [] if path == "none" else read_items(resolve(path, Path.cwd()))


def _passes(training_rows: int | None, fraction: float, prompts: int) -> float | None:
    from guardrail.sets.build.compose import passes_per_prompt

    if training_rows is None or not prompts:
        return None
    return round(passes_per_prompt(training_rows, fraction, prompts), 2)


def _tell_passes(passes: float | None) -> None:
    from guardrail.sets.lint.set_rules import MOST_PASSES

    if passes is None:
        return
    console.print(f"each rehearsal prompt is seen {passes:g} times an epoch", highlight=False)
    if passes > MOST_PASSES:
        console.print(
            f"[yellow]warning[/]: more than {MOST_PASSES:g} passes; compose a larger rehearsal set"
        )
