"""What the commands of the data wing share: options, endpoints, the bar, the closing table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from guardrail.cli.common import console, print_json

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import ChatEndpoint, Costs

__all__ = [
    "BenchmarkOption",
    "EndpointOption",
    "JudgeOption",
    "JudgedOption",
    "ModelNameOption",
    "OutOption",
    "PromptsOption",
    "RowsArgument",
    "SeedOption",
    "ThinkingOption",
    "endpoints",
    "judged_prompts",
    "progress_bar",
    "tell",
    "together",
]

RowsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="ROWS...", help="Rows in any format that `sets import` reads."),
]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder of the stage; run again, it goes on.")
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="An OpenAI-compatible endpoint; its key from VLLM_API_KEY."
    ),
]
ModelNameOption = Annotated[
    str | None, typer.Option("--served-as", metavar="NAME", help="The model's name there.")
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge", metavar="NAME", help="Another model there that judges; by default the same."
    ),
]
ThinkingOption = Annotated[
    bool | None,
    typer.Option(
        "--thinking/--no-thinking", help="Pin the template's thinking mode; vLLM takes it."
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FOLDER", help="Templates of your own (see `data prompts`)."),
]
SeedOption = Annotated[int, typer.Option(help="Seeds every draw and every request.")]
JudgedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--judged",
        help="Items never to be trained on; by default the shipped red line; may be repeated.",
    ),
]
BenchmarkOption = Annotated[
    list[Path] | None,
    typer.Option("--benchmark", help="Benchmark data never to be trained on; may be repeated."),
]

_RED_LINE = "shipped:eval_sets/zh-redline-300/items.jsonl"


def judged_prompts(paths: list[str] | None, benchmarks: list[Path] | None) -> dict[str, str]:
    """Id → prompt of what must never be trained on."""
    from guardrail.sets.benchmarks import read_benchmarks
    from guardrail.sets.items import read_items
    from guardrail.shipped import resolve

    items = [
        item for path in paths or [_RED_LINE] for item in read_items(resolve(path, Path.cwd()))
    ]
    known = {item.id: item.prompt for item in items if not item.rehearsed}
    return known | read_benchmarks(benchmarks or ())


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal; what is handed out is told how many are done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def endpoints(
    server: str | None,
    served_as: str | None,
    judge: str | None,
    concurrency: int,
    out: Path,
    *,
    thinking: bool | None = None,
    on_reply: Callable[[int], None] = lambda count: None,
) -> tuple["ChatEndpoint", "ChatEndpoint"]:
    """Who answers and who judges, each with its journal in the stage's folder; one and the same where no judge is named."""
    from guardrail.data.chat_endpoint import ChatEndpoint
    from guardrail.engines.vllm_client import VllmServer
    from guardrail.errors import InputError

    if server is None:
        raise InputError(
            "this stage asks a model; give `--server URL` of an OpenAI-compatible endpoint"
        )
    client = VllmServer(server, concurrency)
    name = served_as or client.served().name
    asked = ChatEndpoint(client, name, out / "asked.jsonl", thinking=thinking, on_reply=on_reply)
    if judge is None or judge == name:
        return asked, asked
    return asked, ChatEndpoint(
        client, judge, out / "judged.jsonl", thinking=thinking, on_reply=on_reply
    )


def together(*asked: Any) -> "Costs":
    """Return the costs of everybody asked, one who stands there twice counted once."""
    from guardrail.data.chat_endpoint import Costs

    total = Costs()
    for endpoint in {id(one): one for one in asked}.values():
        for purpose, row in endpoint.costs.by_purpose.items():
            for key, value in row.items():
                total.by_purpose[purpose][key] += value
    return total


def tell(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print what a stage made, lost and cost."""
    if as_json:
        print_json(facts)
        return
    funnel = facts["funnel"]
    table = Table("rows", "", show_header=False, box=None)
    table.add_row("made", f"{funnel['made']:,}")
    for reason, count in funnel["lost"].items():
        table.add_row(f"  − {reason}", f"{count:,}")
    table.add_row("kept", f"[bold]{funnel['kept']:,}[/]")
    console.print(table)
    if costs := facts["costs"]:
        console.print(
            f"{costs['requests']:,} requests, {costs['prompt_tokens']:,} + {costs['completion_tokens']:,} tokens, earlier tries included",
            highlight=False,
        )
    console.print(f"rows, items, dropped rows, stage.json: {facts['out']}", soft_wrap=True)
