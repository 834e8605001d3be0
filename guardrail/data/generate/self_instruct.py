"""Self-Instruct: a pool of tasks that grows by what the model makes of it and the filters let through.

Wang et al. (2023), "Self-Instruct: Aligning Language Models with Self-Generated Instructions" (arXiv 2212.10560). A loop:
tasks drawn from seeds and survivors → new instructions → the model says whether each is a classification task →
classification output-first (labels, then an input for each), others input-first → filters → survivors return to the pool.
Of eight tasks shown six are seeds and two survivors, as in the paper.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import Indel

from guardrail.data.chat_endpoint import Answerer, Reply, user_says
from guardrail.data.diversity import Quotas, diversity, next_cell, wording
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import NEAR, plain
from guardrail.sets.read.filters import opens_with_template

__all__ = ["SelfInstructOptions", "instruction_fault", "self_instruct"]

SHORTEST, LONGEST = 4, 300
"""Characters an instruction may have."""
LONGEST_OUTPUT = 4000

_MEDIA = re.compile(
    r"\b(?:images?|pictures?|photos?|graphs?|charts?|diagrams?|videos?|audios?|files?)\b|图片|图像|图表|照片|截图|画一[张幅]|"
    r"视频|音频|录音|链接|网址|网页|附件|折线图|柱状图|饼图|示意图|思维导图",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^\s*(?:\d{1,3})\s*[.、．)）:：]\s*(.+?)\s*$", re.MULTILINE)
_NOTHING = re.compile(r"[（(<\[“\"]*(?:无|没有|无输入|无需输入)[）)>\]”\"]*。?")
_OPENS_ODDLY = re.compile(r"\A[^\w一-鿿“《「（(【]")


@dataclass(frozen=True, slots=True)
class SelfInstructOptions:
    """How far and how the loop goes."""

    rows: int
    """It ends when there are so many."""
    seed: int = 0
    wanted_each: int = 8
    """New instructions a request."""
    seeds_shown: int = 6
    survivors_shown: int = 2
    requests_a_round: int = 4
    most_idle_rounds: int = 3
    """It also ends after so many rounds in a row in which nothing survived."""
    quotas: Quotas = field(default_factory=dict)
    """What is asked for; empty asks for nothing in particular."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A new instruction on its way."""

    instruction: str
    cell: dict[str, str]
    round: int
    parents: tuple[str, ...]


def self_instruct(
    answerer: Answerer,
    prompts: Prompts,
    seeds: Sequence[DataRow],
    options: SelfInstructOptions,
    *,
    model: str,
    on_round: Callable[[int, int], None] = lambda number, rows: None,
) -> Made:
    """Return new rows, none of the seeds among them, and what was dropped with the reason.

    Args:
        answerer: The model that makes everything.
        prompts: Templates.
        seeds: 175 in the paper; at least `seeds_shown`.
        options: How far it goes.
        model: Its name, for provenance.
        on_round: Told the round and how many rows there are.

    Raises:
        InputError: fewer seeds than are shown.
    """
    if len(seeds) < options.seeds_shown:
        raise InputError(
            f"Self-Instruct shows {options.seeds_shown} seeds at a time, got {len(seeds)}; write more"
        )
    own = [str(row.provenance.get("instruction") or row.question) for row in seeds]
    survivors: list[str] = []
    pool = [plain(text) for text in own]
    made, given = Made(), defaultdict[str, Counter[str]](Counter)
    number = idle = 0
    while len(made.rows) < options.rows and idle < options.most_idle_rounds:
        drafts = _new_instructions(answerer, prompts, own, survivors, options, given, number)
        fresh = _filtered(drafts, pool, made, model)
        kept = _instances(answerer, prompts, fresh, made, options, model)
        for draft in fresh:
            if draft.instruction in kept:  # survivors return to the pool
                survivors.append(draft.instruction)
                pool.append(plain(draft.instruction))
        idle = 0 if kept else idle + 1
        number += 1
        on_round(number, len(made.rows))
    surplus, made.rows = made.rows[options.rows :], made.rows[: options.rows]
    for row in surplus:
        made.drop("more than wanted", row)
    made.facts = {
        "rounds": number,
        "pool": len(pool),
        "classification_tasks": sum(bool(row.provenance["classification"]) for row in made.rows),
        "diversity": diversity(made.rows),
    }
    return made


def _new_instructions(
    answerer: Answerer,
    prompts: Prompts,
    seeds: Sequence[str],
    survivors: Sequence[str],
    options: SelfInstructOptions,
    given: defaultdict[str, Counter[str]],
    number: int,
) -> list[_Draft]:
    """What the model adds to some tasks of the pool, a request each."""
    draw = random.Random(f"{options.seed}/{number}")
    requests, cells, shown_each = [], [], []
    for k in range(options.requests_a_round):
        later = draw.sample(list(survivors), min(options.survivors_shown, len(survivors)))
        first = min(len(seeds), options.seeds_shown + options.survivors_shown - len(later))
        shown = [*draw.sample(list(seeds), first), *later]
        draw.shuffle(shown)
        cell = next_cell(options.quotas, given)
        for axis, value in cell.items():
            given[axis][value] += 1
        text = prompts(
            "self-instruct-tasks",
            examples=shown,
            wanted=options.wanted_each,
            cell=wording(options.quotas, cell),
        )
        requests.append(
            user_says(text, "instructions", seed=options.seed + number * 1000 + k, temperature=0.9)
        )
        cells.append(cell)
        shown_each.append(tuple(shown))
    return [
        _Draft(text, cell, number, shown)
        for reply, cell, shown in zip(answerer(requests), cells, shown_each, strict=True)
        for text in _listed(reply, options.wanted_each)
    ]


