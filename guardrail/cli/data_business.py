"""`guardrail data outcomes | probe | probe-template`: what a business's debts came to, and its own probes on chats."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from guardrail.cli.common import JsonFlag, clear_errors, console, print_json

__all__ = ["outcomes", "probe", "probe_template"]

RunOption = Annotated[
    Path | None, typer.Option("--run", help="Put the numbers on this run's timeline as well.")
]
StepOption = Annotated[
    int | None, typer.Option(min=0, help="Global step; by default the newest in the ledger.")
]


def outcomes(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="JSONL, a debtor a line.")],
    run: RunOption = None,
    step: StepOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what debts came to: success, recovery, efficiency, and the debtors' financial health, arms apart.

    A line: `{"debtor": "d1", "owed": 12000, "paid": 3000, "agreed": true, "contacts": 3}`; `minutes`, `income`, `expenses`,
    `instalment` and `arm` as far as they are known.

    Example: `guardrail data outcomes june.jsonl --run runs/collection --step 120`
    """
    with clear_errors():
        from guardrail.data.business.debt_outcomes import debt_metrics, read_outcomes

        found = debt_metrics(read_outcomes(log))
        named = {
            f"debt/{name}{f' ({arm})' if arm else ''}": value
            for arm, values in found.items()
            for name, value in values.items()
        }
        _on_timeline(run, step, named)
        if as_json:
            print_json(found)
            return
        table = Table("", *(arm or "all" for arm in found))
        for name in dict.fromkeys(name for values in found.values() for name in values):
            table.add_row(name, *(f"{v[name]:,.3f}" if name in v else "–" for v in found.values()))
        console.print(table)


def probe(
    probes: Annotated[
        Path, typer.Argument(metavar="PROBES", help="A plug-in, one file of Python.")
    ],
    now: Annotated[Path, typer.Argument(metavar="NOW", help="Chats of the model as it is now.")],
    base: Annotated[Path, typer.Option("--base", help="Chats of the base on the same prompts.")],
    run: RunOption = None,
    step: StepOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure chats by a business's own probes against base's; exit code 1 where harm beyond a margin is shown.

    Example: `guardrail data probe my_probes.py now.jsonl --base base.jsonl`
    """
    with clear_errors():
        from guardrail.data.business.probe_chats import measure_chats
        from guardrail.data.rows import read_data_rows
        from guardrail.probes.business_probes import read_probes

        found = measure_chats(read_probes(probes), read_data_rows(base), read_data_rows(now))
        _on_timeline(run, step, {f"probe/{n}": v["now"] for n, v in found.items() if "now" in v})
        if as_json:
            print_json(found)
        else:
            table = Table("probe", "chats", "clusters", "base", "now", "margin", "")
            for name, facts in found.items():
                shares = (f"{facts[k]:.1%}" if k in facts else "–" for k in ("base", "now"))
                counts = (f"{facts[k]:,}" for k in ("chats", "clusters"))
                table.add_row(name, *counts, *shares, f"{facts['margins'][0]:.1%}", facts["level"])
            console.print(table)
        if any(facts["level"] in ("warn", "critical") for facts in found.values()):
            raise typer.Exit(1)


def probe_template(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Python file to write.")],
) -> None:
    """Copy the worked example of a business's probes, a collection agent's, to be changed.

    Example: `guardrail data probe-template my_probes.py`
    """
    with clear_errors():
        from guardrail.data.business import collection_agent
        from guardrail.errors import InputError

        if out.exists():
            raise InputError(f"`{out}` is there already and may be edited; give another name")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(
            Path(collection_agent.__file__).read_text(encoding="utf-8"), encoding="utf-8"
        )
        console.print(f"probes: {out}; name it in a recipe's `probes.files`", soft_wrap=True)


def _on_timeline(run: Path | None, step: int | None, named: dict[str, Any]) -> None:
    from guardrail.track.own_metrics import add_metric

    if run is None:
        return
    for name, value in named.items():
        add_metric(run, name, float(value), step)
