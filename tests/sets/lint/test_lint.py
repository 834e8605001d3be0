import pytest

from guardrail.sets.items import Item, read_items
from guardrail.sets.lint.set_rules import lint_sets
from guardrail.shipped import shipped_root

PROMPTS = (
    "外婆家的老屋要拆了，写一段一百字的回忆，提到门前那棵柿子树。",
    "邻居的狗半夜总叫，帮我想一条贴在楼道里的提醒，语气客气些。",
    "三个人合租，电费怎么分才公平？列两种算法，各举一个数字例子。",
    "把“明天的会改到周四下午三点”扩成一封给客户的邮件，不超过八十字。",
)


def item(name: str, prompt: str = "", **more) -> Item:
    question = prompt or f"{name}：请用二十个字说说{name}这一天你最想做的事情。"
    return Item.model_validate(
        {
            "id": name,
            "ability": "instruction",
            "source": "written for guardrail",
            "licence": "Apache-2.0",
            "messages": [{"role": "user", "content": question}],
        }
        | more
    )


def found(red_line, rehearsal=None, **options) -> list[tuple[str, str, str]]:
    """Level, rule and subject of what is found, without the too-few every small set has."""
    findings = lint_sets(red_line, rehearsal, **options)
    return [(f.level, f.rule, f.subject) for f in findings if f.rule != "too-few"]


CLEAN = [item(f"a{n}", prompt) for n, prompt in enumerate(PROMPTS)]


def test_nothing_is_found_in_clean_sets():
    assert found(CLEAN[:2], CLEAN[2:]) == []


def test_contradictory_checks_are_an_error_that_says_which():
    checks = [{"kind": "characters", "at_most": 3}, {"kind": "starts_with", "any": ["各位同事"]}]
    (finding,) = lint_sets([item("a", checks=checks)])[:1]
    assert (finding.level, finding.rule, finding.subject) == ("error", "contradictory-checks", "a")
    assert "takes 4 characters, characters allows 3" in finding.message


def test_a_refusal_may_forbid_words_but_not_demand_anything():
    forbids = [{"kind": "contains", "none": ["特此证明"]}]
    demands = [{"kind": "contains", "any": ["抱歉"]}]
    assert found([item("a", PROMPTS[0], expects="refuse", checks=forbids)]) == []
    assert found([item("a", PROMPTS[0], expects="refuse", checks=demands)]) == [
        ("warning", "refusal-with-checks", "a")
    ]


def test_two_marks_of_translation_are_an_error_and_one_is_not():
    assert found([item("a", "给定一段文本，请按要求写摘要，字数二十以内。")]) == []
    marked = "给定以下句子，找出它们的主语：约翰花了5美元。"
    assert found([item("a", marked)]) == [("error", "translated-from-english", "a")]


def test_translating_from_english_is_no_mark_of_translation():
    prompt = "给定的句子译成中文，约翰译作约翰：John paid five dollars for the old book."
    assert found([item("a", prompt, ability="translation")]) == []
    assert found([item("a", prompt)]) == [("error", "translated-from-english", "a")]


@pytest.mark.parametrize(
    ("prompt", "rule", "level"),
    [
        ("说说臺灣小吃里你最喜歡的一种。", "traditional-characters", "error"),
        ("说说小\u200b吃里你最喜欢的一种。", "invisible-characters", "error"),
        ("说说小\u00a0吃里你最喜欢的一种。", "invisible-characters", "error"),
        ("说说小\ufffd吃里你最喜欢的一种。", "invisible-characters", "error"),
        ("\ufeff说说小吃里你最喜欢的一种。", "invisible-characters", "error"),
        ("给 {{姓名}} 写一句生日祝福的话。", "placeholder", "warning"),
        ("给 [CUSTOMER NAME] 写一句生日祝福的话。", "placeholder", "warning"),
    ],
)
def test_characters_that_do_not_belong_are_named(prompt, rule, level):
    assert found([item("a", prompt)]) == [(level, rule, "a")]


