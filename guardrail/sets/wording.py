"""Abilities and checks in Chinese, for reviewers who read neither code nor JSON."""

import json
from collections.abc import Mapping

from guardrail.sets.item_checks import (
    Address,
    Characters,
    Check,
    Contains,
    EndsWith,
    InOrder,
    Json,
    Language,
    ListItems,
    Members,
    OneOf,
    Paragraphs,
    Sentences,
    StartsWith,
    Table,
    Title,
)

__all__ = ["ABILITY_NAMES", "CHECK_NAMES", "describe_check"]

ABILITY_NAMES: Mapping[str, str] = {
    "instruction": "指令遵循",
    "writing": "写作",
    "translation": "翻译",
    "long_text": "长文摘要",
    "reasoning": "推理",
    "format": "格式输出",
    "refusal": "拒答",
}
CHECK_NAMES: Mapping[str, str] = {
    "characters": "字数",
    "sentences": "句数",
    "paragraphs": "段数",
    "list_items": "分点",
    "contains": "用词",
    "in_order": "先后次序",
    "members": "列举个数",
    "starts_with": "开头",
    "ends_with": "结尾",
    "one_of": "只写答案",
    "language": "语言",
    "json": "JSON",
    "table": "表格",
    "title": "标题",
    "address": "称呼",
}

_STYLES = {"any": "分点", "numbered": "编号分点", "bulleted": "符号分点"}
_LANGUAGES = {"zh": "中文", "en": "英文"}
_FENCES = {"required": "必须用代码块", "forbidden": "不得用代码块"}


def _quoted(texts: tuple[str, ...]) -> str:
    return "、".join(f"“{text}”" for text in texts)


def _count(name: str, check: Characters | Sentences | Paragraphs | ListItems) -> str:
    low, high = check.at_least, check.at_most
    if low == high:
        return f"{name} = {low}"
    if low is None:
        return f"{name} ≤ {high}"
    return f"{name} ≥ {low}" if high is None else f"{name} {low}–{high}"


def _contains(check: Contains) -> str:
    parts = [
        f"{label}：{_quoted(words)}"
        for label, words in (
            ("必须出现", check.all),
            ("至少出现其一", check.any),
            ("不得出现", check.none),
        )
        if words
    ]
    return "；".join(parts)


def _json(check: Json) -> str:
    parts = [f"整个回答是 JSON {'对象' if check.root == 'object' else '数组'}"]
    if check.length is not None:
        parts.append(f"{check.length} 个元素")
    if check.keys:
        keys = "、".join(f"{key}: {kind}" for key, kind in check.keys.items())
        parts.append(f"{'只含' if check.only_these_keys else '至少含'}键 {keys}")
    parts += [
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in check.values.items()
    ]
    if check.fence in _FENCES:
        parts.append(_FENCES[check.fence])
    return "；".join(parts)


def _table(check: Table) -> str:
    parts = ["有一张 Markdown 表格"]
    if check.columns:
        parts.append(f"表头 {' | '.join(check.columns)}")
    if check.rows is not None:
        parts.append(f"{check.rows} 行")
    return "；".join(parts)


def describe_check(check: Check) -> str:
    """Return what a check asks for as one Chinese phrase, such as 字数 ≤ 44."""
    match check:
        case Characters() | Sentences() | Paragraphs():
            return _count(CHECK_NAMES[check.kind], check)
        case ListItems():
            return _count(_STYLES[check.style], check)
        case Contains():
            return _contains(check)
        case InOrder():
            return f"依次出现：{' → '.join(check.parts)}"
        case Members():
            return f"恰好说出 {check.count} 个：{_quoted(check.options)}"
        case StartsWith():
            return f"开头是：{' 或 '.join(f'“{text}”' for text in check.any)}"
        case EndsWith():
            return f"结尾是：{' 或 '.join(f'“{text}”' for text in check.any)}"
        case OneOf():
            return f"只写答案：{' 或 '.join(f'“{text}”' for text in check.options)}"
        case Language():
            return f"用{_LANGUAGES[check.is_]}回答"
        case Json():
            return _json(check)
        case Table():
            return _table(check)
        case Title():
            limit = "" if check.at_most is None else f"（不超过 {check.at_most} 字）"
            return f"第一行是标题{limit}"
        case Address():
            return f"称对方“{check.is_}”，不称“{'你' if check.is_ == '您' else '您'}”"
