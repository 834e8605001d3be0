"""What guarding cost, from each run's own clock, and when the guard of a watched run spoke."""

from statistics import fmean
from typing import Any

Row = dict[str, Any]

PARTS = ("kl", "looks", "tripwires")


def cost_table(groups: dict[str, list[Row]]) -> str:
    """Return what share of a run's own training each part of guarding took; a gate's share beside it.

    Seconds of one run are only compared with seconds of the same run: two runs may have met a machine of another speed.
    A look asks 60 items 48 tokens each at most; how many unguarded steps it is worth is what carries over to other spacings.
    """
    lines = [
        "| arm | runs | s a step | KL, % of the steps | tripwires, % | looks or gate, % | a look or gate in steps | all, ÷ unguarded |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in groups.items():
        timed = [row for row in rows if row["trained"].get("seconds")]
        if not timed:
            continue
        found = [_shares(row["trained"]) for row in timed]
        step, kl, wires, looks, each = (fmean(values) for values in zip(*found, strict=True))
        one = f"{each:.1f}" if each else ""
        lines.append(
            f"| {name} | {len(timed)} | {step:.1f} | {100 * kl:.1f} | {100 * wires:.1f} | {100 * looks:.1f} "
            f"| {one} | {1 + kl + wires + looks:.2f} |"
        )
    return "\n".join(lines)


def _shares(trained: dict[str, Any]) -> tuple[float, float, float, float, float]:
    """Return seconds of an unguarded step, the shares of KL, tripwires and looks (or gate) in all those steps, and a look in steps."""
    seconds = trained["seconds"]
    kl, looks, wires = (seconds.get(part, 0.0) for part in PARTS)
    count = len(trained.get("levels", []))
    if trained.get("gate_seconds"):
        looks, count = trained["gate_seconds"], len(trained["gate_scores"])
    steps = max(1e-9, seconds["train"] - kl - looks - wires)
    step = steps / max(1, trained["steps"])
    return step, kl / steps, wires / steps, looks / steps, looks / max(1, count) / step


def detection_table(groups: dict[str, list[Row]], base: Row) -> str:
    """Return, for each watched run, when it rose to each level, and how much of its final loss on others' answers was there then."""
    lines = [
        "| run | seed | levels by step | lost at the end | first warning | lost by then | first early look asked |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in groups.items():
        for row in sorted(rows, key=lambda row: row["seed"]):
            lost = {step: loss - base["others"]["loss"] for step, loss in row["curve"]}
            lost[0] = 0.0
            levels = row["trained"]["levels"]
            spoke = next((step for step, level in levels if step and level != "ok"), None)
            wires = [step for step, _, early in row["trained"]["tripwires"] if early]
            end = lost[max(lost)]
            told = "none"
            if spoke is not None:
                at = lost[max(step for step in lost if step <= spoke)]
                told = f"{at:+.3f}" + (f" ({at / end:.0%})" if end > 0.01 else "")
            by_step = ", ".join(f"{level}@{step}" for step, level in levels)
            when = "none" if spoke is None else str(spoke)
            wire = str(wires[0]) if wires else "none"
            lines.append(
                f"| {name} | {row['seed']} | {by_step} | {end:+.3f} | {when} | {told} | {wire} |"
            )
    return "\n".join(lines)