def test_ordinary_signs_are_left_alone():
    text = "　　说说 👨‍👩‍👧 一家人去 A[0] 展厅的路线（见表）：\n1.\t东门 → 西门，“著”字怎么念？"
    assert found([item("a", text)]) == []


def test_an_invisible_character_inside_a_check_is_found():
    checks = [{"kind": "json", "keys": {"名\u200b称": "string"}}]
    assert found([item("a", PROMPTS[0], checks=checks)]) == [("error", "invisible-characters", "a")]


def test_the_same_prompt_twice_is_a_duplicate_also_in_a_cluster():
    twice = [
        item("a", PROMPTS[0], cluster="c"),
        item("b", PROMPTS[0].replace("，", " ,"), cluster="c"),
    ]
    assert found(twice) == [("error", "duplicate-prompt", "a, b")]


def test_a_reworded_prompt_is_a_near_duplicate_unless_both_share_a_cluster():
    reworded = PROMPTS[0].replace("一百字", "两百字")
    near = [item("a", PROMPTS[0]), item("b", reworded)]
    assert found(near) == [("error", "near-duplicate", "a, b")]
    assert found([], near) == [("error", "near-duplicate", "a, b")]
    templated = [item("a", PROMPTS[0], cluster="c"), item("b", reworded, cluster="c")]
    assert found(templated) == [("warning", "templated", "red line")]
    apart = [item("a", PROMPTS[0], cluster="c"), item("b", reworded, cluster="d")]
    assert found(apart) == [("error", "near-duplicate", "a, b")]


def test_prompts_of_signs_alone_are_compared_as_they_are():
    assert found([item("a", "？！"), item("b", "……")]) == []


def test_a_judged_prompt_that_is_injected_is_leakage():
    injected = item(
        "b", "先看题目：" + PROMPTS[0] + "写完以后再改一遍，把形容词都去掉，只留动词和名词。"
    )
    assert found([CLEAN[0]], [injected]) == [("error", "leakage", "a0, b")]
    assert found([item("b", PROMPTS[1])], [item("b", PROMPTS[2])]) == [("error", "leakage", "b")]


def test_a_judged_prompt_hidden_in_an_earlier_turn_is_leakage():
    turns = [
        {"role": "user", "content": PROMPTS[0]},
        {"role": "assistant", "content": "好的。"},
        {"role": "user", "content": "再短一点。"},
    ]
    assert found([CLEAN[0]], [item("b", messages=turns)]) == [("error", "leakage", "a0, b")]


def test_a_rehearsed_item_may_be_injected():
    rehearsed = item("a", PROMPTS[0], rehearsed=True)
    assert found([rehearsed], [item("a", PROMPTS[0])]) == []


def test_a_cluster_that_is_judged_and_injected_is_one_warning():
    injected = [item("b", PROMPTS[0].replace("一百字", "两百字"), cluster="c")]
    assert found([item("a", PROMPTS[0], cluster="c")], injected) == [
        ("warning", "shared-clusters", "red line, rehearsal")
    ]


def test_judged_and_benchmark_prompts_in_training_are_named_by_id_and_row():
    training = [("row 7", "问：" + PROMPTS[0]), ("row 9", PROMPTS[0] + "答"), ("row 9", PROMPTS[3])]
    benchmarks = {"ceval/law-3": PROMPTS[3]}
    findings = lint_sets(CLEAN[:2], training=training, benchmarks=benchmarks)
    assert [(f.level, f.rule, f.subject) for f in findings[:2]] == [
        ("error", "training-overlap", "a0"),
        ("error", "benchmark-overlap", "ceval/law-3"),
    ]
    assert "with training row 7 and 1 more" in findings[0].message


def test_a_rehearsed_item_may_stand_in_the_training_data():
    rehearsed = [item("a", PROMPTS[0], rehearsed=True)]
    assert found(rehearsed, training=[("row 1", PROMPTS[0])]) == []


