"""Small run folders to show: real ledgers, real verdicts of the rule, real answer files."""

import atexit
import functools
import html
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from guardrail.judge.ladder import Judged, LadderConfig, decide, judged_look
from guardrail.judge.rule import DriftConfig, MetricRule, MetricValues, RuleState, judge
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import LookFacts
from guardrail.probes.measure import measure
from guardrail.probes.metrics import METRICS
from guardrail.report.report import build_report
from guardrail.sets.items import Item, write_items
from guardrail.writer_lock import LOCK_FILE

ABILITIES = {"instruction": 60, "writing": 40, "translation": 40, "reasoning": 10}
"""Reasoning has too few items to be tested."""
RULES = {m.name: MetricRule(m.worse, m.margin, m.critical, m.worst, m.clip) for m in METRICS}


@functools.cache
def red_line() -> tuple[Item, ...]:
    return tuple(
        Item.model_validate(
            {
                "id": f"{ability}-{n:03d}",
                "ability": ability,
                "source": "test",
                "licence": "Apache-2.0",
                "messages": [
                    {"role": "user", "content": f"请写一句话介绍第{n}号公园，必须写出园名。"}
                ],
                "checks": [
                    {"kind": "contains", "all": [f"公园{n}号"]},
                    {"kind": "characters", "at_most": 30},
                ],
            }
        )
        for ability, count in ABILITIES.items()
        for n in range(count)
    )


@functools.cache
def measured(item: str, text: str, gold: str) -> dict[str, float]:
    """The probes' values; every item of a story has the same checks apart from its number."""
    return measure(next(i for i in red_line() if i.id == item), text, gold)


