import pytest
from pydantic import TypeAdapter

from guardrail.probes.instruction import count_list_items, count_paragraphs, count_sentences
from guardrail.probes.measure import check_passes
from guardrail.sets.checks import Check
from guardrail.text import count_characters

CHECK = TypeAdapter(Check)


def passes(text: str, **check) -> bool:
    return check_passes(CHECK.validate_python(check), text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("春眠不觉晓，处处闻啼鸟。", 12),
        ("我用 Python 3.11 写代码", 7),
        ("增长了12.5%，约3,000人", 8),
        ("  \n\u3000", 0),
        ("don't worry", 2),
    ],
)
def test_characters_are_counted_as_a_word_processor_does(text, count):
    assert count_characters(text) == count


@pytest.mark.parametrize(
    ("text", "numbered", "bulleted"),
    [
        ("1. 甲\n2. 乙", 2, 0),
        ("1、甲\n2、乙\n3、丙", 3, 0),
        ("（1）甲\n（2）乙", 2, 0),
        ("（1）2年没穿的送走\n（2）3年没穿的扔掉", 2, 0),
        ("一、甲\n二、乙", 2, 0),
        ("①甲\n②乙", 2, 0),
        ("第一，甲\n第二，乙", 2, 0),
        ("**1. 摸**：手感\n**2. 看**：色泽", 2, 0),
        ("### 1. 摸\n### 2. 看", 2, 0),
        ("1️⃣ 甲\n2️⃣ 乙", 2, 0),
        ("- 甲\n- 乙", 0, 2),
        ("* 甲\n• 乙", 0, 2),
        ("-甲\n-乙", 0, 2),
        ("**清单**\n- 甲\n- 乙", 0, 2),
        ("12:30 出发\n1.5公斤面粉", 0, 0),
        ("---\n-5℃到3℃", 0, 0),
        ("没有列表。", 0, 0),
    ],
)
def test_list_items_are_counted_by_their_markers(text, numbered, bulleted):
    assert count_list_items(text, "numbered") == numbered
    assert count_list_items(text, "bulleted") == bulleted
    assert count_list_items(text) == numbered + bulleted


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("今天晴。明天雨！后天呢？", 3),
        ("他说：“走吧。”我们就走了。", 2),
        ("没有句号", 1),
        ("……", 0),
        ("It rains. We stay.", 2),
        ("It was 5. He left.", 2),
        ("高筋适合做面包；低筋适合做蛋糕。", 1),
        ("嗯……好吧。", 1),
    ],
)
def test_sentences(text, count):
    assert count_sentences(text) == count


def test_paragraphs_are_non_empty_lines():
    assert count_paragraphs("第一段\n\n  \n第二段\n") == 2


def test_contains_all_any_none():
    assert passes("北京的故宫", kind="contains", all=["北京", "故宫"])
    assert not passes("北京的长城", kind="contains", all=["北京", "故宫"])
    assert passes("约四分之三", kind="contains", any=["3/4", "四分之三"])
    assert not passes("含有禁词", kind="contains", none=["禁词"])
    assert passes("I LIKE Apples", kind="contains", all=["like apples"])


def test_order_and_members():
    assert passes("先洗菜，再切菜，最后炒", kind="in_order", parts=["洗", "切", "炒"])
    assert not passes("先切菜，再洗菜，最后炒", kind="in_order", parts=["洗", "切", "炒"])
    assert passes("苹果、梨", kind="members", options=["苹果", "梨", "桃"], count=2)
    assert not passes("苹果、苹果", kind="members", options=["苹果", "梨", "桃"], count=2)


@pytest.mark.parametrize(
    "text", ["答案：5", "……\n答案：5。", "答案：**5**", "**答案：5**", "答案：$5$"]
)
def test_endings_ignore_emphasis_and_formula_marks(text):
    assert passes(text, kind="ends_with", any=["答案：5"])
    assert not passes(text + "0", kind="ends_with", any=["答案：5"])


@pytest.mark.parametrize("text", ["C", "C。", "“C”", "【C】", "[C]", "$C$", r"\boxed{C}", "**C**"])
def test_only_the_answer_ignores_its_wrapping(text):
    assert passes(text, kind="one_of", options=["C"])


def test_only_the_answer_refuses_more_than_the_answer():
    assert not passes("答案是C，因为甲最高", kind="one_of", options=["C"])


def test_language_by_share_of_letters():
    assert passes("我喜欢苹果（apple）。", kind="language", **{"is": "zh"})
    assert passes("I like apples.", kind="language", **{"is": "en"})
    assert not passes("I like 苹果 and 香蕉.", kind="language", **{"is": "en"})
    assert not passes("123", kind="language", **{"is": "zh"})


def test_limits_of_characters():
    assert passes("一二三", kind="characters", at_least=3, at_most=3)
    assert not passes("一二三四", kind="characters", at_most=3)
