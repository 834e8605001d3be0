import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.probes.translation import TRANSLATION_FAULTS, translation_faults

RIGHT = [
    ("翻译成英文：你好", "Hello!", "Hello"),
    ("翻译成中文：iPhone 15 supports USB-C.", "iPhone 15 支持 USB-C。", "iPhone 15支持USB-C。"),
    ("把“Where is the restroom?”翻译成中文", "洗手间在哪里？", "请问洗手间在哪儿？"),
    ("翻译成中文：Could you pass me the salt?", "麻烦把盐递给我。", "能把盐递给我吗？"),
    ("把“我不能参加了”译成英文", "I can't make it.", "I can't attend."),
    ("译成英文：这件事我帮不了你。", "I'm sorry, I can't help you with this.", "I can't help you."),
    (
        "翻译成英文：李明去了故宫。",
        "Li Ming went to the Palace Museum (故宫).",
        "Li Ming visited the Forbidden City.",
    ),
    ("翻译成日语：我喜欢猫。", "猫が好きです。", "猫が好きです。"),
    (
        "翻译成英文：祝您早日康复。",
        "Get well soon!\n注：写给长辈可以更正式一些，在前面加上称呼。",
        "I wish you a speedy recovery.",
    ),
    ("介绍一下故宫。", "故宫在北京。", "故宫是明清的皇宫。"),
    ("翻译：I couldn't agree more.（译成中文）", "我完全同意。", "我再同意不过了。"),
]
WRONG = [
    (
        "翻译成英文：明年在越南开厂。",
        "明年在越南开厂。",
        "Open a plant next year.",
        "copied source",
    ),
    ("译成英文：这里禁止吸烟。", "这里不让抽烟。", "No smoking here.", "wrong direction"),
    (
        "翻译成英文：这种药一天吃三次，饭后服用。",
        "Ce médicament se prend trois fois par jour, après les repas.",
        "Take this medicine three times a day after meals.",
        "wrong direction",
    ),
    (
        "译成英文：今天的会议取消了。",
        "今天的会议 has been cancelled.",
        "Today's meeting is cancelled.",
        "partly untranslated",
    ),
    (
        "翻译成中文：My name is Tom and I live in London with my two cats.",
        "我的名字叫汤姆，live in London with my two cats。",
        "我叫汤姆，和两只猫住在伦敦。",
        "partly untranslated",
    ),
    (
        "译成英文：小王是我最好的朋友。我们从小一起长大。他现在在深圳当医生。每年春节我们都见面。",
        "Xiao Wang is my friend.",
        "Xiao Wang is my best friend. We grew up together. He is a doctor in Shenzhen now.",
        "partly untranslated",
    ),
    (
        "翻译成中文：How do I cook rice at home?",
        "先把米淘两遍，加一指节深的水，煮开后转小火。",
        "在家怎么煮米饭？",
        "not a translation",
    ),
    ("翻译成英文：请勿触摸。", "I can't help with that request.", "", "not a translation"),
    ("翻译成中文：Time flies like an arrow.", "", "光阴似箭。", "not a translation"),
]


@pytest.mark.parametrize(("question", "text", "gold"), RIGHT)
def test_translations_in_other_words_pass(question, text, gold):
    assert translation_faults(question, text, gold) == ()


@pytest.mark.parametrize(("question", "text", "gold", "fault"), WRONG)
def test_faults_are_named(question, text, gold, fault):
    assert translation_faults(question, text, gold) == (fault,)


@given(st.text(max_size=40), st.text(st.characters(), max_size=300), st.text(max_size=60))
def test_an_answer_has_at_most_one_fault_from_the_list(question, text, gold):
    found = translation_faults("翻译成英文：" + question, text, gold)
    assert len(found) <= 1
    assert set(found) <= set(TRANSLATION_FAULTS)
