"""What to do next, as codes with values: the commands, and recipe lines with the evidence that asks for them."""

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from guardrail.judge.verdict import Facts
from guardrail.ledger.file import RESOLVED_FILE
from guardrail.ledger.records import Levers
from guardrail.models.fingerprint import is_adapter
from guardrail.redaction import HIDDEN
from guardrail.report.findings import conditions, peak_learning_rate, telling_look
from guardrail.report.named_items import named_items
from guardrail.report.recommendation import NO_FAULT, Recommendation
from guardrail.report.run_data import RunData

__all__ = [
    "NEXT_RECIPE",
    "Place",
    "RecipeChange",
    "Step",
    "Weak",
    "next_recipe",
    "next_steps",
    "place",
    "recipe_text",
]

NEXT_RECIPE = "recipe.next.yaml"
"""File beside the report: the recipe with the recommended changes, ready to run."""

_SHARES = (0.7, 0.4, 0.2)
"""Of the fine-tuned weights when averaged with base's, one after the other as long as the average is beyond its margin."""
_SHARE_OF_A_COLLAPSE = 0.3
"""Where the overall pass rate lost more than half of base's; most of the fine-tuned weights would keep the collapse."""
_MOST_FRACTION = 0.05
_MOST_WEAK = 4
_LEAST_MADE_UP_FOR = 0.4
"""Of the old learning rate: half of it learns as much in twice the steps (docs/real-study.md); a tenth is a test of another kind."""
"""Abilities named for more rehearsal: the worst; to name all of them advises nothing."""


class Place(Facts):
    """A checkpoint's folder."""

    path: str
    exists: bool
    """Whether the folder was there when the report was built."""
    step: int


class RecipeChange(Facts):
    """One recipe line for the next attempt, and why."""

    key: str
    old: str | int | float | None
    new: str | int | float
    """Of the same kind as the recipe has it: a whole number stays one."""
    why: str
    """Code of the evidence."""
    values: dict[str, str | float] = Field(default_factory=dict)


class Weak(Facts):
    """An ability that fell, and how many rehearsal items it has; None where the set cannot be read."""

    ability: str
    items: int | None


class Step(Facts):
    """One thing to do."""

    code: str
    command: str | None = None
    place: Place | None = None
    changes: tuple[RecipeChange, ...] = ()
    abilities: tuple[Weak, ...] = ()


def place(data: RunData, path: str, step: int) -> Place:
    """Return where a checkpoint lies."""
    try:
        found = [p for p in (data.run / path, Path(path)) if p.is_dir()]
    except (OSError, ValueError):  # a name no file system takes
        found = []
    absolute = os.path.abspath(found[0] if found else data.run / path)
    return Place(path=absolute, exists=bool(found), step=step)


def next_steps(data: RunData, advice: Recommendation) -> list[Step]:
    """Return what to do next, in order."""
    run = data.run.resolve()
    recipe = shlex.quote(str(run / RESOLVED_FILE))
    last = data.checkpoints[-1] if data.checkpoints else None
    final = place(data, last.path, last.step) if last else None
    what = advice.recommendation
    if advice.because in ("finished_ok", "finished_recovered"):
        return [Step(code="use_final", place=final), Step(code="sealed_check")]
    if data.one_look:
        return _after_a_look(data, what)
    if advice.because.startswith("running") and what in ("continue", "undecided"):
        return [Step(code="look_again", command=f"guardrail status {shlex.quote(str(run))}")]
    if what in ("roll_back", "abandon"):
        return _another_attempt(data, run)
    if advice.because == "finished_unmeasured":
        return [Step(code="measure_end", place=final, command=_look_command(data, final))]
    if advice.because == "pipeline":
        return [Step(code="rebuild_anchors", command=f"guardrail anchor {recipe} --rebuild")]
    if advice.because == "inherited":
        return [Step(code="judge_new")]
    if advice.because in ("nothing_recorded", "damaged"):
        return [Step(code="restore_ledger")] if advice.because == "damaged" else []
    no_fault = advice.because in NO_FAULT
    if not data.run_by_recipe:
        return [Step(code="resume_own_now" if no_fault else "resume_own")]
    resume = f"guardrail run {recipe} --out {shlex.quote(str(run))} --resume"
    code = "resume_now" if no_fault else "resume"
    return [Step(code="check_process" if advice.because == "silent" else code, command=resume)]


