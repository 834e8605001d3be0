"""The report of a run: `RUN/report.html`, one self-contained page, and `RUN/report.json`, its facts.

Built from the ledger, the answers of look 0 and of the last look, and the red-line items; at any
time, whatever is missing is said on the page. All text a reader sees stands in the template.

Keys of report.json: `schema` (1), `built_at`, `run`, `name`, `mode`, `outcome`, `step`,
`planned_steps`; `verdict` (`advice` keep | roll_back | give_up | mend | wait, `because`, `level`,
`last_measured` level and step, `last_ok_checkpoint`); `key_figures` (mean ability of base and now,
domain loss, levers, seconds); `looks` with every stream, `actions`, `failures`, `checkpoints`,
`rewinds`, `logs`, `tripwires`; `worst_items` and `items_problems`; `next_steps` (`code` with its
values); `reproduce` (recipe, versions, SHA-256 of files as they are now).
"""

import difflib
import functools
import hashlib
import json
import math
import os
import shlex
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from guardrail.watch import charts
from guardrail.watch.run_data import UNKNOWN, LookFacts, RunData, read_run, worst_items

__all__ = ["Advice", "advise", "build_report"]

_SILENT_AFTER_S = 300.0
_HASH_AT_MOST_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with the run, why, and the level both badge and sentence are made from."""

    advice: str
    """`keep`, `roll_back`, `give_up`, `mend` (repair, then resume) or `wait`."""
    because: str
    level: str
    """ok … critical, or `unknown` where nothing valid says so."""


def advise(data: RunData, silent_s: float) -> Advice:
    """Return the one verdict of a run.

    Args:
        data: The run.
        silent_s: Seconds since the ledger's last record.
    """
    level, look = data.level, data.last_look
    drifted = look is not None and look.level != "ok"
    away = "roll_back" if data.last_ok is not None else "give_up"
    if data.outcome == "empty":
        return Advice("mend", "nothing_recorded", UNKNOWN)
    if data.outcome == "halted":
        if any(a.kind == "halt" and a.carried_out for a in data.actions):
            return Advice(away, "halted_on_drift", level)
        return Advice(away if drifted else "mend", "halted_on_failure", level)
    if data.outcome == "crashed":
        return _advise_crashed(data, away, drifted)
    if data.outcome == "running":
        if silent_s > max(_SILENT_AFTER_S, 5 * data.longest_silence_s):
            return Advice(away if drifted else "mend", "silent", level)
        unopposed = data.watching and level in ("serious", "critical")
        because = "running_drifted" if level in ("warn", "serious", "critical") else "running"
        return Advice(away if unopposed else "wait", because, level)
    at_the_end = look is not None and look.step >= data.step and look.number > 0
    if level == UNKNOWN or not at_the_end:
        return Advice(away if drifted else "mend", "finished_unmeasured", UNKNOWN)
    if level != "ok":
        return Advice(away, "finished_drifted", level)
    recovered = any(k.level != "ok" for k in data.looks)
    return Advice("keep", "finished_recovered" if recovered else "finished_ok", level)


def _advise_crashed(data: RunData, away: str, drifted: bool) -> Advice:
    look = data.last_look
    if look is not None and look.number == 0:
        if look.failed_pipeline_check:
            return Advice("mend", "pipeline", UNKNOWN)
        if look.inherited and drifted:
            return Advice("mend", "inherited", data.level)
    return Advice(away if drifted and look and look.number else "mend", "crashed", data.level)


def next_steps(data: RunData, advice: Advice) -> list[dict[str, Any]]:
    """Return what to do next, in order: a code the page has words for, and its values."""
    run = data.run.resolve()
    recipe = run / "recipe.resolved.json"
    resume = f"guardrail run {shlex.quote(str(recipe))} --out {shlex.quote(str(run))} --resume"
    steps: list[dict[str, Any]] = []

    def add(code: str, **values: Any) -> None:
        steps.append({"code": code, **values})

    last = data.checkpoints[-1] if data.checkpoints else None
    if advice.advice == "keep":
        add("use_final", path=_on_disk(data, last["path"]) if last else None)
        add("sealed_check")
    if advice.advice == "mend":
        if advice.because == "finished_unmeasured":
            add("measure_end", path=_on_disk(data, last["path"]) if last else None)
        elif advice.because == "pipeline":
            add("rebuild_anchors", command=f"guardrail anchor {shlex.quote(str(recipe))} --rebuild")
        elif advice.because == "inherited":
            add("judge_new")
        elif advice.because != "nothing_recorded":
            add("repair_and_resume", command=resume)
    if advice.advice == "wait":
        add("look_again", command=f"guardrail status {shlex.quote(str(run))}")
    if advice.advice == "roll_back" and data.last_ok is not None:
        add("use_last_ok", path=_on_disk(data, data.last_ok["path"]), step=data.last_ok["step"])
    if advice.advice in ("roll_back", "give_up"):
        add("run_again", changes=_recipe_changes(data))
        weak = _weak_abilities(data)
        if weak:
            add("more_rehearsal", abilities=weak)
    return steps


def _recipe_changes(data: RunData) -> list[dict[str, Any]]:
    """Recipe lines for the next attempt, each with the evidence that asks for it."""
    recipe, changes = data.recipe, []
    arguments = (recipe.get("train") or {}).get("arguments") or {}
    rehearsal = recipe.get("rehearsal") or {}
    cuts = sum(a.kind == "cut_lr" and a.carried_out for a in data.actions)

    def change(key: str, old: Any, new: Any, why: str, **values: Any) -> None:
        changes.append({"key": key, "old": old, "new": new, "why": why, **values})

    if data.last_ok is not None:
        start = _on_disk(data, data.last_ok["path"])["path"]
        change("start_model", recipe.get("start_model"), start, "from_last_ok")
    if data.watching:
        change("mode", "watch", "guard", "was_watching")
    rate = arguments.get("learning_rate")
    if isinstance(rate, float | int) and (cuts or data.outcome == "halted"):
        factor = min(0.5, data.levers["lr_factor"])
        why = "lr_was_cut" if cuts else "lr_too_high"
        change("train.arguments.learning_rate", rate, rate * factor, why, cuts=cuts)
    fraction = rehearsal.get("fraction")
    if isinstance(fraction, float) and fraction < 0.05:
        change("rehearsal.fraction", fraction, 0.05, "fraction")
    boost = data.levers["boost"]
    if boost > 1 and rehearsal.get("weight"):
        change("rehearsal.weight", rehearsal["weight"], rehearsal["weight"] * boost, "boost")
    every = (recipe.get("looks") or {}).get("every_steps")
    first_bad = next((k for k in data.looks if k.level in ("serious", "critical")), None)
    judged = [k for k in data.looks if k.number > 0]
    if isinstance(every, int) and every > 1 and judged and first_bad is judged[0]:
        new = max(1, every // 2)
        change("looks.every_steps", every, new, "sooner", level=judged[0].level)
    return changes


def _weak_abilities(data: RunData) -> list[dict[str, Any]]:
    """Abilities above ok at the last look with the rehearsal items the recipe's set has for each."""
    look = data.last_look
    alarmed = dict.fromkeys(s.group for s in look.alarmed if s.group != "overall") if look else {}
    path = Path((data.recipe.get("sets") or {}).get("rehearsal") or "")
    counts: Counter[str] | None = None
    if path.is_file():
        counts = Counter()
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    counts[str(json.loads(line)["ability"])] += 1
                except (ValueError, KeyError, TypeError):
                    continue
    return [{"ability": a, "items": None if counts is None else counts[a]} for a in alarmed]


