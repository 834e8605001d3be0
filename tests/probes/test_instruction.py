import pytest
from pydantic import TypeAdapter

from guardrail.probes.instruction import count_list_items, count_paragraphs, count_sentences
from guardrail.probes.measure import check_passes
from guardrail.sets.item_checks import Check
from guardrail.sets.lint.contradictions import contradictions
from guardrail.sets.wording import describe_check
from guardrail.text import count_characters

CHECK = TypeAdapter(Check)


def passes(text: str, **check) -> bool:
    return check_passes(CHECK.validate_python(check), text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("春眠不觉晓，处处闻啼鸟。", 12),
        ("**春眠**不觉晓", 5),
        ("# 春晓\n> 春眠\n---\n`啼鸟`", 6),
        ("1. 甲\n2、乙\n（3）丙\n- 丁\n一、戊", 5),
        ("| 甲 | 乙 |\n|---|:-:|\n| 丙 | 丁 |", 4),
        ("1.5公斤", 3),
        ("2**3=8", 6),
        ("-5℃", 3),
        ("我用 Python 3.11 写代码", 7),
        ("增长了12.5%，约3,000人", 8),
        ("  \n\u3000", 0),
        ("don't worry", 2),
        ("👨‍👩‍👧‍👦👍🏽❤️🇨🇳", 4),
        ("■ 甲\n❶ 乙", 2),
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
        ("1. 甲\n   - 细节\n2. 乙", 2, 0),
        ("- 甲\n\t- 细节\n- 乙", 0, 2),
        ("■ 甲\n■ 乙", 0, 2),
        ("✅ 甲\n✅ 乙\n➤ 丙", 0, 3),
        ("❶ 甲\n❷ 乙", 2, 0),
        ("A. 甲\nB. 乙", 2, 0),
        ("甲、苹果\n乙、梨", 2, 0),
        ("甲、乙两人同行。", 0, 0),
        ("步骤一：甲\n步骤二：乙", 2, 0),
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
        ("他走了……\n她没有回头。", 2),
        ("1. 洗菜。\n2. 切菜。\n3. 下锅。", 3),
        ("1. 洗菜\n2. 切菜\n3. 下锅", 3),
        ("分三步。1. 洗菜。2. 切菜。", 3),
        ("We ate **mooncakes**. They were good (very).", 2),
        ("Mr. Li met J. K. Rowling at 5 p.m. on Monday.", 1),
        ("# 秋天\n春天来了。花开了。", 2),
        ("# 为什么一到秋天，院子里的树叶就一片一片地变黄呢\n风起。叶落。", 2),
        ("《秋思》\n风起。叶落。", 2),
        ("老家的秋天\n风起。叶落。", 2),
        ("风起。叶落。\n\n张三\n6月12日", 2),
        ("“快走！”妈妈喊道。", 1),
        ("他问：“去吗？”我说：“去。”", 2),
        ("锦瑟无端五十弦，\n一弦一柱思华年。", 1),
        ("可以这样看：\n\n1. 甲。\n2. 乙。", 2),
        ("风起了\n叶落了", 2),
        ("**今天晴。** 明天雨。", 2),
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


def test_a_longer_member_names_no_shorter_one():
    options = ["石榴", "番石榴", "香蕉"]
    assert passes("番石榴和香蕉。", kind="members", options=options, count=2)
    assert passes("番石榴、石榴和香蕉。", kind="members", options=options, count=3)
    assert passes("苹果梨和苹果。", kind="members", options=["苹果", "苹果梨"], count=2)


def test_openings_ignore_emphasis_and_quotation_marks():
    assert passes("“**亲爱的**同学们", kind="starts_with", any=["亲爱的"])
    assert passes("《活着》讲福贵。", kind="starts_with", any=["《活着》"])
    assert not passes("好的：亲爱的同学们", kind="starts_with", any=["亲爱的"])


@pytest.mark.parametrize(
    "text",
    [
        "# 秋思\n风起。",
        "**秋思**\n\n风起。",
        "《秋思》\n风起。",
        "标题：秋思\n风起。",
        "秋思\n风起。",
    ],
)
def test_a_title_is_a_first_line_above_the_text(text):
    assert passes(text, kind="title")
    assert passes(text, kind="title", at_most=2)
    assert not passes(text, kind="title", at_most=1)


@pytest.mark.parametrize("text", ["风起。\n叶落。", "秋思", "", "风起了，\n叶落了。"])
def test_a_sentence_is_no_title(text):
    assert not passes(text, kind="title")


def test_address_is_one_word_and_never_the_other():
    assert passes("您好，祝您愉快。", kind="address", **{"is": "您"})
    assert passes("您好，“你”字怎么写？", kind="address", **{"is": "您"})
    assert not passes("您好，你来一下。", kind="address", **{"is": "您"})
    assert not passes("大家好。", kind="address", **{"is": "你"})


def test_new_checks_have_words_and_contradictions():
    title = CHECK.validate_python({"kind": "title", "at_most": 8})
    formal = CHECK.validate_python({"kind": "address", "is": "您"})
    plain = CHECK.validate_python({"kind": "address", "is": "你"})
    assert describe_check(title) == "第一行是标题（不超过 8 字）"
    assert describe_check(formal) == "称对方“您”，不称“你”"
    assert contradictions([title, formal]) == []
    assert contradictions([formal, plain]) == ["address must be 您 and 你"]
    assert contradictions([title, CHECK.validate_python({"kind": "json"})])
    assert contradictions([title, CHECK.validate_python({"kind": "paragraphs", "at_most": 1})])


def test_limits_of_characters():
    assert passes("一二三", kind="characters", at_least=3, at_most=3)
    assert not passes("一二三四", kind="characters", at_most=3)


def test_a_gloss_in_brackets_leaves_an_answer_english():
    gloss = "At the Dragon Boat Festival (端午节) people eat zongzi (粽子)."
    assert passes(gloss, **{"kind": "language", "is": "en"})
    assert not passes(
        "People eat 粽子 and drink 雄黄酒 at 端午节.", **{"kind": "language", "is": "en"}
    )