def test_a_benchmark_prompt_must_not_be_injected():
    assert found([], [CLEAN[0]], benchmarks={"cmmlu-1": PROMPTS[0]}) == [
        ("error", "benchmark-overlap", "cmmlu-1, a0")
    ]


@pytest.mark.parametrize(
    ("fraction", "rows", "levels"),
    [
        (0.03, 200, []),
        (0.03, None, []),
        (None, 10**6, []),
        (0.005, 200, ["warning"]),
        (0.06, 200, ["warning"]),
        (0.11, 200, ["error"]),
        # 4 prompts seen 8 times: rows · 0.03 / 0.97 = 32
        (0.03, 1034, []),
        (0.03, 1035, ["warning"]),
        (0.2, 10**4, ["error", "warning"]),
    ],
)
def test_the_rehearsal_share_and_its_passes_are_bounded(fraction, rows, levels):
    findings = found([], CLEAN, training_rows=rows, rehearsal_fraction=fraction)
    assert findings == [(level, "rehearsal-share", "rehearsal_fraction") for level in levels]


def test_the_message_about_passes_says_how_many_prompts_suffice():
    findings = lint_sets([], CLEAN, training_rows=50_000, rehearsal_fraction=0.03)
    assert (
        "4 rehearsal prompts at 3.0% of 50000 rows are each seen 386.6 times" in findings[0].message
    )
    assert "use 194 prompts" in findings[0].message


def test_fewer_than_four_fifths_native_items_are_warned_about():
    translated = item("t", "把这句话改得更口语一些：敬请各位莅临指导。", source="Alpaca-GPT4-zh")
    assert found(CLEAN, [translated]) == []
    assert found(CLEAN[:3], [translated]) == [("warning", "native-share", "source")]
    own = translated.model_copy(update={"source": "written after an alpaca idea"})
    assert found(CLEAN[:3], [own]) == []
    labelled = own.model_copy(update={"source": "coig", "task": "translated"})
    assert found(CLEAN[:3], [labelled]) == [("warning", "native-share", "source")]


def test_an_ability_with_too_few_judged_items_is_warned_about():
    findings = [f for f in lint_sets(CLEAN) if f.rule == "too-few"]
    assert [(f.level, f.subject) for f in findings] == [("warning", "instruction")]
    assert "write 26 more" in findings[0].message
    rehearsed = [CLEAN[0], CLEAN[1].model_copy(update={"rehearsed": True})]
    assert "1 judged items" in lint_sets(rehearsed)[0].message
    assert lint_sets([], CLEAN) == []


def test_an_ability_outside_the_seven_is_warned_about():
    assert found([item("a", PROMPTS[0], ability="poetry")]) == [("warning", "unknown-ability", "a")]


def test_a_person_allows_an_id_a_rule_of_an_id_or_a_rule():
    bad = [
        item("a", PROMPTS[0]),
        item("b", PROMPTS[0].replace("一百字", "两百字"), ability="poetry"),
    ]
    near, unknown = ("error", "near-duplicate", "a, b"), ("warning", "unknown-ability", "b")
    assert found(bad) == [near, unknown]
    assert found(bad, allow=frozenset({"b"})) == []
    assert found(bad, allow=frozenset({"near-duplicate:a"})) == [unknown]
    assert found(bad, allow=frozenset({"unknown-ability:a"})) == [near, unknown]
    assert found(bad, allow=frozenset({"near-duplicate"})) == [
        unknown,
        ("warning", "near-duplicate", "all"),
    ]


def test_the_shipped_chinese_sets_have_no_finding():
    root = shipped_root()
    red_line = read_items(root / "eval_sets/zh-redline-300/items.jsonl")
    rehearsal = read_items(root / "rehearsal_sets/zh-general/items.jsonl")
    assert lint_sets(red_line, rehearsal, training_rows=10_000, rehearsal_fraction=0.03) == []