def _on_disk(data: RunData, path: str) -> dict[str, Any]:
    """A checkpoint's absolute path and whether it is still there."""
    found = [p for p in (data.run / path, Path(path)) if p.is_dir()]
    return {"path": os.path.abspath(found[0] if found else data.run / path), "exists": bool(found)}


def _mean_ability(look: LookFacts | None, value: str) -> float | None:
    """The mean pass rate over abilities, each counting once; `value` is `base` or `now`."""
    groups = (look.groups or ["overall"]) if look else []
    streams = [look.stream("passed", group) for group in groups] if look else []
    rates = [getattr(s, value) for s in streams if s is not None]
    known = [r for r in rates if r is not None]
    return math.fsum(known) / len(known) if known else None


def _key_figures(data: RunData) -> dict[str, Any]:
    weights = data.kl_weights
    before = [r["held_out"] for r in data.domain_loss if r["step"] == 0]
    after = [r["held_out"] for r in data.domain_loss if r["step"] > 0]
    seconds = dict(data.closing["seconds"]) if data.closing and "seconds" in data.closing else {}
    train = seconds.pop("train", None)
    if not seconds:  # no closing record: what looks and tripwires say of themselves
        seconds["looks"] = sum(look.seconds or 0.0 for look in data.looks)
        seconds["tripwires"] = sum(r.get("seconds") or 0.0 for r in data.tripwires)
    spent = {what: s for what, s in seconds.items() if s}
    return {
        "mean_ability_base": _mean_ability(data.last_look, "base"),
        "mean_ability_now": _mean_ability(data.last_look, "now"),
        "domain_loss_before": before[-1] if before else None,
        "domain_loss_after": after[-1] if after else None,
        "actions": len(data.actions),
        "actions_carried_out": sum(a.carried_out for a in data.actions),
        "kl_weight_start": weights[0][1] if weights else None,
        "kl_weight_now": weights[-1][1] if weights else None,
        **data.levers,
        "guard_seconds": spent,
        # After a resume the training seconds cover only the last stretch.
        "guard_share": sum(spent.values()) / train if train and not data.rewinds else None,
    }


