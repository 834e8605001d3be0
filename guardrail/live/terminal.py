"""What a terminal shows while a run goes: a progress bar, and each look and action as it comes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from guardrail.judge.verdict import by_standing
from guardrail.ledger.file import Record
from guardrail.ledger.records import ActionFacts, LookFacts
from guardrail.live.spoken_log import spoken_log
from guardrail.live.status_terminal import (
    LEVEL_STYLE,
    named_streams,
    one_line,
    percent,
    reason_said,
    untested_said,
)
from guardrail.live.terminal_words import TerminalWords, terminal_words
from guardrail.report.page.texts import Language

__all__ = ["LiveDisplay", "anchor_part", "live_display", "precision_words", "record_lines"]


class LiveDisplay:
    """Turns steps and ledger records into a progress bar and printed lines."""

    def __init__(self, progress: Progress, label: str, language: Language) -> None:
        """Add one bar to the progress."""
        self._progress = progress
        self._words = terminal_words(language)
        self._bar: TaskID = progress.add_task(label, total=None, numbers="")
        self._numbers: dict[str, str] = {}

    def on_step(self, step: int, steps: int) -> None:
        """Move the bar."""
        self._progress.update(self._bar, completed=step, total=steps)

    def on_anchors(self, what: str, done: int, total: int) -> None:
        """Move the bar through one part of the anchors; print it once it is finished."""
        finished, part = done >= total, anchor_part(what, self._words)
        said = self._words("anchors: {part}", part=part)
        self._numbers = {} if finished else {"anchors": said}
        self._progress.update(
            self._bar, completed=done, total=total, numbers=" ".join(self._numbers.values())
        )
        if finished:
            line = self._words("  anchors: {part}, {total} items", part=part, total=total)
            self._progress.console.print(line)
            self._progress.update(self._bar, completed=0, total=None)

    def on_record(self, record: Record) -> None:
        """Show what a ledger record says."""
        kind = record["kind"]
        if kind == "log":
            self._numbers["loss"] = _number(self._words("loss"), record["loss"])
            self._numbers["kl"] = _number("KL", record.get("rehearsal_kl"))
            self._numbers["weight"] = _number("λ", record.get("kl_weight"))
        elif kind == "tripwire":
            self._numbers["wire"] = _number(self._words("tripwire"), record["kl"])
        for line in record_lines(record, self._words):
            self._progress.console.print(line, soft_wrap=True)
        self._progress.update(self._bar, numbers="  ".join(self._numbers.values()))


def anchor_part(part: str, words: TerminalWords) -> str:
    """Return which part of the anchors is being made, as `anchors/make.py` calls it, in words."""
    name, space, number = part.partition(" ")
    if name == "replicate" and space:
        return words("replicate {number}", number=number)
    return words.word(part)


def _start_lines(record: Record, words: TerminalWords) -> list[Text]:
    lines = []
    if precision := record.get("precision"):
        said = words("  precision: {said}", said=precision_words(precision, words))
        lines.append(Text(said))
        if precision["updates_lost"]:
            said = words(
                "  all weights are trained in {dtype} without a copy in float32, which loses updates smaller than a "
                "rounding step (at a learning rate of 1e-5 most weights never move): load the model in float32 with "
                "`bf16: true`, or train an adapter, or use DeepSpeed, which keeps such a copy",
                dtype=precision["trained"],
            )
            lines.append(Text(said, "yellow"))
    for name, one, text, colour in (
        ("rewritten", "{count} {form}", "  training rows turned into messages: {told}", ""),
        ("left_out", "{count} {reason}", "  training rows LEFT OUT: {told}", "yellow"),
    ):
        if counts := record.get(f"training_rows_{name}"):
            named = [(n, words.sentence(what)) for what, n in counts.items()]
            told = [words(one, count=n, form=what, reason=what) for n, what in named]
            lines.append(Text(words(text, told=words.joined(told, "comma")), colour))
    if form := record.get("rehearsal_form"):
        lines.append(Text(words("  KL-only samples: {said}", said=_form_said(form, words))))
    if record.get("kl_term") is False and record["mode"] == "guard":
        said = words(
            "  no KL term here: a raise of its weight moves nothing, the ladder begins with the rate cut"
        )
        lines.append(Text(said, "yellow"))
    rows = record.get("training_rows_opened") or {"opened": 0, "as_looks": 0}
    if (
        rows["as_looks"] < rows["opened"] / 2
    ):  # earlier turns have no thinking block, and long rows are cut
        said = words(
            "  {other} of the first {opened} training rows open the assistant's turn otherwise than looks do (thinking "
            "block): what is trained is not how looks ask",
            other=rows["opened"] - rows["as_looks"],
            opened=rows["opened"],
        )
        lines.append(Text(said, "yellow"))
    return lines


def _form_said(form: Mapping[str, Any], words: TerminalWords) -> str:
    """Which form the KL-only samples of GRPO have, and why; in Chinese in the report's words."""
    if words.language == "en":
        return str(form["said"])
    return f"{words.name('form', str(form['form']))}"


def precision_words(precision: Mapping[str, Any], words: TerminalWords) -> str:
    """Return in which precision a run trains, in one phrase."""
    full = precision["tuning"] == "full"
    cast = words(" (autocast)") if precision["autocast"] else ""
    parts = [
        words("all weights trained") if full else precision["tuning"],
        words("weights {dtype}", dtype=precision["weights"]),
        words("forwards {dtype}", dtype=precision["forwards"]) + cast,
        precision["quantization"] or words("not quantised"),
    ]
    return words.joined(parts)


