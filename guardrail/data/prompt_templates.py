"""Prompts as text that users can edit: Chinese Jinja templates that ship with the package, or a folder of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError

from guardrail.errors import InputError

__all__ = ["Prompts", "shipped_prompts"]

_SHIPPED = Path(__file__).parent / "templates"
_JINJA = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


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
            InputError: a template of the user's that does not parse, or asks for a value that this prompt does not have.
        """
        own = None if self.folder is None else self.folder / f"{name}.zh.md"
        path = own if own is not None and own.is_file() else _SHIPPED / f"{name}.zh.md"
        try:
            return _JINJA.from_string(path.read_text(encoding="utf-8")).render(values).strip()
        except TemplateError as error:
            raise InputError(
                f"prompt template `{path}` cannot be filled in: {error}; it may use {', '.join(values) or 'no value'}"
            ) from error

    def record(self) -> Mapping[str, str]:
        """Return which templates are the user's own, for the stage's record."""
        if self.folder is None:
            return {}
        return {
            name: str(self.folder)
            for name in shipped_prompts()
            if (self.folder / f"{name}.zh.md").is_file()
        }
