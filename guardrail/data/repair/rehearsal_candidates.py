"""Rehearsal items for abilities that drifted: grown from the run's own rehearsal items, never from judged ones.

Self-Instruct grows tasks out of an ability's rehearsal items, Evol-Instruct makes them harder and rarer, and the model answers
what is left plainly. All by the stages that `guardrail data generate` has; what is added here is what a rehearsal item of an
ability must be: of that ability, new to the rehearsal set, and near no judged item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from guardrail.data.chat_endpoint import Answerer
from guardrail.data.generate.answers import Teacher, answers
from guardrail.data.generate.evol_instruct import evol_instruct
from guardrail.data.generate.self_instruct import SelfInstructOptions, self_instruct
from guardrail.data.judged_text import WITHHELD, JudgedText
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, row_item
from guardrail.data.select.row_faults import drop_faulty, silenced
from guardrail.data.stage_folder import Made
from guardrail.sets.abilities import guess_ability
from guardrail.sets.items import Item
from guardrail.sets.lint.duplicates import NearDuplicates, hash64, plain
from guardrail.sets.read.filters import FILTERS, first_reason

__all__ = ["rehearsal_candidates", "seed_rows"]

_OTHER = "speaks for another ability"
_NEAR = "near an item of the rehearsal set or another candidate"
_OPENING = "boilerplate opening"
"""No fault here: a gold is what the base says, and 抱歉 is how it refuses."""
_MORE_THAN_KEPT = 2
"""Prompts made for one that is kept: some are cut, some are near what is there."""


def seed_rows(rehearsal: Sequence[Item], ability: str) -> list[DataRow]:
    """Return an ability's rehearsal items as rows without an answer; those of several turns mean little alone and are left out."""
    return [
        DataRow(
            (*item.chat(), {"role": "assistant", "content": ""}),
            {
                "method": "rehearsal",
                "source": item.source,
                "licence": item.licence,
                "ability": ability,
                "item": item.id,
                **({"task": item.task} if item.task else {}),
            },
        )
        for item in rehearsal
        if item.ability == ability and sum(m.role == "user" for m in item.messages) == 1
    ]


def rehearsal_candidates(
    answerer: Answerer,
    prompts: Prompts,
    rehearsal: Sequence[Item],
    judged: JudgedText,
    judged_prompts: Sequence[str],
    abilities: Sequence[str],
    *,
    model: str,
    rows: int,
    rounds: int,
    run: Mapping[str, Any],
    seed: int = 0,
) -> Made:
    """Return new rehearsal rows of each ability with the model's plain answers, and what was dropped with the reason.

    An ability with fewer seeds than Self-Instruct shows is evolved from its seeds alone; one without any has no rows, and the
    facts say so.

    Args:
        answerer: The gold base.
        prompts: Templates.
        rehearsal: The run's rehearsal items.
        judged: Keeps the text of judged items out.
        judged_prompts: These items' prompts, for near duplicates too short for it.
        abilities: Those that drifted.
        model: The answerer's name, for provenance.
        rows: Rows wanted an ability.
        rounds: Of Evol-Instruct, 0 for none.
        run: What provenance says of the run.
        seed: Of draws and requests.
    """
    made = Made()
    against = _Known(rehearsal, judged_prompts)
    facts: dict[str, Any] = {}
    for ability in abilities:
        seeds = judged.without_judged_rows(seed_rows(rehearsal, ability))
        before = len(made.rows)
        if seeds:
            grown = _grown(answerer, prompts, seeds, made, model, rows, rounds, seed)
            items = [row_item(row) for row in seeds]
            # The measure is the ability's own seeds: what holds of one of them is no fault of a candidate.
            allowed = frozenset(name for name, holds in FILTERS.items() if any(map(holds, items)))
            fitting = _fitting(grown, ability, seeds, allowed, against, judged, made)
            said = answers(
                [Teacher(model, answerer)], answerer, prompts, fitting, how="plain", seed=seed
            )
            made.dropped += said.dropped
            _keep(said.rows, fitting, allowed, made, ability, rows, run)
        facts[ability] = {"seeds": len(seeds), "kept": len(made.rows) - before}
    made.facts["abilities"] = facts
    return made


