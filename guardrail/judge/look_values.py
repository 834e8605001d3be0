"""One look: answers of the current weights → measurements → arrays for the drift rule."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from guardrail.anchors.make import AnsweredText
from guardrail.anchors.store import Anchors
from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.judge.rule import DriftConfig, MetricRule, MetricValues, RuleState, judge
from guardrail.judge.statistic import FloatArray
from guardrail.judge.verdict import Verdict
from guardrail.probes.business_probes import (
    NO_BUSINESS,
    BusinessProbes,
    business_values,
    item_clusters,
)
from guardrail.probes.measure import measure, thinking_characters
from guardrail.probes.metrics import METRICS, SHOWN
from guardrail.read_back import read_bounded
from guardrail.sets.items import Item
from guardrail.text import parse_answer

__all__ = [
    "ChangedFile",
    "Measured",
    "anchor_measurements",
    "answer_lines",
    "answers_file",
    "business_rules",
    "default_metric_rules",
    "judge_look",
    "look_values",
    "measure_completions",
    "read_business_measured",
    "read_measured",
    "shown_shares",
    "with_business",
    "write_answers",
]
_T = TypeVar("_T")

Measured = dict[str, FloatArray]
"""metric name → values, shape (items, replicates)."""

_LARGEST_ANSWERS = 256 << 20
"""Bytes of a file."""


_SHOWN_OF_A_TEXT = tuple(name for name in SHOWN if name != "cut")


def default_metric_rules(
    margins: dict[str, tuple[float, float]] | None = None,
) -> dict[str, MetricRule]:
    """Return the rule of every metric, its margin and critical margin replaced where given."""
    rules = {}
    for metric in METRICS:
        margin, critical = (margins or {}).get(metric.name, (metric.margin, metric.critical))
        rules[metric.name] = MetricRule(metric.worse, margin, critical, metric.worst, metric.clip)
    return rules


def business_rules(business: BusinessProbes) -> dict[str, MetricRule]:
    """Return the rule of each of a business's probes: harm is the mean of 0 to 1, beyond base's."""
    return {
        name: MetricRule("higher", margin, critical, worst=1.0)
        for name, (margin, critical) in business.margins.items()
    }


def with_business(config: DriftConfig, business: BusinessProbes) -> DriftConfig:
    """Return the drift rule's constants with a business's probes among the metrics."""
    return replace(config, metrics={**config.metrics, **business_rules(business)})


def measure_completions(
    items: Sequence[Item],
    texts: Sequence[Sequence[str]],
    golds: Sequence[str],
    business: BusinessProbes = NO_BUSINESS,
) -> Measured:
    """Return each metric of each answer, and what is shown: `texts[i]` are the K raw answers to `items[i]`.

    Raises:
        InputError: a probe of the business's fails, or gives what is no harm.
    """
    rows = [
        [
            measure(item, text, gold) | business_values(business, item, parse_answer(text).text)
            for text in answers
        ]
        for item, answers, gold in zip(items, texts, golds, strict=True)
    ]
    return {
        name: np.array([[values[name] for values in row] for row in rows])
        for name in (*(metric.name for metric in METRICS), *_SHOWN_OF_A_TEXT, *business.probes)
    }


def anchor_measurements(
    items: Sequence[Item], anchors: Anchors, business: BusinessProbes = NO_BUSINESS
) -> Measured:
    """Return the measurements of the anchors' replicates (of the gold where there are none)."""
    texts = []
    for item in items:
        answers = anchors.answers[item.id]
        texts.append([a.text for a in (answers[1:] or answers)])
    return measure_completions(items, texts, [anchors.gold(item.id) for item in items], business)


def look_values(baseline: Measured, current: Measured) -> dict[str, MetricValues]:
    """Return what `guardrail.judge.judge` takes; several current answers an item are averaged.

    What is only shown is left out.

    Raises:
        ValueError: a metric of an item has no value now though base has one. Whether a metric applies
            depends on the item alone, so a value that got lost is a fault and must not pass for harmless.
    """
    judged = [name for name in baseline if name not in SHOWN]
    for name in judged:
        table = current[name]
        lost = np.isnan(table).any(axis=1) & ~np.isnan(baseline[name]).any(axis=1)
        if lost.any():
            raise ValueError(
                f"metric `{name}` has no value for {int(lost.sum())} answers though base has one "
                f"(first: item number {int(lost.argmax()) + 1}); the look was not measured"
            )
    return {name: MetricValues(baseline[name], current[name].mean(axis=1)) for name in judged}


def shown_shares(
    measured: Measured, answers: Sequence[Sequence[AnsweredText]], golds: Sequence[AnsweredText]
) -> dict[str, float]:
    """Return the share of answers, by name of `SHOWN`; `cut` are those that ran into the limit where the gold ended."""
    stopped = [
        [one for one in row if gold.finish_reason != "length"]
        for row, gold in zip(answers, golds, strict=True)
    ]
    cut = sum(one.finish_reason == "length" for row in stopped for one in row)
    shares = {name: float(measured[name].mean()) for name in _SHOWN_OF_A_TEXT}
    return shares | {"cut": cut / sum(map(len, answers))}


