"""What the engines log while they answer, in the language of the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.texts import Language

__all__ = ["spoken_log"]


@contextmanager
def spoken_log(language: Language) -> Iterator[None]:
    """Let what is logged of answers in progress be said in a language while the body runs."""
    words = terminal_words(language)

    def said(record: logging.LogRecord) -> bool:
        record.msg, record.args = words.sentence(record.getMessage()), ()
        return True

    logger = logging.getLogger("guardrail.engines.decode")
    logger.addFilter(said)
    try:
        yield
    finally:
        logger.removeFilter(said)
