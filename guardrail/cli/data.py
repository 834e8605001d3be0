"""The command line of the data wing: `guardrail data plan | generate | select | repair`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from guardrail.cli import (
    data_business,
    data_curriculum,
    data_generate,
    data_logs,
    data_repair,
    data_spin,
)
from guardrail.cli.common import JsonFlag, clear_errors, console, print_json
from guardrail.cli.data_options import (
    AskedOptions,
    BenchmarkOption,
    JudgedOption,
    JudgeOption,
    PromptsOption,
    RowsArgument,
    StageOptions,
    grouped,
    progress_bar,
)

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import Costs

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Plan, generate and select training rows.",
)

FOUND = 1
"""Exit code of a check that found what is lacking or too much."""

app.add_typer(data_generate.app, name="generate")
app.command("outcomes")(data_business.outcomes)
app.command("probe")(data_business.probe)
app.command("probe-template")(data_business.probe_template)
app.command("curriculum")(data_curriculum.curriculum_command)
app.command("repair")(data_repair.repair_command)
app.command("logs")(data_logs.logs_command)
app.command("spin")(data_spin.spin_command)

_CHECK_WORDS = {
    "zh": {
        "rows": "条",
        "behaviour": "行为",
        "share": "占比",
        "refusal": "拒答",
        "safety": "安全",
        "tools_and_formats": "工具与格式",
        "multi_turn": "多轮",
        "reasoning_chain": "推理链",
        "reflection": "反思",
        "lacks": "缺",
        "too much": "过多",
        "unknown": "不明",
    }
}

LanguageOption = Annotated[Literal["zh", "en"], typer.Option("--lang", help="Language.")]


@app.command("plan")
def plan_command(
    size: Annotated[
        str | None,
        typer.Option(
            help="Parameters of the model, such as 8B; of a mixture of experts all of them."
        ),
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
        from guardrail.data.plan.make_plan import (
            Prices,
            Sized,
            businesses,
            explain,
            figure_rows,
            make_plan,
        )
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
        (named, _, source, holds), *rows = figure_rows(plan, lang)
        table = Table()
        for head in (named, source, holds):  # Chinese has no spaces to break at: it would be cut
            table.add_column(head, overflow="fold")
        for named, value, source, holds in rows:
            table.add_row(f"{named} {_shown(value)}", source, holds)
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
        words = _CHECK_WORDS.get(lang, {})
        title = f"{checked['rows']:,} {words.get('rows', 'rows')}"
        table = Table(*(words.get(head, head) for head in ("behaviour", "share")), title=title)
        for name, share in checked["behaviours"].items():
            table.add_row(words.get(name, name), f"{share:.1%}")
        console.print(table)
        for finding in checked["findings"]:
            colour = "yellow" if finding["says"] == "unknown" else "red"
            says = words.get(finding["says"], finding["says"])
            console.print(f"[bold {colour}]{says}[/] {escape(finding[lang])}", soft_wrap=True)
    if any(finding["says"] != "unknown" for finding in checked["findings"]):
        raise typer.Exit(FOUND)


@app.command("select")
@grouped
def select_command(
    rows: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    keep: Annotated[int, typer.Option(help="Rows to keep.")],
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model to be trained: it gives the IFD.")
    ] = None,
    small_model: Annotated[
        Path | None,
        typer.Option(help="Folder of a smaller model that gives it instead (superfiltering)."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Score to choose by; by default ifd, or superfilter.")
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help="complexity, density, following or hard, by the endpoint; may be repeated."
        ),
    ] = None,
    per_ability: Annotated[int | None, typer.Option(help="Most rows of any ability.")] = None,
    quota: Annotated[
        list[str] | None, typer.Option(help="ABILITY=ROWS, most rows of one; may be repeated.")
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens that the training keeps.")] = 2048,
    allow: Annotated[
        list[str] | None, typer.Option(help="A reason that is no fault; may be repeated.")
    ] = None,
    judge: JudgeOption = None,
    prompts: PromptsOption = None,
) -> None:
    """Choose the rows worth training on: faults out, then the highest score under quotas.

    Faults: IFD above 1, truncated answers, template openings, repeats, near duplicates, conflicts, broken
    text, and whatever shares text with a judged item.

    Example: `guardrail data select rows.jsonl --model models/Qwen3-8B --keep 6000 --out data/selected`

    By a smaller model: `guardrail data select rows.jsonl --small-model models/Qwen3-0.6B --keep 6000 --out data/selected`
    """
    from guardrail.data.prompt_templates import Prompts
    from guardrail.data.select.choose_rows import choose_rows
    from guardrail.data.select.ifd import same_order
    from guardrail.data.select.row_faults import drop_faulty
    from guardrail.data.select.score_rows import (
        JUDGED,
        score_by_endpoint,
        score_by_model,
        with_ifd,
    )
    from guardrail.data.select.selection_picture import selection_picture
    from guardrail.errors import InputError
    from guardrail.files import write_whole

    wanted = list(score or ())
    by = by or ("ifd" if model else "superfilter" if small_model else wanted[0] if wanted else None)
    if by is None:
        raise InputError(
            "nothing to choose by; give `--model`, `--small-model`, `--score` with `--server`, or `--by`"
        )
    if unknown := sorted({*wanted} - {*JUDGED}):
        raise InputError(f"`--score {unknown[0]}` is none of {', '.join(JUDGED)}")
    read = stage.rows(rows)
    allowed = frozenset(allow or ())
    # What the words show costs nothing: it goes first, so that no model is asked about it. Near duplicates wait
    # for the scores, since of two the better one is to stay: an evolved question is often near its parent.
    made = drop_faulty(read, allowed | {"near duplicate"})
    facts: dict[str, Any] = {}
    found = {}
    for name, folder in (("superfilter", small_model), ("ifd", model)):
        if folder is not None:
            with progress_bar(f"{name} by {folder.name}", len(made.rows)) as done:
                found[name] = score_by_model(
                    made.rows,
                    folder,
                    thinking=bool(asking.thinking),
                    max_length=max_length,
                    on_scored=done,
                )
            made.rows = with_ifd(made.rows, found[name], name)
    if len(found) == 2:
        facts["superfilter_rank_correlation"] = same_order(found["superfilter"], found["ifd"])
    costs: list[Costs] = []
    if wanted:
        with progress_bar("scores", None) as done:
            # The pin is the training's; a judge with eight tokens to say a number has no use for thinking.
            asked, judging = replace(asking, thinking=None).endpoints(stage, judge, done)
            made.rows = score_by_endpoint(
                made.rows, wanted, asked, judging, Prompts(prompts), seed=stage.seed
            )
            costs = [asked.costs, judging.costs]
    made.rows.sort(key=lambda row: -row.scores.get(by, float("inf")))
    after = drop_faulty(made.rows, allowed)
    after.dropped = [*made.dropped, *after.dropped]
    chosen = choose_rows(after, keep, by=by, quotas=_quotas(quota), per_ability=per_ability)
    chosen.facts |= facts
    picture = selection_picture(chosen, by, f"{len(chosen.rows):,} / {len(read):,}")
    stage.finish(chosen, costs, by=by, keep=keep, files=[str(p) for p in rows])
    write_whole(stage.out / "selection.svg", picture)


def _quotas(given: list[str] | None) -> dict[str, int]:
    from guardrail.errors import InputError

    quotas = {}
    for text in given or ():
        name, _, number = text.partition("=")
        if not name or not number.isdigit():
            raise InputError(f"`--quota {text}` must be ABILITY=ROWS, such as reasoning=500")
        quotas[name] = int(number)
    return quotas


@app.command("export")
@grouped
def export_command(
    rows: RowsArgument,
    out: Annotated[Path, typer.Option("--out", help="The JSONL file to write.")],
    to: Annotated[Literal["data-juicer", "distilabel"], typer.Option("--to", help="Whose format.")],
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
) -> None:
    """Write rows in the format of another tool, which need not be installed, but those that share text with a judged item.

    Example: `guardrail data export data/selected/rows.jsonl --to data-juicer --out juicer.jsonl`
    """
    from guardrail.data.export_rows import EXPORTS
    from guardrail.files import write_whole

    stage = StageOptions(out, judged, benchmark)
    read = stage.rows(rows)
    lines = [json.dumps(EXPORTS[to](row), ensure_ascii=False) + "\n" for row in read]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, "".join(lines))
    withheld = stage.judged_text.counts["rows read"]
    said = f"; kept out, sharing text with a judged item: {withheld:,}" if withheld else ""
    console.print(f"{len(read):,} rows: {out}{said}", soft_wrap=True)


@app.command("prompts")
def prompts_command(
    out: Annotated[Path, typer.Option("--out", help="Folder to copy the templates to.")],
) -> None:
    """Copy the prompt templates, to be edited and given back with `--prompts`.

    Example: `guardrail data prompts --out my-prompts`
    """
    with clear_errors():
        from guardrail.data.prompt_templates import shipped_prompts
        from guardrail.errors import InputError

        out.mkdir(parents=True, exist_ok=True)
        for path in shipped_prompts().values():
            if (out / path.name).exists():
                raise InputError(
                    f"`{out / path.name}` is there already and may be edited; give another folder"
                )
            (out / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        console.print(f"{len(shipped_prompts())} templates: {out}", soft_wrap=True)
