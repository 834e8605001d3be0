"""The reference of a recipe's keys, made of the schema itself: key, kind, default, meaning, in English or Chinese."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from guardrail.recipe import Recipe

__all__ = ["RecipeKey", "recipe_keys", "recipe_reference"]

Language = Literal["en", "zh"]

_HEADS = {
    "en": (
        "# Recipe keys",
        "Made by `guardrail recipes --keys`; a key not listed here is refused. On the command line: `--set KEY=VALUE`.",
        "| key | kind | default | meaning |",
    ),
    "zh": (
        "# 配方的键",
        "由 `guardrail recipes --keys --lang zh` 生成；表里没有的键会被拒绝。命令行上用 `--set 键=值` 修改。",
        "| 键 | 类型 | 默认值 | 含义 |",
    ),
}
_REQUIRED = {"en": "required", "zh": "必填"}
_NONE = {"en": "none", "zh": "无"}


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """One key: its dotted name, its kind in words, its default as YAML, what the schema says of it."""

    name: str
    kind: str
    default: str | None
    """None where it is required or is a section."""
    meaning: str
    section: bool = False


def recipe_keys() -> list[RecipeKey]:
    """Return every key of a recipe in the order of the schema: those of no section, then sections and what they hold."""
    keys = list(_keys(Recipe, ""))
    alone = [key for key in keys if "." not in key.name and not key.section]
    return [*alone, *(key for key in keys if key not in alone)]


def _keys(model: type[BaseModel], prefix: str) -> Iterator[RecipeKey]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield RecipeKey(prefix + name, "", None, kind.__doc__ or "", section=True)
            yield from _keys(kind, f"{prefix}{name}.")
            continue
        default = None
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            default = yaml.safe_dump(
                list(value) if isinstance(value, tuple) else value, default_flow_style=True
            ).splitlines()[0]
        yield RecipeKey(prefix + name, _kind(kind), default, field.description or "")


def _kind(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, UnionType):
        return _kind(next(one for one in inside if one is not type(None)))
    if origin is tuple:
        return "list"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    names = {str: "text", bool: "true, false", int: "whole number", float: "number"}
    return names[annotation]


def recipe_reference(language: Language = "en") -> str:
    """Return the table as Markdown; a Chinese meaning that is missing is a KeyError, which a test looks for."""
    title, intro, head = _HEADS[language]
    meanings: dict[str, str] = {}
    kinds: dict[str, str] = {}
    if language == "zh":
        text = (files("guardrail.cli") / "recipe_reference.zh.yaml").read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        meanings, kinds = content["keys"], content["kinds"]
    lines = [title, "", intro]
    rows: list[str] = []
    for key in recipe_keys():
        meaning = meanings[key.name] if meanings else " ".join(key.meaning.split())
        if key.section:
            lines += [*rows, "", f"## `{key.name}`", "", meaning, "", head, "|---|---|---|---|"]
            rows = []
            continue
        if not rows and len(lines) == 3:
            lines += ["", head, "|---|---|---|---|"]
        default = _REQUIRED[language] if key.default is None else f"`{key.default}`"
        if key.default == "null":
            default = _NONE[language]
        kind = kinds.get(key.kind, key.kind)
        rows.append(f"| `{key.name}` | {kind} | {default} | {_cell(meaning)} |")
    return "\n".join([*lines, *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
