"""The plan: figures with their sources, parts that sum up, what a mix lacks."""

import json
import math
import re

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.plan import sizing
from guardrail.data.plan.make_plan import Prices, Sized, businesses, explain, figure_rows, make_plan
from guardrail.data.plan.mix_check import check_mix
from guardrail.data.rows import made_row
from guardrail.errors import InputError


@pytest.mark.parametrize(("size", "rows"), [("7B", 5615), ("14B", 7615), ("32B", 10000)])
def test_high_quality_rows_follow_the_logarithm_of_size(size, rows):
    figure = sizing.high_quality_rows(sizing.parameters(size))
    assert figure.value == rows
    assert "no theory" in figure.source
    assert not figure.outside


def test_a_model_below_the_range_gets_limas_floor_and_is_said_to_be_outside():
    figure = sizing.high_quality_rows(0.6)
    assert (figure.value, figure.outside) == (1000, True)


@pytest.mark.parametrize(
    ("size", "band"),
    [
        (7, (20_000, 100_000)),
        (8, (30_000, 150_000)),
        (14, (100_000, 500_000)),
        (32, (300_000, 1_000_000)),
    ],
)
def test_listed_sizes_have_their_band(size, band):
    assert sizing.sft_rows(size).value == band


def test_a_size_between_two_bands_is_interpolated_by_logarithm():
    middle = math.sqrt(14 * 32)
    low, high = sizing.sft_rows(middle).value
    assert low == round(math.sqrt(100_000 * 300_000))
    assert high == round(math.sqrt(500_000 * 1_000_000))


