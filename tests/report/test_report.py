"""The report of small run folders: what the page and the JSON beside it say."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import read_ledger
from guardrail.recipe import read_recipe
from guardrail.report.facts import Report
from guardrail.report.findings import compute_spent, telling_look
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.texts import LANGUAGES
from guardrail.report.report import build_report, render_report
from guardrail.report.run_data import read_run
from guardrail.sets.items import Item, write_items
from tests.report.stories import (
    COLLAPSE,
    HOSTILE,
    Story,
    crashed,
    finished_drifted,
    finished_ok,
    halted,
    halted_at_once,
    header_of,
    looked_at,
    only_look_zero,
    recovered,
    running,
    shown_text,
    told,
    unmeasured_end,
)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


def answers_of(page: str) -> dict[str, str]:
    """Question of page one → what is answered."""
    found = re.search(r'<dl class="answers">(.*?)</dl>', header_of(page), re.DOTALL)
    assert found is not None
    pairs = re.findall(r"<dt>(.*?)</dt>\s*<dd[^>]*>(.*?)</dd>", found.group(1), re.DOTALL)
    return {shown_text(question): shown_text(answer) for question, answer in pairs}


def test_page_one_of_a_halted_run_answers_the_five_questions(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    page, facts = story.build()
    header = shown_text(header_of(page))
    assert "训练已被护栏自动叫停，停在第 40 步" in header
    assert "退回第 20 步的检查点，它是最后一个既没有越线、也没有未证实的下降的" in header
    answers = answers_of(page)
    assert list(answers) == [
        "出了什么问题",
        "从什么时候起",
        "有多大把握",
        "用哪个检查点",
        "下次改什么",
    ]
    assert "总体通过率从 100.0% 降到" in answers["出了什么问题"]
    assert "第 20 步的评测还没有证实越线，第 40 步首次证实" in answers["从什么时候起"]
    assert "同一份权重复测过一遍，仍然越线" in answers["从什么时候起"]
    assert "停训的原因：评测是“危急”，复测的结论是“危急”" in answers["出了什么问题"]
    assert "误报出这一级的概率不超过 1%" in answers["有多大把握"]
    assert "复测的结论仍是“危急”" in answers["有多大把握"]
    assert "第 20 步： checkpoints/checkpoint-20 " in answers["用哪个检查点"]
    assert str(story.run) in header, "relative to a folder that the page names"
    assert f"guardrail run {story.run}/recipe.next.yaml" in answers["用哪个检查点"]
    assert "train.arguments.learning_rate: 0.001 → 0.0005" in answers["下次改什么"]
    onset = facts["onsets"][0]
    assert (onset["first_step"], onset["ok_step"], onset["looks"]) == (40, 20, 1)


def test_the_promise_is_not_stretched_beyond_the_first_action(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.3, "instruction": 0.2}, trigger="schedule")
    first, _ = story.build()
    story.look(40, COLLAPSE, trigger="schedule")
    second, _ = story.build()
    said = "只能当作大致的说法"
    assert said not in answers_of(first)["有多大把握"], "the look that led to the first action"
    assert said in answers_of(second)["有多大把握"]


def test_the_same_page_in_english(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    page, facts = story.build(language="en")
    assert facts["language"] == "en"
    assert '<html lang="en">' in page
    header = shown_text(header_of(page))
    assert "The guard halted the training at step 40" in header
    answers = answers_of(page)
    assert list(answers) == [
        "What broke", "Since when", "How sure", "Which checkpoint", "What to change",
    ]  # fmt: skip
    assert (
        "not yet shown to be beyond its margin at step 20, first shown at step 40"
        in answers["Since when"]
    )
    # Questions and answers are the run's own words; all others are the report's.
    spoken = re.sub(r'<article class="item">.*?</article>', "", page, flags=re.DOTALL)
    assert not re.findall("[一-鿿]+", shown_text(spoken))


def test_the_language_is_the_recipe_s_unless_asked_otherwise(tmp_path: Path) -> None:
    story = told(running, tmp_path)
    ledger = story.run / "ledger.jsonl"
    text = ledger.read_text(encoding="utf-8").replace(
        '"mode": "guard", "gold', '"language": "en", "mode": "guard", "gold'
    )
    ledger.write_text(text, encoding="utf-8")
    assert '<html lang="en">' in render_report(story.run)
    assert '<html lang="zh-CN">' in render_report(story.run, language="zh")


def test_a_run_without_a_good_checkpoint_says_so_and_where_to_begin(tmp_path: Path) -> None:
    page, facts = told(halted_at_once, tmp_path).build()
    answers = answers_of(page)
    assert "没有一个通过评测" in answers["用哪个检查点"]
    assert "/models/base" in answers["用哪个检查点"]
    assert "第一次评测（第 20 步）就已经越线" in answers["从什么时候起"]
    assert facts["last_ok_checkpoint"] is None


def test_a_run_that_recovered_says_what_happened_on_the_way(tmp_path: Path) -> None:
    page, _ = told(recovered, tmp_path).build()
    assert "途中最重的一次在第 20 步" in answers_of(page)["最近一次评测"]
    assert "从什么时候起" not in answers_of(page)


def test_watch_mode_says_that_nothing_was_done(tmp_path: Path) -> None:
    page, facts = told(finished_drifted, tmp_path, mode="watch").build()
    text = shown_text(page)
    assert "没有注入任何复习样本，也没有做任何处置" in text
    assert "（未执行）" in text
    assert facts["key_figures"]["actions_carried_out"] == 0
    changes = next(s for s in facts["next_steps"] if s["changes"])["changes"]
    assert ("mode", "watch", "guard") in [(c["key"], c["old"], c["new"]) for c in changes]


def test_failures_to_measure_are_shown(tmp_path: Path) -> None:
    page, facts = told(unmeasured_end, tmp_path).build()
    assert "有 1 次评测没有做成" in shown_text(header_of(page))
    assert "OutOfMemoryError: no" in page
    assert facts["failures"][0]["step"] == 40
    assert 'class="lv-untested"' in page


def test_crash_shows_its_error_and_the_command_to_resume(tmp_path: Path) -> None:
    story = told(crashed, tmp_path)
    page, _ = story.build()
    assert "RuntimeError: cuda gone" in header_of(page)
    assert f"guardrail run {story.run}/recipe.resolved.json --out {story.run} --resume" in page
    assert '<span class="gap"' in page, "a loss that is no number must be marked, not drawn as 0"


def test_rolling_back_names_the_checkpoint_and_the_recipe_lines(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    page, facts = story.build()
    checkpoint = str(story.run / "checkpoints/checkpoint-20")
    assert facts["last_ok_checkpoint"]["path"] == checkpoint
    assert checkpoint in header_of(page)
    changes = next(s for s in facts["next_steps"] if s["changes"])["changes"]
    assert [(c["key"], c["new"]) for c in changes] == [
        ("start_model", checkpoint),
        ("train.arguments.learning_rate", 0.0005),
        ("rehearsal.fraction", 0.05),
        ("rehearsal.weight", 4.0),
    ]


def test_a_run_that_broke_in_its_warm_up_is_judged_by_the_actual_rate(tmp_path: Path) -> None:
    """Half the peak would only come to the same rate a little later."""
    story = told(halted, tmp_path)
    ledger = story.run / "ledger.jsonl"
    text = ledger.read_text(encoding="utf-8")
    ledger.write_text(
        text.replace('"loss": 1.0, "learning_rate": 0.001', '"loss": 1.0, "learning_rate": 0.0002')
    )
    page, facts = story.build()
    assert facts["conditions"]["learning_rate"] == 0.0002
    changes = {c["key"]: c for s in facts["next_steps"] for c in s["changes"]}
    assert changes["train.arguments.learning_rate"]["new"] == 0.0001
    assert "实际学习率 0.0002（峰值的 20%）" in answers_of(page)["出了什么问题"]
    assert "只把峰值减半不过是推迟" in shown_text(page)


def test_the_weight_named_is_the_one_it_broke_under_and_not_what_the_guard_raised_it_to(
    tmp_path: Path,
) -> None:
    story = told(finished_drifted, tmp_path)
    raised = next(r for r in read_ledger(story.run) if r["kind"] == "action")
    assert (raised["step"], raised["after"]["boost"]) == (40, 1.5)
    page, facts = story.build(language="en")
    assert (facts["conditions"]["step"], facts["conditions"]["kl_weight"]) == (40, 2.0)
    assert "the KL weight was 2" in shown_text(page)


def test_tables_and_glossary_show_margin_and_critical_margin_of_the_run(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    assert "−3.0 个点 危急 −8.0 个点" in shown_text(story.build()[0])
    for name in ("recipe.resolved.json", "ledger.jsonl"):
        file = story.run / name
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('"critical": 0.08', '"critical": 0.5'), encoding="utf-8")
    page = shown_text(story.build()[0])
    assert "−3.0 个点 危急 −50.0 个点" in page
    assert "必须停训的平均退化（50 个点）" in page


def serious_to_the_last_step(story: Story) -> None:
    """Harm at once, two cuts, better but never good, and a halt when there is nothing left to train."""
    bad, better = (
        {"translation": 0.3, "instruction": 0.2},
        {"translation": 0.3, "instruction": 0.12},
    )
    story.look(0, trigger="start")
    for step in range(20, 101, 10):
        story.look(step, bad if step == 20 else better, trigger="save")
        story.log(step)
    story.look(100, better, trigger="repeat")
    story.end(100, "halted")


def test_a_halt_at_the_last_step_says_so_and_why_and_where_it_was_worst(tmp_path: Path) -> None:
    story = told(serious_to_the_last_step, tmp_path)
    cuts = [r for r in read_ledger(story.run) if r.get("action") == "cut_lr"]
    page, facts = story.build()
    assert (facts["outcome"], facts["planned_steps"]) == ("halted", 100)
    assert "训练跑到最后一步（第 100 步）时被护栏判为停训" in shown_text(header_of(page))
    answers = answers_of(page)
    assert f"学习率降过 {len(cuts)} 次之后仍是“严重”" in answers["出了什么问题"]
    assert "途中最低：第 20 步" in answers["出了什么问题"]
    assert "首次证实（第 20 步）时护栏还没有动过手" in answers["有多大把握"]


def halted_by_a_failure_after_an_alarm(story: Story) -> None:
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.3, "instruction": 0.2}, trigger="save")
    story.ledger.append("error", 40, during="look", error="TimeoutError: server gone", then="halt")
    story.end(40, "halted")


def warned_then_halted(story: Story) -> None:
    story.look(0, trigger="start")
    assert story.look(20, {"instruction": 0.2}, trigger="save") == "warn"
    story.look(40, COLLAPSE, trigger="save")
    story.look(40, COLLAPSE, trigger="repeat")
    story.end(40, "halted")


def test_a_reason_for_a_halt_and_a_promise_are_given_only_where_they_hold(tmp_path: Path) -> None:
    (tmp_path / "failure").mkdir()
    page, _ = told(halted_by_a_failure_after_an_alarm, tmp_path / "failure").build()
    assert "停训的原因" not in shown_text(page)
    (tmp_path / "warned").mkdir()
    page, _ = told(warned_then_halted, tmp_path / "warned").build()
    sure = answers_of(page)["有多大把握"]
    assert "这是“危急”级结论" in sure
    assert "护栏已经动过手，这个概率此后只能当作大致的说法" in sure
    assert "保证是完整的" not in sure


def test_more_rehearsal_items_are_advised_only_where_those_there_are_were_used(
    tmp_path: Path,
) -> None:
    story = told(halted, tmp_path)
    codes = [s["code"] for s in story.build()[1]["next_steps"]]
    averaging = ["average_collapsed", "look_at_averaged"]
    assert codes == ["use_last_ok", *averaging, "more_rehearsal", "run_again"]
    ledger = story.run / "ledger.jsonl"
    text = ledger.read_text(encoding="utf-8")
    ledger.write_text(text.replace('"rehearsal_items": 20', '"rehearsal_items": 400'))
    page, facts = story.build()
    assert [s["code"] for s in facts["next_steps"]] == [
        "use_last_ok",
        *averaging,
        "enough_rehearsal",
        "run_again",
    ]
    assert "400 道复习题用到 12 道" in answers_of(page)["出了什么问题"]


def test_averaging_is_advised_of_weights_that_are_here_and_of_an_adapter_without_base(
    tmp_path: Path,
) -> None:
    story = told(finished_drifted, tmp_path)
    newest = story.run / "checkpoints/checkpoint-40"
    out = f"--share 0.7 --out {story.run}-averaged"
    look = f"guardrail look {story.run}-averaged --anchors /anchors"
    assert averaging(story) == {
        "average": f"guardrail average {newest} --base /models/base {out}",
        "look_at_averaged": look,
    }
    (newest / "adapter_config.json").write_text("{}")
    assert averaging(story)["average"] == f"guardrail average {newest} {out}"
    shutil.rmtree(newest)
    assert averaging(story) == {}


def averaging(story: Story) -> dict[str, str]:
    """The steps that have to do with averaging, and their commands."""
    steps = story.build()[1]["next_steps"]
    return {s["code"]: s["command"] for s in steps if "average" in s["code"]}


def test_after_a_collapse_averaging_keeps_a_small_share_and_promises_little(
    tmp_path: Path,
) -> None:
    story = told(halted, tmp_path)
    assert " --share 0.3 " in averaging(story)["average_collapsed"]
    english = shown_text(story.build(language="en")[0])
    assert "keep a part of what was learned" not in english
    assert "little of what was learned is left" in english


@pytest.mark.parametrize(
    ("name", "share", "lower", "out"),
    [
        ("first-averaged", 0.7, "0.4", "first-averaged-40"),
        ("averaged-40", 0.4, "0.2", "averaged-20"),
        ("averaged-30", 0.3, "0.2", "averaged-20"),
        ("averaged-20", 0.2, None, None),
    ],
)
def test_an_average_beyond_its_margin_is_made_again_with_a_lower_share(
    tmp_path: Path, name: str, share: float, lower: str | None, out: str | None
) -> None:
    story = told(looked_at, tmp_path, mode="look")
    of = {"model": "/runs/first/checkpoints/checkpoint-20", "base": "/models/base", "share": share}
    in_header(story, averaged=of)
    ledger = story.run / "ledger.jsonl"
    start, now = ('"start_model": "/models/' + n for n in ("base", name))
    ledger.write_text(ledger.read_text(encoding="utf-8").replace(start, now), encoding="utf-8")
    steps = averaging(story)
    assert story.build()[1]["next_steps"][-1]["code"] == "look_at_another"
    if lower is None:
        assert steps == {}
        return
    place = f"/models/{out}"
    assert steps == {
        "average_less": f"guardrail average {of['model']} --base /models/base --share {lower} --out {place}",
        "look_at_averaged": f"guardrail look {place} --anchors /anchors",
    }


def in_header(story: Story, **more: object) -> None:
    """Put more into the header of a story's ledger."""
    ledger = story.run / "ledger.jsonl"
    first, _, rest = ledger.read_text(encoding="utf-8").partition("\n")
    ledger.write_text(json.dumps(json.loads(first) | more) + "\n" + rest, encoding="utf-8")


