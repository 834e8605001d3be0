"""Commands around the trackers: `guardrail log | alert | dashboard`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.common import (
    JsonFlag,
    LangOption,
    RecipeArgument,
    clear_errors,
    console,
    print_json,
)
from guardrail.errors import InputError

__all__ = ["alert", "dashboard", "log"]


def log(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a guarded run.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What is measured.")],
    value: Annotated[float, typer.Argument(metavar="VALUE")],
    step: Annotated[
        int | None, typer.Option(min=0, help="Global step; by default the newest in the ledger.")
    ] = None,
) -> None:
    """Put a number of your own on the run's timeline, while it goes on or later.

    The next look takes it up; a run that has ended takes it at once. A script may as well append such lines
    to RUN/metrics.jsonl itself.

    Example: `guardrail log runs/toy-sft recovery_rate 0.31 --step 120`
    """
    with clear_errors(run):
        from guardrail.track.own_metrics import add_metric

        typer.echo(json.dumps(add_metric(run, name, value, step), ensure_ascii=False))


def alert(
    test: Annotated[
        bool, typer.Option("--test", help="Send one test message to every service.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say which services `GUARDRAIL_ALERT_URLS` names, and with `--test` which of them take a message.

    Exit codes: 0 all of them, 1 some did not, 2 none is named or an address is none.

    Example: `GUARDRAIL_ALERT_URLS="feishu://TOKEN slack://A/B/C" guardrail alert --test`
    """
    with clear_errors():
        from guardrail.track.alert_services import URLS_VARIABLE, alert_services, deliver
        from guardrail.track.alerts import Alert

        services = alert_services()
        if not services:
            raise InputError(
                f"no service is named; set {URLS_VARIABLE} to apprise addresses, such as feishu://TOKEN, "
                "separated by spaces"
            )
        message = Alert("guardrail: test / 测试", "告警通道已接通。\nAlerts arrive here.", "info")
        taken = deliver(services, message) if test else {}
        facts = {name: taken.get(name) for name, _ in services}
        if as_json:
            print_json({"services": facts})
        else:
            words = {True: "delivered", False: "not delivered", None: "named"}
            for name, delivered in facts.items():
                typer.echo(f"{name}: {words[delivered]}")
        if False in facts.values():
            raise typer.Exit(1)


def dashboard(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the definition here instead; needs no network. Without a W&B entity or project it is NAME.workspace.json."
        ),
    ] = None,
    entity: Annotated[str | None, typer.Option(help="By default the recipe's.")] = None,
    project: Annotated[str | None, typer.Option(help="By default the recipe's.")] = None,
    lang: LangOption = None,
) -> None:
    """Create a W&B workspace, or write its definition: verdict, drift by ability, levers, training, examples.

    Example: `guardrail dashboard my-recipe.yaml --entity my-team --project debt-sft`
    """
    with clear_errors(recipe, lang):
        from guardrail.recipe import read_recipe
        from guardrail.sets.items import read_items
        from guardrail.track.dashboard import save_workspace, workspace, write_workspace
        from guardrail.track.wandb_run import set_server

        checked = read_recipe(recipe)
        where = {
            "entity": entity or os.environ.get("WANDB_ENTITY") or checked.tracking.entity,
            "project": project or os.environ.get("WANDB_PROJECT") or checked.tracking.project,
        }
        missing = [key for key, value in where.items() if not value]
        if missing and out is None:
            out = Path(f"{checked.name}.workspace.json")
            options = " and ".join(f"--{key}" for key in missing)
            console.print(
                f"no W&B {' and no '.join(missing)} is known, so the definition is written to a file; {options} (or "
                "`tracking` in the recipe) create the workspace",
                soft_wrap=True,
                highlight=False,
            )
        set_server(checked.tracking)
        abilities = dict.fromkeys(item.ability for item in read_items(checked.sets.red_line))
        made = workspace(
            where["entity"] or "",
            where["project"] or "",
            list(abilities),
            language=lang or checked.language,
        )
        if out is None:
            typer.echo(save_workspace(made))
        else:
            write_workspace(made, out)
            typer.echo(out)
