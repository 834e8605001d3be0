"""The words of the report in each language: `texts/zh.yaml` and `texts/en.yaml`, same keys, HTML in them trusted.

`texts/look.zh.yaml` and `texts/look.en.yaml` are what the report of `guardrail look` says in their place.
"""

import functools
import json
from pathlib import Path
from typing import Any, Literal

import yaml
from markupsafe import Markup

from guardrail.ledger.file import FILE_NAME, RESOLVED_FILE
from guardrail.read_back import open_regular, read_json

__all__ = ["LANGUAGES", "Language", "Texts", "language_of", "language_of_run", "texts"]

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
_LARGEST = 4 << 20
"""Bytes of a resolved recipe, and of a ledger's header."""

Texts = dict[str, dict[str, Markup]]
"""section → key → text. `Markup.format` escapes what is filled in."""


@functools.cache
def texts(language: Language, *, one_look: bool = False) -> Texts:
    """Return every text of one language; `one_look`: of one look at a model instead of a run."""
    found = _read(f"{language}.yaml")
    if one_look:
        for section, entries in _read(f"look.{language}.yaml").items():
            merged = found[section] | entries
            found[section] = {key: text for key, text in merged.items() if text}
    return found


def _read(name: str) -> Texts:
    path = Path(__file__).parent / "texts" / name
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        section: {key: Markup(text) for key, text in entries.items()}
        for section, entries in content.items()
    }


def language_of(value: object) -> Language:
    """Return a recipe's language; Chinese where an older run says none."""
    return "en" if value == "en" else "zh"


def language_of_run(*folders: Path) -> Language:
    """Return the language of the first of these that is a run folder which says one; Chinese without one.

    Its recipe says so, also before there is a ledger; a run of your own script has the ledger's header alone.
    """
    for folder in folders:
        for read in (_resolved_recipe, _recipe_of_header):
            try:
                return language_of(read(folder)["language"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
    return "zh"


def _resolved_recipe(run: Path) -> Any:
    return read_json(run / RESOLVED_FILE, _LARGEST)


def _recipe_of_header(run: Path) -> Any:
    with open_regular(run / FILE_NAME) as file:
        return json.loads(file.readline(_LARGEST))["recipe"]
