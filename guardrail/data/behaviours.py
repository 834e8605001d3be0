"""Which behaviours a row shows: what training data must cover before its classes are balanced.

Read off the words by patterns and probes; a row may show several. Does not see whether a reasoning chain is right, or a
reflection that is written in other words.
"""

import re

from guardrail.data.rows import DataRow, row_item
from guardrail.probes.refusal import is_refusal
from guardrail.sets.read.filters import FILTERS
from guardrail.text import parse_answer, strip_fence

__all__ = ["BEHAVIOURS", "behaviours_of"]

BEHAVIOURS = (
    "refusal",
    "safety",
    "tools_and_formats",
    "multi_turn",
    "reasoning_chain",
    "reflection",
)

_JSON = re.compile(r"\A\s*[\[{].*[\]}]\s*\Z", re.DOTALL)
_TOOL = re.compile(
    r"<tool_call>|\"(?:function|tool)_?(?:call|name)\"|\"arguments\"\s*:|\bAction Input\b"
)
_SQL = re.compile(
    r"\bSELECT\b[\s\S]{1,400}\bFROM\b|\bINSERT INTO\b|\bUPDATE\b[^\n]{1,80}\bSET\b|\bCREATE TABLE\b"
)
_TABLE = re.compile(r"^\s*\|(?:\s*:?-+:?\s*\|)+\s*$", re.MULTILINE)
_STEPS = re.compile(r"第[一二三四五1-9]步|步骤\s*[一二三1-9]|^\s*Step \d", re.MULTILINE)
_THEREFORE = re.compile(
    r"因为|由于|所以|因此|可得|由此|于是|从而|故(?=[^事意障乡])|推出|假设|∴|∵|⇒"
)
_REFLECTION = re.compile(
    r"(?:让我|我(?:来|再|们)?)(?:再|重新|回头)?(?:检查|核对|验算|验证|想一?想|审视)|等等[，,]|不对[，,。]|(?:刚才|前面|上面)[^。\n]{0,12}(?:错|不对|有误|漏)|重新(?:算|考虑|推导|审题)|"
    r"再(?:检查|核对|验算|确认)一[遍下次]|(?:检查|验算|核对)[^。\n]{0,4}[：:]|换个(?:角度|思路)(?:想|看|验证)|\bWait,|let me (?:re)?check",
    re.IGNORECASE,
)


def behaviours_of(row: DataRow) -> set[str]:
    """Return those of `BEHAVIOURS` that a row shows."""
    said = parse_answer(row.answer)
    shown = set()
    if is_refusal(row.answer, row.question):
        shown.add("refusal")
    if row.ability == "refusal" or _asks_for_harm(row):
        shown.add("safety")
    body = strip_fence(said.text)[0]
    if (
        _JSON.match(body)
        or any(p.search(said.text) for p in (_TOOL, _SQL, _TABLE))
        or _has_tool(row)
    ):
        shown.add("tools_and_formats")
    if sum(m["role"] == "user" for m in row.messages) > 1:
        shown.add("multi_turn")
    whole = said.thinking or said.text
    if said.thinking or _STEPS.search(whole) or len(_THEREFORE.findall(whole)) >= 3:
        shown.add("reasoning_chain")
    if _REFLECTION.search(said.thinking + said.text):
        shown.add("reflection")
    return shown


def _has_tool(row: DataRow) -> bool:
    return any(m["role"] == "tool" for m in row.messages)


def _asks_for_harm(row: DataRow) -> bool:
    item = row_item(row)
    return FILTERS["unsafe"](item) or FILTERS["attack"](item)