def record_lines(record: Record, words: TerminalWords) -> list[Text]:
    """Return what a terminal says of a ledger record as it comes; nothing of most kinds."""
    kind, step = record["kind"], record["step"]
    if kind == "look":
        return [look_line(LookFacts.model_validate(record), words)]
    if kind == "action":
        action = ActionFacts.model_validate(record)
        asked = action.carried_out or action.kind != "repeat_look"
        return [action_line(action, words)] if asked else []
    if kind == "started":
        return _start_lines(record, words)
    if kind == "asked" and record["trigger"] == "start":
        said = words(
            "  looks wait for a sidecar: `guardrail serve RUN`, started elsewhere, answers"
        )
        return [Text(said)]
    if kind == "kl_self_test" and record["at_start"] is not None:
        said = words(
            "  KL self-test ({dtype}): {start:.1e} nats a token at the start, rounding explains {noise:.1e}, perturbed "
            "{perturbed:.1e}",
            dtype=record["dtype"],
            start=record["at_start"],
            noise=record["noise"],
            perturbed=record["perturbed"],
        )
        return [Text(said)]
    if kind == "rewound":
        where = words("the start") if step < 0 else words("step {step}", step=step)
        aside = [
            words("  set aside with what is undone: {path}", path=path)
            for path in record["set_aside"]
        ]
        return [Text(words("  resuming: rewound to {where}", where=where)), *map(Text, aside)]
    if kind == "recipe_changed":
        text = "  changed on purpose: {key} was {before}, is {after}"
        keys = ("key", "before", "after")
        changes = [
            one | {"key": f"{one['key']} ({one['file']})"} if "file" in one else one
            for one in record["changes"]
        ]
        return [
            Text(one_line(words(text, **{k: change[k] for k in keys}), 300)) for change in changes
        ]
    if kind == "replanned":
        said = words(
            "  planned anew to step {steps}: {ahead} looks ahead over the {left:.0%} of the error budget that are left",
            steps=record["planned_steps"],
            ahead=record["planned_looks"] - record["looks_used"],
            left=1 - record["budget_spent"],
        )
        return [Text(said)]
    if kind == "levers":
        put = "" if record["loaded_rates"] == record["rates"] else words(", put in force again")
        said = words(
            "  KL weight × {boost:g}, learning rate × {lr_factor:g}{put}",
            boost=record["boost"],
            lr_factor=record["lr_factor"],
            put=put,
        )
        return [Text(said)]
    if kind == "error":
        failed = words(
            "  step {step}: the {during} failed ({error}), then {then}",
            step=step,
            during=words.word(record["during"]),
            error=one_line(record["error"]),
            then=words.word(record["then"]),
        )
        return [Text(failed, "red")]
    return []


def _number(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.3f}"


def look_line(look: LookFacts, words: TerminalWords) -> Text:
    """Return one line for a look: step, pass rate against base, level, streams."""
    passed = look.stream("passed", "overall")
    base, now = (passed.base, passed.now) if passed is not None else (None, None)
    named = named_streams([s.name for s in look.alarmed], words)
    suspect = "" if look.alarmed else named_streams([s.name for s in look.suspects], words)
    counted = {why: len(streams) for why, streams in by_standing(look.untested).items()}
    facts = {"untested": counted, "streams": len(look.streams)}
    untested = untested_said(facts, words, why=not look.number)  # look 0 says why
    late = look.applied_step
    return Text.assemble(
        words("  step {step:>4}  look {number:<3} ", step=look.step, number=look.number),
        words("(applied at step {step}) ", step=late) if late is not None else "",
        words("passed {now:>6} (base {base})  ", now=percent(now), base=percent(base)),
        (words.name("level", look.level), LEVEL_STYLE[look.level]),
        f"  {named}" if named else "",
        (words("  not shown, but fallen: {named}", named=suspect), "yellow") if suspect else "",
        (words("  ({said})", said=untested), "dim") if untested else "",
    )


def action_line(action: ActionFacts, words: TerminalWords) -> Text:
    """Return one line for an action: what moved, from where to where, why."""
    before, after = action.before, action.after
    moved = []
    if after.boost != before.boost:
        moved.append(words("KL weight ×{a:g} → ×{b:g}", a=before.boost, b=after.boost))
    if after.beta != before.beta:
        moved.append(f"beta {before.beta:g} → {after.beta:g}")
    if after.lr_factor != before.lr_factor:
        moved.append(words("learning rate ×{a:g} → ×{b:g}", a=before.lr_factor, b=after.lr_factor))
    watched = "" if action.carried_out else words(" (not carried out)")
    why = words.joined(moved, "semicolon") if moved else reason_said(action.reason, words)
    said = words(
        "  step {step:>4}  {action}{watched}: {why}",
        step=action.step,
        action=words.name("action", action.kind),
        watched=watched,
        why=why,
    )
    return Text(said, "bold")


@contextmanager
def live_display(console: Console, label: str, language: Language) -> Iterator[LiveDisplay]:
    """Show a bar on the console for as long as the body runs."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with spoken_log(language), Progress(*columns, console=console, transient=True) as progress:
        yield LiveDisplay(progress, label, language)