@pytest.mark.parametrize(
    ("rule", "shown", "reproduced"),
    [
        ({"of": "run", "path": "/runs/<first>"}, "the rule of its run /runs/<first>", ""),
        (
            {"of": "recipe", "path": "/my.yaml", "changed": ["passed"]},
            "the rule of a recipe /my.yaml --margin changed the margins of: pass rate",
            " --margin passed=0.03,0.08 --recipe /my.yaml",
        ),
        ({"of": "defaults"}, "the default rule", ""),
        ({"of": "run", "path": "/r", "probes_left_out": 1}, "own probes that judged the run", ""),
    ],
)
def test_a_look_says_by_whose_rule_it_judged(tmp_path: Path, rule, shown, reproduced) -> None:
    story = told(looked_at, tmp_path, mode="look")
    in_header(story, rule=rule)
    page, facts = story.build(language="en")
    assert shown in shown_text(page)
    assert facts["judged_by"]["of"] == rule["of"]
    command = f"guardrail look /models/base --anchors /anchors{reproduced} --seed 7"
    assert facts["reproduce"]["command"] == command


def test_the_checkpoint_to_use_stands_beside_what_its_look_measured(tmp_path: Path) -> None:
    page, _ = told(halted, tmp_path).build()
    answer = answers_of(page)["用哪个检查点"]
    assert "那一次评测：总体 100.0% → 100.0%（正常），最低的一项是指令遵循 100%" in answer
    assert "那时只训练了 20 步（计划 100 步）" in answer
    assert "优化器和学习率计划从头开始" in answer


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_next_recipe_is_a_recipe_with_the_changes_and_their_reasons(
    tmp_path: Path, language
) -> None:
    story = told(halted, tmp_path)
    _, facts = story.build(language=language)
    path = story.run / "recipe.next.yaml"
    recipe = read_recipe(path)
    assert recipe.rehearsal.fraction == 0.05
    assert recipe.train.arguments["learning_rate"] == 0.0005
    assert recipe.start_model == str(story.run / "checkpoints/checkpoint-20")
    comments = [k for k in path.read_text(encoding="utf-8").splitlines() if k.startswith("#")]
    changes = next(s for s in facts["next_steps"] if s["changes"])["changes"]
    assert len(comments) == 2 + len(changes)


