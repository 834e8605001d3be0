"""`guardrail average`: a fine-tuned model's weights averaged with its base's."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.common import (
    JsonFlag,
    clear_errors,
    console,
    print_json,
    quiet_libraries,
    terminal_language,
)
from guardrail.errors import InputError
from guardrail.models.hub import Hub, model_folder
from guardrail.report.page.escape_controls import escape_controls

__all__ = ["average"]


def average(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A checkpoint's or LoRA adapter's folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the averaged model; must not be there.")],
    base: Annotated[
        str | None,
        typer.Option(help="The model it was trained from, a folder; not for an adapter."),
    ] = None,
    hub: Annotated[
        Hub | None, typer.Option(help="Where `--base ORG/MODEL` comes from, if it is no folder.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of the fine-tuned weights; the rest is the base's.")
    ] = 0.7,
    as_json: JsonFlag = False,
) -> None:
    """Average a fine-tuned model's weights with its base's: abilities come back for some of what was learned.

    Costs no training, and can be tried at several shares. Nothing is promised for a share: judge each with `guardrail look`, and
    measure your own task. An adapter's change is scaled, which is the same.

    Example: `guardrail average runs/first/checkpoints/checkpoint-100 --base models/Qwen3-8B --share 0.7 --out averaged-70`

    From a hub: `--base Qwen/Qwen3-8B --hub modelscope`

    Then: `guardrail look averaged-70 --anchors anchors/toy-sft`
    """
    from guardrail.look_rule import run_of

    run = run_of(model)
    with clear_errors(run):
        from rich.progress import Progress

        from guardrail.live.terminal_words import terminal_words
        from guardrail.models.averaged_weights import average_with_base
        from guardrail.report.page.texts import language_of_run

        quiet_libraries()
        words = terminal_words(terminal_language() if run is None else language_of_run(run))
        before = None if base is None else model_folder(base, hub) if hub else Path(base)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task(words("tensors"), total=None)
            facts = average_with_base(
                model,
                before,
                share,
                out,
                lambda done, total: progress.update(bar, completed=done, total=total),
            )
        if as_json:
            print_json({"averaged": str(out)} | facts)
        else:
            typer.echo(
                words(
                    "{out}: {share:g} of `{model}`, the rest of its base",
                    out=out,
                    share=share,
                    model=model,
                )
            )
            anchors = (_anchors_of(run) if run else None) or "ANCHORS"
            command = shlex.join(["guardrail", "look", str(out), "--anchors", anchors])
            typer.echo(words("judge it: {command}", command=escape_controls(command)))


def _anchors_of(run: Path) -> str | None:
    """The anchors of a run's recipe; None where its ledger does not tell."""
    from guardrail.look_rule import header_of_run

    try:
        recipe = header_of_run(run).get("recipe")
    except InputError:
        return None
    anchors = recipe.get("anchors") if isinstance(recipe, dict) else None
    return anchors if isinstance(anchors, str) else None
