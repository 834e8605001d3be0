"""`guardrail demo`: the same fine-tuning run twice, unguarded and guarded, and what became of base."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from guardrail.exit_codes import TERMINATED
from guardrail.ledger.file import Record, live_records, read_ledger
from guardrail.ledger.records import LookFacts, read_looks
from guardrail.live.status_terminal import levers_said, reason_said
from guardrail.live.terminal import live_display
from guardrail.live.terminal_words import terminal_words
from guardrail.recipe import Recipe, read_recipe
from guardrail.report.findings import mean_ability
from guardrail.report.page.texts import Language
from guardrail.report.report import build_report
from guardrail.run import run_recipe
from guardrail.sets.items import ABILITIES

__all__ = ["DemoResult", "render_demo", "run_demo"]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Both runs of a demo as plain data (`facts`), the guarded run's report, and the language both speak."""

    facts: dict[str, Any]
    report: Path
    language: Language


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


def run_demo(
    recipe_name: str,
    out: Path,
    seed: int | None,
    console: Console,
    language: Language = "en",
) -> DemoResult | None:
    """Run the recipe watched only, then guarded, below `out`, and return what came of both; None where a SIGTERM ended one."""
    overrides: dict[str, Any] = {"language": language}
    overrides["anchors"] = str((out / "anchors").resolve())
    if seed is not None:
        overrides["seed"] = seed
    started = time.perf_counter()
    finished = {}
    for side, mode in (("unguarded", "watch"), ("guarded", "guard")):
        recipe: Recipe = read_recipe(recipe_name, mode=mode, **overrides)
        words = terminal_words(recipe.language)
        title = "{side}: {name}, seed {seed}"
        console.rule(words(title, side=words.word(side), name=recipe.name, seed=recipe.seed))
        with live_display(console, words.word(side), recipe.language) as display:
            finished[side] = run_recipe(
                recipe,
                out / side,
                on_record=display.on_record,
                on_step=display.on_step,
                on_anchors=display.on_anchors,
            )
        if finished[side].exit_code == TERMINATED:
            text = "stopped by SIGTERM in the {side} half; `guardrail demo` begins anew"
            console.print(words(text, side=words.word(side)), highlight=False)
            return None
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
    return DemoResult(facts, report, recipe.language)


def render_demo(facts: dict[str, Any], language: Language) -> RenderableType:
    """Return the closing table, the actions and the cost of guarding."""
    words = terminal_words(language)
    base, unguarded, guarded = facts["base"], facts["unguarded"], facts["guarded"]
    heads = map(words, ("ability", "base", "unguarded", "guarded"))
    table = Table(*heads, title=words("share of items passed"))
    for ability in ABILITIES:
        sides = (side["abilities"][ability] for side in (base, unguarded, guarded))
        table.add_row(words.name("ability", ability), *(f"{value:.0%}" for value in sides))
    table.add_section()
    means = (f"{side['mean']:.0%}" for side in (base, unguarded, guarded))
    table.add_row(words("mean of abilities"), *means, style="bold")
    kept = (f"{s['mean'] / base['mean']:.0%}" for s in (unguarded, guarded))
    table.add_row(words("kept of base"), "", *kept, style="bold")
    losses = (base["domain_loss"], unguarded["domain_loss"], guarded["domain_loss"])
    table.add_row(
        words("held-out domain loss"), *("–" if v is None else f"{v:.3f}" for v in losses)
    )
    actions = [
        words(
            "step {step}: {action}, {levers} ({reason})",
            step=a["step"],
            action=words.name("action", a["action"]),
            levers=levers_said(a["after"]["boost"], a["after"]["lr_factor"], words),
            reason=reason_said(a["reason"], words),
        )
        for a in guarded["actions"]
    ]
    seconds = facts["seconds"]
    shares = words.joined(
        [
            words(
                "{what} {seconds:.1f} s ({share:.0%})",
                what=words(name),
                seconds=seconds[key],
                share=seconds[key] / seconds["train"],
            )
            for name, key in (
                ("KL-only", "kl"),
                ("looks", "looks"),
                ("tripwires", "tripwires"),
                ("everything else", "everything_else"),
            )
        ]
    )
    ending = words("ran to its end at step {step}", step=guarded["step"])
    if guarded["halted"]:
        ending = words("HALTED at step {step}", step=guarded["step"])
    text = "The guarded run {ending}, actions: {count}"
    cost = "Guarding cost: {shares}. The whole demo took {seconds:.0f} s."
    return Group(
        table,
        Text(
            words(text, ending=ending, count=len(actions)),
            "bold red" if guarded["halted"] else "green",
        ),
        *(Text(f"  {line}") for line in actions),
        Text(words(cost, shares=shares, seconds=seconds["demo"])),
        Text.assemble(words("Report: "), (facts["report"], "underline")),
    )