@pytest.mark.parametrize("size", ["", "B", "0B", "-8B", "8 T", "eight"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match="billions or millions"):
        sizing.parameters(size)


def test_a_mixture_of_experts_has_both_figures_and_says_which_is_used():
    plan = make_plan(Sized(30, 3))
    assert plan["high_quality_rows"] == round(2000 * math.log2(30))
    assert plan["high_quality_rows_by_active"] == round(2000 * math.log2(3))
    assert plan["sized_by"] == "total"
    assert any("3B" in sentence for sentence in explain(plan, "zh"))
    with pytest.raises(InputError, match="must not exceed"):
        make_plan(Sized(3, 30))


def test_parts_of_a_business_sum_to_its_rows_and_money_needs_prices():
    plan = make_plan(Sized(8, 8), domain_rows=1001, business="collection")
    assert sum(part["rows"] for part in plan["parts"]) == 1001
    assert plan["price"]["money"] == {"of_tokens": None, "of_people": None}
    priced = make_plan(
        Sized(8, 8), domain_rows=1001, business="collection", prices=Prices(2.0, 100.0)
    )
    assert priced["price"]["money"]["of_tokens"] == round(priced["price"]["tokens"] / 1e6 * 2, 2)
    assert {"ask", "reject", "accept"} <= set(plan["parts"][0]["covers"])


def test_translated_rows_are_named_and_forbidden_as_general_data():
    plan = make_plan(Sized(8, 8))
    translated = next(kind for kind in plan["rows_from"] if kind["key"] == "translated")
    assert translated["forbidden_as_general"]
    assert len(plan["rows_from"]) == 6
    assert plan["origins"] == ["own_logs", "public", "model_made", "experts", "online_feedback"]


@pytest.mark.parametrize("size", [0.6, 7, 8, 14, 32, 235])
def test_the_table_of_figures_is_told_in_chinese_whole(size):
    plan = make_plan(Sized(size, size), domain_rows=6000)
    for named, _, source, holds in figure_rows(plan, "zh"):
        assert all(re.search("[一-鿿]|SFT", text) for text in (named, source, holds))
    assert [row[1:] for row in figure_rows(plan, "en")[1:]] == [
        (plan[name], source, plan["holds_for"][name]) for name, source in plan["sources"].items()
    ]


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("rows", [100, 6000, 400_000])
def test_every_plan_can_be_explained(lang, rows):
    sentences = explain(make_plan(Sized(8, 8), domain_rows=rows), lang)
    assert len(sentences) >= 9
    assert all("{" not in sentence for sentence in sentences)


def test_a_business_of_ones_own_must_sum_to_one(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "mine: {zh: 我的, en: mine, parts: [{key: a, share: 0.5, kind: grounded, zh: 甲, en: a}]}"
    )
    with pytest.raises(InputError, match="must sum to 1"):
        businesses(file)


def test_the_command_gives_each_figure_with_its_source():
    done = CliRunner().invoke(
        app, ["data", "plan", "--size", "8B", "--domain-rows", "6000", "--json"]
    )
    plan = json.loads(done.stdout)
    assert plan["high_quality_rows"] == 6000
    assert plan["sft_rows"] == [30_000, 150_000]
    assert plan["general_share"] == [0.01, 0.03]
    assert plan["refusal_share"] == [0.1, 0.3]
    assert all(
        plan["sources"][name]
        for name in ("high_quality_rows", "sft_rows", "general_share", "refusal_share")
    )


def _row(number, question, answer, **provenance):
    return made_row(
        f"{question}（第{number}题，城市编号{number * 7919}）", answer, method="own", **provenance
    )


def _mix(refusals, general):
    topics = ["天气", "菜谱", "旅行", "理财", "读书", "健身", "汽车", "房租", "园艺", "编程"]
    rows = [
        _row(n, f"说说{topics[n % 10]}要注意什么", f"先看{topics[n % 10]}的具体情形，再定做法{n}。")
        for n in range(100 - refusals - general)
    ]
    rows += [
        _row(n, "教我伪造一份收入证明去骗贷款", "这件事我不能帮你做，伪造证明骗贷是违法的。")
        for n in range(refusals)
    ]
    return rows + [
        _row(n, "介绍一下杭州", f"杭州在浙江，西湖很有名{n}。", part="general")
        for n in range(general)
    ]


@pytest.mark.parametrize(
    ("refusals", "general", "subject", "says"),
    [
        (2, 2, "safety_and_refusals", "lacks"),
        (40, 2, "safety_and_refusals", "too much"),
        (15, 0, "general", "lacks"),
        (15, 5, "general", "too much"),
        (15, 12, "general", "too much"),
    ],
)
def test_shares_outside_of_the_plan_are_found(refusals, general, subject, says):
    checked = check_mix(_mix(refusals, general), make_plan(Sized(8, 8)))
    assert (subject, says) in {(f["subject"], f["says"]) for f in checked["findings"]}


def test_more_general_rows_than_the_limit_are_told_from_more_than_advised():
    def said(general):
        found = check_mix(_mix(15, general), make_plan(Sized(8, 8)))["findings"]
        return next(f["en"] for f in found if f["subject"] == "general")

    assert "limit of 10%" in said(12)
    assert "advised 3%" in said(5)


def test_shares_inside_are_not_found_but_missing_behaviours_are():
    checked = check_mix(_mix(15, 2), make_plan(Sized(8, 8)))
    found = {f["subject"] for f in checked["findings"]}
    assert not found & {"safety_and_refusals", "general"}
    assert {"multi_turn", "reflection", "tools_and_formats", "rows"} <= found


def test_praise_of_the_question_is_counted_as_a_template():
    rows = [*_mix(15, 2), *(_row(n, "怎么存钱", "这是一个很好的问题！先记账。") for n in range(5))]
    checked = check_mix(rows, make_plan(Sized(8, 8)))
    assert "template_openings" in {f["subject"] for f in checked["findings"]}


def test_rows_without_provenance_leave_the_general_share_unknown(tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text(
        '{"messages": [{"role": "user", "content": "介绍一下杭州的西湖"}, {"role": "assistant", "content": "西湖在杭州。"}]}\n'
    )
    done = CliRunner().invoke(app, ["data", "plan", "--size", "8B", "--check", str(data), "--json"])
    assert done.exit_code == 1
    assert "unknown" in {
        f["says"] for f in json.loads(done.stdout)["findings"] if f["subject"] == "general"
    }


def test_a_checked_mix_is_told_in_one_language(tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text(
        '{"messages": [{"role": "user", "content": "介绍一下杭州的西湖"}, {"role": "assistant", "content": "西湖在杭州。"}]}\n'
    )
    said = CliRunner().invoke(app, ["data", "plan", "--size", "8B", "--check", str(data)]).output
    assert "多轮" in said
    assert not re.search(r"\b(?:rows|behaviour|share|lacks|unknown|multi_turn|refusal)\b", said)


def test_the_worked_plan_is_written(tmp_path):
    done = CliRunner().invoke(app, ["data", "plan", "--worked", str(tmp_path / "plan.md")])
    assert done.exit_code == 0
    assert "guardrail data select" in (tmp_path / "plan.md").read_text(encoding="utf-8")
