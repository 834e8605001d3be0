"""Is the answer in the format asked for: JSON with its keys and types, a Markdown table.

Does not see whether the values are true, except where the item fixes them.
"""

import json
import re
from typing import Any

from guardrail.sets.item_checks import Json, Table
from guardrail.text import strip_fence

__all__ = ["json_check_passes", "table_check_passes"]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_RULE_ROW = re.compile(r"^\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?$")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


def _has_type(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name in ("number", "integer"):
        return False
    return isinstance(value, _TYPES[name])


def _object_passes(value: Any, check: Json) -> bool:
    if not isinstance(value, dict):
        return False
    if any(k not in value or not _has_type(value[k], t) for k, t in check.keys.items()):
        return False
    return not (check.keys and check.only_these_keys and set(value) - set(check.keys))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _same(value: Any, expected: Any) -> bool:
    """Equal as JSON: 1 is 1.0 but not true, at every depth."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(_same(value[k], expected[k]) for k in value)
    if isinstance(value, list) and isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return bool(value == expected)


def json_check_passes(check: Json, text: str) -> bool:
    """Return whether the whole answer is one JSON value that meets the check."""
    body, fenced = strip_fence(text)
    if (check.fence == "required" and not fenced) or (check.fence == "forbidden" and fenced):
        return False
    try:
        value = json.loads(
            body.lstrip("\ufeff"), parse_constant=_refuse, object_pairs_hook=_unique_keys
        )
    except (ValueError, RecursionError):
        return False
    if check.root == "array":
        if not isinstance(value, list) or (check.length is not None and len(value) != check.length):
            return False
        return not check.keys or all(_object_passes(element, check) for element in value)
    if not _object_passes(value, check):
        return False
    return all(
        key in value and _same(value[key], expected) for key, expected in check.values.items()
    )


def _cells(row: str) -> tuple[str, ...]:
    """The cells of a table row, emphasis marks off; an escaped bar stays inside its cell."""
    inner = row.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return tuple(cell.strip().strip("*_`").strip() for cell in _CELL_BORDER.split(inner))


def table_check_passes(check: Table, text: str) -> bool:
    """Return whether the answer holds one Markdown table with the header and rows asked for."""
    lines = [line.strip() for line in text.splitlines()]
    rules = [i for i, line in enumerate(lines) if "|" in line and _RULE_ROW.match(line)]
    if len(rules) != 1 or rules[0] == 0:
        return False
    header = _cells(lines[rules[0] - 1])
    if len(_cells(lines[rules[0]])) != len(header):
        return False
    body = []
    for line in lines[rules[0] + 1 :]:
        if "|" not in line:
            break
        body.append(_cells(line))
    if any(len(row) != len(header) for row in body):
        return False
    if check.columns and header != check.columns:
        return False
    return check.rows is None or len(body) == check.rows
