"""`guardrail demo`: the same fine-tuning run twice, unguarded and guarded, and what became of base."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.ledger.file import Record, live_records, read_ledger
from guardrail.ledger.records import LookFacts, read_looks
from guardrail.live.terminal import live_display
from guardrail.recipe import Recipe, read_recipe
from guardrail.report.findings import mean_ability
from guardrail.report.report import build_report
from guardrail.run import run_recipe
from guardrail.sets.items import ABILITIES

__all__ = ["DemoResult", "render_demo", "run_demo"]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Both runs of a demo as plain data (`facts`) and the guarded run's report."""

    facts: dict[str, Any]
    report: Path


def _passed(look: LookFacts) -> dict[str, Any]:
    """Mean over abilities of base's and the current pass rate, and each ability's."""
    return {
        side: {
            "mean": mean_ability(look, side),
            "abilities": {a: getattr(look.stream("passed", a), side) for a in ABILITIES},
        }
        for side in ("base", "now")
    }


def _seconds(records: list[Record]) -> dict[str, float]:
    """Seconds of the guarded run's training, split into KL-only, looks, tripwires and the rest."""
    seconds: dict[str, float] = next(r for r in records if r["kind"] == "ended")["seconds"]
    guarding = {what: seconds.get(what, 0.0) for what in ("kl", "looks", "tripwires")}
    rest = seconds["train"] - sum(guarding.values())
    return {**guarding, "everything_else": rest, "train": seconds["train"]}


def run_demo(recipe_name: str, out: Path, seed: int | None, console: Console) -> DemoResult:
    """Run the recipe watched only, then guarded, below `out`, and return what came of both."""
    overrides: dict[str, Any] = {"anchors": str((out / "anchors").resolve())}
    if seed is not None:
        overrides["seed"] = seed
    started = time.perf_counter()
    finished = {}
    for side, mode in (("unguarded", "watch"), ("guarded", "guard")):
        recipe: Recipe = read_recipe(recipe_name, mode=mode, **overrides)
        console.rule(f"{side}: {recipe.name}, seed {recipe.seed}")
        with live_display(console, side) as display:
            finished[side] = run_recipe(
                recipe,
                out / side,
                on_record=display.on_record,
                on_step=display.on_step,
                on_anchors=display.on_anchors,
            )
    records = {side: live_records(read_ledger(out / side)) for side in finished}
    looks = {side: read_looks(records[side])[-1] for side in finished}
    last = {side: _passed(look) for side, look in looks.items()}
    report = build_report(out / "guarded")
    build_report(out / "unguarded")
    facts = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "base": last["guarded"]["base"] | {"domain_loss": finished["guarded"].domain_loss_before},
        "unguarded": last["unguarded"]["now"]
        | {
            "domain_loss": finished["unguarded"].domain_loss,
            "step": looks["unguarded"].step,
        },
        "guarded": last["guarded"]["now"]
        | {
            "domain_loss": finished["guarded"].domain_loss,
            "step": looks["guarded"].step,
            "actions": [
                {k: r[k] for k in ("step", "action", "reason", "before", "after")}
                for r in records["guarded"]
                if r["kind"] == "action"
            ],
            "halted": finished["guarded"].halted,
        },
        "seconds": _seconds(records["guarded"]) | {"demo": round(time.perf_counter() - started, 1)},
        "report": str(report),
    }
    return DemoResult(facts, report)


def render_demo(facts: dict[str, Any]) -> RenderableType:
    """Return the closing table, the actions and the cost of guarding."""
    base, unguarded, guarded = facts["base"], facts["unguarded"], facts["guarded"]
    table = Table("ability", "base", "unguarded", "guarded", title="share of items passed")
    for ability in ABILITIES:
        sides = (side["abilities"][ability] for side in (base, unguarded, guarded))
        table.add_row(ability, *(f"{value:.0%}" for value in sides))
    table.add_section()
    table.add_row("mean", *(f"{s['mean']:.0%}" for s in (base, unguarded, guarded)), style="bold")
    kept = (f"{s['mean'] / base['mean']:.0%}" for s in (unguarded, guarded))
    table.add_row("kept of base", "", *kept, style="bold")
    losses = (base["domain_loss"], unguarded["domain_loss"], guarded["domain_loss"])
    table.add_row("held-out domain loss", *("–" if v is None else f"{v:.3f}" for v in losses))
    actions = [
        f"step {a['step']}: {a['action']}, KL weight ×{a['after']['boost']:g}, "
        f"learning rate ×{a['after']['lr_factor']:g} ({a['reason']})"
        for a in guarded["actions"]
    ]
    seconds = facts["seconds"]
    shares = ", ".join(
        f"{name} {seconds[key]:.1f} s ({seconds[key] / seconds['train']:.0%})"
        for name, key in (
            ("KL-only", "kl"),
            ("looks", "looks"),
            ("tripwires", "tripwires"),
            ("everything else", "everything_else"),
        )
    )
    noun = "action" if len(actions) == 1 else "actions"
    ending = (
        Text(f"HALTED at step {guarded['step']}", "bold red")
        if guarded["halted"]
        else Text(f"ran to its end at step {guarded['step']}", "green")
    )
    return Group(
        table,
        Text.assemble("The guarded run ", ending, f" after {len(actions)} {noun}:"),
        *(Text(f"  {line}") for line in actions),
        Text(f"Guarding cost: {shares}. The whole demo took {seconds['demo']:.0f} s."),
        Text.assemble("Report: ", (facts["report"], "underline")),
    )
