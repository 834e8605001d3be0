"""What is wrong with a pair of sets before anybody trains with them: findings by named rule."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from guardrail.sets.build.compose import LEAST_JUDGED, passes_per_prompt
from guardrail.sets.items import Item
from guardrail.sets.lint.item_rules import Finding, item_findings
from guardrail.sets.lint.leakage import duplicate_findings, leakage_findings, training_findings

__all__ = ["TRANSLATED_SOURCES", "Finding", "lint_sets"]

MOST_PASSES = 8.0
"""Times one rehearsal prompt may be seen before it counts as memorised."""
LOW_FRACTION, HIGH_FRACTION, REFUSED_FRACTION = 0.01, 0.05, 0.10
LEAST_NATIVE = 0.8
"""Share of items that were written in Chinese."""
TRANSLATED_SOURCES = ("alpaca", "sharegpt", "coig-translated", "firefly")
"""Families of corpora that are translated from English or largely made of translations."""


def lint_sets(
    red_line: Sequence[Item],
    rehearsal: Sequence[Item] | None = None,
    *,
    training: Iterable[tuple[str, str]] | None = None,
    training_rows: int | None = None,
    benchmarks: Mapping[str, str] = MappingProxyType({}),
    rehearsal_fraction: float | None = None,
    allow: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Return what is wrong, errors first; an empty list where nothing was found.

    Args:
        red_line: Items that are judged.
        rehearsal: Items that are injected.
        training: (name, text) of the training data, read once.
        training_rows: Rows an epoch, for the rehearsal share.
        benchmarks: Id → text of benchmark prompts that nobody may train on.
        rehearsal_fraction: Rehearsal share of all samples seen.
        allow: Ids a person has looked at: `ID` silences every rule about it, `RULE:ID` one;
            `RULE` makes one warning of all its findings, for sets made from templates.
    """
    injected = rehearsal or ()
    findings = [
        *(f for item in (*red_line, *injected) for f in item_findings(item)),
        *duplicate_findings("red line", red_line),
        *duplicate_findings("rehearsal", injected),
        *leakage_findings(red_line, injected),
        *training_findings(red_line, injected, training or (), benchmarks),
        *_share(len(injected), training_rows, rehearsal_fraction),
        *_native((*red_line, *injected)),
        *_quotas(red_line),
    ]
    kept = [f for f in findings if not _allowed(f, allow)]
    apart = [f for f in kept if f.rule not in allow]
    return sorted([*apart, *_summaries(kept, allow)], key=lambda f: f.level != "error")


def _allowed(finding: Finding, allow: frozenset[str]) -> bool:
    ids = finding.subject.split(", ")
    return any(name in allow or f"{finding.rule}:{name}" in allow for name in ids)


def _summaries(findings: Sequence[Finding], allow: frozenset[str]) -> Iterator[Finding]:
    """One warning for each rule that was allowed as a whole: it is counted, never hidden."""
    counts = Counter(f.rule for f in findings if f.rule in allow)
    for rule, count in counts.items():
        first = next(f.subject for f in findings if f.rule == rule)
        yield Finding(
            "warning", rule, "all", f"{count} findings were allowed as a whole, the first: {first}"
        )


def _share(prompts: int, rows: int | None, fraction: float | None) -> Iterator[Finding]:
    if fraction is None:
        return
    rule, subject = "rehearsal-share", "rehearsal_fraction"
    if fraction > REFUSED_FRACTION:
        yield Finding(
            "error",
            rule,
            subject,
            f"must not exceed {REFUSED_FRACTION:.0%}, got {fraction:.1%}; use 3%",
        )
    elif not LOW_FRACTION <= fraction <= HIGH_FRACTION:
        yield Finding(
            "warning",
            rule,
            subject,
            f"should lie between {LOW_FRACTION:.0%} and {HIGH_FRACTION:.0%}, got {fraction:.1%}; use 3%",
        )
    if prompts and rows:
        passes = passes_per_prompt(rows, fraction, prompts)
        if passes > MOST_PASSES:
            yield Finding(
                "warning",
                rule,
                subject,
                f"{prompts} rehearsal prompts at {fraction:.1%} of {rows} rows are each seen {passes:.1f} "
                f"times an epoch, more than {MOST_PASSES:g}; use "
                f"{math.ceil(prompts * passes / MOST_PASSES)} prompts or lower the fraction",
            )


def _is_translated(item: Item) -> bool:
    source = item.source.lower()
    if source.startswith("written"):
        return False
    return item.task == "translated" or any(name in source for name in TRANSLATED_SOURCES)


def _native(items: Sequence[Item]) -> Iterator[Finding]:
    native = sum(not _is_translated(item) for item in items)
    if items and native < LEAST_NATIVE * len(items):
        yield Finding(
            "warning",
            "native-share",
            "source",
            f"{native / len(items):.0%} of {len(items)} items were written in Chinese, {LEAST_NATIVE:.0%} "
            f"should be; replace items of {', '.join(TRANSLATED_SOURCES)}",
        )


def _quotas(red_line: Sequence[Item]) -> Iterator[Finding]:
    judged = Counter(item.ability for item in red_line if not item.rehearsed)
    for ability, count in judged.items():
        if count < LEAST_JUDGED:
            yield Finding(
                "warning",
                "too-few",
                ability,
                f"{count} judged items, a stream below {LEAST_JUDGED} is shown and never tested; write "
                f"{LEAST_JUDGED - count} more",
            )