def _listed(reply: Reply, wanted: int) -> list[str]:
    """The numbered lines of a reply; the last one of a reply that was cut is not whole."""
    lines = [match[1].strip() for match in _NUMBERED.finditer(reply.text)]
    if reply.finish_reason == "length":
        lines = lines[:-1]
    return lines[:wanted]


def instruction_fault(instruction: str, pool: Sequence[str]) -> str | None:
    """Return why an instruction does not come into the pool, `None` if it does.

    ROUGE-L is taken against every task of the pool, without candidates or sampling.

    Args:
        instruction: As the model wrote it.
        pool: `plain` text of every task in the pool.
    """
    if not SHORTEST <= len(instruction) <= LONGEST:
        return "instruction too short or too long"
    if _OPENS_ODDLY.search(instruction):
        return "instruction opens with a sign"
    if _MEDIA.search(instruction):
        return "needs media the model cannot see"
    bare = plain(instruction)
    if bare in set(pool):
        return "exact repeat"
    found = process.extractOne(
        bare, pool, scorer=Indel.normalized_similarity, processor=None, score_cutoff=NEAR
    )
    return None if found is None else "ROUGE-L 0.7 or more with a task of the pool"


def _filtered(drafts: Sequence[_Draft], pool: list[str], made: Made, model: str) -> list[_Draft]:
    """Drafts without fault, compared with the pool and with one another."""
    fresh: list[_Draft] = []
    known = list(pool)
    for draft in drafts:
        fault = instruction_fault(draft.instruction, known)
        if fault is None:
            fresh.append(draft)
            known.append(plain(draft.instruction))
        else:
            made.drop(fault, _row(draft, "", "", None, model))
    return fresh


def _instances(
    answerer: Answerer,
    prompts: Prompts,
    drafts: Sequence[_Draft],
    made: Made,
    options: SelfInstructOptions,
    model: str,
) -> set[str]:
    """Give each instruction its instances; return the instructions of which one is kept at least."""
    asked = [
        user_says(
            prompts("self-instruct-classify", instruction=d.instruction),
            "classification",
            temperature=0.0,
            max_tokens=8,
        )
        for d in drafts
    ]
    classes = [_says_yes(reply) for reply in answerer(asked)]
    names = {True: "self-instruct-output-first", False: "self-instruct-input-first"}
    requests = [
        user_says(
            prompts(names[bool(c)], instruction=d.instruction),
            "instances",
            seed=options.seed,
            max_tokens=2048,
        )
        for d, c in zip(drafts, classes, strict=True)
    ]
    kept: set[str] = set()
    for draft, is_class, reply in zip(drafts, classes, answerer(requests), strict=True):
        if is_class is None:
            made.drop(
                "the model did not say whether it is a classification task",
                _row(draft, "", "", None, model),
            )
            continue
        pairs = _pairs(reply, output_first=is_class)
        if not pairs:
            made.drop("no instance in the reply", _row(draft, "", reply.text, is_class, model))
        outputs_of = defaultdict[str, set[str]](set)
        for given, output in pairs:
            outputs_of[plain(given)].add(plain(output))
        seen: set[tuple[str, str]] = set()
        for given, output in pairs:
            row = _row(draft, given, output, is_class, model)
            fault = _instance_fault(draft.instruction, given, output)
            if fault is None and len(outputs_of[plain(given)]) > 1:
                fault = "same input, different outputs"
            if fault is None and (plain(given), plain(output)) in seen:
                fault = "exact repeat"
            if fault is not None:
                made.drop(fault, row)
                continue
            seen.add((plain(given), plain(output)))
            made.rows.append(row)
            kept.add(draft.instruction)
    return kept


def _says_yes(reply: Reply) -> bool | None:
    said = reply.text.strip().lstrip('“"')
    return True if said.startswith("是") else False if said.startswith(("否", "不是")) else None


def _pairs(reply: Reply, *, output_first: bool) -> list[tuple[str, str]]:
    """(input, output) of each instance; an instance that was cut is left out."""
    first, second = ("类别", "输入") if output_first else ("输入", "输出")
    mark = re.compile(
        rf"^\s*(?:\*\*)?(?:例子?\s*\d+\s*[.、:：]?\s*)?{first}(?:\*\*)?\s*[:：]", re.MULTILINE
    )
    divider = re.compile(rf"^\s*(?:\*\*)?{second}(?:\*\*)?\s*[:：]", re.MULTILINE)
    if reply.finish_reason not in ("stop", "length"):
        return []  # of a withheld reply single lines are left, which make no instance
    blocks = mark.split(reply.text)[1:]
    if reply.finish_reason == "length":
        blocks = blocks[:-1]
    pairs = []
    for block in blocks:
        parts = divider.split(block, maxsplit=1)
        if len(parts) == 2:
            one, other = (part.strip() for part in parts)
            given, output = (other, one) if output_first else (one, other)
            pairs.append(("" if _NOTHING.fullmatch(given) else given, output))
    return pairs


def _instance_fault(instruction: str, given: str, output: str) -> str | None:
    if not plain(output):
        return "empty output"
    if len(output) > LONGEST_OUTPUT:
        return "output too long"
    if plain(output) in {plain(given), plain(instruction)}:
        return "output repeats the input"
    return "template opening" if opens_with_template(output) else None


def _row(draft: _Draft, given: str, output: str, is_class: bool | None, model: str) -> DataRow:
    question = f"{draft.instruction}\n{given}" if given else draft.instruction
    more: dict[str, Any] = {"cell": draft.cell} if draft.cell else {}
    return made_row(
        question,
        output,
        method="self-instruct",
        model=model,
        round=draft.round,
        instruction=draft.instruction,
        input=given,
        classification=is_class,
        task="classification" if is_class else None,
        shown=list(draft.parents),
        **more,
    )
