"""The command line of the data wing: `guardrail data plan | select | generate`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from guardrail.cli.common import ConcurrencyOption, JsonFlag, clear_errors, console, print_json

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import ChatEndpoint, Costs

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Plan, generate and select training rows.",
)

FOUND = 1
"""Exit code of a check that found what is lacking or too much."""

LanguageOption = Annotated[Literal["zh", "en"], typer.Option("--lang", help="Language.")]


@app.command("plan")
def plan_command(
    size: Annotated[
        str | None, typer.Option(help="Parameters of the model, such as 8B; of a mixture of experts all of them.")
    ] = None,
    active: Annotated[
        str | None, typer.Option(help="Active parameters of a mixture of experts, such as 3B.")
    ] = None,
    domain_rows: Annotated[
        int | None, typer.Option(help="Rows of the business, there or wanted.")
    ] = None,
    business: Annotated[
        str, typer.Option(help="general, collection, or a YAML file of one business.")
    ] = "general",
    check: Annotated[
        Path | None, typer.Option(help="Training rows: say what they lack or have too much of.")
    ] = None,
    per_million_tokens: Annotated[
        float | None, typer.Option(help="What a million tokens cost, in your currency.")
    ] = None,
    per_hour: Annotated[
        float | None, typer.Option(help="What an hour of people costs, in the same currency.")
    ] = None,
    worked: Annotated[
        Path | None, typer.Option(help="Write a complete worked plan here, to be changed.")
    ] = None,
    lang: LanguageOption = "zh",
    as_json: JsonFlag = False,
) -> None:
    """Say how many rows of what a model needs, from where, at what price, and by whose rule.

    With `--check` exit code 1 where something is lacking or too much.

    Example: `guardrail data plan --size 8B --domain-rows 6000 --business collection`

    A mixture of experts: `guardrail data plan --size 30B --active 3B`

    What a mix lacks: `guardrail data plan --size 8B --check train.jsonl`
    """
    with clear_errors():
        from guardrail.data.plan.make_plan import Prices, Sized, businesses, explain, make_plan
        from guardrail.data.plan.sizing import parameters
        from guardrail.errors import InputError

        if worked is not None:
            _write_worked(worked)
            if size is None:
                return
        if size is None:
            raise InputError("the plan needs the model's size; give `--size 8B`")
        total = parameters(size)
        file = Path(business) if Path(business).suffix in (".yaml", ".yml") else None
        known = businesses(file)
        plan = make_plan(
            Sized(total, parameters(active) if active else total),
            domain_rows=domain_rows,
            business=list(known)[-1] if file else business,
            known=known,
            prices=Prices(per_million_tokens, per_hour),
        )
        if check is not None:
            _check(check, plan, lang, as_json=as_json)
            return
        if as_json:
            print_json({**plan, "says": {"zh": explain(plan, "zh"), "en": explain(plan, "en")}})
            return
        for sentence in explain(plan, lang):
            console.print(escape(f"· {sentence}"), highlight=False, soft_wrap=True)
        table = Table("figure", "source", "stated for")
        for name, source in plan["sources"].items():
            table.add_row(f"{name} {_shown(plan[name])}", source, plan["holds_for"][name])
        console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "–".join(_shown(one) for one in value)
    return f"{value:.0%}" if isinstance(value, float) and value < 1 else f"{value:,}"


def _write_worked(path: Path) -> None:
    from guardrail.data.plan import make_plan

    text = (Path(make_plan.__file__).parent / "worked_plan.zh.md").read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    console.print(f"worked plan: {path}", soft_wrap=True)


def _check(path: Path, plan: dict[str, Any], lang: str, *, as_json: bool) -> None:
    from guardrail.data.plan.mix_check import check_mix
    from guardrail.data.rows import read_data_rows

    checked = check_mix(read_data_rows(path), plan)
    if as_json:
        print_json(checked)
    else:
        table = Table("behaviour", "share", title=f"{checked['rows']:,} rows")
        for name, share in checked["behaviours"].items():
            table.add_row(name, f"{share:.1%}")
        console.print(table)
        for finding in checked["findings"]:
            colour = "yellow" if finding["says"] == "unknown" else "red"
            console.print(f"[bold {colour}]{finding['says']}[/] {escape(finding[lang])}", soft_wrap=True)
    if any(finding["says"] != "unknown" for finding in checked["findings"]):
        raise typer.Exit(FOUND)


RowsArgument = Annotated[
    list[Path], typer.Argument(metavar="ROWS...", help="Rows in any format that `sets import` reads.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the stage; run again, it goes on.")]
EndpointOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="An OpenAI-compatible endpoint; its key from VLLM_API_KEY."),
]
ModelNameOption = Annotated[
    str | None, typer.Option("--served-as", metavar="NAME", help="The model's name there.")
]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", metavar="NAME", help="Another model there that judges; by default the same.")
]
ThinkingOption = Annotated[
    bool | None,
    typer.Option("--thinking/--no-thinking", help="Pin the template's thinking mode; vLLM takes it."),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FOLDER", help="Templates of your own (see `data prompts`)."),
]
SeedOption = Annotated[int, typer.Option(help="Seeds every draw and every request.")]
JudgedOption = Annotated[
    list[str] | None,
    typer.Option("--judged", help="Items never to be trained on; by default the shipped red line; may be repeated."),
]
BenchmarkOption = Annotated[
    list[Path] | None, typer.Option("--benchmark", help="Benchmark data never to be trained on; may be repeated.")
]

_RED_LINE = "shipped:eval_sets/zh-redline-300/items.jsonl"


def _judged(paths: list[str] | None, benchmarks: list[Path] | None) -> dict[str, str]:
    """Id → prompt of what must never be trained on."""
    from guardrail.sets.benchmarks import read_benchmarks
    from guardrail.sets.items import read_items
    from guardrail.shipped import resolve

    items = [item for path in paths or [_RED_LINE] for item in read_items(resolve(path, Path.cwd()))]
    known = {item.id: item.prompt for item in items if not item.rehearsed}
    return known | read_benchmarks(benchmarks or ())


@app.command("select")
def select_command(
    rows: RowsArgument,
    out: OutOption,
    keep: Annotated[int, typer.Option(help="Rows to keep.")],
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model to be trained: it gives the IFD.")
    ] = None,
    small_model: Annotated[
        Path | None, typer.Option(help="Folder of a smaller model that gives it instead (superfiltering).")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Score to choose by; by default ifd, or superfilter.")
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="complexity, density, following or hard, by the endpoint; may be repeated."),
    ] = None,
    per_ability: Annotated[int | None, typer.Option(help="Most rows of any ability.")] = None,
    quota: Annotated[
        list[str] | None, typer.Option(help="ABILITY=ROWS, most rows of one; may be repeated.")
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens that the training keeps.")] = 2048,
    thinking: Annotated[
        bool, typer.Option("--thinking/--no-thinking", help="As the training pins it.")
    ] = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="A reason that is no fault; may be repeated.")
    ] = None,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    judge: JudgeOption = None,
    concurrency: ConcurrencyOption = 16,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Choose the rows worth training on: faults out, then the highest score under quotas.

    Faults: IFD above 1, truncated answers, template openings, repeats, near duplicates, conflicts, broken
    text, and whatever shares text with a judged item.

    Example: `guardrail data select rows.jsonl --model models/Qwen3-8B --keep 6000 --out data/selected`

    By a smaller model: `guardrail data select rows.jsonl --small-model models/Qwen3-0.6B --keep 6000 --out data/selected`
    """
    with clear_errors():
        from guardrail.data.prompt_templates import Prompts
        from guardrail.data.rows import read_data_rows
        from guardrail.data.select.choose_rows import choose_rows
        from guardrail.data.select.ifd import same_order
        from guardrail.data.select.row_faults import drop_faulty, drop_judged
        from guardrail.data.select.score_rows import JUDGED, score_by_endpoint, score_by_model, with_ifd
        from guardrail.data.select.selection_picture import selection_picture
        from guardrail.data.stage_folder import write_stage
        from guardrail.errors import InputError
        from guardrail.files import write_whole

        wanted = list(score or ())
        by = by or ("ifd" if model else "superfilter" if small_model else wanted[0] if wanted else None)
        if by is None:
            raise InputError("nothing to choose by; give `--model`, `--small-model`, `--score` with `--server`, or `--by`")
        if unknown := sorted({*wanted} - {*JUDGED}):
            raise InputError(f"`--score {unknown[0]}` is none of {', '.join(JUDGED)}")
        read = [row for path in rows for row in read_data_rows(path)]
        # What the words show costs nothing: it goes first, so that no model is asked about it.
        made = drop_judged(drop_faulty(read, frozenset(allow or ())), _judged(judged, benchmark))
        facts: dict[str, Any] = {}
        found = {}
        for name, folder in (("superfilter", small_model), ("ifd", model)):
            if folder is not None:
                with _progress(f"{name} by {folder.name}", len(made.rows)) as tell:
                    found[name] = score_by_model(
                        made.rows, folder, thinking=thinking, max_length=max_length, on_scored=tell
                    )
                made.rows = with_ifd(made.rows, found[name], name)
        if len(found) == 2:
            facts["superfilter_rank_correlation"] = same_order(found["superfilter"], found["ifd"])
        costs = None
        if wanted:
            with _progress("scores", None) as tell:
                asked, judging = _endpoints(
                    server, served_as, judge, concurrency, out, thinking=None, on_reply=tell
                )
                made.rows = score_by_endpoint(made.rows, wanted, asked, judging, Prompts(prompts), seed=seed)
                costs = _together(asked, judging)
        after = drop_faulty(made.rows, frozenset(allow or ()))
        after.dropped = [*made.dropped, *after.dropped]
        chosen = choose_rows(after, keep, by=by, quotas=_quotas(quota), per_ability=per_ability)
        chosen.facts |= facts
        written = write_stage(out, chosen, costs, {"by": by, "keep": keep, "seed": seed, "files": [str(p) for p in rows]})
        write_whole(out / "selection.svg", selection_picture(chosen, by, f"{len(chosen.rows):,} / {len(read):,}"))
        _tell(written, as_json=as_json)