@dataclass
class Story:
    """Writes a run folder the way the guard does, answers given instead of generated."""

    run: Path
    mode: str = "guard"
    items: Sequence[Item] = field(default_factory=red_line)
    bad_answer: str = "您好，请尽快归还欠款。"

    def __post_init__(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.run)
        self.levers = {"boost": 1.0, "lr_factor": 1.0}
        self.history: list[Judged] = []
        self.rule = RuleState()
        self.looks = 0
        self.baseline: dict[str, np.ndarray] | None = None

    def start(self, *, on_inherited: str = "refuse") -> "Story":
        write_items(self.run / "items.jsonl", self.items)
        recipe = {
            "name": "park",
            "mode": self.mode,
            "gold_base": "/models/base",
            "start_model": "/models/base",
            "on_inherited": on_inherited,
            "sets": {"red_line": str(self.run / "items.jsonl"), "rehearsal": "/nowhere.jsonl"},
            "train": {
                "data": "/data.jsonl",
                "arguments": {"max_steps": 100, "learning_rate": 1e-3},
            },
            "anchors": "/anchors",
            "rehearsal": {"fraction": 0.03, "weight": 2.0},
            "looks": {"every_steps": 20},
            "drift": {
                "warn_overall": 0.025,
                "warn_by_ability": 0.025,
                "halt_overall": 0.0075,
                "halt_by_ability": 0.0025,
                "min_items": 30,
                "margins": {"passed": {"margin": 0.03, "critical": 0.08}},
            },
        }
        (self.run / "recipe.resolved.json").write_text(json.dumps(recipe), encoding="utf-8")
        self.ledger.append(
            "started",
            0,
            name="park",
            mode=self.mode,
            seed=7,
            recipe=recipe,
            training_rows=500,
            red_line_items=len(self.items),
            rehearsal_items=20,
            red_line_sources={"belle:eval_set.json": 3, "written for guardrail": 7},
            versions={"torch": "2.13.0"},
        )
        self.ledger.append("domain_loss", 0, held_out=2.5)
        return self

    def _good(self, item: Item) -> str:
        return f"公园{int(item.id[-3:])}号绿树成荫，很适合散步。"

    def look(
        self,
        step: int,
        failing: dict[str, float] | None = None,
        *,
        trigger: str = "schedule",
        write_answers: bool = True,
        inherited: bool = False,
        pipeline: list[str] | None = None,
    ) -> str:
        """Answer all items, `failing` giving each ability's share of bad answers; return the level."""
        shares, seen = failing or {}, dict.fromkeys(ABILITIES, 0)
        texts = []
        for item in self.items:
            seen[item.ability] = seen.get(item.ability, 0) + 1
            count = sum(i.ability == item.ability for i in self.items)
            bad = seen[item.ability] <= shares.get(item.ability, 0.0) * count
            texts.append(self.bad_answer if bad else self._good(item))
        rows = [measured(i.id, t, self._good(i)) for i, t in zip(self.items, texts, strict=True)]
        current = {m.name: np.array([row[m.name] for row in rows]) for m in METRICS}
        if self.baseline is None:
            good = [measured(i.id, self._good(i), self._good(i)) for i in self.items]
            self.baseline = {m.name: np.array([[row[m.name]] for row in good]) for m in METRICS}
        values = {k: MetricValues(self.baseline[k], current[k]) for k in current}
        groups = [item.ability for item in self.items]
        verdict, self.rule = judge(values, groups, DriftConfig(RULES, 20), self.rule)
        file = f"looks/look-{self.looks:04d}-step-{step}.jsonl"
        if write_answers:
            (self.run / "looks").mkdir(exist_ok=True)
            lines = [
                {"item": i.id, "replicate": 0, "text": t, "finish_reason": "stop"}
                | {k: None if np.isnan(v) else v for k, v in row.items()}
                for i, t, row in zip(self.items, texts, rows, strict=True)
            ]
            with (self.run / file).open("w", encoding="utf-8", errors="backslashreplace") as out:
                out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        look = LookFacts(
            step=step,
            number=self.looks,
            trigger=trigger,
            answers=file,
            seconds=1.5,
            inherited=inherited,
            failed_pipeline_check=tuple(pipeline or ()),
            level=verdict.level,
            streams=verdict.streams,
        )
        self.ledger.append("look", step, **look.to_record())
        if self.looks:
            self.history.append(judged_look(step, verdict, repeat=trigger == "repeat"))
            self._decide(step)
        self.looks += 1
        return verdict.level

    def _decide(self, step: int) -> None:
        action = decide(self.history, LadderConfig())
        if action.kind == "none" or self.mode == "look":
            return
        after = {"boost": action.boost, "lr_factor": action.lr_factor}
        self.ledger.append(
            "action",
            step,
            look=self.looks,
            action=action.kind,
            carried_out=self.mode == "guard",
            reason=action.reason,
            before=dict(self.levers),
            after=after,
        )
        if self.mode == "guard":
            self.levers = after

    def log(self, step: int, loss: float | None = 1.0) -> None:
        record: dict[str, object] = {"loss": loss, "learning_rate": 1e-3 * self.levers["lr_factor"]}
        if self.mode == "guard":
            record |= {"rehearsal_kl": 0.01 * step, "kl_weight": 2.0 * self.levers["boost"]}
            record |= {"share": 0.03, "unique_prompts": 12, "passes": 0.6}
        self.ledger.append("log", step, **record)

    def checkpoint(self, step: int, level: str) -> None:
        path = f"checkpoints/checkpoint-{step}"
        (self.run / path).mkdir(parents=True)
        self.ledger.append("checkpoint", step, path=path, level=level)

    def end(self, step: int, outcome: str = "finished") -> None:
        seconds = {"train": 40.0, "looks": 6.0, "kl": 2.0}
        self.ledger.append(
            "ended",
            step,
            outcome=outcome,
            last_ok_checkpoint=None,
            failures=0,
            steps=step,
            seconds=seconds,
        )
        self.ledger.append("domain_loss", step, held_out=0.75)

    def build(self, **options: Any) -> tuple[str, dict]:
        """Build the report; return the page and the facts of the JSON file."""
        page = build_report(self.run, **options)
        assert page == self.run / "report.html"
        return page.read_text(encoding="utf-8"), json.loads(
            (self.run / "report.json").read_text(encoding="utf-8")
        )


