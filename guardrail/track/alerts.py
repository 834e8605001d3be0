"""Which ledger records a person should be told about at once, and in what words. Pure."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from markupsafe import Markup

from guardrail.judge.verdict import UNTESTED, rank
from guardrail.ledger.file import Record
from guardrail.ledger.records import ActionFacts, LookFacts
from guardrail.live.status_terminal import reason_said
from guardrail.live.terminal_words import terminal_words
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.phrases import Phrases, capital

__all__ = ["Alert", "AlertRule", "Severity", "inert"]

Severity = Literal["info", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One message: a short title, a few lines, how bad it is."""

    title: str
    text: str
    severity: Severity


@dataclass(slots=True)
class AlertRule:
    """Fed with every record of a run in order, says which are worth a message.

    One message each: a level that rises, together with what was done about it; an action carried out; the
    first look that fails; the first of a row that tested nothing; a halt; a crash. A level that stays or falls says nothing.
    """

    run: str
    """What the messages call the run."""
    report: str
    """Where its report will lie."""
    language: str | None = None
    """`zh` or `en`; None says everything in both."""
    _level: int = 0
    _rise: LookFacts | None = None
    _last_ok: str | None = None
    _failed: bool = False
    _untested: bool = False
    _halting: bool = False
    _because: list[str] = field(default_factory=lambda: ["", ""])

    def feed(self, record: Record) -> list[Alert]:
        """Return the messages this record gives rise to, oldest first."""
        kind, alerts = record["kind"], []
        rise, self._rise = self._rise, None
        if rise is not None and kind != "action":
            alerts.append(self._alert(*_rose(rise), _severity(rise.level)))
        if kind == "started":
            self.run = str(record.get("name") or self.run)
        elif kind == "look":
            alerts += self._looked(LookFacts.model_validate(record))
        elif kind == "action" and (rise is not None or record["carried_out"]):
            action = ActionFacts.model_validate(record)
            self._halting = action.kind == "halt" and action.carried_out
            worst = "failure" if self._halting or (rise and rise.level == "critical") else "warning"
            alerts.append(self._alert(*_acted(action, rise), worst))
        elif kind == "checkpoint" and record["level"] == "ok" and record.get("sound", True):
            self._last_ok = record["path"]
        elif kind == "error":
            wire = record.get("during") == "tripwire"
            self._because = [
                f"{'绊线' if wire else '评测'}没有做成（{record['error']:.200}）",
                f"a {'tripwire' if wire else 'look'} failed ({record['error']:.200})",
            ]
            if not self._failed and record["then"] != "halt":
                alerts.append(self._alert(*_failed(record), "warning"))
            self._failed = True
        elif kind == "crashed" or (
            kind == "ended" and record["outcome"] == "halted" and not self._halting
        ):
            alerts.append(self._alert(*_stopped(record, self._because), "failure"))
        return alerts

    def _looked(self, look: LookFacts) -> list[Alert]:
        """Note the level; what was not tested leaves it as it was, and is told once."""
        before, self._untested = self._untested, look.level == UNTESTED
        if self._untested:
            return [] if before else [self._alert(*_tested_nothing(look), "warning")]
        level = rank(look.level)
        self._rise = look if level > self._level else None
        self._level = level
        return []

    def _alert(self, title: tuple[str, str], lines: list[tuple[str, str]], severity: Any) -> Alert:
        ok = self._last_ok
        lines = [
            *lines,
            (
                f"最后一个通过评测的检查点：{ok or '还没有'}",
                f"Last ok checkpoint: {ok or 'none yet'}",
            ),
            (f"报告：{self.report}", f"Report: {self.report}"),
        ]
        lines = [(inert(zh), inert(en)) for zh, en in lines]
        titles = (inert(f"{self.run}：{title[0]}", 200), inert(f"{self.run}: {title[1]}", 200))
        if self.language in ("zh", "en"):
            which = 0 if self.language == "zh" else 1
            return Alert(titles[which], "\n".join(line[which] for line in lines), severity)
        said = [text for pair in zip(*lines, strict=True) for text in pair]
        return Alert(titles[1], "\n".join([titles[0], *said]), severity)


_INERT = str.maketrans("@<>[]&`*~|#\\", "＠＜＞［］＆｀＊～｜＃＼")
_LINK = re.compile(
    r"(?i)://|\bwww\.|\bmailto:|\btel:"
    # a name that messengers take for an address without being told so
    r"|(?<=[\w-])\.(?=(?:com|net|org|cn|io|ai|co|me|info|biz|xyz|top|cc|ru|app|dev|link|site|online|club|vip|shop|ly|gg|to"
    r"|tv|in|uk|de|hk|tw|jp|sh|zip|mov|page)\b)"
    r"|(?<=\d)\.(?=\d+\.\d+\.\d)"
)


def inert(text: str, at_most: int = 1000) -> str:
    """Return a line of a message in which names of a run, errors and answers are text that does nothing.

    No service finds a mention, a link, markup, another line or a control character in it: what each takes for one
    stands there in its full-width form, or as a sign.
    """
    shown = escape_controls(text.replace("\r\n", "\n")).replace("\n", "⏎").replace("\t", " ")
    shown = _LINK.sub(lambda found: found[0].translate(_APART), shown.translate(_INERT))
    return shown if len(shown) <= at_most else f"{shown[:at_most]}…"


