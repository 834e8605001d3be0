"""Somebody's corpora → items: read, mend, filter, de-duplicate, draw; every row lost is counted by reason."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from guardrail.errors import InputError
from guardrail.files import whole_file
from guardrail.sets.abilities import guess_ability
from guardrail.sets.build.draw import Draw, draw_key
from guardrail.sets.item_checks import OneOf
from guardrail.sets.items import Item, Message, item_line
from guardrail.sets.lint.duplicates import hash64, plain
from guardrail.sets.read.clean import clean_text, scrub_personal_data, whole_characters
from guardrail.sets.read.conversation import (
    MEDIA,
    NO_QUESTION,
    ORDER,
    TOOLS,
    Conversation,
    WrongRow,
    field_names,
)
from guardrail.sets.read.filters import FILTERS, first_reason
from guardrail.sets.read.formats import FORMATS, read_conversation, recognise, single_rows
from guardrail.sets.read.kept_prompts import CONFLICT, NEAR, SAME, KeptPrompts
from guardrail.sets.read.raw_rows import Row
from guardrail.sets.read.readers import Progress, read_rows
from guardrail.text import parse_answer

__all__ = ["REASONS", "Funnel", "ImportOptions", "import_files"]

BROKEN, WRONG = "broken line", "wrong fields"
TRANSLATED_ROW, TOO_FEW = "translated row", "too few turns"
NOT_DRAWN = "not drawn"
REASONS = (
    BROKEN, WRONG, MEDIA, TOOLS, NO_QUESTION, ORDER, TRANSLATED_ROW, TOO_FEW, SAME, CONFLICT, *FILTERS, NEAR, NOT_DRAWN,
)  # fmt: skip
"""Every reason a row can be lost for, in the order they are asked."""

OnProgress = Callable[[Path, int], None]
"""Told a file and how many of its bytes have been read."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is taken, and how."""

    format: str | None = None
    """One of `FORMATS`; `None`: each file's is recognised from its first row."""
    encoding: str = "utf-8"
    licence: str | None = None
    """Overrides what the format's publisher says."""
    seed: int = 0
    limit: int | None = None
    """Most items kept of a format; `None`: the format's own bound, 0: no bound."""
    per_task: int | None = None
    """Most items kept of a task; `None`: the format's own bound, 0: no bound."""
    allow: frozenset[str] = frozenset()
    """Filters that are not applied."""
    keep_duplicates: bool = False
    """Leave duplicates in; memory is constant then."""
    skip_broken: bool = False
    """Count lines that cannot be read instead of stopping at the first."""


@dataclass(slots=True)
class Funnel:
    """What became of the rows that were read."""

    read: int = 0
    kept: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    scrubbed: int = 0
    """Pieces of personal data that were replaced in the rows read."""
    thinking: int = 0
    """Rows whose answer had a thinking block, kept apart."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, reasons in the order they are asked."""
        return {
            "read": self.read,
            "lost": {reason: self.lost[reason] for reason in REASONS if self.lost[reason]},
            "kept": self.kept,
            "formats": dict(self.formats),
            "personal_data_replaced": self.scrubbed,
            "thinking_kept_apart": self.thinking,
        }


def _item(
    said: Conversation, name: str, source: str, licence: str, funnel: Funnel
) -> tuple[Item, str] | str:
    """The conversation as an item and its plain prompt, or the reason why it is none."""
    if said.lost in (MEDIA, TOOLS):
        return said.lost
    turns: list[tuple[str, str]] = []
    thinking, scrubbed = "", 0
    for role, raw in said.turns:
        text = raw
        if role == "assistant":
            parsed = parse_answer(raw)
            text, thinking = parsed.text, whole_characters(parsed.thinking)
        text, found = scrub_personal_data(clean_text(text))
        scrubbed += found
        turns.append((role, text))
    answer = turns.pop()[1] if turns and turns[-1][0] == "assistant" else ""
    if not turns or turns[-1][0] != "user" or not all(text for _, text in turns):
        return NO_QUESTION
    if said.lost is not None:
        return said.lost
    prompt = plain("\n".join(text for role, text in turns if role != "system"))
    funnel.scrubbed += scrubbed
    funnel.thinking += bool(thinking)
    item = Item(
        id=f"{name}-{hash64(prompt):016x}",
        ability=guess_ability(turns[-1][1], said.task),
        source=whole_characters(source),
        licence=licence,
        messages=tuple(Message(role=role, content=text) for role, text in turns),
        checks=() if said.choice is None else (OneOf(kind="one_of", options=(said.choice,)),),
        cluster=said.cluster and whole_characters(said.cluster),
        task=said.task and whole_characters(said.task),
        answer=answer or None,
        thinking=thinking or None,
        annotations=None if said.annotations is None else dict(said.annotations),
    )
    return item, prompt


