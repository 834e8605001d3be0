"""The report of small run folders: real ledgers, real verdicts of the rule, real answer files."""

import functools
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from guardrail.drift.rule import (
    DriftConfig,
    MetricRule,
    MetricValues,
    RuleState,
    judge,
    verdict_as_dict,
)
from guardrail.errors import InputError
from guardrail.ladder import Judged, LadderConfig, decide
from guardrail.ledger import Ledger
from guardrail.probes.measure import METRICS, measure
from guardrail.sets.items import Item, write_items
from guardrail.watch import charts
from guardrail.watch.inert import inert
from guardrail.watch.report import build_report
from guardrail.watch.run_data import read_run

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
        record = {"look": self.looks, "trigger": trigger, "answers": file, "seconds": 1.5}
        if self.looks == 0:
            record |= {"inherited": inherited, "failed_pipeline_check": pipeline or []}
        self.ledger.append("look", step, **record, **verdict_as_dict(verdict))
        if self.looks:
            alarmed = tuple(f"{s.metric}/{s.group}" for s in verdict.alarmed)
            harms = {
                f"{s.metric}/{s.group}": s.harm / s.margin for s in verdict.streams if s.tested
            }
            self.history.append(Judged(step, verdict.level, alarmed, harms, trigger == "repeat"))
            self._decide(step)
        self.looks += 1
        return verdict.level

    def _decide(self, step: int) -> None:
        action = decide(self.history, LadderConfig())
        if action.kind == "none":
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

    def build(self, **options: datetime) -> tuple[str, dict]:
        """Build the report; return the page and the facts of the JSON file."""
        page = build_report(self.run, **options)
        assert page == self.run / "report.html"
        return page.read_text(encoding="utf-8"), json.loads(
            (self.run / "report.json").read_text(encoding="utf-8")
        )


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


