"""The report of a run: `RUN/report.html`, one self-contained page, and `RUN/report.json`, its facts.

Built from the ledger, the answers of look 0 and of the newest look, and the red-line items, at any time
and in any state of the run; whatever is missing is said on the page. The live page is this page.
"""

import functools
import json
import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from pydantic_core import PydanticSerializationError

from guardrail.files import write_whole
from guardrail.judge.verdict import rank
from guardrail.report.differences import difference, pieces
from guardrail.report.facts import Report, gather
from guardrail.report.findings import detectable, telling_look
from guardrail.report.next_steps import NEXT_RECIPE, next_recipe
from guardrail.report.page import choose_sentences
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.phrases import Phrases, capital, number, score
from guardrail.report.page.table_charts import heat, interval_bar, shown_looks
from guardrail.report.page.texts import Language, language_of
from guardrail.report.page.timeline import timeline
from guardrail.report.run_data import RunData, read_run
from guardrail.report.worst_items import SHOWN_CHARACTERS

__all__ = ["build_report", "page_and_facts", "page_environment", "render_report"]

_TONES = {"roll_back": "bad", "abandon": "bad", "reject": "bad", "undecided": "caution"}
_STUDIED = range(270, 331)
"""Item counts for which the simulation of the shipped set speaks."""


def render_report(
    run: Path, *, language: Language | None = None, now: datetime | None = None
) -> str:
    """Return the page of a run folder in any state as HTML text; writes nothing.

    Cheap to call again: files are hashed once for each state they are in.

    Args:
        run: Folder of a guarded run.
        language: Of the page; by default the recipe's `language`.
        now: When the page is built; the age of the ledger is told against it.

    Raises:
        InputError: the folder holds no ledger.
    """
    return page_and_facts(read_run(run), language=language, now=now)[0]


def build_report(
    run: Path, *, language: Language | None = None, now: datetime | None = None
) -> Path:
    """Write `report.html` and `report.json` into a run folder and return the page's path.

    Where the ledger asks for another recipe it is written too, as `recipe.next.yaml`. Args and errors as in
    `render_report`.
    """
    data = read_run(run)
    page, report = page_and_facts(data, language=language, now=now)
    recipe = _next_recipe(data, report)
    if recipe is not None:
        write_whole(run / NEXT_RECIPE, recipe)
    else:
        (run / NEXT_RECIPE).unlink(missing_ok=True)
    write_whole(run / "report.json", _json(report) + "\n")
    write_whole(run / "report.html", page)
    return run / "report.html"


def page_and_facts(
    data: RunData,
    *,
    language: Language | None = None,
    now: datetime | None = None,
    live: Mapping[str, Any] | None = None,
) -> tuple[str, Report]:
    """Return the page and the facts it states.

    Args:
        data: The run.
        language: Of the page; by default the recipe's `language`.
        now: When the page is built; the age of the ledger is told against it.
        live: What `live.html.j2` needs where a server keeps the page up to date; None: a file.
    """
    chosen = language or language_of(data.recipe.get("language"))
    report = gather(data, chosen, now or datetime.now(timezone.utc))
    return _page(data, report, live), report


