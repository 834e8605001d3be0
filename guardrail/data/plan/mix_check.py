"""What a given mix lacks or has too much of, against behaviour coverage; class balance is not looked at."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from guardrail.data.behaviours import BEHAVIOURS, behaviours_of
from guardrail.data.rows import DataRow
from guardrail.sets.lint.duplicates import plain
from guardrail.sets.lint.translationese import translation_marks
from guardrail.sets.read.filters import opens_with_template
from guardrail.sets.read.kept_prompts import CONFLICT, NEAR, SAME, KeptPrompts
from guardrail.text import count_characters

__all__ = ["MixFinding", "check_mix"]

_FEW = 0.01
"""Share of the rows below which an over-sampled behaviour counts as lacking; the sources name none, so it is low."""
_TEMPLATES = 0.01
_REPEATS = 0.05
_TRANSLATED = 0.05
_GENERAL = ("rehearsal", "general", "anchored")


@dataclass(frozen=True, slots=True)
class MixFinding:
    """One thing that the mix lacks or has too much of."""

    subject: str
    says: Literal["lacks", "too much", "unknown"]
    value: float
    wanted: list[float] | None
    """Low and high end, None where the sources name no figure."""
    zh: str
    en: str


def check_mix(rows: Sequence[DataRow], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts of the mix and findings against a plan, ready for JSON.

    General rows are those whose provenance says so (`part: general` or method `anchored`); rows without provenance cannot
    be told apart, and the share is then unknown rather than zero.

    Args:
        rows: Of the training file.
        plan: What `make_plan` returned for the model's size.
    """
    total = len(rows)
    shown = Counter(b for row in rows for b in behaviours_of(row))
    shares = {name: shown[name] / total for name in BEHAVIOURS}
    safe = sum(bool({"refusal", "safety"} & behaviours_of(row)) for row in rows) / total
    known = [row for row in rows if row.provenance.get("method") != "given"]
    general = sum(_is_general(row) for row in rows) / total if known else None
    with tempfile.TemporaryFile() as file:
        kept = KeptPrompts(file)
        repeats = Counter(reason for row in rows if (reason := _repeat(kept, row)))
    openings = sum(opens_with_template(row.answer) for row in rows) / total
    translated = sum(len(translation_marks(row.question)) > 1 for row in rows) / total
    findings = [
        *_size(total, plan),
        *_refusals(safe, plan["refusal_share"]),
        *_behaviours(shares),
        *_general_share(general, plan),
        *_quality(total, openings, translated, repeats),
    ]
    return {
        "rows": total,
        "behaviours": shares,
        "safety_and_refusals": safe,
        "general": general,
        "template_openings": openings,
        "translated": translated,
        "repeats": dict(repeats),
        "abilities": dict(Counter(row.ability for row in rows).most_common()),
        "prompt_characters": _spread([count_characters(row.prompt) for row in rows]),
        "answer_characters": _spread([count_characters(row.answer) for row in rows]),
        "findings": [asdict(finding) for finding in findings],
    }


def _repeat(kept: KeptPrompts, row: DataRow) -> str | None:
    prompt = plain(row.prompt)
    return kept.repeated(prompt, row.answer) or kept.added(prompt, row.answer)


def _is_general(row: DataRow) -> bool:
    return row.provenance.get("part") in _GENERAL or row.provenance.get("method") == "anchored"