def test_a_whole_number_of_the_next_recipe_stays_one(tmp_path: Path) -> None:
    story = told(halted_at_once, tmp_path)
    _, facts = story.build(language="en")
    text = (story.run / "recipe.next.yaml").read_text(encoding="utf-8")
    assert "every_steps: 10\n" in text
    changes = {c["key"]: c for s in facts["next_steps"] for c in s["changes"]}
    for change in changes.values():
        if isinstance(change["old"], int):
            assert isinstance(change["new"], int), change


def test_a_run_from_a_script_of_one_s_own_gets_no_command_it_was_not_started_with(
    tmp_path: Path,
) -> None:
    story = told(halted, tmp_path)
    (story.run / "recipe.resolved.json").unlink()
    page, facts = story.build()
    assert not (story.run / "recipe.next.yaml").exists()
    assert facts["reproduce"]["command"] is None
    # The recipe's learning rate was never the script's: the logged one counts.
    assert "learning_rate: 0.001 → 0.0005" in answers_of(page)["下次改什么"]
    assert "train.arguments" not in answers_of(page)["下次改什么"]
    assert "用原来的启动命令再跑" in answers_of(page)["用哪个检查点"]


def test_a_checkpoint_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    (story.run / "checkpoints/checkpoint-20").rmdir()
    page, facts = story.build()
    assert "现在不在磁盘上" in shown_text(header_of(page))
    changed = {c["key"]: c for s in facts["next_steps"] for c in s["changes"]}
    assert "start_model" not in changed
    # From the base again: half the rate learns as much in twice the steps.
    assert changed["train.arguments.learning_rate"]["new"] == 0.0005
    assert changed["train.arguments.max_steps"]["new"] == 200
    assert "步数加倍" in shown_text(page)
    assert "从它接着练" not in shown_text(page), "the next recipe begins from the start model again"