def _after_a_look(data: RunData, what: str) -> list[Step]:
    if what == "use":
        return [Step(code="sealed_check")]
    if what == "reject":
        anchors = shlex.quote(str(data.recipe.get("anchors")))
        again = f"guardrail look CHECKPOINT --anchors {anchors}"
        return [*_average_again(data), Step(code="look_at_another", command=again)]
    return [Step(code="more_items")]


def _look_command(data: RunData, final: Place | None) -> str | None:
    anchors = data.recipe.get("anchors")
    if final is None or not anchors:
        return None
    return f"guardrail look {shlex.quote(final.path)} --anchors {shlex.quote(str(anchors))}"


def _average(data: RunData, run: Path) -> list[Step]:
    """To average the newest checkpoint with the base, where both are here, and have that judged."""
    last = data.checkpoints[-1] if data.checkpoints else None
    base, newest = (
        data.recipe.get("gold_base"),
        None if last is None else place(data, last.path, last.step),
    )
    if newest is None or not newest.exists or not base:
        return []
    collapsed = _collapsed(data)
    return _averaging(
        data,
        "average_collapsed" if collapsed else "average",
        newest.path,
        None if is_adapter(Path(newest.path)) else str(base),
        _SHARE_OF_A_COLLAPSE if collapsed else _SHARES[0],
        run.with_name(run.name + "-averaged"),
    )


def _average_again(data: RunData) -> list[Step]:
    """After a look at an averaged model: the next lower share, where there is one."""
    averaged = data.started.get("averaged")
    if not isinstance(averaged, dict):
        return []
    model, base, share = (averaged.get(key) for key in ("model", "base", "share"))
    if not isinstance(model, str) or not isinstance(share, float):
        return []
    lower = next((one for one in _SHARES if one < share - 0.05), None)
    if lower is None:
        return []
    beside = None if base is None else str(base)
    now = Path(str(data.recipe.get("start_model")))
    name = f"{re.sub('-[0-9]{2}$', '', now.name)}-{100 * lower:.0f}"
    return _averaging(data, "average_less", model, beside, lower, now.with_name(name))


def _averaging(
    data: RunData, code: str, model: str, base: str | None, share: float, out: Path
) -> list[Step]:
    beside = [] if base is None else ["--base", base]
    average = ["guardrail", "average", model, *beside, "--share", f"{share:g}", "--out", str(out)]
    anchors = str(data.recipe.get("anchors") or "ANCHORS")
    look = ["guardrail", "look", str(out), "--anchors", anchors]
    return [
        Step(code=code, command=shlex.join(average)),
        Step(code="look_at_averaged", command=shlex.join(look)),
    ]


def _collapsed(data: RunData) -> bool:
    """Whether the newest look's overall pass rate lost more than half of base's."""
    overall = data.last_look.stream("passed", "overall") if data.last_look else None
    if overall is None or overall.base is None or overall.now is None:
        return False
    return overall.now < overall.base / 2


