"""A recipe's YAML as plain data, with what the command line changes of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from guardrail.errors import InputError
from guardrail.shipped import PREFIX

__all__ = ["read_yaml", "set_options", "with_changes"]

_WITH_PATHS = re.compile(r"gold_base|start_model|kl_reference|sets\..+|train\.(data|rewards)")
"""Keys whose values are paths; on the command line they are relative to where it is typed, as any path there."""


class _Loader(yaml.SafeLoader):
    """Reads 5e-5 as the number it is; YAML 1.1 takes it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+\Z"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a recipe file, not checked yet.

    Raises:
        InputError: it is no YAML, or no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"recipe `{path}` is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"recipe `{path}` must be a mapping of keys, got {type(content).__name__}")
    return content


def with_changes(content: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return the keys with changes such as `train.arguments.learning_rate=1e-5`, the value read as YAML.

    A key that is absent is added; whether there is such a key the recipe's own check says. Paths are relative to the
    working directory.

    Raises:
        InputError: a change is no KEY=VALUE, its value is no YAML, or its key leads through something that has no keys.
    """
    changed = dict(content)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key or "" in key.split("."):
            raise InputError(
                f"`--set {change}` must read KEY=VALUE, for example train.data=rows.jsonl"
            )
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise InputError(f"`--set {change}`: the value is not valid YAML") from error
        if _WITH_PATHS.fullmatch(key):
            value = _from_here(value)
        *parents, last = key.split(".")
        inside = changed
        for parent in parents:
            below = inside.get(parent)
            if below is not None and not isinstance(below, dict):
                raise InputError(f"`--set {change}`: `{parent}` is {below!r} and has no keys")
            inside[parent] = inside = dict(below or {})
        inside[last] = value
    return changed


def set_options(changes: Sequence[str]) -> list[str]:
    """Return changes as a command line gives them, for a command that goes on with the same recipe."""
    return [part for change in changes for part in ("--set", change)]


def _from_here(value: Any) -> Any:
    """A path, or each of several, made absolute where there is such a file; names of models and modules stay."""
    if isinstance(value, list):
        return [_from_here(one) for one in value]
    if not isinstance(value, str) or value.startswith(PREFIX):
        return value
    file, colon, function = value.partition(".py:")
    path = Path(f"{file}.py" if colon else value).expanduser()
    return f"{path.resolve()}{colon and ':'}{function}" if path.exists() else value