@functools.cache
def _told(tell: Callable[[Story], None], mode: str) -> Path:
    """A story's folder, told once a session: judging a look takes a third of a second."""
    folder = Path(tempfile.mkdtemp(prefix="story-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tell(Story(folder / "run", mode=mode).start())
    return folder / "run"


def told(tell: Callable[[Story], None], folder: Path, mode: str = "guard") -> Story:
    """Return a copy of a told story in `folder`, to read, damage or add records to (no further looks)."""
    source, run = _told(tell, mode), folder / "run"
    shutil.copytree(source, run, ignore=shutil.ignore_patterns(LOCK_FILE))
    for name in ("ledger.jsonl", "recipe.resolved.json"):
        text = (run / name).read_text(encoding="utf-8")
        text = _ending_now(text.replace(str(source), str(run)))
        (run / name).write_text(text, encoding="utf-8")
    undigested(run)
    return Story(run, mode=mode)


def undigested(run: Path) -> None:
    """Take the digests out of a ledger, as one of an older version has none: what a test edits in it is believed."""
    ledger = run / "ledger.jsonl"
    text = ledger.read_text(encoding="utf-8")
    ledger.write_text(re.sub(r', "digest": "[0-9a-f]{32}"}\n', "}\n", text), encoding="utf-8")


def _ending_now(ledger: str) -> str:
    """The records' times moved so that the last is now: a story told long ago has not fallen silent."""
    times = re.findall(r'"time": "([^"]+)"', ledger)
    if not times:
        return ledger
    late = datetime.now(timezone.utc) - datetime.fromisoformat(times[-1])
    for time in dict.fromkeys(times):
        ledger = ledger.replace(
            f'"{time}"', f'"{(datetime.fromisoformat(time) + late).isoformat()}"'
        )
    return ledger


def shown_text(page: str) -> str:
    """What a reader sees: style and tags off, entities decoded, white space squeezed."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def header_of(page: str) -> str:
    return page[page.index("<header") : page.index("</header>")]


COLLAPSE = {"instruction": 0.5, "writing": 0.5, "translation": 0.5, "reasoning": 0.9}
BETTER = {"instruction": 0.02}


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m红\x00 \u202etxt\u2066 \ud800 \u200b{{ 7 * 7 }}"
"""Whatever a model or a stranger may have written: markup, ANSI codes, bidi controls, a lone surrogate."""


def finished_ok(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, BETTER, trigger="save")
    story.log(20)
    story.checkpoint(20, "ok")
    story.look(40, trigger="end")
    story.checkpoint(40, "ok")
    story.end(40)


def finished_drifted(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.checkpoint(40, story.look(40, {"translation": 0.3, "instruction": 0.2}, trigger="end"))
    story.log(40)  # the trainer logs a step after what the guard did at it
    story.end(40)


def looked_at(story: Story) -> None:
    """As `guardrail look` tells of a model that drifted: base by the anchors, then the model, and no ladder."""
    story.look(0, trigger="start")
    story.look(1, COLLAPSE, trigger="end")
    story.end(1)


def recovered(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.5, "instruction": 0.2}, trigger="save")
    story.look(40, BETTER, trigger="end")
    story.checkpoint(40, "ok")
    story.end(40)


def halted(story: Story) -> None:
    story.look(0, trigger="start")
    story.log(10, 2.0)
    story.ledger.append("tripwire", 20, kl=0.02, by_ability={}, seconds=0.1)
    story.checkpoint(20, story.look(20, trigger="save"))
    story.log(20, 1.0)
    story.look(40, COLLAPSE, trigger="save")
    story.look(40, COLLAPSE, trigger="repeat")
    story.checkpoint(40, "critical")
    story.end(40, "halted")


def halted_at_once(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, COLLAPSE, trigger="save")
    story.look(20, COLLAPSE, trigger="repeat")
    story.checkpoint(20, "critical")
    story.end(20, "halted")


def halted_by_a_failed_look(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, trigger="save")
    story.ledger.append("error", 40, during="look", error="TimeoutError: server gone", then="halt")
    story.end(40, "halted")


def unmeasured_end(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, trigger="save")
    story.ledger.append("error", 40, during="look", error="OutOfMemoryError: no", then="continue")
    story.checkpoint(40, "untested")
    story.end(40)


def crashed(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.log(30, loss=None)
    story.ledger.append(
        "crashed", 33, error="RuntimeError: cuda gone", last_ok_checkpoint="checkpoint-20"
    )


def terminated(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.end(22, "terminated")


def refused_by_the_pipeline_check(story: Story) -> None:
    story.look(
        0, trigger="start", pipeline=["passed/overall is off by +0.200, 9.0 standard errors"]
    )
    story.ledger.append("crashed", 0, error="InputError: look 0 disagrees", last_ok_checkpoint=None)


def running(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, trigger="schedule")
    story.log(20)


def running_drifted(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.3, "instruction": 0.2}, trigger="schedule")


def only_look_zero(story: Story) -> None:
    story.look(0, trigger="start")