def _another_attempt(data: RunData, run: Path) -> list[Step]:
    steps: list[Step] = []
    if data.last_ok is not None:
        kept = place(data, data.last_ok.path, data.last_ok.step)
        steps.append(Step(code="use_last_ok", place=kept))
    steps += _average(data, run)
    changes = recipe_changes(data)
    if not data.kl_term:
        pass  # there is nothing to rehearse by
    elif not _used_up(data):
        steps.append(Step(code="enough_rehearsal"))
    elif weak := _weak_abilities(data):
        steps.append(Step(code="more_rehearsal", abilities=tuple(weak)))
    if not changes:
        return [*steps, Step(code="no_evidence")]
    command = None
    if data.run_by_recipe:
        out = shlex.quote(str(run.with_name(run.name + "-next")))
        command = f"guardrail run {shlex.quote(str(run / NEXT_RECIPE))} --out {out}"
    steps.append(
        Step(code="run_again" if command else "run_again_own", changes=changes, command=command)
    )
    return steps


def recipe_changes(data: RunData) -> tuple[RecipeChange, ...]:
    """Return the recipe lines for the next attempt that the ledger gives evidence for."""
    recipe, changes = data.recipe, []
    rehearsal = data.recipe_section("rehearsal")
    done = data.actions_trained_under
    levers = done[-1].after if done else Levers()
    cuts = sum(a.kind == "cut_lr" for a in done)

    def change(key: str, old: Any, new: str | int | float, why: str, **values: str | float) -> None:
        if isinstance(new, float):
            new = float(
                f"{new:.10g}"
            )  # a recipe is read by people: 6e-05, not 5.9999999999999995e-05
        old = old if isinstance(old, float | int | str) else None
        changes.append(RecipeChange(key=key, old=old, new=new, why=why, values=values))

    if data.last_ok is not None:
        kept = place(data, data.last_ok.path, data.last_ok.step)
        if kept.exists:
            change(
                "start_model", recipe.get("start_model"), kept.path, "from_last_ok", step=kept.step
            )
    if data.watching:
        change("mode", "watch", "guard", "was_watching")
    rate = peak_learning_rate(data)
    if rate and (cuts or data.outcome == "halted" or _ended_beyond(data)):
        new, why, values = _learning_rate(data, rate, cuts, levers.lr_factor)
        # A script of one's own has its trainer's arguments outside the recipe.
        key = "train.arguments.learning_rate" if data.run_by_recipe else "learning_rate"
        change(key, rate, new, why, **values)
        again = not any(c.key == "start_model" for c in changes)
        if again and data.run_by_recipe and new >= _LEAST_MADE_UP_FOR * rate:
            for name in ("max_steps", "num_train_epochs"):
                steps = data.trainer_arguments.get(name)
                if isinstance(steps, int | float) and steps > 0:
                    change(f"train.arguments.{name}", steps, 2 * steps, "more_steps")
                    break
    fraction = rehearsal.get("fraction")
    if data.kl_term and isinstance(fraction, float) and fraction < _MOST_FRACTION:
        change("rehearsal.fraction", fraction, _MOST_FRACTION, "fraction")
    weight = rehearsal.get("weight")
    at = conditions(data)
    if isinstance(weight, float | int) and levers.boost > 1:
        change("rehearsal.weight", weight, weight * levers.boost, "boost", factor=levers.boost)
    elif isinstance(weight, float | int) and data.outcome == "halted" and at and at.rehearsal_kl:
        kl = float(f"{at.rehearsal_kl:.3g}")
        change("rehearsal.weight", weight, weight * 2, "weight_low", kl=kl, step=at.step)
    every = data.recipe_section("looks").get("every_steps")
    judged = [k for k in data.looks if k.number > 0]
    bad = bool(judged) and judged[0].level in ("serious", "critical")
    if isinstance(every, int) and every > 1 and bad:
        new = max(1, every // 2)
        change(
            "looks.every_steps", every, new, "sooner", level=judged[0].level, step=judged[0].step
        )
    return tuple(changes)


def _learning_rate(
    data: RunData, rate: float, cuts: int, lowered: float
) -> tuple[float, str, dict[str, str | float]]:
    """The next peak learning rate, the code of the reason, and its values.

    Where the run broke the optimizer's own rate counts, not the recipe's peak: in a warm-up half the peak
    would only come to the same rate later.
    """
    at = conditions(data)
    step, actual = (at.step, at.learning_rate) if at else (0, None)
    values: dict[str, str | float] = {"cuts": cuts, "lowered": lowered, "step": step}
    if cuts and data.outcome != "halted" and not _ended_beyond(data):
        return rate * lowered, "lr_was_cut", values
    held = any(k.number > 0 and k.level == "ok" and k.step < step for k in data.looks)
    if actual and actual < 0.6 * rate:
        share = 100 * actual / rate
        values |= {"actual": float(f"{actual:.2g}"), "share": float(f"{share:.2g}")}
        return float(f"{actual * (0.5 if held else 0.1):.2g}"), "lr_at_break", values
    if cuts:
        return rate * lowered * 0.5, "lr_cuts_not_enough", values
    if not held:  # broken at the very first look: half is not known to be enough
        return rate * 0.1, "lr_far_too_high", values
    return (
        rate * 0.5,
        "lr_too_high" if data.outcome == "halted" else "lr_too_high_to_the_end",
        values,
    )


def _ended_beyond(data: RunData) -> bool:
    """Whether the newest look of a finished run shows drift."""
    return data.outcome == "finished" and data.last_look is not None and data.last_look.drifted


def next_recipe(
    data: RunData, changes: tuple[RecipeChange, ...], comments: list[str]
) -> str | None:
    """Return the run's recipe with the changes as YAML under comments; None without recipe or changes."""
    if not changes or not data.recipe or not data.run_by_recipe:
        return None
    return recipe_text(data.recipe, {change.key: change.new for change in changes}, comments)


def recipe_text(recipe: dict[str, Any], changes: Mapping[str, Any], comments: Sequence[str]) -> str:
    """Return a recipe of a ledger with dotted keys changed, as YAML under comments; secrets are left out and named."""
    changed: dict[str, Any] = json.loads(json.dumps(recipe))
    for key, new in changes.items():
        *above, last = key.split(".")
        section = changed
        for name in above:
            section = section.setdefault(name, {})
        section[last] = new
    left_out = [
        f"{key}: {HIDDEN}" for key in _without_hidden(changed)
    ]  # whoever has it sets it again
    head = "".join(f"# {line}\n" for line in [*comments, *left_out])
    return head + "\n" + yaml.safe_dump(changed, allow_unicode=True, sort_keys=False)


def _without_hidden(section: Any, above: str = "") -> list[str]:
    """Take the secrets that the ledger does not tell out of a recipe; return their keys."""
    if not isinstance(section, dict):
        return []
    hidden = [name for name, value in section.items() if value == HIDDEN]
    for name in hidden:
        del section[name]
    below = [_without_hidden(value, f"{above}{name}.") for name, value in section.items()]
    return [f"{above}{name}" for name in hidden] + [key for keys in below for key in keys]


def _used_up(data: RunData) -> bool:
    """Whether most rehearsal prompts had been seen when the run broke: else more of them change nothing."""
    at, items = conditions(data), data.started.get("rehearsal_items")
    if at is None or at.unique_prompts is None or not isinstance(items, int):
        return True
    return at.unique_prompts >= items / 2


def _weak_abilities(data: RunData) -> list[Weak]:
    """Abilities that fell furthest at the telling look, with the items the rehearsal set has for each.

    Those above ok; where no ability is tested alone, those whose pass rate fell by more than the margin.
    """
    look = telling_look(data)
    if look is None:
        return []
    counts = _rehearsal_items(data)
    named = [s.group for s in look.fallen[:_MOST_WEAK]]
    return [Weak(ability=a, items=None if counts is None else counts[a]) for a in named]


def _rehearsal_items(data: RunData) -> Counter[str] | None:
    """Items an ability; None where the file is gone, or holds other items than the run began with."""
    try:
        return Counter(item.ability for item in named_items(data, "rehearsal"))
    except (OSError, ValueError):
        return None
