"""A recipe's YAML as plain data, with what the command line changes of it.

A recipe is somebody's file: what makes YAML large or ambiguous is refused (aliases, repeated keys, deep nesting,
numbers nobody can hold), and what it yields is text, numbers, truths, lists and keys, as JSON has them.
"""

import codecs
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from guardrail.errors import InputError
from guardrail.read_back import read_bounded
from guardrail.redaction import redacted_change
from guardrail.shipped import PREFIX, user_path

__all__ = ["flat", "read_yaml", "set_options", "shown", "with_changes"]

_WITH_PATHS = re.compile(
    r"gold_base|start_model|kl_reference|sets\..+|train\.(data|rewards)|probes\.files"
)
"""Keys whose values are paths; on the command line they are relative to where it is typed, as any path there."""

_MOST_BYTES = 256 << 10
_MOST_DEPTH = 20
_LONGEST_NUMBER = 40
"""Characters."""
_NUMBER = re.compile(r"[-+\d_.:]+(?:[eE][-+\d]+)?|[-+]?0[xb][\da-fA-F_]+")
_LARGEST_WHOLE = 2**63

_PLAIN = {
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
}


class _Loader(yaml.SafeLoader):
    """Reads 5e-5 as the number it is, which YAML 1.1 takes for text, and a date as the text it is."""

    yaml_constructors = {  # noqa: RUF012
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag in (*_PLAIN, None)
    }
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in found if tag in _PLAIN]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return the keys of a mapping, none of which may stand there twice."""
        seen: set[str] = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be text", name.start_mark
                )
            if name.value in seen:
                problem = f"key `{name.value:.80}` stands there twice; keep one of them"
                raise yaml.constructor.ConstructorError(None, None, problem, name.start_mark)
            seen.add(name.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+\Z"),
    list("-+0123456789"),
)


def read_yaml(path: Path, what: str = "recipe") -> dict[str, Any]:
    """Return the keys of a recipe file, or of another that is read as strictly, not checked yet.

    Args:
        path: The file.
        what: What an error calls it.

    Raises:
        InputError: it cannot be read, is no YAML of the kind described above, or no mapping.
    """
    try:
        data = read_bounded(path, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"{what} `{path}` cannot be read: {error.strerror}") from error
    text = _decoded(data, path, what)
    content = _load(text, f"{what} `{path}` is not valid YAML")
    if not isinstance(content, dict):
        raise InputError(
            f"{what} `{path}` must be a mapping of keys, got {type(content).__name__}; write `key: value`, a line a key"
        )
    return content


def _decoded(data: bytes, path: Path, what: str) -> str:
    """The file's text; the mark that editors put before UTF-8 (BOM) is left out, other encodings are named."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            at = error.start
        try:
            data.decode("gb18030")
            encoding = "GBK"
        except UnicodeDecodeError:
            raise InputError(
                f"{what} `{path}` is not valid YAML: not UTF-8 (byte {at}); convert the file first"
            ) from None
    raise InputError(
        f"{what} `{path}` is not UTF-8 but {encoding}, by its bytes; save it as UTF-8, or: iconv -f {encoding} -t UTF-8 "
        f"{shlex.quote(str(path))} > utf8.yaml"
    )


def _load(text: str, what: str) -> Any:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _refused("`&` and `*` are not read here; write the value out", event)
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                _check_number(event)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEPTH:
                raise _refused(f"it is nested deeper than {_MOST_DEPTH} levels", event)
        content = yaml.load(text, Loader=_Loader)
        _check(content, "")
    except yaml.YAMLError as error:
        raise InputError(f"{what}: {_in_a_line(error)}; mend it there") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: {error!s:.300}") from error
    return content


def _check_number(event: yaml.ScalarEvent) -> None:
    if len(event.value) > _LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
        raise _refused(
            f"a number has at most {_LONGEST_NUMBER} characters; quote it if it is text", event
        )


def _refused(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _in_a_line(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    said = " ".join(str(problem).split())[:300]
    if "'\\t'" in said:
        return f"a tab stands where YAML wants spaces: {said}{where}"
    return f"{said}{where}"


def _check(value: Any, key: str) -> None:
    """Raise a ValueError where a value is none that a file, a command line and JSON can hold."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(name, f"{key}.{name:.80}".lstrip("."))
            _check(inner, f"{key}.{name:.80}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            _check(inner, key)
    elif isinstance(value, str):
        bad = next((c for c in value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
        if bad is not None:
            raise ValueError(
                f"key `{key}` holds the character U+{ord(bad):04X}, which no file's name or text may; remove it"
            )
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"key `{key}` must be a finite number, got {value}")
    elif isinstance(value, int) and abs(value) >= _LARGEST_WHOLE:
        raise ValueError(f"key `{key}` must lie within ±2^63")


def shown(value: Any) -> str:
    """Return a value for an error's text: never all of a large one."""
    if isinstance(value, dict | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value) if not isinstance(value, str) else repr(value[:80]) + "…" * (len(value) > 80)


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
        option = f"`--set {' '.join(redacted_change(change).split()):.120}`"
        if not equals or not key or "" in key.split("."):
            raise InputError(f"{option} must read KEY=VALUE, for example train.data=rows.jsonl")
        value = _load(text, f"{option}: the value is not valid YAML")
        if _WITH_PATHS.fullmatch(key):
            value = _from_here(value)
        *parents, last = key.split(".")
        inside = changed
        for parent in parents:
            below = inside.get(parent)
            if below is not None and not isinstance(below, dict):
                raise InputError(f"{option}: `{parent}` is {shown(below)} and has no keys")
            inside[parent] = inside = dict(below or {})
        inside[last] = value
    return changed


def flat(content: Any, above: str = "") -> dict[str, Any]:
    """Return dotted key → value of nested keys; lists are values."""
    if not isinstance(content, dict) or not content:
        return {above.rstrip("."): content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= flat(value, f"{above}{name}.")
    return found


def set_options(changes: Iterable[str]) -> list[str]:
    """Return changes as a command line gives them, for a command that goes on with the same recipe."""
    return [part for change in changes for part in ("--set", change)]


def _from_here(value: Any) -> Any:
    """A path, or each of several, made absolute where there is such a file; names of models and modules stay."""
    if isinstance(value, list):
        return [_from_here(one) for one in value]
    if not isinstance(value, str) or value.startswith(PREFIX):
        return value
    file, colon, function = value.partition(".py:")
    path = user_path(f"{file}.py" if colon else value)
    return f"{path.resolve()}{colon and ':'}{function}" if path.exists() else value