def _page(data: RunData, report: Report, live: Mapping[str, Any] | None) -> str:
    phrases = Phrases(report.language, one_look=data.one_look)
    look, telling = data.last_look, telling_look(data)
    groups = ["overall", *look.groups] if look else []
    rows = [s for g in groups if look and (s := look.stream("passed", g)) is not None]
    overall = look.stream("passed", "overall") if look else None
    judged = [k for k in data.looks if k.number > 0]
    sections = ["timeline", "heat", "abilities", "examples", "memorised", "actions"]
    sections += ["next", "blind", "reproduce", "glossary"]
    if data.one_look:  # there was no course to tell of
        sections = ["abilities", "examples", "memorised", "next", "blind", "reproduce", "glossary"]
    if not report.rehearsed_red_line_items:
        sections.remove("memorised")
    if report.repair is not None:
        sections.insert(0, "repaired")
    silent_s = (report.built_at - data.last_time).total_seconds() if data.last_time else 0.0
    studied = not data.one_look and (overall is None or overall.n in _STUDIED)
    calm = report.verdict.because.startswith("running")
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            report=report,
            p=phrases,
            t=phrases.t,
            sections=sections,
            tone=_TONES.get(report.verdict.recommendation, "calm" if calm else "good"),
            silent_s=None if live else silent_s,
            telling=telling,
            acted_before=telling is not None and any(a.seq < telling.seq for a in data.moves),
            worst_look=max(judged, key=lambda k: rank(k.level), default=None),
            first_look_step=judged[0].step if judged else None,
            repeated=(
                data.outcome == "halted"
                and look is not None
                and look.trigger == "repeat"
                and look.drifted
            ),
            suspects=list(look.suspects) if look else [],
            promise=_promise(data),
            unseen=_unseen(
                phrases, overall, any(s.tested for s in rows if s.group != "overall"), studied
            ),
            early_checkpoint=_early(data),
            like_the_study=overall is not None and studied,
            rows=rows,
            reach=max([0.1, *(abs(v) for s in rows for v in (s.low, s.high) if v is not None)]),
            shown=shown_looks(data),
            rehearsed=report.rehearsed_red_line_items,
            next_file=NEXT_RECIPE,
            shown_characters=SHOWN_CHARACTERS,
            live=live,
        )
    )


def _promise(data: RunData) -> dict[str, str]:
    """The whole run's error probabilities in percent, as its recipe has them."""
    drift = data.recipe_section("drift")

    def total(kind: str, *defaults: float) -> str:
        shares = [drift.get(f"{kind}_overall"), drift.get(f"{kind}_by_ability")]
        known = [s if isinstance(s, float) else d for s, d in zip(shares, defaults, strict=True)]
        return number(100 * sum(known))

    return {"warn": total("warn", 0.025, 0.025), "halt": total("halt", 0.0075, 0.0025)}


def _unseen(phrases: Phrases, overall: Any, ability_tested: bool, studied: bool) -> Any:
    """What this many items cannot see, in one sentence."""
    single = phrases.t["say"]["unseen_single" if ability_tested else "unseen_none"]
    if studied or overall is None:
        return phrases.say("say", "unseen_300", single=single)
    return phrases.say("say", "unseen_other", n=overall.n, drop=f"{detectable(overall):.0f}")


def _early(data: RunData) -> bool:
    """Whether the last ok checkpoint has at most a fifth of the training behind it."""
    return (
        data.last_ok is not None
        and data.planned_steps is not None
        and not data.inherited
        and 5 * data.last_ok.step <= data.planned_steps
    )


def _next_recipe(data: RunData, report: Report) -> str | None:
    step = next((s for s in report.next_steps if s.command and s.changes), None)
    if step is None:
        return None
    phrases = Phrases(report.language)
    comments = [phrases.t["recipe"]["head"], phrases.say("recipe", "run", command=step.command)]
    for change in step.changes:
        why = phrases.say("change_why", change.why, **phrases.change_values(change))
        old, new = number(change.old), number(change.new)
        comments.append(phrases.say("recipe", "change", key=change.key, old=old, new=new, why=why))
    plain = [" ".join(str(c.unescape()).split()) for c in comments]
    return next_recipe(data, step.changes, plain)


@functools.cache
def page_environment() -> jinja2.Environment:
    """Return the templates with what they use: escaped by default, and undefined values an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "page/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escape_controls"] = escape_controls
    environment.filters["quote"] = shlex.quote
    environment.filters["pretty"] = lambda value: json.dumps(value, ensure_ascii=False, indent=2)
    environment.globals |= {
        "capital": capital,
        "detectable": detectable,
        "difference": difference,
        "heat": heat,
        "interval_bar": interval_bar,
        "number": number,
        "sentences": choose_sentences,
        "pieces": pieces,
        "score": score,
        "timeline": timeline,
    }
    return environment


def _json(report: Report) -> str:
    try:
        return report.model_dump_json(indent=1)
    except (
        PydanticSerializationError
    ):  # a lone surrogate somewhere; pydantic's writer knows only UTF-8
        return json.dumps(report.model_dump(mode="json"), indent=1)
