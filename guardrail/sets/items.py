"""Items: the prompts of the red-line and rehearsal sets, their schema and their files."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.read_back import is_regular
from guardrail.sets.item_checks import Check
from guardrail.shipped import shipped_sets

__all__ = [
    "ABILITIES",
    "Item",
    "Message",
    "check_apart",
    "item_line",
    "items_sha256",
    "read_items",
    "write_items",
]

ABILITIES = (
    "instruction",
    "writing",
    "translation",
    "long_text",
    "reasoning",
    "format",
    "refusal",
)
"""The seven abilities of the shipped sets, in the order every table shows them."""


_LONGEST_LINE = 4 << 20
"""Bytes of an item."""


class Message(BaseModel):
    """One chat message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Item(BaseModel):
    """One prompt with what can be verified about its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Unique within its set."""
    ability: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """The ability the item speaks for; one stream a metric is kept for each."""
    source: str = Field(min_length=1)
    """Where the prompt comes from."""
    licence: str = Field(min_length=1)
    """Its licence, as an SPDX identifier where one exists."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The chat so far; the last message is the user's."""
    expects: Literal["answer", "refuse"] = "answer"
    """Whether a good model answers or refuses."""
    checks: tuple[Check, ...] = ()
    """What a program verifies about the answer."""
    cluster: str | None = None
    """Items made from one template share a cluster; `None`: the item stands alone."""
    rehearsed: bool = False
    """A red-line item that is also injected: it leaves the verdict."""
    task: str | None = None
    """The source's own name for the kind of task."""
    answer: str | None = None
    """The source's own answer, for reviewers: golds come from the base, nothing is judged against this."""
    thinking: str | None = None
    """What stood in the `<think>` block of that answer."""
    case: dict[str, Any] | None = None
    """What a business knows of the case that the chat is about (amounts, template); its probes are asked of items that have one alone."""
    annotations: dict[str, float] | None = None
    """What the source's annotators gave that answer (`annotation_metrics`), for reviewers; no part of the set's hash."""

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> "Item":
        if self.messages[-1].role != "user":
            raise ValueError(
                f"the last message must be the user's, got role `{self.messages[-1].role}`"
            )
        return self

    @property
    def question(self) -> str:
        """The last user message."""
        return self.messages[-1].content

    @property
    def prompt(self) -> str:
        """All turns but the system's, for comparisons."""
        return "\n".join(m.content for m in self.messages if m.role != "system")

    @property
    def asked(self) -> str:
        """All turns but the assistant's: what an answer has to heed."""
        return "\n".join(m.content for m in self.messages if m.role != "assistant")

    def chat(self) -> list[dict[str, str]]:
        """The messages as plain dictionaries, for a chat template."""
        return [{"role": m.role, "content": m.content} for m in self.messages]


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part)[:80] for part in first["loc"]) or "item"
    return f"field `{field}`: {first['msg'].removeprefix('Value error, '):.300}"


def read_items(path: str | Path) -> list[Item]:
    """Return the items of a JSONL file, in file order.

    Raises:
        InputError: the file is missing, not UTF-8, empty, holds a broken line, a wrong field or an
            id twice. The message names file, line and field.
    """
    path = Path(path)
    if not is_regular(path):
        if shipped := shipped_sets().get(path.stem):
            raise InputError(
                f"item set `{path!s:.300}` does not exist; the shipped set of that name is written `{shipped}`"
            )
        raise InputError(f"item set `{path!s:.300}` does not exist; give the path of a JSONL file")
    try:
        return _read_items(path)
    except OSError as error:
        raise InputError(
            f"item set `{path}` cannot be read ({error.strerror}); give a JSONL file"
        ) from error


def _read_items(path: Path) -> list[Item]:
    items: list[Item] = []
    line_of: dict[str, int] = {}
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(_LONGEST_LINE + 1), b"")
        for number, raw in enumerate(lines, start=1):
            where = f"`{path}` line {number}"
            if len(raw) > _LONGEST_LINE:
                raise InputError(
                    f"{where} is longer than {_LONGEST_LINE >> 20} MiB; is this really one item a line?"
                )
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{where} is not UTF-8 ({error.reason} at byte {error.start}); convert the file first"
                ) from error
            if not line:
                continue
            try:
                item = Item.model_validate(json.loads(line))
            except RecursionError as error:
                raise InputError(f"{where} is nested too deeply; mend or drop the line") from error
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{where} is not valid JSON ({error.msg} at column {error.colno}); mend or drop the line"
                ) from error
            except ValidationError as error:
                raise InputError(f"{where}, {_first_error(error)}") from error
            except ValueError as error:
                raise InputError(f"{where} is not valid JSON ({error!s:.200}); mend it") from error
            if item.id in line_of:
                raise InputError(
                    f"{where}: id `{item.id:.80}` was already used on line {line_of[item.id]}; ids must be unique"
                )
            line_of[item.id] = number
            items.append(item)
    if not items:
        raise InputError(f"item set `{path}` is empty; it needs at least one item")
    return items


def item_line(item: Item) -> str:
    """Return an item as one line of JSON: defaults left out, keys in schema order."""
    return item.model_dump_json(by_alias=True, exclude_defaults=True)


def write_items(path: str | Path, items: Iterable[Item]) -> None:
    """Write items as JSONL, one a line."""
    write_whole(Path(path), "".join(item_line(item) + "\n" for item in items))


def items_sha256(items: Iterable[Item]) -> str:
    """Return the SHA-256 of the items' content, independent of file layout."""
    digest = hashlib.sha256()
    for item in items:
        # Anchors of items without a case were made when there was no such field.
        left_out = {"annotations"} if item.case is not None else {"annotations", "case"}
        line = item.model_dump_json(by_alias=True, exclude=left_out)
        digest.update(line.encode("utf-8") + b"\n")
    return digest.hexdigest()


def check_apart(red_line: list[Item], rehearsal: list[Item]) -> None:
    """Refuse two sets that share a question or an id: nobody trains on what is judged.

    Raises:
        InputError: an item is both judged and injected, or two items have one id.
    """
    judged = {item.question: item.id for item in red_line if not item.rehearsed}
    both = [(judged[i.question], i.id) for i in rehearsal if i.question in judged]
    if both:
        named = ", ".join(f"{a} = {b}" for a, b in both[:5])
        raise InputError(
            f"{len(both)} items are both judged and injected ({named}); take them out of one "
            "set, or mark the red-line items `rehearsed: true`"
        )
    clash = sorted({i.id for i in red_line} & {i.id for i in rehearsal})
    if clash:
        raise InputError(
            f"the two sets share the ids {', '.join(clash[:5])}; ids must be unique across both"
        )