def _grown(
    answerer: Answerer,
    prompts: Prompts,
    seeds: Sequence[DataRow],
    made: Made,
    model: str,
    rows: int,
    rounds: int,
    seed: int,
) -> list[DataRow]:
    """What the two generators make of an ability's seeds; the seeds are not among it."""
    options = SelfInstructOptions(_MORE_THAN_KEPT * rows, seed)
    begun: list[DataRow] = []
    if len(seeds) >= options.seeds_shown:
        told = self_instruct(answerer, prompts, seeds, options, model=model)
        begun, made.dropped = told.rows, [*made.dropped, *told.dropped]
    if not rounds:
        return begun
    first = begun or list(seeds)
    evolved = evol_instruct(
        answerer, answerer, prompts, first, model=model, rounds=rounds, seed=seed
    )
    made.dropped += evolved.dropped
    grown = [row for row in evolved.rows if begun or row.provenance["round"] > 0]
    # A child is often near its parent: the child stays.
    return sorted(grown, key=lambda row: -row.provenance["round"])


class _Known:
    """What a candidate may not be near: the judged items, the rehearsal set, and the candidates before it."""

    def __init__(self, rehearsal: Sequence[Item], judged: Sequence[str]) -> None:
        self._judged = [plain(text) for text in judged]
        self._own = [plain(item.prompt) for item in rehearsal]
        self._near_judged = NearDuplicates(self._judged.__getitem__)
        self._near_own = NearDuplicates(self._own.__getitem__)
        for index, texts in ((self._near_judged, self._judged), (self._near_own, self._own)):
            for number, text in enumerate(texts):
                index.keep(number, text)

    def meets(self, prompt: str) -> str | None:
        """Why a prompt is not new; one that is, is known from now on."""
        text = plain(prompt)
        if self._near_judged.near(text):
            return WITHHELD
        if self._near_own.near(text):
            return _NEAR
        self._own.append(text)
        self._near_own.keep(len(self._own) - 1, text)
        return None


def _fitting(
    rows: Sequence[DataRow],
    ability: str,
    seeds: Sequence[DataRow],
    allowed: frozenset[str],
    against: _Known,
    judged: JudgedText,
    made: Made,
) -> list[DataRow]:
    """Rows fit to be rehearsal items of the ability, whose words speak for none but those that its seeds' words speak for."""
    spoken = {guess_ability(row.question, None) for row in seeds} | {ability, "instruction"}
    fitting = []
    for row in rows:
        asked = replace(
            row, messages=(*row.messages[:-1], {"role": "assistant", "content": ""})
        )  # made beside the prompt; the plain answer is asked for below
        reason = first_reason(row_item(asked), allowed)
        if reason is None and guess_ability(row.question, None) not in spoken:
            reason = _OTHER
        if reason is None and judged.inside(row.prompt):
            reason = WITHHELD
        reason = reason or against.meets(row.prompt)
        if reason is None:
            fitting.append(row)
        elif reason == WITHHELD:
            judged.counts["rows made"] += 1
            made.drop(reason, silenced(row))
        else:
            made.drop(reason, row)
    return fitting


def _keep(
    rows: Sequence[DataRow],
    grown: Sequence[DataRow],
    allowed: frozenset[str],
    made: Made,
    ability: str,
    wanted: int,
    run: Mapping[str, Any],
) -> None:
    """Keep so many of the answered rows that are sound, drawn by a hash of what they ask."""
    origins = {row.id: row for row in grown}
    named = [_named(row, origins[row.provenance["parents"][0]], ability, run) for row in rows]
    sound = drop_faulty(named, allowed | {_OPENING})
    made.dropped += sound.dropped
    sound.rows.sort(key=lambda row: hash64(row.prompt))
    made.rows += sound.rows[:wanted]
    for row in sound.rows[wanted:]:
        made.drop("more than wanted", row)


def _named(row: DataRow, origin: DataRow, ability: str, run: Mapping[str, Any]) -> DataRow:
    """The row with what is to be told of it: which run it repairs, which ability, and how it was made."""
    known = origin.provenance
    kept = {name: known[name] for name in ("operation", "round", "parents") if name in known}
    return replace(
        row,
        provenance={
            "method": "repair",
            "ability": ability,
            "run": dict(run),
            "generator": known["method"],
            **kept,
            "source": "repair",
            "licence": "LicenseRef-generated",
            "model": row.provenance["model"],
        },
        scores=dict(origin.scores),
    )
