"""The command line of the sets: `guardrail sets import | compose | draw | lint | stats | export`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from guardrail.cli_common import JsonFlag, clear_errors, console, print_json

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Build and check red-line and rehearsal sets.",
)

ItemsArgument = Annotated[Path, typer.Argument(metavar="ITEMS", help="A JSONL file of items.")]
OutOption = Annotated[Path, typer.Option("--out", help="Where to write.")]
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
        from guardrail.sets.formats import FORMATS
        from guardrail.sets.importer import ImportOptions, import_files

        name = words[0] if words[0] in FORMATS and not Path(words[0]).is_file() else None
        files = [Path(word) for word in words[name is not None :]]
        if not files:
            from guardrail.errors import InputError

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
