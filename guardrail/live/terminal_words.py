"""What terminals say, in the language asked for: English stands in the code, Chinese beside it in `terminal_words.zh.yaml`.

Codes of the program (levels, abilities, metrics, actions) stay codes in English, as in `--json`; in Chinese they have the
words of the report. Errors, warnings and other sentences that are made far from here are looked up whole (`translated_sentences.py`).
"""

import functools
from pathlib import Path
from typing import Any

import yaml
from rich.cells import set_cell_size

from guardrail.live.translated_sentences import translated
from guardrail.report.page.phrases import Phrases
from guardrail.report.page.texts import Language

__all__ = ["TerminalWords", "terminal_words"]


class TerminalWords:
    """Says things of a run in one language."""

    def __init__(self, language: Language) -> None:
        """Load the language's texts."""
        self.language = language
        self._texts: dict[str, str] = {}
        self._phrases = Phrases(language)
        if language == "zh":
            path = Path(__file__).with_name("terminal_words.zh.yaml")
            self._texts = yaml.safe_load(path.read_text(encoding="utf-8"))

    def __call__(self, english: str, /, **values: Any) -> str:
        """Return a text with its values filled in; one without a translation stays English."""
        return self._texts.get(english, english).format(**values)

    def word(self, english: str) -> str:
        """Return a word that may come from a run, in which nothing is filled in; an unknown one as it is."""
        return self._texts.get(english, english)

    def sentence(self, english: str) -> str:
        """Return a whole sentence that other code made, its values in it; an unknown one as it is."""
        return translated(english, self.language) or english

    def name(self, section: str, code: str) -> str:
        """Return the report's word for a code, of one of its sections; in English the code."""
        return code if self.language == "en" else str(self._phrases.name(section, code).unescape())

    def stream(self, name: str) -> str:
        """Return a stream, `metric/group`, by name."""
        metric, _, group = name.partition("/")
        if self.language == "en" or not group:
            return name
        return str(self._phrases.stream_name(metric, group).unescape())

    def joined(self, parts: list[str], mark: str = "clause") -> str:
        """Return parts with the language's comma between them, or another mark of the report's `page` section."""
        return str(self._phrases.joined(parts, mark).unescape())

    def column(self, name: str, cells: int = 14) -> str:
        """Return a word of a column's width, Han characters counted as the two cells they take."""
        return set_cell_size(self.word(name), cells)


@functools.cache
def terminal_words(language: Language) -> TerminalWords:
    """Return what a language's terminals say."""
    return TerminalWords(language)
