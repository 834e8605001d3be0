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
from guardrail.live.status_terminal import (
    LEVEL_STYLE,
    named_streams,
    one_line,
    percent,
    untested_said,
)

__all__ = ["LiveDisplay", "live_display", "precision_words", "record_lines"]


class LiveDisplay:
    """Turns steps and ledger records into a progress bar and printed lines."""

    def __init__(self, progress: Progress, label: str) -> None:
        """Add one bar to the progress."""
        self._progress = progress
        self._bar: TaskID = progress.add_task(label, total=None, numbers="")
        self._numbers: dict[str, str] = {}

    def on_step(self, step: int, steps: int) -> None:
        """Move the bar."""
        self._progress.update(self._bar, completed=step, total=steps)

    def on_anchors(self, what: str, done: int, total: int) -> None:
        """Move the bar through one part of the anchors; print it once it is finished."""
        finished = done >= total
        self._numbers = {} if finished else {"anchors": f"anchors: {what}"}
        self._progress.update(
            self._bar, completed=done, total=total, numbers=" ".join(self._numbers.values())
        )
        if finished:
            self._progress.console.print(f"  anchors: {what}, {total} items")
            self._progress.update(self._bar, completed=0, total=None)

    def on_record(self, record: Record) -> None:
        """Show what a ledger record says."""
        kind = record["kind"]
        if kind == "log":
            self._numbers["loss"] = _number("loss", record["loss"])
            self._numbers["kl"] = _number("KL", record.get("rehearsal_kl"))
            self._numbers["weight"] = _number("λ", record.get("kl_weight"))
        elif kind == "tripwire":
            self._numbers["wire"] = _number("tripwire", record["kl"])
        for line in record_lines(record):
            self._progress.console.print(line, soft_wrap=True)
        self._progress.update(self._bar, numbers="  ".join(self._numbers.values()))


def _start_lines(record: Record) -> list[Text]:
    lines = []
    if precision := record.get("precision"):
        lines.append(Text(f"  precision: {precision_words(precision)}"))
        if precision["updates_lost"]:
            said = (
                f"  all weights are trained in {precision['trained']} without a copy in float32, which loses updates "
                "smaller than a rounding step (at a learning rate of 1e-5 most weights never move): load the model "
                "in float32 with `bf16: true`, or train an adapter, or use DeepSpeed, which keeps such a copy"
            )
            lines.append(Text(said, "yellow"))
    for name, said in (("rewritten", "turned into messages"), ("left_out", "LEFT OUT")):
        if counts := record.get(f"training_rows_{name}"):
            told = ", ".join(f"{count} {what}" for what, count in counts.items())
            lines.append(
                Text(f"  training rows {said}: {told}", "yellow" if name == "left_out" else "")
            )
    if form := record.get("rehearsal_form"):
        lines.append(Text(f"  KL-only samples: {form['said']}"))
    if record.get("kl_term") is False and record["mode"] == "guard":
        said = "  no KL term here: a raise of its weight moves nothing, the ladder begins with the rate cut"
        lines.append(Text(said, "yellow"))
    rows = record.get("training_rows_opened") or {"opened": 0, "as_looks": 0}
    if (
        rows["as_looks"] < rows["opened"] / 2
    ):  # earlier turns have no thinking block, and long rows are cut
        said = (
            f"  {rows['opened'] - rows['as_looks']} of the first {rows['opened']} training rows open the "
            "assistant's turn otherwise than looks do (thinking block): what is trained is not how looks ask"
        )
        lines.append(Text(said, "yellow"))
    return lines


def precision_words(precision: Mapping[str, Any]) -> str:
    """Return in which precision a run trains, in one phrase."""
    tuned = "all weights trained" if precision["tuning"] == "full" else precision["tuning"]
    cast = " (autocast)" if precision["autocast"] else ""
    return (
        f"{tuned}, weights {precision['weights']}, forwards {precision['forwards']}{cast}, "
        f"{precision['quantization'] or 'not quantised'}"
    )


