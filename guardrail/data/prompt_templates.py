"""Prompts as text that users can edit: Chinese Jinja templates that ship with the package, or a folder of one's own.

Templates may come from somebody else: they are filled in by Jinja's sandbox, run no code, and make no huge text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from guardrail.errors import InputError
from guardrail.read_back import read_bounded

__all__ = ["Prompts", "shipped_prompts"]

_SHIPPED = Path(__file__).parent / "templates"
_LARGEST = 256 << 10
"""Bytes of a template."""
_LONGEST_PROMPT = 4 << 20


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply numbers alone: a text times a billion is a small template and a large prompt."""
        if operator == "**" or not all(isinstance(n, int | float) for n in (left, right)):
            raise SecurityError(f"`{operator}` is for numbers, and no power, in a template")
        return super().call_binop(context, operator, left, right)


_JINJA = _Sandbox(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)


def shipped_prompts() -> dict[str, Path]:
    """Return the shipped templates by name, to be copied and edited."""
    return {path.name.removesuffix(".zh.md"): path for path in sorted(_SHIPPED.glob("*.zh.md"))}


@dataclass(frozen=True, slots=True)
class Prompts:
    """Renders a template by name: the user's where the folder has one of that name, else the shipped one."""

    folder: Path | None = None

    def __call__(self, name: str, **values: Any) -> str:
        """Return the prompt.

        Raises:
            InputError: a template of the user's that does not parse, asks for a value that this prompt does not have, or does
                what a template may not.
        """
        own = None if self.folder is None else self.folder / f"{name}.zh.md"
        path = own if own is not None and own.is_file() else _SHIPPED / f"{name}.zh.md"
        try:
            template = _JINJA.from_string(read_bounded(path, _LARGEST).decode("utf-8"))
            parts, size = [], 0
            for part in template.generate(values):
                parts.append(part)
                size += len(part)
                if size > _LONGEST_PROMPT:
                    raise SecurityError(f"the prompt is longer than {_LONGEST_PROMPT} characters")
        except Exception as error:  # Jinja passes on whatever its expressions raise
            why = " ".join(f"{error}".split())[:300] or type(error).__name__
            raise InputError(
                f"prompt template `{path}` cannot be filled in: {why}; it may use {', '.join(values) or 'no value'}"
            ) from error
        return "".join(parts).strip()

    def record(self) -> Mapping[str, str]:
        """Return which templates are the user's own, for the stage's record."""
        if self.folder is None:
            return {}
        return {
            name: str(self.folder)
            for name in shipped_prompts()
            if (self.folder / f"{name}.zh.md").is_file()
        }