def shown_text(page: str) -> str:
    """What a reader sees: style and tags off, entities decoded, white space squeezed."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def header_of(page: str) -> str:
    return page[page.index("<header") : page.index("</header>")]


COLLAPSE = {"instruction": 0.5, "writing": 0.5, "translation": 0.5, "reasoning": 0.9}
BETTER = {"instruction": 0.02}


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
    story.end(40)


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
    story.checkpoint(40, "unknown")
    story.end(40)


def crashed(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.log(30, loss=None)
    story.ledger.append(
        "crashed", 33, error="RuntimeError: cuda gone", last_ok_checkpoint="checkpoint-20"
    )


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


VERDICTS = [
    (finished_ok, "keep", "finished_ok", "ok", "建议继续"),
    (recovered, "keep", "finished_recovered", "ok", "途中报过警"),
    (finished_drifted, "roll_back", "finished_drifted", "serious", "请退回第 20 步的检查点"),
    (halted, "roll_back", "halted_on_drift", "critical", "训练在第 40 步被守护自动停止"),
    (halted_at_once, "give_up", "halted_on_drift", "critical", "没有一个检查点通过评测"),
    (halted_by_a_failed_look, "mend", "halted_on_failure", "unknown", "不是因为看到了退化"),
    (unmeasured_end, "mend", "finished_unmeasured", "unknown", "不能当作正常"),
    (crashed, "mend", "crashed", "ok", "训练在第 33 步崩溃"),
    (refused_by_the_pipeline_check, "mend", "pipeline", "unknown", "变的是评测管线，不是模型"),
    (running, "wait", "running", "ok", "训练还在进行，记到第 20 步"),
    (running_drifted, "wait", "running_drifted", "serious", "守护会按阶梯处理"),
    (only_look_zero, "wait", "running", "ok", "训练还没有走出第一步"),
]


@pytest.mark.parametrize(("tell", "advice", "because", "level", "said"), VERDICTS)
def test_every_outcome_gets_its_own_verdict(
    story: Story, tell, advice: str, because: str, level: str, said: str
) -> None:
    tell(story)
    page, facts = story.build()
    assert facts["verdict"]["advice"] == advice
    assert facts["verdict"]["because"] == because
    assert facts["verdict"]["level"] == level
    assert said in shown_text(page)


@pytest.mark.parametrize("tell", [row[0] for row in VERDICTS])
def test_level_and_sentence_never_disagree(story: Story, tell) -> None:
    tell(story)
    page, facts = story.build()
    header = header_of(page)
    badge = re.search(r'class="badge lv-(\w+)"', header)
    assert badge is not None
    assert badge.group(1) == facts["verdict"]["level"]
    state = shown_text(header[header.index('<dl class="state">') :].split("</dd>")[0])
    sentences = {
        "ok": "没有任何指标被证实超出容差",
        "unknown": "没有消息不等于正常",
        "critical": "超出危急线",
    }
    expected = sentences.get(badge.group(1), "已证实超出容差")
    assert expected in state
    assert not [s for s in sentences.values() if s != expected and s in state]


def test_watch_mode_says_that_nothing_was_done(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", mode="watch").start()
    finished_drifted(story)
    page, facts = story.build()
    text = shown_text(page)
    assert "没有注入任何复习样本，也没有执行任何动作" in text
    assert "仅观察，未执行" in text
    assert facts["key_figures"]["actions_carried_out"] == 0
    changes = next(s for s in facts["next_steps"] if s["code"] == "run_again")["changes"]
    assert {"key": "mode", "old": "watch", "new": "guard", "why": "was_watching"} in changes


def test_nobody_stops_a_watched_run_that_collapses(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", mode="watch").start()
    running_drifted(story)
    _, facts = story.build()
    assert facts["verdict"]["advice"] == "give_up"
    assert facts["verdict"]["last_ok_checkpoint"] is None


def test_a_ledger_that_fell_silent_is_not_called_running(story: Story) -> None:
    running(story)
    page, facts = story.build(now=datetime.now(timezone.utc) + timedelta(days=3))
    assert facts["verdict"]["because"] == "silent"
    assert "进程很可能已经被杀掉" in shown_text(page)
    assert facts["next_steps"][0]["command"].endswith("--resume")


def test_failures_to_measure_are_shown(story: Story) -> None:
    unmeasured_end(story)
    page, facts = story.build()
    assert "有 1 次评测没有测成" in shown_text(header_of(page))
    assert "OutOfMemoryError: no" in page
    assert facts["failures"][0]["step"] == 40
    assert 'class="lv-unknown"' in page


def test_crash_shows_its_error_and_the_command_to_resume(story: Story) -> None:
    crashed(story)
    page, _ = story.build()
    assert "RuntimeError: cuda gone" in header_of(page)
    assert f"guardrail run {story.run}/recipe.resolved.json --out {story.run} --resume" in page
    assert '<span class="gap"' in page, "a loss that is no number must be marked, not drawn as 0"


def test_rolling_back_names_the_checkpoint_and_the_recipe_lines(story: Story) -> None:
    halted(story)
    page, facts = story.build()
    checkpoint = str(story.run / "checkpoints/checkpoint-20")
    assert facts["verdict"]["last_ok_checkpoint"]["path"] == checkpoint
    assert checkpoint in header_of(page)
    changes = next(s for s in facts["next_steps"] if s["code"] == "run_again")["changes"]
    assert [(c["key"], c["new"]) for c in changes] == [
        ("start_model", checkpoint),
        ("train.arguments.learning_rate", 0.0005),
        ("rehearsal.fraction", 0.05),
    ]


def test_a_checkpoint_that_is_gone_is_said_to_be_gone(story: Story) -> None:
    halted(story)
    (story.run / "checkpoints/checkpoint-20").rmdir()
    assert "现在不在磁盘上" in shown_text(header_of(story.build()[0]))


def test_a_run_without_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ledger\.jsonl"):
        build_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_empty_ledger_and_a_torn_one_still_give_a_page(story: Story, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "ledger.jsonl").write_text("")
    assert "账本是空的" in shown_text(build_report(empty).read_text(encoding="utf-8"))
    running(story)
    with (story.run / "ledger.jsonl").open("a") as file:
        file.write('{"seq": 99, "kind": "lo')
    assert "训练还在进行" in shown_text(story.build()[0])


def test_a_resumed_run_shows_only_its_live_branch(story: Story) -> None:
    story.look(0, trigger="start")
    story.checkpoint(20, story.look(20, trigger="save"))
    story.look(40, COLLAPSE, trigger="schedule")
    story.ledger.append("crashed", 45, error="RuntimeError: x", last_ok_checkpoint=None)
    story.ledger.append("rewound", 20, checkpoint="checkpoint-20")
    story.log(30)
    page, facts = story.build()
    assert facts["outcome"] == "running"
    assert [k["step"] for k in facts["looks"]] == [0, 20]
    assert "退回到第 20 步的检查点再继续" in shown_text(page)


def test_a_resume_from_the_start_keeps_the_recipe(story: Story) -> None:
    story.ledger.append("crashed", 0, error="RuntimeError: x", last_ok_checkpoint=None)
    story.ledger.append("rewound", -1, checkpoint=None)
    story.look(0, trigger="start")
    page, facts = story.build()
    assert facts["name"] == "park"
    assert facts["outcome"] == "running"
    assert "没有完整的检查点，从头开始" in shown_text(page)


def test_streams_that_cannot_alarm_are_never_called_ok(story: Story) -> None:
    finished_ok(story)
    page, facts = story.build()
    look = read_run(story.run).last_look
    assert look is not None
    few = look.stream("passed", "reasoning")
    assert few is not None
    assert few.standing == "few_items"
    assert "只有 10 题，少于 30 题，不做检验" in shown_text(page)
    untested = [s for s in facts["looks"][-1]["streams"] if not s["tested"]]
    assert f"{len(untested)} 项指标未检验" in shown_text(header_of(page))


def test_a_look_of_which_nothing_was_tested_is_unknown(story: Story) -> None:
    story.look(0, trigger="start")
    story.items = story.items[:20]
    story.baseline = {k: v[:20] for k, v in (story.baseline or {}).items()}
    story.checkpoint(20, story.look(20, trigger="end"))
    story.end(20)
    _, facts = story.build()
    assert facts["looks"][-1]["level"] == "ok"
    assert facts["verdict"]["last_ok_checkpoint"] is None
    assert facts["verdict"]["level"] == "unknown"
    assert facts["verdict"]["advice"] == "mend"


def test_worst_items_stand_side_by_side_and_name_the_failed_checks(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.5, "instruction": 0.3, "writing": 0.05}, trigger="end")
    page, facts = story.build()
    items = facts["worst_items"]
    # 20, 18 and 2 items got worse: the places go round, the ability with most losses first.
    expected = ["translation"] * 11 + ["instruction"] * 11 + ["writing"] * 2
    assert [i["ability"] for i in items] == expected
    first = next(i for i in items if i["item"] == "translation-000")
    assert first["failed_checks"] == [["contains", {"all": ["公园0号"]}]]
    assert first["base"].startswith("公园0号绿树成荫")
    assert first["now"] == story.bad_answer
    assert "✗ 用词 须有 公园0号" in shown_text(page)


def test_rehearsed_items_are_shown_apart(story: Story) -> None:
    story.items = [i.model_copy(update={"rehearsed": i.id == "writing-000"}) for i in story.items]
    story.start()
    story.look(0, trigger="start")
    story.look(20, {"writing": 0.05}, trigger="end")
    page, _ = story.build()
    assert "也在复习集里的题（已背过，不计入判定）" in shown_text(page)


@pytest.mark.parametrize("lost", ["base", "now", "items"])
def test_missing_files_are_said_and_the_rest_is_shown(story: Story, lost: str) -> None:
    finished_drifted(story)
    files = {"base": "looks/look-0000-step-0.jsonl", "now": "looks/look-0002-step-40.jsonl"}
    (story.run / files.get(lost, "items.jsonl")).unlink()
    page, facts = story.build()
    code = "red_line" if lost == "items" else "missing"
    assert [p["code"] for p in facts["items_problems"]] == [code]
    assert bool(facts["worst_items"]) == (lost == "items")
    assert facts["verdict"]["advice"] == "roll_back"
    assert ("题面不可用" in page) == (lost == "items")


def test_damaged_answer_lines_are_skipped_and_counted(story: Story) -> None:
    finished_drifted(story)
    file = story.run / "looks/look-0002-step-40.jsonl"
    file.write_text("[]\n{\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    page, facts = story.build()
    assert facts["items_problems"] == [{"code": "damaged", "detail": f"{file} (2)"}]
    assert len(facts["worst_items"]) == 24
    assert "有损坏的行，已跳过" in page


def test_a_red_line_set_that_changed_since_the_run_is_noticed(story: Story) -> None:
    finished_drifted(story)
    check = [{"kind": "contains", "all": ["别的词"]}]
    items = [
        Item.model_validate(i.model_dump(by_alias=True) | {"checks": check}) for i in story.items
    ]
    write_items(story.run / "items.jsonl", items)
    page, facts = story.build()
    assert [p["code"] for p in facts["items_problems"]] == ["changed"]
    assert "红线集在这次运行之后改过" in page


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m红\x00 \u202etxt\u2066 \ud800 \u200b{{ 7 * 7 }}"


def test_hostile_text_is_inert_wherever_it_stands(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", bad_answer=HOSTILE + "长" * 200_000)
    question = [{"role": "user", "content": "</title><script>alert(3)</script>\u202e？"}]
    story.items = [
        Item.model_validate(i.model_dump(by_alias=True) | {"messages": question})
        for i in story.items
    ]
    story.start()
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.05}, trigger="save")
    story.ledger.append("error", 30, during="look", error=HOSTILE, then="continue")
    story.ledger.append("checkpoint", 30, path=HOSTILE.replace("\x00", ""), level="ok")
    story.ledger.append("crashed", 30, error=HOSTILE, last_ok_checkpoint=None)
    page, _ = story.build()
    assert "<script" not in page
    assert "<img" not in page
    assert "{{" in page, "the text itself must be there, unexecuted"
    assert "␛[31m红␀ ⟨U+202E⟩txt⟨U+2066⟩ ⟨U+D800⟩ ⟨U+200B⟩" in html.unescape(page)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f]", page
    )
    assert len(page) < 200_000


def test_the_page_names_where_the_items_come_from(story: Story) -> None:
    story.start()
    story.look(0, trigger="start")
    page, facts = story.build()
    assert "belle:eval_set.json 3 题，written for guardrail 7 题" in shown_text(page)
    assert facts["reproduce"]["red_line_sources"]["belle:eval_set.json"] == 3


def test_inert_keeps_ordinary_text() -> None:
    plain = "第一行\n\t“引号”，emoji 🙂，café"
    assert inert(plain) == plain


def test_page_asks_for_nothing_from_outside(story: Story) -> None:
    halted(story)
    page, _ = story.build()
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert not re.findall(r"""(?:src|href|action)=["'](?!#|data:)""", page)
    assert not re.search(r"url\(|@import|https?://", page)


