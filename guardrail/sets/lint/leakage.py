"""Prompts that stand where they must not: twice in a set, among the injected, in the training data.

Items of one `cluster` are variants by design: what is near within a cluster is one warning a set, what
is near across clusters is an error. Equal prompts are errors everywhere.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from guardrail.sets.items import Item
from guardrail.sets.lint.duplicates import NearDuplicates, plain
from guardrail.sets.lint.item_rules import Finding
from guardrail.sets.lint.overlap import Overlap, find_overlaps

__all__ = ["duplicate_findings", "leakage_findings", "training_findings"]


def _same_cluster(one: Item, other: Item) -> bool:
    return one.cluster is not None and one.cluster == other.cluster


def duplicate_findings(name: str, items: Sequence[Item]) -> Iterator[Finding]:
    """Yield what a set asks twice or nearly twice; `name` is the set's."""
    # A prompt of signs alone has no plain text and stands for itself.
    texts = [plain(item.prompt) or item.prompt for item in items]
    index = NearDuplicates(lambda number: texts[number])
    first: dict[str, int] = {}
    templated: Counter[str] = Counter()
    for number, item in enumerate(items):
        twin = first.setdefault(texts[number], number)
        near = index.near(texts[number])
        index.keep(number, texts[number])
        apart = [(s, k) for k, s in near if not _same_cluster(item, items[k])]
        if twin != number:
            yield Finding(
                "error",
                "duplicate-prompt",
                f"{items[twin].id}, {item.id}",
                f"ask the same: “{item.question[:30]}”; drop one of them",
            )
        elif apart:
            similarity, k = max(apart)
            yield Finding(
                "error",
                "near-duplicate",
                f"{items[k].id}, {item.id}",
                f"ask nearly the same (ROUGE-L {similarity:.2f}): “{item.question[:30]}”; drop one, or "
                "give both one `cluster` if they are variants by design",
            )
        elif near and item.cluster is not None:
            templated[item.cluster] += 1
    if templated:
        yield Finding(
            "warning",
            "templated",
            name,
            f"{templated.total()} of {len(items)} items are near duplicates inside their own cluster "
            f"({len(templated)} clusters): they count as variants of one prompt, not as so many prompts",
        )


def _parts(item: Item) -> Iterator[tuple[str, str]]:
    turns = [m.content for m in item.messages if m.role != "system"]
    yield from ((item.id, turn) for turn in turns)
    if len(turns) > 1:
        yield item.id, item.prompt


def leakage_findings(red_line: Sequence[Item], injected: Sequence[Item]) -> Iterator[Finding]:
    """Yield judged prompts that stand among the injected ones; rehearsed items are left out."""
    judged = {item.id: item for item in red_line if not item.rehearsed}
    by_id = {item.id: item for item in injected}
    for name in filter(by_id.__contains__, judged):
        yield Finding(
            "error",
            "leakage",
            name,
            "is judged and injected; drop it from one set, or mark the red-line item `rehearsed`",
        )
    shared: Counter[str] = Counter()
    texts = (part for item in injected for part in _parts(item))
    for overlap in find_overlaps({name: i.prompt for name, i in judged.items()}, texts):
        one, other = judged[overlap.known], by_id[overlap.text]
        if one.id == other.id:
            continue
        if _same_cluster(one, other) and overlap.how != "same":
            shared[str(one.cluster)] += 1
            continue
        yield Finding(
            "error",
            "leakage",
            f"{one.id}, {other.id}",
            f"the judged and the injected prompt share {_shown(overlap)}; rewrite one of them",
        )
    if shared:
        yield Finding(
            "warning",
            "shared-clusters",
            "red line, rehearsal",
            f"{len(shared)} clusters are judged and injected: looks then measure templates that were "
            "rehearsed; give the sets clusters of their own",
        )


def _shown(overlap: Overlap) -> str:
    if overlap.how == "near duplicate":
        return f"nearly all ({overlap.evidence})"
    return f"“{overlap.evidence}”"


def training_findings(
    red_line: Sequence[Item],
    injected: Sequence[Item],
    training: Iterable[tuple[str, str]],
    benchmarks: Mapping[str, str],
) -> Iterator[Finding]:
    """Yield judged, benchmark and injected prompts in the training data, benchmark prompts among the injected.

    A prompt that is trained on and injected is a warning: the task loss and the KL term pull it apart.
    """
    # One pass over the training data, so all kinds are looked for at once, told apart by their rule.
    judged = {item.id: item.prompt for item in red_line if not item.rehearsed}
    known = {f"training-overlap {name}": text for name, text in judged.items()}
    known |= {f"benchmark-overlap {name}": text for name, text in benchmarks.items()}
    known |= {f"rehearsal-overlap {item.id}": item.prompt for item in injected}
    for found, more in _first_of_each(find_overlaps(known, training)):
        rule, name = found.known.split(" ", 1)
        others = f" and {more} more" if more else ""
        yield Finding(
            "warning" if rule == "rehearsal-overlap" else "error",
            rule,
            name,
            f"shares {_shown(found)} with training {found.text}{others}; take the rows out, or allow "
            f"`{rule}:{name}` if it is a common phrase",
        )
    texts = (part for item in injected for part in _parts(item))
    for found in find_overlaps(benchmarks, texts):
        yield Finding(
            "error",
            "benchmark-overlap",
            f"{found.known}, {found.text}",
            f"the benchmark and the injected prompt share {_shown(found)}; drop the rehearsal item",
        )


def _first_of_each(overlaps: Iterable[Overlap]) -> list[tuple[Overlap, int]]:
    """The first overlap of every guarded prompt and how many more it has."""
    first: dict[str, Overlap] = {}
    count: Counter[str] = Counter()
    for overlap in overlaps:
        first.setdefault(overlap.known, overlap)
        count[overlap.known] += 1
    return [(overlap, count[name] - 1) for name, overlap in first.items()]
