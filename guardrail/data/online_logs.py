"""Online logs (query, answer, thumbs, correction) → training rows: what users liked, and what was put right.

A thumb down without a correction shows what is wrong and not what is right: it goes. A correction takes the answer's place, and what it
replaced is the rejected one of a preference pair. Everything is scrubbed before anything else looks at it
(`data/scrub_online.py`). Does not see whether a liked answer is true, or a correction an improvement.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from guardrail.data.preference_pairs import preference_pair
from guardrail.data.rows import DataRow, row_item
from guardrail.data.scrub_online import scrub_online
from guardrail.data.select.row_faults import drop_faulty
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.probes.refusal import is_refusal
from guardrail.sets.lint.duplicates import plain
from guardrail.sets.read.clean import clean_text
from guardrail.sets.read.conversation import Conversation
from guardrail.sets.read.filters import FILTERS, opens_as_machine
from guardrail.sets.read.formats import read_conversation
from guardrail.sets.read.readers import read_rows as read_raw_rows
from guardrail.text import count_characters, parse_answer

__all__ = ["SHORTEST_ANSWER", "keep_good", "read_logs"]

SHORTEST_ANSWER = 6
"""字 of an answer; a shorter one teaches a habit rather than an answer."""

_OPENING = "boilerplate opening"
_THUMBS = ("thumbs", "thumb", "feedback", "vote", "赞踩", "点赞", "反馈", "评价")
_RATINGS = ("rating", "stars", "score", "评分", "星级")
_CORRECTIONS = ("correction", "corrected", "corrected_answer", "修正", "纠正", "改写", "更正")
_NAMES = ("names", "name", "user_name", "姓名")
_BETWEEN_NAMES = re.compile(r"[、，,;；|/]+|\s+(?=[一-鿿])")
_UP = frozenset({"up", "1", "1.0", "true", "like", "yes", "good", "👍", "赞", "好评", "满意"})
_DOWN = frozenset(
    {
        "down",
        "-1",
        "-1.0",
        "0",
        "0.0",
        "false",
        "dislike",
        "no",
        "bad",
        "👎",
        "踩",
        "差评",
        "不满意",
    }
)
_NOTHING = frozenset({"", "none", "null", "nan"})

Thumbs = Literal["up", "down", ""]


def read_logs(paths: Sequence[Path]) -> list[DataRow]:
    """Return a scrubbed row for each interaction, in the order of the files; nobody's thumbs are judged yet.

    A row's answer is the correction where there is one; `provenance` has the feedback (`thumbs`, `corrected`), what the model said
    where it was corrected (`rejected`), file and line, what was scrubbed (`scrubbed`), the arm of an A/B test, and why its turns are not all
    that was said (`lost`: pictures, tool calls, turn order). Other columns, such as who asked, are not taken over.

    Raises:
        InputError: a line cannot be read, has no question, or its thumbs or rating are none.
    """
    rows = [row for path in paths for row in _read(path)]
    if not rows:
        raise InputError(
            f"`{', '.join(map(str, paths))}` holds no interaction; it needs at least one"
        )
    return rows


def _read(path: Path) -> Iterator[DataRow]:
    for raw in read_raw_rows(path):
        if raw.problem:
            raise InputError(f"{raw.where}: {raw.problem}; mend or drop the line")
        value = {str(name).strip().lower(): cell for name, cell in raw.value.items()}
        correction = clean_text(str(_first(value, _CORRECTIONS) or ""))
        names = _names(_first(value, _NAMES))
        said = _said({k: v for k, v in value.items() if k not in _CORRECTIONS}, raw.where)
        scrubbed: Counter[str] = Counter()

        def clear(text: str, names: list[str] = names, counts: Counter[str] = scrubbed) -> str:
            text, found = scrub_online(clean_text(text), names)
            counts.update(found)
            return text

        turns = [
            {"role": role, "content": clear(text)} for role, text in said.turns if text.strip()
        ]
        answer = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else ""
        if said.lost is not None and all(turn["role"] != "user" for turn in turns):
            turns.append({"role": "user", "content": ""})  # such as a picture alone
        if said.lost is None and (not turns or turns[-1]["role"] != "user"):
            raise InputError(
                f"{raw.where} has no question; a log needs `query`, `answer`, `thumbs`, `correction`, or `messages` in place of the first two"
            )
        correction = clear(correction)
        corrected = bool(correction) and correction != answer
        final = {"role": "assistant", "content": correction if corrected else answer}
        provenance: dict[str, Any] = {
            "method": "online-log",
            "source": path.name,
            "licence": "LicenseRef-own",
            "line": raw.where,
            "thumbs": _thumbs(value, raw.where),
            "corrected": corrected,
        }
        if said.lost is not None:
            provenance["lost"] = said.lost
        if corrected and answer:
            provenance["rejected"] = answer
        if scrubbed:
            provenance["scrubbed"] = dict(sorted(scrubbed.items()))
        if value.get("arm"):
            provenance["arm"] = str(value["arm"])
        yield DataRow((*turns, final), provenance)


def _said(value: Mapping[str, Any], where: str) -> Conversation:
    try:
        return read_conversation(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{where}: {' '.join(str(error).split()):.300}; mend or drop it"
        ) from error


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) not in (None, "")), None)


def _names(given: Any) -> list[str]:
    texts = given if isinstance(given, list) else [given or ""]
    return [one.strip() for text in texts for one in _BETWEEN_NAMES.split(str(text))]


def _thumbs(value: Mapping[str, Any], where: str) -> Thumbs:
    given = _first(value, _THUMBS)
    if given is not None:
        said = str(given).strip().casefold()
        if said in _UP:
            return "up"
        if said in _DOWN:
            return "down"
        if said not in _NOTHING:
            raise InputError(
                f"{where}: thumbs `{said:.40}` are neither up nor down; write `up`, `down`, or nothing"
            )
    stars = _first(value, _RATINGS)
    if stars is None or str(stars).strip().casefold() in _NOTHING:
        return ""
    try:
        number = float(stars)
    except ValueError:
        number = 0.0
    if not 1 <= number <= 5:
        raise InputError(f"{where}: rating `{stars!s:.40}` is no number from 1 to 5; mend it")
    return "up" if number >= 4 else "down" if number <= 2 else ""


def keep_good(rows: Sequence[DataRow]) -> Made:
    """Return the rows that are worth training on, those dropped with the first reason, and a preference pair for each correction.

    Of rows that ask the same the corrected one stays before the liked one, and a later one before an earlier. Near duplicates go by
    the same order. A refusal stays where the request is seen to ask for harm. An answer that opens with 好的 or 抱歉 stays: people
    liked or wrote it so, as a service speaks; one that opens with 作为AI or with praise of the question goes.
    """
    made, asked = Made(), set[str]()
    best = sorted(reversed(rows), key=lambda row: not row.provenance["corrected"])
    candidates = []
    for row in best:
        reason = _fault(row)
        if reason is None and plain(row.prompt) in asked:
            reason = "same question, a better or later answer is kept"
        if reason is None:
            asked.add(plain(row.prompt))
            candidates.append(row)
        else:
            made.drop(reason, row)
    rest = drop_faulty(candidates, frozenset({_OPENING}))
    made.rows, made.dropped = rest.rows, [*made.dropped, *rest.dropped]
    made.preferences = [
        preference_pair(row.messages[:-1], row.answer, row.provenance["rejected"], id=row.id)
        for row in made.rows
        if "rejected" in row.provenance
    ]
    scrubbed: Counter[str] = Counter()
    for row in rows:
        scrubbed.update(row.provenance.get("scrubbed", {}))
    made.facts = {
        "feedback": dict(Counter(_feedback(row) for row in rows)),
        "kept_by_feedback": dict(Counter(_feedback(row) for row in made.rows)),
        "scrubbed": dict(scrubbed.most_common()),
        "preferences": len(made.preferences),
    }
    return made


def _feedback(row: DataRow) -> str:
    if row.provenance["corrected"]:
        return "corrected"
    return {"up": "thumbs up", "down": "thumbs down", "": "none"}[row.provenance["thumbs"]]


def _fault(row: DataRow) -> str | None:
    if lost := row.provenance.get("lost"):
        return str(lost)
    liked = row.provenance["thumbs"] == "up"
    if not liked and not row.provenance["corrected"]:
        down = row.provenance["thumbs"] == "down"
        return "thumbs down without a correction" if down else "nobody liked or corrected it"
    text = parse_answer(row.answer).text
    if text and count_characters(text) < SHORTEST_ANSWER:
        return "answer too short"
    item = row_item(row)
    wicked = FILTERS["unsafe"](item) or FILTERS["attack"](item)
    if is_refusal(text, row.question) and not wicked:
        return "refusal"
    if opens_as_machine(text):
        return _OPENING
    return None