def _reproduce(data: RunData) -> dict[str, Any]:
    recipe = data.recipe
    sets = recipe.get("sets") or {}
    files = {
        "ledger": data.run / "ledger.jsonl",
        "recipe": data.run / "recipe.resolved.json",
        "red_line": sets.get("red_line"),
        "rehearsal": sets.get("rehearsal"),
        "training_data": (recipe.get("train") or {}).get("data"),
        "anchors": Path(recipe["anchors"]) / "manifest.json" if recipe.get("anchors") else None,
    }
    return {
        "recipe": recipe,
        "versions": data.started.get("versions") or {},
        "seed": data.started.get("seed"),
        "command": f"guardrail run {shlex.quote(str(data.run.resolve() / 'recipe.resolved.json'))}",
        "files": [
            {"what": what, "path": str(path), "sha256": _sha256(Path(path))}
            for what, path in files.items()
            if path
        ],
        "kl_self_test": data.kl_self_test,
        **{k: data.started.get(k) for k in ("training_rows", "red_line_items", "rehearsal_items")},
    }


def _sha256(path: Path) -> str | None:
    """The file's digest now; None where it is gone, `too large` where it would take long."""
    if not path.is_file():
        return None
    if path.stat().st_size > _HASH_AT_MOST_BYTES:
        return "too large"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def inert(text: object) -> str:
    """Return text in which control, bidi, invisible and surrogate characters are visible and dead.

    Line feeds and tabs stay. Escaping for HTML is the template's own.
    """
    shown = []
    for c in str(text).replace("\r\n", "\n"):
        if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            shown.append(c)
        else:
            shown.append(chr(0x2400 + ord(c)) if ord(c) < 0x20 else f"⟨U+{ord(c):04X}⟩")
    return "".join(shown)


def difference(base: str, now: str) -> tuple[Markup, Markup]:
    """Return both texts, inert and escaped, the characters only one of them has in `<mark>`.

    Texts that share less than a third are left unmarked: there the marks would say nothing.
    """
    texts = (inert(base), inert(now))
    matcher = difflib.SequenceMatcher(None, *texts, autojunk=False)
    if matcher.ratio() < 1 / 3:
        return escape(texts[0]), escape(texts[1])
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    for tag, a, b, c, d in matcher.get_opcodes():
        for side, piece in zip(sides, (texts[0][a:b], texts[1][c:d]), strict=True):
            if piece:
                side.append(
                    escape(piece) if tag == "equal" else Markup("<mark>{}</mark>").format(piece)
                )
    return Markup("").join(sides[0]), Markup("").join(sides[1])


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inert"] = inert
    environment.filters["pretty"] = lambda value: json.dumps(value, ensure_ascii=False, indent=2)
    environment.globals |= {"charts": charts, "difference": difference, "exp": math.exp}
    return environment


def build_report(run: Path, *, now: datetime | None = None) -> Path:
    """Write `report.html` and `report.json` into a run folder and return the page's path.

    Args:
        run: Folder of a guarded run in any state.
        now: When the page is built; the age of the ledger is told against it.

    Raises:
        InputError: the folder holds no ledger, or a line before its last one is damaged.
    """
    data = read_run(run)
    built_at = now or datetime.now(timezone.utc)
    silent_s = (built_at - data.last_time).total_seconds() if data.last_time else 0.0
    advice = advise(data, silent_s)
    items, problems = worst_items(data)
    look = data.last_look
    facts: dict[str, Any] = {
        "schema": 1,
        "built_at": built_at.isoformat(timespec="seconds"),
        **{k: getattr(data, k) for k in ("name", "mode", "outcome", "step", "planned_steps")},
        "run": str(run.resolve()),
        "verdict": asdict(advice)
        | {
            "last_measured": {"level": look.level, "step": look.step} if look else None,
            "last_ok_checkpoint": _on_disk(data, data.last_ok["path"])
            | {"step": data.last_ok["step"]}
            if data.last_ok
            else None,
        },
        "key_figures": _key_figures(data),
        "looks": [asdict(k) for k in data.looks],
        "actions": [asdict(a) for a in data.actions],
        "failures": list(data.failures),
        "checkpoints": list(data.checkpoints),
        "rewinds": list(data.rewinds),
        "logs": list(data.logs),
        "tripwires": list(data.tripwires),
        "worst_items": [asdict(i) for i in items],
        "items_problems": problems,
        "next_steps": next_steps(data, advice),
        "reproduce": _reproduce(data),
    }
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            advice=advice,
            facts=facts,
            items=items,
            silent_s=silent_s,
            built_at=built_at,
            shown=charts.shown_looks(data),
        )
    )
    _write(run / "report.json", json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    _write(run / "report.html", page)
    return run / "report.html"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    partial.replace(path)
