"""What the commands of the data wing share: groups of options, who is asked, the bar, how a stage ends."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.table import Table

from guardrail.cli.common import (
    ConcurrencyOption,
    JsonFlag,
    clear_errors,
    console,
    print_json,
)

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import ChatEndpoint, Costs
    from guardrail.data.generate.retrieval import Passages
    from guardrail.data.judged_text import JudgedText
    from guardrail.data.rows import DataRow
    from guardrail.data.stage_folder import Made

__all__ = [
    "AskedOptions",
    "BenchmarkOption",
    "JudgeOption",
    "JudgedOption",
    "PromptsOption",
    "RowsArgument",
    "SeedOption",
    "StageOptions",
    "grouped",
    "judged_prompts",
    "numbers",
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
MostTokensOption = Annotated[
    int | None,
    typer.Option(
        "--most-tokens", min=1, help="Of a reply, for endpoints with a short context; less is cut."
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


@dataclass(frozen=True)
class StageOptions:
    """Where a stage writes, what must not get into it, its seed."""

    out: OutOption
    judged: JudgedOption = None
    benchmark: BenchmarkOption = None
    seed: SeedOption = 0
    as_json: JsonFlag = False

    @cached_property
    def judged_text(self) -> "JudgedText":
        """What is kept out of everything this stage reads, asks for and writes."""
        from guardrail.data.judged_text import JudgedText

        return JudgedText(judged_prompts(self.judged, self.benchmark))

    def rows(self, paths: Sequence[Path], *, answered: bool = True) -> "list[DataRow]":
        """Return the rows of all files but those that share text with a judged item."""
        from guardrail.data.rows import read_data_rows

        read = [row for path in paths for row in read_data_rows(path, answered=answered)]
        return self.judged_text.without_judged_rows(read)

    def passages(self, documents: Sequence[Path]) -> "Passages":
        """Return the passages of all documents but those that share text with a judged item."""
        from guardrail.data.generate.retrieval import Passages, read_passages

        read = read_passages(documents)
        return Passages(self.judged_text.without_judged_texts(read, lambda one: one.text))

    def finish(self, made: "Made", costs: "Sequence[Costs]" = (), **settings: Any) -> None:
        """Take out what shares text with a judged item, write the stage, tell it.

        Args:
            made: Rows and what was dropped.
            costs: Of everybody asked.
            settings: For the stage's record; the seed is in it already.
        """
        from guardrail.data.select.row_faults import drop_judged
        from guardrail.data.stage_folder import write_stage

        apart = drop_judged(made, self.judged_text)
        apart.facts["withheld"] = dict(self.judged_text.counts)
        recorded = {**settings, "seed": self.seed}
        facts = write_stage(self.out, apart, together(costs) if costs else None, recorded)
        tell(facts, as_json=self.as_json)


@dataclass(frozen=True)
class AskedOptions:
    """Which endpoint is asked, and how."""

    server: EndpointOption = None
    served_as: ModelNameOption = None
    concurrency: ConcurrencyOption = 16
    thinking: ThinkingOption = None
    most_tokens: MostTokensOption = None

    def endpoint(
        self,
        stage: StageOptions,
        on_reply: Callable[[int], None] = lambda count: None,
        *,
        journal: str = "asked.jsonl",
        name: str | None = None,
    ) -> "ChatEndpoint":
        """Return a model there, its replies kept in the stage's folder.

        Args:
            stage: The stage.
            on_reply: Told how many replies there are so far.
            journal: The file's name.
            name: The model's, `--served-as` or the only one there by default.

        Raises:
            InputError: no `--server`, or it serves several models and none was named.
        """
        from guardrail.data.chat_endpoint import ChatEndpoint
        from guardrail.engines.vllm_client import VllmServer
        from guardrail.errors import InputError

        if self.server is None:
            raise InputError(
                "this stage asks a model; give `--server URL` of an OpenAI-compatible endpoint"
            )
        client = VllmServer(self.server, self.concurrency)
        return ChatEndpoint(
            client,
            name or self.served_as or client.served().name,
            stage.out / journal,
            thinking=self.thinking,
            most_tokens=self.most_tokens,
            judged=stage.judged_text,
            on_reply=on_reply,
        )

    def endpoints(
        self,
        stage: StageOptions,
        judge: str | None,
        on_reply: Callable[[int], None] = lambda count: None,
    ) -> tuple["ChatEndpoint", "ChatEndpoint"]:
        """Return who answers and who judges, one and the same where no other judge is named."""
        asked = self.endpoint(stage, on_reply)
        if judge is None or judge == asked.model:
            return asked, asked
        return asked, self.endpoint(stage, on_reply, journal="judged.jsonl", name=judge)


def numbers(option: str, text: str, kind: type[Any], example: str) -> list[Any]:
    """Return numbers that an option gives with commas between them."""
    from guardrail.errors import InputError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"`{option} {text}` must be numbers such as {example}") from error


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give typer a command in which a parameter annotated with one of the groups above is the group's options, an option a field.

    A user's mistake ends it with one message (`clear_errors`).
    """
    groups: dict[str, type[Any]] = {}
    own, common = list[inspect.Parameter](), list[inspect.Parameter]()
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if hint not in (AskedOptions, StageOptions):
            own.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        groups[name] = hint
        inner = get_type_hints(hint, include_extras=True)
        for one in inspect.signature(hint).parameters.values():
            common.append(one.replace(kind=one.KEYWORD_ONLY, annotation=inner[one.name]))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        with clear_errors():
            command(**given)

    run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *common)}
    return run


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


def together(costs: "Iterable[Costs]") -> "Costs":
    """Return the costs of everybody asked, one who stands there twice counted once."""
    from guardrail.data.chat_endpoint import Costs

    total = Costs()
    for one in {id(one): one for one in costs}.values():
        for purpose, row in one.by_purpose.items():
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
    if any(facts["withheld"].values()):
        said = ", ".join(f"{count:,} {what}" for what, count in facts["withheld"].items() if count)
        console.print(f"kept out, sharing text with a judged item: {said}", highlight=False)
    if costs := facts["costs"]:
        console.print(
            f"{costs['requests']:,} requests, {costs['prompt_tokens']:,} + {costs['completion_tokens']:,} tokens, earlier tries included",
            highlight=False,
        )
    console.print(f"rows, items, dropped rows, stage.json: {facts['out']}", soft_wrap=True)