_APART = str.maketrans({":": "：", ".": "．"})

Words = tuple[tuple[str, str], list[tuple[str, str]]]
"""A title and lines, each in Chinese and in English."""

_DONE = {
    "raise_kl": ("已提高 KL 权重", "KL weight raised"),
    "relax_kl": ("已放松 KL 权重", "KL weight relaxed"),
    "cut_lr": ("已降低学习率", "learning rate cut"),
    "repeat_look": ("正在同一份权重上复测", "repeating the look on the same weights"),
    "halt": ("训练已被护栏叫停", "run halted"),
}
_NOBODY_NEEDED = (
    "现在不需要人工处理，护栏会继续评测",
    "Nobody needs to act now, the guard looks on",
)
_DECIDE = ("请看报告，决定回滚还是接受", "Read the report, then decide: roll back or accept")


@functools.cache
def _phrases() -> tuple[Phrases, Phrases]:
    return Phrases("zh"), Phrases("en")


def _said(of: Callable[[Phrases], Markup]) -> tuple[str, str]:
    """The report's words for something, as plain text in Chinese and in English."""
    zh, en = (str(of(phrases).unescape()) for phrases in _phrases())
    return zh, en


def _severity(level: str) -> Severity:
    return "failure" if level == "critical" else "warning"


def _streams(look: LookFacts) -> tuple[str, str]:
    """The worst streams of a look with base and now, one line a language."""
    zh, en = _said(lambda phrases: phrases.streams(look.alarmed, 3))
    return f"已证实超过容忍线：{zh}", f"Shown to be beyond the margin: {en}"


def _reason(reason: str) -> tuple[str, str]:
    zh, en = (reason_said(reason, terminal_words(language)) for language in ("zh", "en"))
    return f"原因：{zh}", f"Reason: {en}"


def _rose(look: LookFacts) -> Words:
    return _risen(look), [_streams(look)]


def _risen(look: LookFacts) -> tuple[str, str]:
    zh, _ = _said(lambda phrases: phrases.name("level", look.level))
    return f"第 {look.step} 步退化升到“{zh}”级", f"drift rose to {look.level} at step {look.step}"


def _acted(action: ActionFacts, rise: LookFacts | None) -> Words:
    kind, step = action.kind, action.step
    zh, en = _DONE.get(kind, (kind, kind))
    if not action.carried_out:
        zh, _ = _said(lambda phrases: phrases.name("action", kind))
        zh, en = (f"仅观察，未执行：{zh}", f"watch mode, not carried out: {kind}")
    lines = [] if rise is None else [_streams(rise)]
    for name_zh, name_en, before, after in (
        ("KL 权重", "KL weight", action.before.boost, action.after.boost),
        ("学习率", "Learning rate", action.before.lr_factor, action.after.lr_factor),
    ):
        if before != after:
            moved = f"×{before:g} → ×{after:g}"
            lines.append((f"{name_zh} {moved}", f"{name_en} {moved}"))
    lines.append(_reason(action.reason))
    if action.carried_out and kind == "halt":
        lines.append(_DECIDE)
    elif action.carried_out and rise is not None and not rise.final:
        lines.append(_NOBODY_NEEDED)
    if rise is None:
        return (f"第 {step} 步，{zh}", f"{en} at step {step}"), lines
    risen = _risen(rise)
    return (f"{risen[0]}，{zh}", f"{risen[1]}, {en}"), lines


def _tested_nothing(look: LookFacts) -> Words:
    step, (zh, en) = look.step, _said(lambda phrases: phrases.untested_why(look.streams))
    title = (f"第 {step} 步的评测一项都没有检验", f"the look at step {step} tested nothing")
    return title, [
        ("没有检验不等于正常：退化此时看不见", "Untested is not ok: drift would not be seen now"),
        (f"原因：{zh}", f"Reason: {en}"),
    ]


def _failed(error: Record) -> Words:
    step, why = error["step"], f"{error['error']:.200}"
    wire = error.get("during") == "tripwire"
    title = (
        f"第 {step} 步{'绊线' if wire else '评测'}没有做成，训练继续",
        f"the {'tripwire' if wire else 'look'} at step {step} failed, training goes on",
    )
    return title, [(f"原因：{why}", f"Reason: {why}")]


def _stopped(record: Record, because: list[str]) -> Words:
    step = record["step"]
    mend = _said(lambda phrases: capital(phrases.t["then"]["resume"]))
    if record["kind"] == "crashed":
        why = f"{record['error']:.200}"
        title = (f"训练在第 {step} 步崩溃", f"run crashed at step {step}")
        return title, [(f"原因：{why}", f"Reason: {why}"), mend]
    title = (f"训练在第 {step} 步被护栏叫停", f"run halted at step {step}")
    reason = (f"原因：{because[0] or '见报告'}", f"Reason: {because[1] or 'see the report'}")
    return title, [reason, mend]