def judge_look(
    items: Sequence[Item],
    baseline: Measured,
    current: Measured,
    config: DriftConfig,
    state: RuleState,
    *,
    expected: Sequence[str] = (),
    final: bool = False,
    business: BusinessProbes = NO_BUSINESS,
) -> tuple[Verdict, RuleState]:
    """Return the drift rule's verdict on a look at `items`; arguments and errors as in `judge`.

    An item that names no cluster has the one that the business's rule gives it.
    """
    return judge(
        look_values(baseline, current),
        [item.ability for item in items],
        config,
        state,
        clusters=item_clusters(business, items),
        expected=expected,
        final=final,
    )


def answers_file(look: int, step: int) -> str:
    """Return where a run keeps the answers of a look, below its folder."""
    return f"looks/look-{look:04d}-step-{step}.jsonl"


def write_answers(
    path: Path, items: Sequence[Item], answers: Sequence[Sequence[AnsweredText]], measured: Measured
) -> None:
    """Write one JSON line an answer: item, replicate, text, finish reason, 字 of thinking, every metric."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, item in enumerate(items):
        for k, answer in enumerate(answers[i]):
            values = {name: float(table[i, k]) for name, table in measured.items()}
            row = {
                "item": item.id,
                "replicate": k,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "thinking_characters": thinking_characters(answer.text),
                **{name: None if np.isnan(v) else v for name, v in values.items()},
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines))


class ChangedFile(ValueError):
    """Answers that are not those the look wrote."""


def answer_lines(run: Path, name: str, sha256: str | None) -> list[bytes]:
    """Return the lines of a look's answers.

    Args:
        run: The folder they must lie in.
        name: The file, as the look's record has it.
        sha256: Their digest in that record, None in older ledgers.

    Raises:
        OSError: no such file in the folder, no regular one, or too large.
        ChangedFile: they are not those the look wrote.
    """
    content = read_bounded(run / name, _LARGEST_ANSWERS, inside=run)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ChangedFile(f"{run / name} is not as the look wrote it")
    return content.split(b"\n")


def read_measured(
    run: Path, name: str, sha256: str | None, ids: Sequence[str], metrics: Sequence[str]
) -> Measured:
    """Return the measurements that a look wrote down beside its answers, items in the order of `ids`.

    Args:
        run: The folder the answers must lie in.
        name: The file, as the look's record has it.
        sha256: Its digest, None in older ledgers.
        ids: Items, each of which must have been answered.
        metrics: Names; NaN where one does not apply.

    Raises:
        InputError: the file is missing, not as the look wrote it, damaged, or lacks an item.
    """
    return _read_rows(
        run,
        name,
        sha256,
        ids,
        lambda rows: {
            # None becomes NaN
            m: np.array([[row.get(m) for row in of_item] for of_item in rows], dtype=np.float64)
            for m in metrics
        },
    )


def read_business_measured(
    run: Path, name: str, sha256: str | None, items: Sequence[Item], business: BusinessProbes
) -> Measured:
    """Return what a business's probes measure of the answers that a look wrote down, asked anew; else as `read_measured`.

    Raises:
        InputError: as `read_measured`, or a probe fails.
    """
    if not business.probes:
        return {}
    ids = [item.id for item in items]
    texts = _read_rows(
        run, name, sha256, ids, lambda rows: [[str(row["text"]) for row in one] for one in rows]
    )
    found = [
        [business_values(business, item, parse_answer(text).text) for text in answers]
        for item, answers in zip(items, texts, strict=True)
    ]
    return {
        name: np.array([[values[name] for values in row] for row in found])
        for name in business.probes
    }


def _read_rows(
    run: Path,
    name: str,
    sha256: str | None,
    ids: Sequence[str],
    take: Callable[[list[list[Mapping[str, Any]]]], _T],
) -> _T:
    """Return what is taken of the rows of each item's answers."""
    path = run / name
    try:
        by_item: dict[str, list[Mapping[str, Any]]] = {}
        for line in answer_lines(run, name, sha256):
            if line.strip():
                row = json.loads(line)
                by_item.setdefault(row["item"], []).append(row)
        lacking = [one for one in ids if one not in by_item]
        if not lacking:
            return take([by_item[one] for one in ids])
    except OSError as error:
        raise InputError(
            f"`{path}` is missing ({error.strerror}); a run is judged again from the answers of its looks"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"`{path}` is damaged ({error!s:.200}); restore it from a copy") from error
    raise InputError(f"`{path}` holds no answer to {', '.join(lacking[:3])}; it is not this run's")
