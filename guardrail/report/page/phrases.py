"""Facts → phrases in one language: numbers with their units, streams by name, the sentences of page one."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

from guardrail.judge.verdict import Stream, by_standing
from guardrail.ledger.records import LookFacts, PrecisionFacts
from guardrail.probes.metrics import METRICS
from guardrail.report.look_engine import LookEngine
from guardrail.report.next_steps import RecipeChange, Weak
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.texts import Language, Texts, texts
from guardrail.report.run_data import RunData

__all__ = ["Phrases", "capital", "number", "score", "signed"]

_WORSE_DOWN = frozenset(metric.name for metric in METRICS if metric.worse == "lower")
"""Metrics whose value falls with harm; of all others, a business's probes among them, it rises."""


class Phrases:
    """Says things in one language. Every value from a run is escaped, control characters too."""

    def __init__(self, language: Language, *, one_look: bool = False) -> None:
        """Load the language's texts; `one_look`: those that speak of one look at a model instead of a run."""
        self.language = language
        self.t: Texts = texts(language, one_look=one_look)

    def say(self, section: str, key: str, /, **values: Any) -> Markup:
        """Return a text with its values filled in, each escaped, control characters too, unless it is HTML already."""
        safe = {k: v if isinstance(v, Markup) else escape_controls(v) for k, v in values.items()}
        return self.t[section][key].format(**safe)

    def name(self, section: str, key: str) -> Markup:
        """Return the word for a code; the code itself where there is none."""
        return self.t[section].get(key) or Markup.escape(escape_controls(key))

    def ability(self, group: str, section: str = "ability") -> Markup:
        """Return an ability's name."""
        return self.name(section, group) if group else self.t["page"]["unknown_ability"]

    def abilities(self, groups: Iterable[str]) -> Markup:
        """Return the names of abilities."""
        return self.joined(map(self.ability, groups))

    def joined(self, parts: Iterable[Any], mark: str = "comma") -> Markup:
        """Return parts with the language's comma or semicolon between them."""
        return self.t["page"][mark].join(Markup.escape(p) for p in parts)

    def precision(self, facts: PrecisionFacts) -> Markup:
        """Return in which precision a run trained, in one phrase."""
        adapter, quantised = facts.tuning != "full", facts.quantization is not None
        parts = [
            self.say("precision", "adapter" if adapter else "full", tuning=facts.tuning),
            self.say("precision", "weights", dtype=facts.weights),
            self.say(
                "precision",
                "forwards_autocast" if facts.autocast else "forwards",
                dtype=facts.forwards,
            ),
            self.say(
                "precision",
                "quantised" if quantised else "not_quantised",
                how=facts.quantization or "",
            ),
        ]
        return self.joined(parts, "clause")

    def sentence(self, parts: Iterable[Any]) -> Markup:
        """Return parts as one sentence, a Latin one with a capital."""
        return capital(
            self.joined([p for p in parts if p], "semicolon") + self.t["page"]["full_stop"]
        )

    def stream(self, s: Stream) -> Markup:
        """Return a stream's name as it stands in a sentence."""
        return self.stream_name(s.metric, s.group)

    def stream_name(self, metric: str, group: str) -> Markup:
        """Return the name of a metric on a group as it stands in a sentence."""
        if group == "overall":
            if metric == "passed":
                return self.t["page"]["overall_passed"]
            return self.say("page", "overall_metric", metric=self.name("metric", metric))
        if metric == "passed":
            return self.say("page", "passed_of", group=self.ability(group))
        named = self.name("metric", metric)
        key = "of_group_apart" if "的" in named else "of_group"
        return self.say("page", key, group=self.ability(group), metric=named)

    def percent(self, share: float | None, digits: int = 1) -> Markup:
        """Return a share as a percentage."""
        if share is None:
            return self.t["page"]["dash"]
        return self.say(
            "unit", "percent", v=f"{100 * share + 1e-9:.{digits}f}"
        )  # 72.5 is 73, not the even 72

    def value(self, metric: str, v: float | None) -> Markup:
        """Return a metric's value with its unit."""
        if v is None:
            return self.t["page"]["dash"]
        if metric in ("shorter", "longer"):
            return self.say("unit", "characters", v=f"{math.exp(min(v, 50.0)):.0f}")
        if metric == "similarity":
            return self.say("unit", "similarity", v=f"{100 * v:.1f}")
        if metric == "fluency":
            return self.say("unit", "fluency", v=f"{v:.2f}")
        return self.percent(v)

    def amount(self, metric: str, harm: float | None, *, unit: bool = True) -> Markup:
        """Return harm as a signed change of the metric itself."""
        if harm is None:
            return self.t["page"]["dash"]
        change = harm if metric not in _WORSE_DOWN else -harm
        if metric in ("shorter", "longer"):
            text, kind = signed(100 * math.expm1(min(change, 50.0)), 0), "percent"
        elif metric == "fluency":
            text, kind = signed(change, 2), "fluency"
        else:
            # A mean of shares cannot move by more than all of it, whatever an interval's formula says.
            change = min(1.0, max(-1.0, change))
            text = signed(100 * change, 1)
            kind = "similarity" if metric == "similarity" else "points"
        return self.say("unit", kind, v=text) if unit else Markup(text)

    def interval(self, s: Stream) -> Markup:
        """Return the 95 % interval of a stream's change, lower end first."""
        if s.low is None or s.high is None:
            return self.t["page"]["no_interval"]
        low, high = s.low, s.high
        if s.metric not in ("shorter", "longer", "fluency") and s.base is not None:
            # A share stays between 0 and 1, whatever the interval's formula says.
            most = 1 - s.base if s.metric not in _WORSE_DOWN else s.base
            low, high = max(low, most - 1), min(high, most)
        ends = [self.amount(s.metric, v, unit=False) for v in (low, high)]
        first, second = ends if s.metric not in _WORSE_DOWN else ends[::-1]
        return self.say("page", "range", low=first, high=second)

    def slice_shows(self, group: str, n: int, shows: float) -> Markup:
        """Return how small a change of the pass rate so many reserved items of a group can show."""
        change = self.say("unit", "points", v=f"{100 * min(1.0, shows):.1f}")
        if group == "overall":
            return self.say("repair", "shows_all", n=n, shows=change)
        return self.say("repair", "shows", n=n, group=self.ability(group), shows=change)

    def from_to(self, s: Stream) -> Markup:
        """Return what a stream did: fell or rose from base to now."""
        name = self.stream(s)
        if s.metric in ("shorter", "longer"):
            return self.say("page", "moved", name=name, change=self.amount(s.metric, s.harm))
        if s.base is None or s.now is None:
            return self.say("page", "no_number", name=name)
        kind = "fell" if s.now < s.base else "rose"
        a, b = self.value(s.metric, s.base), self.value(s.metric, s.now)
        return self.say("page", kind, name=name, a=a, b=b)

    def in_brackets(self, s: Stream) -> Markup:
        """Return a stream with what it went from and to, as it stands before a count of others."""
        if s.metric in ("shorter", "longer") or s.base is None or s.now is None:
            return self.from_to(s)
        a, b = self.value(s.metric, s.base), self.value(s.metric, s.now)
        return self.say("page", "in_brackets", name=self.stream(s), a=a, b=b)

    def streams(self, alarmed: Sequence[Stream], at_most: int = 2) -> Markup:
        """Return the first streams and how many there are."""
        if len(alarmed) <= at_most:
            return self.joined([self.from_to(s) for s in alarmed], "clause")
        named = self.joined([self.in_brackets(s) for s in alarmed[:at_most]], "comma")
        return self.say("page", "and_more", named=named, count=len(alarmed))

    def ago(self, seconds: float) -> Markup:
        """Return an age in its fitting unit."""
        if seconds < 90:
            return self.say("unit", "seconds", n=f"{max(0.0, seconds):.0f}")
        if seconds < 5400:
            return self.say("unit", "minutes", n=f"{seconds / 60:.0f}")
        if seconds < 129_600:
            return self.say("unit", "hours", n=f"{seconds / 3600:.1f}")
        return self.say("unit", "days", n=f"{seconds / 86_400:.0f}")

    def moment(self, at: datetime | None) -> Markup:
        """Return a time in the machine's own zone, which is named."""
        if at is None:
            return self.t["page"]["dash"]
        local = at.astimezone()
        return Markup.escape(f"{local:%Y-%m-%d %H:%M} {_zone(local)}")

    def span(self, begin: datetime | None, end: datetime | None) -> Markup:
        """Return from when to when, the day and the zone said once where they are the same."""
        if begin is None or end is None:
            return self.moment(begin)
        first, last = begin.astimezone(), end.astimezone()
        until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
        return Markup.escape(f"{first:%Y-%m-%d %H:%M}–{until} {_zone(last)}")

    def answered_with(self, engine: LookEngine, *, trained: bool) -> Markup:
        """Return version, precision and model of who answered the looks; `trained`: there is a training."""
        said = [Markup.escape(escape_controls(v)) for v in (engine.version, engine.dtype) if v]
        if engine.model is not None:
            said.append(self.tail(engine.model))
        elif engine.kind == "in_process" and trained:
            said.append(self.t["engine"]["policy"])
        return self.joined(said, "clause")

    def within(self, run: str, path: str) -> Markup:
        """Return a path as seen from the run folder; whole where it lies outside of it."""
        inside = path.removeprefix(run.rstrip("/") + "/")
        return Markup.escape(escape_controls(inside or path))

    def look_name(self, look: LookFacts) -> Markup:
        """Return which look it was."""
        kind = "look_repeat" if look.trigger == "repeat" else "look_at"
        return self.say("say", kind, step=look.step)

    def actions(self, data: RunData) -> Markup:
        """Return the actions that were carried out, by name."""
        done = dict.fromkeys(a.kind for a in data.actions if a.carried_out)
        return self.joined((self.name("action", kind) for kind in done), "semicolon")

    def standing(self, s: Stream, needed: object) -> Markup | None:
        """Return why a stream stands where it stands; None where its level says it all."""
        if s.standing not in self.t["standing"]:
            return None
        z, boundary = score(s.z), score(s.boundary_warn)
        return self.say("standing", s.standing, n=s.n, needed=needed, z=z, boundary=boundary)

    def change_values(self, change: RecipeChange) -> dict[str, Any]:
        """Return a change's values ready to be filled in."""
        values: dict[str, Any] = {}
        for key, value in change.values.items():
            values[key] = self.name("level", str(value)) if key == "level" else number(value)
        return values

    def tail(self, path: str | None) -> Markup:
        """Return the last two parts of a path, which tell models and files apart."""
        parts = [part for part in (path or "").replace("\\", "/").split("/") if part]
        return (
            Markup.escape(escape_controls("/".join(parts[-2:]))[:80])
            if parts
            else self.t["page"]["dash"]
        )

    def flavour(self, parts: Mapping[str, float]) -> Markup:
        """Return the named parts of a machine flavour, strongest first."""
        named = sorted(parts, key=lambda part: -parts[part])
        return self.joined(
            Markup("{} {}").format(self.name("flavour", k), f"{parts[k]:.1f}") for k in named[:5]
        )

    def weak(self, abilities: Sequence[Weak]) -> Markup:
        """Return abilities with the rehearsal items each has."""
        unknown = self.t["next"]["unknown_items"]
        return self.joined(
            Markup("{} ({})").format(
                self.ability(a.ability), unknown if a.items is None else a.items
            )
            for a in abilities
        )

    def untested_why(self, streams: Sequence[Stream]) -> Markup:
        """Return how many streams were not tested, by reason."""
        said = [
            self.say("blind", "untested_count", count=len(found), why=self._why_untested(kind))
            for kind, found in by_standing(streams).items()
        ]
        return self.joined(said)

    def _why_untested(self, kind: str) -> Markup:
        return self.t["blind"][kind if kind in self.t["blind"] else "other"]

    def untested(self, streams: Sequence[Stream]) -> Markup:
        """Return streams that were not tested, by reason, some of each by name."""
        said = []
        for kind, found in by_standing(streams).items():
            names = [
                Markup("{}·{}").format(self.ability(s.group), self.name("metric", s.metric))
                for s in found[:4]
            ]
            named = self.joined(names) + ("…" if len(found) > 4 else "")
            why = self._why_untested(kind)
            said.append(self.say("blind", "untested_kind", count=len(found), why=why, named=named))
        return self.joined(said, "semicolon")

    def asked(self, parameters: Mapping[str, Any]) -> Markup:
        """Return the parameters of a failed check in words, cut."""
        words = []
        for key, value in parameters.items():
            if isinstance(value, list | tuple):
                value = str(self.t["page"]["comma"].unescape()).join(map(str, value))
            elif isinstance(value, dict):
                value = json.dumps(value, ensure_ascii=False)
            shown = self.t["check_value"].get(str(value), escape_controls(str(value)[:80]))
            words.append(Markup("{} {}").format(self.name("check_word", key), shown))
        return Markup(" ").join(words)


def _zone(at: datetime) -> str:
    offset = f"{at:%z}"
    return "UTC" if offset in ("+0000", "-0000") else f"UTC{offset[:3]}:{offset[3:5]}"


def capital(text: Markup) -> Markup:
    """Return a text that begins a line, a Latin one with a capital."""
    return Markup(text[:1].upper() + text[1:])


def signed(v: float, digits: int) -> str:
    """Return a number with its sign and a real minus; 0 has none."""
    v = round(v, digits)
    return "0" if v == 0 else f"{v:+.{digits}f}".replace("-", "−")


def score(v: float | None) -> str:
    """Return a test statistic."""
    return "—" if v is None else f"{v:.2f}".replace("-", "−")


def number(v: object) -> str:
    """Return a number as short as it is exact enough, anything else as it is."""
    if isinstance(v, bool) or not isinstance(v, float | int):
        return "—" if v is None else str(v)
    return f"{v:.6g}"