def test_json_keys_are_documented(story: Story) -> None:
    import guardrail.watch.report as module

    halted(story)
    _, facts = story.build()
    for key in facts:
        assert f"`{key}`" in (module.__doc__ or ""), key


def test_a_thousand_looks_stay_readable(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(1, trigger="schedule")
    ledger = story.run / "ledger.jsonl"
    last = json.loads(ledger.read_text(encoding="utf-8").splitlines()[-1])
    with ledger.open("a", encoding="utf-8") as file:
        for n in range(2, 1000):
            record = last | {"seq": last["seq"] + n, "look": n, "step": n}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    page, facts = story.build()
    assert len(facts["looks"]) == 1000
    assert len(page) < 3_000_000
    assert "共 1000 次评测，这里显示 20 次" in shown_text(page)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 240, [0, 100, 200]),
        (-3, 0, [-3, -2, -1, 0]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list) -> None:
    assert charts.nice_ticks(low, high) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.00025, "2.5e−4"), (1e-3, "1e−3"), (0.0, "0"), (2.0, "2e0")]
)
def test_learning_rates_are_written_short(value: float, expected: str) -> None:
    line = charts.Line("", [(0, value)], label="e")
    panel = charts.render_panel(charts.Panel("学习率", "", [line]), 1.0)
    assert f">{expected}</span>" in panel.split('class="ends"')[1]


def test_labels_keep_their_distance_and_stay_inside() -> None:
    placed = charts.spread([99.0, 100.0, 98.0], 100.0)
    assert sorted(placed) == [68.0, 84.0, 100.0]
    assert placed.index(max(placed)) == 1
    assert charts.spread([2.0, 0.0, 1.0], 100.0) == [32.0, 0.0, 16.0]
