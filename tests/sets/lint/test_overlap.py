from itertools import islice

import pytest

from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import NearDuplicates, plain
from guardrail.sets.lint.overlap import find_overlaps, training_texts, units

LONG = "外婆家的老屋要拆了，写一段一百字的回忆，提到门前那棵柿子树和一只缺口的搪瓷缸。"
SHORT = "写一首咏雪的诗"


def found(known: dict[str, str], *texts: str) -> list[tuple[str, str, str]]:
    named = [(f"t{number}", text) for number, text in enumerate(texts)]
    return [(o.known, o.text, o.how) for o in find_overlaps(known, named)]


def test_units_joined_are_the_plain_text():
    text = "Ｑwen3 的 KL 为 0.03！\n“写一段”—Python 代码"
    assert "".join(units(text)) == plain(text)
    assert units("用 Python 写 12 行") == ["用", "python", "写", "12", "行"]


def test_a_copied_prompt_inside_a_longer_text_is_found_by_a_shared_run():
    text = f"问：{LONG.replace('，', ' ,')}\n答：柿子熟了。" + "后来搬走了。" * 40
    overlap = find_overlaps({"a": LONG}, [("row 1", text)])[0]
    assert (overlap.known, overlap.text, overlap.how) == ("a", "row 1", "13-gram")
    assert overlap.evidence == "外婆家的老屋要拆了写一段一"


def test_twelve_shared_units_are_no_overlap_and_thirteen_are():
    other = "后面讲的是完全不相干的另外一件事情跟题目没有关系"
    run = plain(LONG)[:13]
    assert found({"a": LONG}, run + other) == [("a", "t0", "13-gram")]
    assert found({"a": LONG}, run[:12] + other) == []


def test_an_english_run_is_thirteen_words_long():
    english = "翻译：The train slowed for no reason anyone could see and a boy waved at us."
    assert (
        found({"a": english}, "He said the train slowed for no reason and then it stopped.") == []
    )
    copied = "Look: the train slowed for no reason anyone could see and a boy waved."
    assert found({"a": english}, copied) == [("a", "t0", "13-gram")]


@pytest.mark.parametrize(
    "trivial", ["1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "哈" * 20, "13800138000" * 3, "—" * 40]
)
def test_runs_that_say_nothing_do_not_alarm(trivial):
    known = {"a": f"把这串抄一遍：{trivial}"}
    assert found(known, f"今天收到的号码有 {trivial} 这么多，数得人眼花缭乱，不知道怎么办") == []


def test_a_frame_of_many_prompts_does_not_alarm_but_what_it_frames_does():
    frame = "以下是中国关于考试的单项选择题，请选出其中的正确答案。"
    subjects = [
        "冷水江的锑矿储量在世界上排第几位",
        "把蔗糖溶于水以后溶液的凝固点怎样变化",
        "唐代设立安西都护府的那一年皇帝是谁",
        "光合作用的暗反应发生在叶绿体哪个部位",
        "合同法规定要约何时起对相对人生效力",
        "计算机里补码表示负数的主要好处是什么",
        "小腿胫骨骨折后首先要检查哪条动脉搏动",
        "会计上固定资产减值准备能否在以后转回",
        "中国古代四大名楼里哪一座不在长江沿岸",
    ]
    known = {f"q{n}": frame + subject for n, subject in enumerate(subjects)}
    assert found(known, frame + "某某企业内部的消防安全培训里灭火器应当多久检修一回呢") == []
    assert ("q3", "t0", "13-gram") in found(known, "我想问" + subjects[3] + "，谢谢")


def test_a_prompt_shorter_than_a_run_is_compared_as_a_whole():
    known = {"a": SHORT}
    assert found(known, "写一首咏雪的诗。") == [("a", "t0", "same")]
    assert found(known, "写一首咏雨的诗", "请帮我写一首咏雪的诗好吗", "。") == []
    assert found({"b": "！？"}, "。。") == []


def test_a_reworded_prompt_is_a_near_duplicate_with_its_similarity():
    reworded = "外婆家老屋要拆，写段一百来字回忆，要提门前的柿子树、一只缺了口的搪瓷缸。"
    (overlap,) = find_overlaps({"a": LONG}, [("row 1", reworded)])
    assert overlap.how == "near duplicate"
    assert overlap.evidence.startswith("ROUGE-L 0.8")


def test_texts_near_one_another_are_all_kept_and_all_found():
    texts = [LONG, LONG.replace("柿子树", "枇杷树"), SHORT, LONG.replace("一百字", "两百字")]
    known = NearDuplicates(lambda number: texts[number])
    for number, text in enumerate(texts):
        known.keep(number, text)
    assert [number for number, _ in known.near(LONG)] == [0, 1, 3]
    assert dict(known.near(LONG))[0] == 1.0


def test_a_text_is_named_once_and_no_prompt_names_more_than_asked():
    texts = [("row 1", LONG), ("row 1", LONG), ("row 2", LONG), ("row 3", LONG)]
    named = [o.text for o in find_overlaps({"a": LONG}, iter(texts), per_known=2)]
    assert named == ["row 1", "row 2"]


def test_texts_are_not_read_without_anything_to_guard():
    assert find_overlaps({}, iter(lambda: pytest.fail("read"), None)) == []


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        (
            {
                "messages": [
                    {"role": "user", "content": "问"},
                    {"role": "assistant", "content": "答"},
                ]
            },
            ["问", "答"],
        ),
        ({"prompt": "问", "completion": "答"}, ["问", "答"]),
        (
            {"prompt": [{"role": "user", "content": "问"}], "completion": [{"content": "答"}]},
            ["问", "答"],
        ),
        ({"instruction": "译", "input": "句", "output": "答"}, ["译", "句", "答", "译\n句"]),
        ({"instruction": "译", "input": "", "output": "答"}, ["译", "答"]),
        ({"query": "问", "response": "答", "history": [["早", "晚"]]}, ["问", "答", "早", "晚"]),
        ({"text": "文", "length": 3}, ["文"]),
        ({"conversations": [{"from": "human", "value": "问"}]}, ["问"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "问"}]}]},
            ["问"],
        ),
    ],
)
def test_every_form_of_training_row_gives_its_texts(row, texts):
    assert list(training_texts([row])) == [("row 1", text) for text in texts]


def test_a_question_split_over_instruction_and_input_is_found():
    rows = [{"text": "别的"}, {"instruction": LONG[:14], "input": LONG[14:], "output": "好"}]
    overlaps = find_overlaps({"a": LONG[4:24]}, training_texts(rows))
    assert [(o.known, o.text) for o in overlaps] == [("a", "row 2")]


def test_a_row_without_text_is_an_error_that_names_row_and_fields():
    rows = training_texts([{"text": "一"}, {"input_ids": [1, 2], "labels": [1]}])
    with pytest.raises(InputError, match=r"row 2 holds no text \(fields: input_ids, labels\)"):
        list(rows)


def test_training_texts_streams():
    endless = ({"text": str(n)} for n in iter(int, 1))
    assert len(list(islice(training_texts(endless), 3))) == 3