def _quotas(given: list[str] | None) -> dict[str, int]:
    from guardrail.errors import InputError

    quotas = {}
    for text in given or ():
        name, _, number = text.partition("=")
        if not name or not number.isdigit():
            raise InputError(f"`--quota {text}` must be ABILITY=ROWS, such as reasoning=500")
        quotas[name] = int(number)
    return quotas


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal; what is handed out is told how many are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _endpoints(
    server: str | None,
    served_as: str | None,
    judge: str | None,
    concurrency: int,
    out: Path,
    *,
    thinking: bool | None,
    on_reply: Callable[[int], None],
) -> tuple["ChatEndpoint", "ChatEndpoint"]:
    """Who answers and who judges, each with its journal in the stage's folder; one and the same where no judge is named."""
    from guardrail.data.chat_endpoint import ChatEndpoint
    from guardrail.engines.vllm_client import VllmServer
    from guardrail.errors import InputError

    if server is None:
        raise InputError("this stage asks a model; give `--server URL` of an OpenAI-compatible endpoint")
    client = VllmServer(server, concurrency)
    name = served_as or client.served().name
    asked = ChatEndpoint(client, name, out / "asked.jsonl", thinking=thinking, on_reply=on_reply)
    if judge is None or judge == name:
        return asked, asked
    return asked, ChatEndpoint(client, judge, out / "judged.jsonl", thinking=thinking, on_reply=on_reply)


def _together(asked: "ChatEndpoint", judging: "ChatEndpoint") -> "Costs":
    """The costs of both."""
    from guardrail.data.chat_endpoint import Costs

    total = Costs()
    for endpoint in {id(e): e for e in (asked, judging)}.values():
        for purpose, row in endpoint.costs.by_purpose.items():
            for key, value in row.items():
                total.by_purpose[purpose][key] += value
    return total


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
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