def _recognised(row: Row, options: ImportOptions) -> str:
    """The format of a file whose first row this is, empty where the row is of none and such rows are counted."""
    name = options.format or recognise(row.value)
    if name is None and options.skip_broken:
        return ""
    if name is None:
        raise InputError(
            f"{row.where}: fields {field_names(row.value)} fit no known format; "
            f"name it: {', '.join(FORMATS)}"
        )
    return name


def import_files(
    files: Sequence[Path],
    out: Path,
    options: ImportOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Funnel:
    """Write the items that the files are good for and return what became of the rows.

    The same files, options and seed write the same bytes. Filters and draws run in constant
    memory, rows wait on disk; de-duplication holds about 1.6 KB a row that reaches it.

    Raises:
        InputError: an unknown format or filter, a file that cannot be read, a row of the wrong
            form; `out` is left as it was.
    """
    options = options or ImportOptions()
    if options.format is not None and options.format not in FORMATS:
        raise InputError(f"unknown format `{options.format}`; known are {', '.join(FORMATS)}")
    for name in options.allow:
        if name not in (*FILTERS, TOO_FEW):
            raise InputError(f"unknown filter `{name}`; known are {', '.join((*FILTERS, TOO_FEW))}")
    tell = on_progress or (lambda path, done: None)
    funnel = Funnel()
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=out.parent) as scratch, TemporaryFile(dir=out.parent) as plain_scratch:
        known = None if options.keep_duplicates else KeptPrompts(plain_scratch)
        draws: dict[str, Draw | None] = {}
        names: list[tuple[int, str]] = []  # number of a file's first item, the file's format
        number = 0
        for path in files:
            name = ""
            for row in _rows(path, options.encoding, lambda done, path=path: tell(path, done)):  # type: ignore[misc]
                funnel.read += 1
                if row.problem:
                    if not options.skip_broken:
                        raise InputError(
                            f"{row.where} {row.problem:.300}; mend or drop it, or add `--skip-broken`"
                        )
                    funnel.lost[BROKEN] += 1
                    continue
                if not name:
                    name = _recognised(row, options)
                    if not name:
                        funnel.lost[WRONG] += 1
                        continue
                    names.append((number, name))
                    draws.setdefault(name, _draw_of(name, options))
                funnel.formats[name] += 1
                made = _made(row, name, path, options, funnel)
                if isinstance(made, str):
                    funnel.lost[made] += 1
                    continue
                item, prompt = made
                lost = known.repeated(prompt, item.answer or "") if known else None
                lost = lost or first_reason(item, options.allow)
                lost = lost or (known.added(prompt, item.answer or "") if known else None)
                if lost is not None:
                    funnel.lost[lost] += 1
                    continue
                if known is None:
                    item = item.model_copy(update={"id": f"{item.id}-{number}"})
                draw = draws[name]
                if draw is not None:
                    draw.offer(item.task or "", draw_key(options.seed, item.id), number)
                scratch.write(item_line(item).encode("utf-8") + b"\n")
                number += 1
        chosen = {name: None if draw is None else draw.drawn() for name, draw in draws.items()}
        scratch.seek(0)
        with whole_file(out) as partial, partial.open("wb") as file:
            firsts = [first for first, _ in names]
            for at, line in enumerate(scratch):
                drawn = chosen[names[bisect_right(firsts, at) - 1][1]]
                if drawn is None or at in drawn:
                    file.write(line)
                    funnel.kept += 1
        funnel.lost[NOT_DRAWN] = number - funnel.kept
    return funnel


def _rows(path: Path, encoding: str, tell: Progress) -> Iterator[Row]:
    """The rows of a file, those that hold several one by one."""
    for row in read_rows(path, encoding, tell):
        if row.problem:
            yield row
            continue
        for value in single_rows(row.value):
            yield Row(row.where, dict(value))


def _draw_of(name: str, options: ImportOptions) -> Draw | None:
    default = FORMATS[name]
    per_task = default.per_task if options.per_task is None else options.per_task
    limit = default.limit if options.limit is None else options.limit
    return Draw(per_task or 0, limit or 0) if per_task or limit else None


def _made(
    row: Row, name: str, path: Path, options: ImportOptions, funnel: Funnel
) -> tuple[Item, str] | str:
    try:
        said = read_conversation(row.value)
        licence = options.licence or FORMATS[name].licence
        made = _item(said, name, f"{name}:{path.name}", licence, funnel)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if options.skip_broken:
            return WRONG
        kind = "" if isinstance(error, WrongRow) else "its fields are not of a conversation: "
        words = " ".join(str(error).split())[:300]
        raise InputError(
            f"{row.where}: {kind}{words}; mend or drop it, or add `--skip-broken`"
        ) from error
    if isinstance(made, str):
        return made
    if said.translated and "translated" not in options.allow:
        return TRANSLATED_ROW
    exchanges = sum(role == "user" for role, _ in said.turns)
    if exchanges < FORMATS[name].least_turns and TOO_FEW not in options.allow:
        return TOO_FEW
    return made
