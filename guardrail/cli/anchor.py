"""The command line of the anchors: `guardrail anchor RECIPE` makes them, `anchor export` hands golds out."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.core import TyperGroup

from guardrail.cli.common import (
    ConcurrencyOption,
    JsonFlag,
    RecipeArgument,
    ServedAsOption,
    ServerOption,
    SetOption,
    answered_by,
    asked_server,
    clear_errors,
    console,
    print_json,
    quiet_libraries,
)
from guardrail.errors import InputError

if TYPE_CHECKING:
    from guardrail.live.terminal_words import TerminalWords

__all__ = ["app"]


class _MakesByDefault(TyperGroup):
    """`guardrail anchor RECIPE` is short for `guardrail anchor make RECIPE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_MakesByDefault,
    no_args_is_help=True,
    subcommand_metavar="RECIPE | COMMAND [ARGS]...",
    rich_markup_mode="markdown",
    help="Pin down what the untouched base answers.\n\nExample: `guardrail anchor recipes/toy-sft.yaml`",
)


@app.command("make")
def make_command(
    recipe: RecipeArgument,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Replace anchors that are there.")
    ] = False,
    settings: SetOption = None,
    server: ServerOption = None,
    served_as: ServedAsOption = None,
    concurrency: ConcurrencyOption = 32,
    unproven: Annotated[
        bool,
        typer.Option(
            "--unproven",
            help="Take the server's word for its weights: the gold base is not loaded here to compare them.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Answer both sets with the untouched base and store what the guard compares with.

    Goes on where an earlier call was interrupted. Tells the size on disk, how many log-probabilities
    are stored a token and what that costs in KL, and which anchors are weak. With `--server` a vLLM server
    that serves the gold base answers.

    Example: `guardrail anchor recipes/toy-sft.yaml`
    """
    with clear_errors(recipe, changes=settings):
        from guardrail.anchors.make import ACCEPTED_KL_ERROR
        from guardrail.anchors.weak_anchors import weak_anchors
        from guardrail.live.spoken_log import spoken_log
        from guardrail.live.terminal import anchor_part
        from guardrail.live.terminal_words import terminal_words
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe, changes=settings or ())
        from guardrail.trainers.anchor_server import AnchorServer
        from guardrail.trainers.attach import Guardrail

        asked = asked_server(server, served_as, concurrency)
        if unproven and asked is None:
            raise InputError("`--unproven` is about a server; give its address with `--server URL`")
        answers = None if asked is None else AnchorServer(asked, served_as, not unproven)
        quiet_libraries()
        guardrail = Guardrail.from_recipe(checked)
        words = terminal_words(checked.language)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with spoken_log(checked.language), Progress(*columns, console=console) as progress:
            bars: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in bars:
                    bars[what] = progress.add_task(anchor_part(what, words), total=total)
                progress.update(bars[what], completed=done)

            anchors = guardrail.anchors(rebuild=rebuild, on_progress=show, server=answers)
        folder = Path(str(checked.anchors))
        weak = weak_anchors([*guardrail.red_line, *guardrail.rehearsal], anchors)
        sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        facts = {
            "anchors": str(folder),
            "red_line_items": len(guardrail.red_line),
            "rehearsal_items": len(guardrail.rehearsal),
            "replicates": anchors.manifest.replicates,
            "top_k": anchors.manifest.top_k,
            "kl_error": anchors.manifest.kl_error,
            "engine": anchors.manifest.engine,
            "served": anchors.manifest.served,
            "bytes": sizes,
            "weak_anchors": [
                {"item": f.item, "ability": f.ability, "why": f.why, "detail": f.detail}
                for f in weak
            ],
        }
        if as_json:
            print_json(facts)
            return
        errors = ", ".join(f"{k}: {error:.2%}" for k, error in anchors.manifest.kl_error.items())
        errors = errors or words("not measured, for the gold base was not loaded here")
        said = [
            words("{name}: {value}", name=words("anchors"), value=folder),
            words("answered by: {who}", who=answered_by(anchors.manifest.served, checked.language)),
            words("on disk: {size} MB", size=f"{sum(sizes.values()) / 1e6:.1f}"),
            words(
                "log-probabilities a token: {count} (KL missed by k: {errors})",
                count=anchors.manifest.top_k,
                errors=errors,
            ),
        ]
        console.print("\n".join(said), soft_wrap=True, highlight=False, markup=False)
        missed = anchors.manifest.kl_error.get(anchors.manifest.top_k or 0, 0.0)
        if missed > ACCEPTED_KL_ERROR:
            warned = words(
                "the KL term sees {share} of such a policy's KL, of one whose every logit moved at random, the rest "
                "lies in the tail: it is a lower bound. `rehearsal.reference: adapter off` (LoRA) or `frozen` takes the whole",
                share=f"{1 - missed:.0%}",
            )
            console.print(warned, style="yellow", soft_wrap=True, highlight=False, markup=False)
        console.print(_weak_table(Counter((f.why, f.ability) for f in weak), words))


def _weak_table(counts: Counter[tuple[str, str]], words: "TerminalWords") -> Table | str:
    if not counts:
        return f"[green]{words('no anchor is weak')}[/]"
    title = words("weak anchors (kept; see --json for the items)")
    table = Table(title=title, title_justify="left")
    table.add_column(words("why"))
    table.add_column(words("ability"))
    table.add_column(words("items"), justify="right")
    for (why, ability), count in sorted(counts.items()):
        table.add_row(words.word(why), words.name("ability", ability), str(count))
    return table


@app.command("export")
def export_command(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option("--out", help="The JSONL file to write.")],
    to: Annotated[Literal["messages"], typer.Option(help="Form of the rows.")] = "messages",
    as_json: JsonFlag = False,
) -> None:
    """Write the rehearsal set with the base's own answers as ordinary SFT rows.

    Example: `guardrail anchor export recipes/toy-sft.yaml --to messages --out golds.jsonl`
    """
    with clear_errors(recipe):
        from guardrail.anchors.sft_rows import export_messages
        from guardrail.anchors.store import read_anchors
        from guardrail.live.terminal_words import terminal_words
        from guardrail.recipe import read_recipe

        checked = read_recipe(recipe)
        from guardrail.trainers.attach import Guardrail

        guardrail = Guardrail.from_recipe(checked)
        anchors = read_anchors(Path(str(checked.anchors)))
        guardrail.check_anchors(anchors)
        written, left_out = export_messages(guardrail.rehearsal, anchors, out)
        if as_json:
            print_json({"out": str(out), "form": to, "written": written, "left_out": left_out})
            return
        words = terminal_words(checked.language)
        said = words(
            "{written} rows: {out} ({left_out} cut or empty golds left out)",
            written=written,
            out=out,
            left_out=left_out,
        )
        console.print(said, soft_wrap=True, highlight=False, markup=False)
