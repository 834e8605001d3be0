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
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from guardrail.watch import charts
from guardrail.watch.advice import advise, next_steps, on_disk
from guardrail.watch.inert import inert
from guardrail.watch.run_data import LookFacts, RunData, read_run
from guardrail.watch.worst_items import worst_items

__all__ = ["build_report", "page_and_facts", "page_environment", "render_report"]

_HASH_AT_MOST_BYTES = 512 * 2**20


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
        "red_line_sources": data.started.get("red_line_sources") or {},
        "rehearsal_sources": data.started.get("rehearsal_sources") or {},
    }


def _sha256(path: Path) -> str | None:
    """The file's digest now; None where it is gone, `too large` where it would take long."""
    if not path.is_file():
        return None
    stat = path.stat()
    if stat.st_size > _HASH_AT_MOST_BYTES:
        return "too large"
    return _digest(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[int, int, int]) -> str:
    """The digest of a file in this state, which a page built again and again computes once."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
def page_environment() -> jinja2.Environment:
    """Return the templates with what they use: escaped by default, and undefined values an error."""
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


def render_report(run: Path, *, now: datetime | None = None) -> str:
    """Return the page of a run folder in any state as HTML text; writes nothing.

    Args:
        run: Folder of a guarded run.
        now: When the page is built; the age of the ledger is told against it.

    Raises:
        InputError: the folder holds no ledger, or a line before its last one is damaged.
    """
    return page_and_facts(read_run(run), now=now)[0]


def build_report(run: Path, *, now: datetime | None = None) -> Path:
    """Write `report.html` and `report.json` into a run folder and return the page's path.

    Args and errors as in `render_report`.
    """
    data = read_run(run)
    page, facts = page_and_facts(data, now=now)
    facts |= {
        "looks": [asdict(k) for k in data.looks],
        "actions": [asdict(a) for a in data.actions],
        "failures": list(data.failures),
        "checkpoints": list(data.checkpoints),
        "rewinds": list(data.rewinds),
        "logs": list(data.logs),
        "tripwires": list(data.tripwires),
    }
    _write(run / "report.json", json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    _write(run / "report.html", page)
    return run / "report.html"


def page_and_facts(
    data: RunData, *, now: datetime | None = None, live: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the page and the facts it states, without the run's whole history.

    Args:
        data: The run.
        now: When the page is built; the age of the ledger is told against it.
        live: What `live.html.j2` needs where a server keeps the page up to date; None: a file.
    """
    built_at = now or datetime.now(timezone.utc)
    silent_s = (built_at - data.last_time).total_seconds() if data.last_time else 0.0
    advice = advise(data, silent_s)
    items, problems = worst_items(data)
    look = data.last_look
    facts: dict[str, Any] = {
        "schema": 1,
        "built_at": built_at.isoformat(timespec="seconds"),
        **{k: getattr(data, k) for k in ("name", "mode", "outcome", "step", "planned_steps")},
        "run": str(data.run.resolve()),
        "verdict": asdict(advice)
        | {
            "last_measured": {"level": look.level, "step": look.step} if look else None,
            "last_ok_checkpoint": on_disk(data, data.last_ok["path"])
            | {"step": data.last_ok["step"]}
            if data.last_ok
            else None,
        },
        "key_figures": _key_figures(data),
        "worst_items": [asdict(i) for i in items],
        "items_problems": problems,
        "next_steps": next_steps(data, advice),
        "reproduce": _reproduce(data),
    }
    page = (
        page_environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            advice=advice,
            facts=facts,
            items=items,
            silent_s=silent_s,
            built_at=built_at,
            shown=charts.shown_looks(data),
            live=live,
        )
    )
    return page, facts


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    partial.replace(path)