def record_lines(record: Record) -> list[Text]:
    """Return what a terminal says of a ledger record as it comes; nothing of most kinds."""
    kind, step = record["kind"], record["step"]
    if kind == "look":
        return [look_line(LookFacts.model_validate(record))]
    if kind == "action":
        action = ActionFacts.model_validate(record)
        asked = action.carried_out or action.kind != "repeat_look"
        return [action_line(action)] if asked else []
    if kind == "started":
        return _start_lines(record)
    if kind == "asked" and record["trigger"] == "start":
        return [
            Text("  looks wait for a sidecar: `guardrail serve RUN`, started elsewhere, answers")
        ]
    if kind == "kl_self_test" and record["at_start"] is not None:
        said = (
            f"  KL self-test ({record['dtype']}): {record['at_start']:.1e} nats a token at the start, "
            f"rounding explains {record['noise']:.1e}, perturbed {record['perturbed']:.1e}"
        )
        return [Text(said)]
    if kind == "rewound":
        where = "the start" if step < 0 else f"step {step}"
        aside = [f"  set aside with what is undone: {path}" for path in record["set_aside"]]
        return [Text(f"  resuming: rewound to {where}"), *map(Text, aside)]
    if kind == "recipe_changed":
        return [
            Text(
                one_line(
                    f"  changed on purpose: {c['key']} was {c['before']}, is {c['after']}", 300
                )
            )
            for c in record["changes"]
        ]
    if kind == "replanned":
        ahead = record["planned_looks"] - record["looks_used"]
        said = (
            f"  planned anew to step {record['planned_steps']}: {ahead} looks ahead over the "
            f"{1 - record['budget_spent']:.0%} of the error budget that are left"
        )
        return [Text(said)]
    if kind == "levers":
        put = "" if record["loaded_rates"] == record["rates"] else ", put in force again"
        said = f"  KL weight × {record['boost']:g}, learning rate × {record['lr_factor']:g}{put}"
        return [Text(said)]
    if kind == "error":
        failed = f"  step {step}: the {record['during']} failed ({one_line(record['error'])}), then {record['then']}"
        return [Text(failed, "red")]
    return []


def _number(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.3f}"


def look_line(look: LookFacts) -> Text:
    """Return one line for a look: step, pass rate against base, level, streams."""
    passed = look.stream("passed", "overall")
    base, now = (passed.base, passed.now) if passed is not None else (None, None)
    named = named_streams([s.name for s in look.alarmed])
    counted = {why: len(streams) for why, streams in by_standing(look.untested).items()}
    untested = untested_said({"untested": counted, "streams": len(look.streams)})
    if look.number:  # look 0 said why
        untested = untested.partition(":")[0]
    return Text.assemble(
        f"  step {look.step:>4}  look {look.number:<3} ",
        f"(applied at step {look.applied_step}) " if look.applied_step is not None else "",
        f"passed {percent(now):>6} (base {percent(base)})  ",
        (look.level, LEVEL_STYLE[look.level]),
        f"  {named}" if named else "",
        (f"  ({untested})", "dim") if untested else "",
    )


def action_line(action: ActionFacts) -> Text:
    """Return one line for an action: what moved, from where to where, why."""
    before, after = action.before, action.after
    moved = []
    if after.boost != before.boost:
        moved.append(f"KL weight ×{before.boost:g} → ×{after.boost:g}")
    if after.beta != before.beta:
        moved.append(f"beta {before.beta:g} → {after.beta:g}")
    if after.lr_factor != before.lr_factor:
        moved.append(f"learning rate ×{before.lr_factor:g} → ×{after.lr_factor:g}")
    watched = "" if action.carried_out else " (not carried out)"
    why = "; ".join(moved) or one_line(action.reason)
    return Text(f"  step {action.step:>4}  {action.kind}{watched}: {why}", "bold")


@contextmanager
def live_display(console: Console, label: str) -> Iterator[LiveDisplay]:
    """Show a bar on the console for as long as the body runs."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield LiveDisplay(progress, label)
