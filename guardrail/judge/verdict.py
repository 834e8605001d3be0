"""The verdict of one look, as the drift rule returns it, the ledger keeps it and everybody reads it back.

One model from rule to page: a number that could not be computed is None from the start, as JSON will have
it, so that what is read is what was written. Checked on the way in, for a ledger is a file that anybody may
have cut or edited.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from guardrail.sets.items import ABILITIES

__all__ = [
    "LEVELS",
    "UNTESTED",
    "Count",
    "Facts",
    "Number",
    "Stream",
    "Text",
    "Verdict",
    "by_standing",
    "rank",
    "shows_harm",
]

LEVELS = ("ok", "warn", "serious", "critical")
"""What a test can say, mildest first."""
UNTESTED: Literal["untested"] = "untested"
"""The level of what was not tested, for whatever reason; never ok."""

_LARGEST = 1e15
_LONGEST_TEXT = 4000
_MOST_STREAMS = 2000
"""Of one look: ten metrics on 200 groups."""


def rank(level: str) -> int:
    """Return how bad a level is: 0 for ok and untested, 3 for critical; one that nobody knows is worse."""
    if level == UNTESTED:
        return 0
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def shows_harm(level: str) -> bool:
    """Return whether a level stands above ok; an untested one shows nothing."""
    return rank(level) > 0


def _drawable(value: Any) -> Any:
    drawable = not isinstance(value, float | int) or abs(value) < _LARGEST
    return value if drawable else None


Number = Annotated[float | None, BeforeValidator(_drawable), AfterValidator(_drawable)]
"""A number one can draw (finite, below 1e15 in size), or None where there is none."""


def _cut(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _LONGEST_TEXT:
        return value
    return f"{value[:_LONGEST_TEXT]}… ({len(value)} characters)"


Text = Annotated[str, BeforeValidator(_cut)]
"""Text of a record; one that is too long for any page is cut, and says so."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""How many: no less than none, and what JSON and a chart can hold."""


