"""Checks an item carries: what a program can verify about an answer, as data.

The evaluators live in `guardrail.probes`; this module only says what may be asked.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "Address",
    "Characters",
    "Check",
    "Contains",
    "EndsWith",
    "InOrder",
    "Json",
    "Language",
    "ListItems",
    "Members",
    "OneOf",
    "Paragraphs",
    "Sentences",
    "StartsWith",
    "Table",
    "Title",
]


class _Check(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Count(_Check):
    at_least: int | None = Field(default=None, ge=0)
    """Smallest count that passes."""
    at_most: int | None = Field(default=None, ge=0)
    """Largest count that passes."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> "_Count":
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs `at_least`, `at_most` or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"`at_least` must not exceed `at_most`, got {self.at_least} > {self.at_most}"
            )
        return self


class Characters(_Count):
    """字数: Han characters and punctuation count one each, a Latin word or a number counts one.

    Markdown marks, list numbers and bullets count nothing.
    """

    kind: Literal["characters"]


class Sentences(_Count):
    """句数: pieces that end in 。！？ or their half-width forms, or at the end of a line.

    ；and …… end no sentence; headings and list numbers are none.
    """

    kind: Literal["sentences"]


class Paragraphs(_Count):
    """段数: non-empty lines."""

    kind: Literal["paragraphs"]


class ListItems(_Count):
    """分点: lines that open with a number or a bullet."""

    kind: Literal["list_items"]
    style: Literal["any", "numbered", "bulleted"] = "any"
    """Which markers count."""


class Contains(_Check):
    """Words the answer must or must not hold; comparison ignores case."""

    kind: Literal["contains"]
    all: tuple[str, ...] = ()
    """Every one of these must occur."""
    any: tuple[str, ...] = ()
    """At least one of these must occur."""
    none: tuple[str, ...] = ()
    """None of these may occur."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Contains":
        if not (self.all or self.any or self.none):
            raise ValueError("needs at least one word under `all`, `any` or `none`")
        return self


class InOrder(_Check):
    """Parts that must occur one after the other."""

    kind: Literal["in_order"]
    parts: tuple[str, ...] = Field(min_length=2)
    """The parts, first to last."""


class Members(_Check):
    """How many different options the answer names, for tasks such as 说出三种水果."""

    kind: Literal["members"]
    options: tuple[str, ...] = Field(min_length=1)
    """What counts as a member."""
    count: int = Field(ge=1)
    """Exactly so many different options must be named."""


class StartsWith(_Check):
    """The answer must open with one of these."""

    kind: Literal["starts_with"]
    any: tuple[str, ...] = Field(min_length=1)
    """Accepted openings."""


class EndsWith(_Check):
    """The answer must close with one of these."""

    kind: Literal["ends_with"]
    any: tuple[str, ...] = Field(min_length=1)
    """Accepted endings."""


class OneOf(_Check):
    """Only-the-answer: apart from quotes and end punctuation the whole answer is one of these."""

    kind: Literal["one_of"]
    options: tuple[str, ...] = Field(min_length=1)
    """Accepted answers."""


class Language(_Check):
    """The language the answer is written in, by share of letters."""

    kind: Literal["language"]
    is_: Literal["zh", "en"] = Field(alias="is")
    """`zh`: most letters are Han; `en`: hardly any is."""


class Title(_Check):
    """The answer opens with a title line: a heading, 《…》, 【…】, or a short line above the text."""

    kind: Literal["title"]
    at_most: int | None = Field(default=None, ge=1)
    """Most characters of the title, brackets around it not counted."""


class Address(_Check):
    """The answer addresses its reader as 您 and never as 你, or the other way round."""

    kind: Literal["address"]
    is_: Literal["您", "你"] = Field(alias="is")
    """The word it uses."""


JsonType = Literal["string", "number", "integer", "boolean", "array", "object", "null"]


class Json(_Check):
    """The answer is one JSON value, a code fence around it tolerated unless the item says no."""

    kind: Literal["json"]
    root: Literal["object", "array"] = "object"
    """Type of the outermost value."""
    keys: dict[str, JsonType] = Field(default_factory=dict)
    """Keys every object must have (of the root, or of each element of a root array) and types."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Keys of the root object whose values are fixed."""
    only_these_keys: bool = True
    """Whether further keys are an error."""
    length: int | None = Field(default=None, ge=0)
    """Number of elements of a root array."""
    fence: Literal["allowed", "required", "forbidden"] = "allowed"
    """Whether a ``` code fence may, must or must not surround the value."""


class Table(_Check):
    """The answer holds one Markdown table."""

    kind: Literal["table"]
    columns: tuple[str, ...] = ()
    """Header cells in order; empty: any header."""
    rows: int | None = Field(default=None, ge=0)
    """Number of body rows."""


Check = Annotated[
    Characters
    | Sentences
    | Paragraphs
    | ListItems
    | Contains
    | InOrder
    | Members
    | StartsWith
    | EndsWith
    | OneOf
    | Language
    | Json
    | Table
    | Title
    | Address,
    Field(discriminator="kind"),
]
