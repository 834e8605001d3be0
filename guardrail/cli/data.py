"""The command line of the data wing: `guardrail data plan | select | generate`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from guardrail.cli.common import JsonFlag, clear_errors, console, print_json

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