def _spread(values: list[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {
        name: ordered[int((len(ordered) - 1) * q)]
        for name, q in (("p10", 0.1), ("median", 0.5), ("p90", 0.9))
    }


def _size(total: int, plan: Mapping[str, Any]) -> list[MixFinding]:
    low, high = plan["sft_rows"]
    least = plan["least_rows"][0]
    if total < least:
        return [
            MixFinding(
                "rows",
                "lacks",
                total,
                [least, high],
                f"只有 {total:,} 条，少于 {least:,} 条，训练不稳。",
                f"{total:,} rows, fewer than {least:,}: training is unsteady.",
            )
        ]
    if total > high:
        return [
            MixFinding(
                "rows",
                "too much",
                total,
                [low, high],
                f"{total:,} 条，超出有效区间上限 {high:,}，再多收益很小。",
                f"{total:,} rows, beyond {high:,}, where little is gained.",
            )
        ]
    if total > plan["most_unproven_rows"]:
        most = plan["most_unproven_rows"]
        return [
            MixFinding(
                "rows",
                "too much",
                total,
                [low, most],
                f"{total:,} 条，超过 {most:,} 条须先证明质量。",
                f"{total:,} rows: above {most:,} prove their quality first.",
            )
        ]
    return []


def _refusals(share: float, wanted: list[float]) -> list[MixFinding]:
    low, high = wanted
    if share < low:
        zh, en = (
            f"安全与拒答占 {share:.1%}，少于 {low:.0%}，应过采样。",
            f"Safety and refusals make up {share:.1%}, less than {low:.0%}: over-sample them.",
        )
        return [MixFinding("safety_and_refusals", "lacks", share, wanted, zh, en)]
    if share > high:
        zh, en = (
            f"安全与拒答占 {share:.1%}，多于 {high:.0%}，模型会动辄拒答。",
            f"Safety and refusals make up {share:.1%}, more than {high:.0%}: the model will refuse what it should not.",
        )
        return [MixFinding("safety_and_refusals", "too much", share, wanted, zh, en)]
    return []


_NAMES = {
    "tools_and_formats": (
        "工具调用与格式输出（JSON、函数调用、SQL、表格）",
        "tools and formats (JSON, function call, SQL, tables)",
    ),
    "multi_turn": ("多轮对话", "multi-turn dialogues"),
    "reasoning_chain": ("推理链", "reasoning chains"),
    "reflection": ("反思（检查、纠正自己）", "reflection (checking and correcting oneself)"),
}


def _behaviours(shares: Mapping[str, float]) -> list[MixFinding]:
    return [
        MixFinding(
            name,
            "lacks",
            shares[name],
            None,
            f"几乎没有{zh}：{shares[name]:.1%}。",
            f"Hardly any {en}: {shares[name]:.1%}.",
        )
        for name, (zh, en) in _NAMES.items()
        if shares[name] < _FEW
    ]


def _general_share(share: float | None, plan: Mapping[str, Any]) -> list[MixFinding]:
    wanted, most = plan["general_share"], plan["most_general_share"]
    if share is None:
        zh, en = (
            "这些行没有来源记录，看不出哪些是通用数据。",
            "The rows have no provenance: which are general cannot be told.",
        )
        return [MixFinding("general", "unknown", 0.0, wanted, zh, en)]
    if share > most:
        zh, en = (
            f"通用数据占 {share:.1%}，超过 {most:.0%} 的上限。",
            f"General rows make up {share:.1%}, above the limit of {most:.0%}.",
        )
    elif share > wanted[1]:
        zh, en = (
            f"通用数据占 {share:.1%}，多于建议的 {wanted[1]:.0%}。",
            f"General rows make up {share:.1%}, more than the advised {wanted[1]:.0%}.",
        )
    elif share < wanted[0]:
        zh, en = (
            f"通用数据占 {share:.1%}，少于 {wanted[0]:.0%}；若由配方的复习集注入，可以不管。",
            f"General rows make up {share:.1%}, less than {wanted[0]:.0%}; no fault where the recipe injects a rehearsal set.",
        )
        return [MixFinding("general", "lacks", share, wanted, zh, en)]
    else:
        return []
    return [MixFinding("general", "too much", share, wanted, zh, en)]


def _quality(
    total: int, openings: float, translated: float, repeats: Mapping[str, int]
) -> list[MixFinding]:
    found = []
    if openings > _TEMPLATES:
        found.append(
            MixFinding(
                "template_openings",
                "too much",
                openings,
                [0, _TEMPLATES],
                f"{openings:.1%} 的答案以套话开头（“这是一个很好的问题”之类）。",
                f"{openings:.1%} of the answers open with a stock phrase (such as 这是一个很好的问题).",
            )
        )
    same = (repeats.get(SAME, 0) + repeats.get(NEAR, 0)) / total
    if same > _REPEATS:
        found.append(
            MixFinding(
                "repeats",
                "too much",
                same,
                [0, _REPEATS],
                f"{same:.1%} 的题目重复或近似重复。",
                f"{same:.1%} of the prompts repeat others or nearly do.",
            )
        )
    if repeats.get(CONFLICT):
        count = repeats[CONFLICT]
        found.append(
            MixFinding(
                "conflicts",
                "too much",
                count,
                [0, 0],
                f"{count} 条同问异答。",
                f"{count} rows ask what another asks and answer otherwise.",
            )
        )
    if translated > _TRANSLATED:
        found.append(
            MixFinding(
                "translated",
                "too much",
                translated,
                [0, _TRANSLATED],
                f"{translated:.1%} 的题目像是译自英文。",
                f"{translated:.1%} of the prompts read as translated from English.",
            )
        )
    return found