class Facts(BaseModel):
    """Shared settings: frozen, and fields nobody shows are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Stream(Facts):
    """One metric on one group at one look; None: could not be computed.

    `low` and `high` bound the mean harm at 95 % for this look alone: a picture, not the promise.
    `tested` is False with a `reason` where the stream cannot alarm; its level is then `untested`.
    """

    metric: Text
    group: Text
    n: Count
    base: Number = None
    now: Number = None
    harm: Number = None
    se: Number = None
    low: Number = None
    high: Number = None
    margin: Number = None
    z: Number = None
    z_critical: Number = None
    boundary_warn: Number = None
    """None where nothing could cross it: no budget was left for this look."""
    boundary_halt: Number = None
    level: Text
    tested: bool
    reason: Text = ""
    attention: bool | None = None
    """Whether an ok stream moved inside its margin (its interval lies above zero): a mark for readers, without
    action and outside the promise. Older ledgers do not say."""

    @model_validator(mode="before")
    @classmethod
    def _untested_is_never_ok(cls, stream: Any) -> Any:
        """Ledgers of earlier versions call a stream ok that was not tested."""
        if isinstance(stream, dict) and stream.get("tested") is False:
            return stream | {"level": UNTESTED}
        return stream

    @property
    def name(self) -> str:
        """What ledger and people call it."""
        return f"{self.metric}/{self.group}"

    @property
    def standing(self) -> str:
        """The one word for badge and sentence.

        A level above ok; `few_items`, `few_clusters`, `blind`, `no_budget` or `untested` where the
        stream could not alarm; `not_shown` where the mean is beyond the margin without proof;
        `attention` where it moved inside its margin; else `ok`.
        """
        if shows_harm(self.level):
            return self.level
        if not self.tested:
            openings = {
                "blind": "blind",
                "all planned": "no_budget",
                "the error budget": "no_budget",
            }
            for opening, code in openings.items():
                if self.reason.startswith(opening):
                    return code
            if "clusters" in self.reason:
                return "few_clusters"
            return "few_items" if "are needed" in self.reason else "untested"
        beyond = self.harm is None or self.margin is None or self.harm > self.margin
        return "not_shown" if beyond else "attention" if self.attention else "ok"


class Verdict(Facts):
    """The verdict of one look: the highest level of any tested stream, `untested` without one, and every stream."""

    level: Text
    streams: tuple[Stream, ...] = Field(max_length=_MOST_STREAMS)

    @model_validator(mode="before")
    @classmethod
    def _untested_is_never_ok(cls, look: Any) -> Any:
        """Ledgers of earlier versions call a look ok that tested nothing."""
        streams = look.get("streams") if isinstance(look, dict) else None
        if isinstance(streams, list) and not any(
            isinstance(s, dict) and s.get("tested") for s in streams
        ):
            return look | {"level": UNTESTED}
        return look

    def stream(self, metric: str, group: str) -> Stream | None:
        """Return one stream, None if there is none."""
        return next((s for s in self.streams if (s.metric, s.group) == (metric, group)), None)

    @property
    def drifted(self) -> bool:
        """Whether anything was shown to be beyond its margin."""
        return shows_harm(self.level)

    @property
    def sound(self) -> bool:
        """Whether it is ok and without `suspects`.

        An ok look promises no more than that nothing was *shown*, at a bar that a whole run's looks share. Weights that one goes
        back to should not have fallen either way. Costs nothing where it is wrong: an older checkpoint is taken.
        """
        return self.level == "ok" and not self.suspects

    @property
    def suspects(self) -> tuple[Stream, ...]:
        """The tested streams whose 95 % interval of this look alone lies beyond the margin without an alarm."""
        return tuple(
            s
            for s in self.streams
            if s.standing == "not_shown"
            and s.low is not None
            and s.margin is not None
            and s.low > s.margin
        )

    @property
    def leaning(self) -> tuple[Stream, ...]:
        """The pass rates that are beyond their margin on average, neither shown nor among the `suspects`; largest harm first."""
        found = [
            s
            for s in self.streams
            if s.metric == "passed" and s.standing == "not_shown" and s not in self.suspects
        ]
        return tuple(sorted(found, key=lambda s: -(s.harm or 0.0)))

    @property
    def groups(self) -> list[str]:
        """The abilities, the shipped ones first and in their order."""
        found = dict.fromkeys(s.group for s in self.streams if s.group != "overall")
        known = [name for name in ABILITIES if name in found]
        return known + [name for name in found if name not in known]

    @property
    def alarmed(self) -> tuple[Stream, ...]:
        """The streams above ok: highest level first, then pass rates, then the larger evidence.

        Each may be named, for the rule's boundary bounds the largest of all.
        """
        above = [s for s in self.streams if shows_harm(s.level)]
        above.sort(
            key=lambda s: (-rank(s.level), s.metric != "passed", s.group != "overall", -(s.z or 0))
        )
        return tuple(above)

    @property
    def fallen(self) -> tuple[Stream, ...]:
        """The abilities above ok, worst first, each by the stream that names it.

        Where none is so alone, those whose mean harm is beyond the margin in what is above ok over all items (in the pass
        rate, where nothing is), largest first: likely, not shown.
        """
        alone = [s for s in self.alarmed if s.group != "overall"]
        if not alone:
            metrics = {s.metric for s in self.alarmed} or {"passed"}
            fell = [s for s in self.streams if s.metric in metrics and s.group != "overall"]
            alone = [s for s in fell if s.harm is not None and s.harm > (s.margin or 0.0)]
            alone.sort(key=lambda s: (s.metric != "passed", -(s.harm or 0.0)))
        first: dict[str, Stream] = {}
        for stream in alone:
            first.setdefault(stream.group, stream)
        return tuple(first.values())

    @property
    def tested(self) -> bool:
        """Whether any stream could alarm."""
        return any(s.tested for s in self.streams)

    @property
    def untested(self) -> list[Stream]:
        """The streams that could not alarm."""
        return [s for s in self.streams if not s.tested]


def by_standing(streams: Iterable[Stream]) -> dict[str, list[Stream]]:
    """Return streams by their standing, the most frequent first."""
    found: dict[str, list[Stream]] = {}
    for stream in streams:
        found.setdefault(stream.standing, []).append(stream)
    return dict(sorted(found.items(), key=lambda kind: -len(kind[1])))