def test_a_run_without_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ledger\.jsonl"):
        build_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_empty_ledger_and_a_torn_one_still_give_a_page(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "ledger.jsonl").write_text("")
    assert "账本是空的" in shown_text(build_report(empty).read_text(encoding="utf-8"))
    story = told(running, tmp_path)
    with (story.run / "ledger.jsonl").open("a") as file:
        file.write('{"seq": 99, "kind": "lo')
    page, facts = story.build()
    assert "训练还在进行" in shown_text(page)
    assert facts["damaged_ledger_lines"] == []


@pytest.mark.parametrize(
    "strange",
    [
        {"kind": "look", "step": 20},
        {"kind": "look", "step": 30, "look": 9, "trigger": "x", "level": 3, "answers": [], "streams": 7},
        {"kind": "action", "step": 30, "action": "halt", "carried_out": "perhaps", "before": 1, "after": 2},
        {"kind": "log", "step": 30, "loss": "<script>"},
        {"kind": "metric", "step": 30, "value": {}},
        {"kind": "decision", "step": 30, "decision": "burn", "by": "x", "note": "y"},
        {"kind": "started"},
        ["no", "record"],
        {"kind": "look", "step": 10**40},
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_left_out_and_counted(tmp_path: Path, strange) -> None:
    story = told(running, tmp_path)
    with (story.run / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(strange) + "\n")
    page, facts = story.build()
    assert len(facts["damaged_ledger_lines"]) == 1
    assert facts["step"] == 20 or strange.__class__ is dict
    assert "<script" not in page


def test_numbers_no_chart_can_draw_are_gaps(tmp_path: Path) -> None:
    story = told(running, tmp_path)
    with (story.run / "ledger.jsonl").open("a") as file:
        for value in ("1e308", "-1e308", "NaN", "Infinity", str(10**400)):
            file.write(f'{{"kind": "log", "step": 21, "loss": {value}, "learning_rate": 1}}\n')
    page, facts = story.build()
    assert [r["loss"] for r in facts["logs"][-5:]] == [None] * 5
    assert "nan" not in shown_text(page)


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


def test_streams_that_cannot_alarm_are_never_called_ok(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    page, facts = story.build()
    look = read_run(story.run).last_look
    assert look is not None
    few = look.stream("passed", "reasoning")
    assert few is not None
    assert few.standing == "few_items"
    assert "只有 10 题（至少要 30 题），不单独检验" in shown_text(page)
    untested = [s for s in facts["looks"][-1]["streams"] if not s["tested"]]
    every = facts["looks"][-1]["streams"]
    said = f"{len(every)} 项指标中有 {len(untested)} 项没有检验（{len(untested)} 项题太少）"
    assert said in shown_text(header_of(page))
    assert {s["level"] for s in untested} == {"untested"}


def test_inherited_harm_stands_beside_new_harm(tmp_path: Path) -> None:
    story = Story(tmp_path / "run").start(on_inherited="judge_new")
    story.look(0, {"translation": 0.1}, trigger="start", inherited=True)
    story.look(20, {"translation": 0.3}, trigger="end")
    page, facts = story.build()
    row = next(i for i in facts["inherited"] if i["group"] == "translation")
    assert (row["gold_base"], row["start"], row["now"]) == (1.0, 0.9, 0.7)
    text = shown_text(page)
    assert "起点不是原始模型" in text
    assert "继承 −2.7 个点，这次训练新增 −5.3 个点" in shown_text(header_of(page))
    assert "翻译 100.0% 90.0% 70.0% −10.0 个点 −20.0 个点" in text


def test_a_run_that_died_before_its_first_look_still_has_a_page(story: Story) -> None:
    story.ledger.append("crashed", 0, error="ValueError: no", last_ok_checkpoint=None)
    for language in LANGUAGES:
        page, facts = story.build(language=language)
        assert facts["verdict"]["recommendation"] == "undecided"
        assert "ValueError: no" in header_of(page)
    assert facts["looks"] == []


def test_a_single_look_at_a_model_has_a_page(tmp_path: Path) -> None:
    """As `guardrail look` writes it: no training, no checkpoint."""
    story = told(looked_at, tmp_path, mode="look")
    page, facts = story.build()
    text = shown_text(page)
    assert "对一个模型做了一次评测，没有训练" in shown_text(header_of(page))
    assert (facts["verdict"]["recommendation"], facts["verdict"]["because"]) == (
        "reject",
        "look_drifted",
    )
    assert facts["next_steps"][0]["command"] == "guardrail look CHECKPOINT --anchors /anchors"
    assert facts["reproduce"]["command"] == (
        "guardrail look /models/base --anchors /anchors --margin passed=0.03,0.08 --seed 7"
    )
    assert [
        word
        for word in (
            "开训",
            "训练步",
            "整次训练",
            "整个训练",
            "绊线",
            "复习题",
            "最终权重",
            "第 1 步",
        )
        if word in text
    ] == []
    english = shown_text(story.build(language="en")[0])
    assert "Do not use these weights" in english
    assert [
        word
        for word in ("whole run", "training step", "Tripwire", "final weights")
        if word in english
    ] == []


def test_a_start_from_the_gold_base_inherits_nothing(tmp_path: Path) -> None:
    page, facts = told(finished_ok, tmp_path).build()
    assert facts["inherited"] == []
    assert "没有继承来的退化" in shown_text(page)


def test_device_hours_are_wall_time_times_processes(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    ledger = story.run / "ledger.jsonl"
    plain = ledger.read_text(encoding="utf-8")
    spent = compute_spent(read_run(story.run))
    assert (spent.hours, spent.device, spent.exact) == (40 / 3600, None, True)
    ledger.write_text(
        plain.replace(
            '"mode": "guard", "seed"', '"processes": 8, "device": "cuda", "mode": "guard", "seed"'
        ),
        encoding="utf-8",
    )
    page, facts = story.build()
    assert facts["key_figures"]["compute"]["hours"] == pytest.approx(8 * 40 / 3600)
    assert "GPU 用时 0.09 卡时，8 个进程" in shown_text(page)
    ledger.write_text(
        plain.replace('"mode": "guard", "seed"', '"device": "cpu", "mode": "guard", "seed"'),
        encoding="utf-8",
    )
    assert "占用 0.01 进程·小时" in shown_text(story.build()[0])


def test_training_data_that_changed_since_the_start_is_noticed(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    data, ledger = tmp_path / "rows.jsonl", story.run / "ledger.jsonl"
    data.write_text("{}\n")
    text = ledger.read_text(encoding="utf-8").replace("/data.jsonl", str(data))
    ledger.write_text(
        text.replace(
            '"mode": "guard", "seed"', f'"training_sha256": "{"0" * 64}", "mode": "guard", "seed"'
        ),
        encoding="utf-8",
    )
    page, facts = story.build()
    assert facts["training_data"]["changed_since"]
    assert "文件在开训之后改过" in shown_text(page)


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


FLAVOURED = (
    "在当今快速发展的社会背景下，随着城市的不断发展，公园扮演着至关重要的角色，值得注意的是，它承载着底蕴，"
    "见证着岁月，谱写着崭新的篇章，点亮了心灵的港湾。总而言之，让我们携手共创美好的未来，希望对您有所帮助。"
)


def test_machine_flavoured_words_are_marked_by_name(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", bad_answer=FLAVOURED).start()
    story.look(0, trigger="start")
    story.look(20, {"writing": 0.05}, trigger="end")
    page, facts = story.build()
    flavour = facts["worst_items"][0]["flavour"]
    marked = {(FLAVOURED[a:b], part) for a, b, part in flavour["spans"]}
    assert ("值得注意的是", "stock") in marked
    assert "opening" not in {part for _, part in marked}, "who asks for a text may get an opening"
    assert '<span class="fl" title="大词">篇章</span>' in re.sub("</?mark>", "", page)
    assert "分/百字：" in shown_text(page)


def test_rehearsed_items_are_shown_apart(story: Story) -> None:
    story.items = [i.model_copy(update={"rehearsed": i.id == "writing-000"}) for i in story.items]
    story.start()
    story.look(0, trigger="start")
    story.look(20, {"writing": 0.05}, trigger="end")
    page, facts = story.build()
    assert facts["rehearsed_red_line_items"] == 1
    assert [i["rehearsed"] for i in facts["worst_items"]] == [False, True]
    apart = page[page.index('<section id="memorised"') :]
    apart = shown_text(apart[: apart.index("</section>")])
    assert "背过，不等于安全" in apart
    assert "writing-000" in apart
    judged = page[page.index('<section id="examples"') : page.index('<section id="memorised"')]
    assert "writing-000" not in judged


@pytest.mark.parametrize("lost", ["base", "now", "items"])
def test_missing_files_are_said_and_the_rest_is_shown(tmp_path: Path, lost: str) -> None:
    story = told(finished_drifted, tmp_path)
    files = {"base": "looks/look-0000-step-0.jsonl", "now": "looks/look-0002-step-40.jsonl"}
    (story.run / files.get(lost, "items.jsonl")).unlink()
    page, facts = story.build()
    code = "red_line" if lost == "items" else "missing"
    assert [p["code"] for p in facts["items_problems"]] == [code]
    assert bool(facts["worst_items"]) == (lost == "items")
    assert facts["verdict"]["recommendation"] == "roll_back"
    assert ("题面读不出来" in page) == (lost == "items")


def test_damaged_answer_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    story = told(finished_drifted, tmp_path)
    file = story.run / "looks/look-0002-step-40.jsonl"
    file.write_text("[]\n{\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    page, facts = story.build()
    assert facts["items_problems"] == [{"code": "damaged", "detail": f"{file} (2)"}]
    assert len(facts["worst_items"]) == 24
    assert "有损坏的行，已跳过" in page


def test_a_red_line_set_that_changed_since_the_run_is_noticed(tmp_path: Path) -> None:
    story = told(finished_drifted, tmp_path)
    check = [{"kind": "contains", "all": ["别的词"]}]
    items = [
        Item.model_validate(i.model_dump(by_alias=True) | {"checks": check}) for i in story.items
    ]
    write_items(story.run / "items.jsonl", items)
    page, facts = story.build()
    assert [p["code"] for p in facts["items_problems"]] == ["changed"]
    assert "红线集在这次运行之后改过" in page


def test_hostile_text_is_inert_wherever_it_stands(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", bad_answer=HOSTILE + "长" * 1_000_000)
    question = [{"role": "user", "content": "</title><script>alert(3)</script>\u202e？"}]
    story.items = [
        Item.model_validate(i.model_dump(by_alias=True) | {"messages": question})
        for i in story.items
    ]
    story.start()
    story.look(0, trigger="start")
    story.look(20, {"translation": 0.05}, trigger="save")
    story.ledger.append("error", 30, during="look", error=HOSTILE, then="continue")
    story.ledger.append("checkpoint", 30, path=HOSTILE.replace("\x00", ""), level=HOSTILE)
    story.ledger.append("metric", 30, name=HOSTILE, value=1.0)
    story.ledger.append("crashed", 30, error=HOSTILE, last_ok_checkpoint=None)
    story.ledger.append("decision", 30, decision="accept", by=HOSTILE, note=HOSTILE)
    page, _ = story.build()
    assert "<script" not in page
    assert "<img" not in page
    assert "{{" in page, "the text itself must be there, unexecuted"
    assert "␛[31m红␀ ⟨U+202E⟩txt⟨U+2066⟩ ⟨U+D800⟩ ⟨U+200B⟩" in html.unescape(page)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f]", page
    )
    assert len(page) < 250_000


def test_metrics_others_logged_are_drawn_on_the_same_axis(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    for n in range(8):
        for step in range(1, 10 - n):
            story.ledger.append("metric", step, name=f"reward/{n}", value=step / 10)
    page, facts = story.build()
    drawn = re.findall(r"<figcaption>(reward/\d)", page)
    assert drawn == [f"reward/{n}" for n in range(6)], "those logged most often"
    assert "另有 2 项指标没有画" in shown_text(page)
    assert len(facts["metrics"]) == sum(range(2, 10))


def test_the_page_names_where_the_items_come_from(tmp_path: Path) -> None:
    page, facts = told(only_look_zero, tmp_path).build()
    assert "belle:eval_set.json 3 题、written for guardrail 7 题" in shown_text(page)
    assert facts["reproduce"]["red_line_sources"]["belle:eval_set.json"] == 3


def test_inert_keeps_ordinary_text() -> None:
    plain = "第一行\n\t“引号”，emoji 🙂，café"
    assert escape_controls(plain) == plain


def test_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    page, _ = told(halted, tmp_path).build()
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert not re.findall(r"""(?:src|href|action)=["'](?!#|data:)""", page)
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_published_schema_is_in_step() -> None:
    """Rewrite it with: python -m guardrail.report.facts > docs/report.schema.json"""
    path = Path(__file__).parents[2] / "docs/report.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == Report.model_json_schema(
        mode="serialization"
    )


@pytest.mark.parametrize("tell", [halted, crashed, finished_ok, only_look_zero])
def test_reports_validate_against_the_published_schema(tmp_path: Path, tell) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text("utf-8"))
    _, facts = told(tell, tmp_path).build()
    jsonschema.validate(facts, schema)
    assert Report.model_validate(facts).model_dump(mode="json") == facts
    facts["verdict"]["recommendation"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(facts, schema)


def long_history(story: Story, looks: int) -> None:
    """Repeat the newest look's record up to so many looks, one a step."""
    ledger = story.run / "ledger.jsonl"
    records = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    last = [r for r in records if r["kind"] == "look"][-1]
    with ledger.open("a", encoding="utf-8") as file:
        for n in range(last["look"] + 1, looks):
            record = last | {"seq": last["seq"] + n, "look": n, "step": last["step"] + n}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def test_a_thousand_looks_stay_readable(tmp_path: Path) -> None:
    story = told(running, tmp_path)
    long_history(story, 1000)
    page, facts = story.build()
    assert len(facts["looks"]) == 1000
    assert len(page) < 3_000_000
    assert "共 1000 次评测，这里显示 20 次" in shown_text(page)


def test_the_newest_look_above_ok_tells_what_broke(tmp_path: Path) -> None:
    data = read_run(told(recovered, tmp_path).run)
    telling = telling_look(data)
    assert telling is not None
    assert telling.step == 20
    assert telling_look(read_run(told(finished_ok, tmp_path / "ok").run)) is None


def test_a_page_for_a_folder_that_moved_is_built_where_it_lies_now(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    shutil.move(story.run, tmp_path / "moved")
    page = build_report(tmp_path / "moved").read_text(encoding="utf-8")
    assert str(tmp_path / "moved/checkpoints/checkpoint-20") in header_of(page)


def test_process_hours_are_of_the_same_clock_while_a_run_goes_on(tmp_path: Path) -> None:
    """The trainer's own seconds, looks included, which the log records have as the end has them."""
    story = Story(tmp_path / "r").start()
    story.look(0, trigger="start")
    story.ledger.append("log", 10, loss=1.0, seconds={"train": 72.0, "looks": 30.0})
    spent = compute_spent(read_run(story.run))
    assert (spent.hours, spent.exact) == (72 / 3600, True)


def test_a_reward_is_drawn_beside_the_loss_where_there_is_one(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    without, _ = story.build()
    assert "奖励" not in shown_text(without)
    rewarded = Story(tmp_path / "rewarded").start()
    rewarded.look(0, trigger="start")
    for step, reward in ((10, -0.5), (20, 0.25)):
        rewarded.ledger.append("log", step, loss=0.1, learning_rate=1e-3, reward=reward)
    page, _ = rewarded.build()
    assert shown_text(page).index("训练损失") < shown_text(page).index("奖励")
    english, _ = rewarded.build(language="en")
    assert "Reward" in shown_text(english)
