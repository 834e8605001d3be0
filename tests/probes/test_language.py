import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.probes.language import LANGUAGE_FAULTS, language_faults

CLEAN = [
    (
        "什么是机器学习？",
        "机器学习（machine learning）是 AI 的一个分支，常用 PyTorch 和 scikit-learn。",
    ),
    ("推荐英文歌", "《Let It Be》好听，还有 Queen 的 We Will Rock You。"),
    ("帮我写个 SQL", "SELECT name, age FROM users WHERE age > 18;"),
    ("git 怎么撤销？", "用 `git reset --hard HEAD~1` 就行。"),
    ("怎么列文件？", "跑这段：\n```\n# this is where you will see your files\nls\n```\n就行。"),
    ("有哪些快捷键？", "把 `when you are not in the editor it will close` 删掉。"),
    ("推荐几个英语例句。", "I have been waiting for you since noon. 意思是我从中午等到现在。"),
    ("怎么理解 Stay hungry, stay foolish？", "stay hungry, stay foolish 是说别太容易满足。"),
    ("“谢谢”用日语怎么说？", "ありがとうございます，读作 arigatou。"),
    ("招牌写什么字？", "写的是“鼎泰豐點心總店”。"),
    ("繁体的“龙”怎么写？", "龍、龜、鬱、體。"),
    ("π 是什么？", "π≈3.14159，和 Δ、Σ 一样是希腊字母。"),
    ("发个表情", "🫠😂\U0001f8ff (｡･ω･｡)"),
    ("1+1？", "2"),
    ("请用英文介绍长城。", "The Great Wall is long."),
    ("What is the Great Wall made of?", "It is made of brick and stone."),
    ("把下面的话译成英文：天气真好。", "What a lovely day it is today."),
]
FAULTY = [
    (
        "怎么减肥？",
        "少吃多动。Also, you should drink more water every day. 坚持三个月。",
        "english",
    ),
    ("怎么做蛋糕？", "先预热烤箱，also 面粉要过筛，so that 口感 is 细腻，烤半小时。", "english"),
    ("天空为什么是蓝的？", "Because of Rayleigh scattering.", "english"),
    (
        "讲讲英语的现在完成时。",
        "The present perfect " + "links the past to the present " * 4,
        "english",
    ),
    ("介绍北京", "北京是中國的首都，歷史悠久。", "traditional"),
    ("讲个笑话", "小明说 Привет, как дела 然后走了。", "other script"),
    ("什么是黑洞？", "黑洞是ä¸€ç§å¤©ä½“，引力很强。", "garbled"),
    ("讲讲春节", "春节是\ufffd的节日。", "garbled"),
    ("介绍茶", "茶是饮料。\\u8336\\u53f6\\u6e90\\u4e8e\\u4e2d\\u56fd。", "garbled"),
    ("你好", "你好，我是助手。".encode().decode("gb18030", "ignore") + "浣犲ソ锛屾垜鏄", "garbled"),
    ("你好", "你好你好你好".encode().decode("gb18030"), "garbled"),
    ("你好", "您好\x00。", "garbled"),
    ("你好", " \n", "empty"),
]


@pytest.mark.parametrize(("question", "text"), CLEAN)
def test_code_terms_quotations_and_asked_for_languages_are_fine(question, text):
    assert language_faults(question, text) == ()


@pytest.mark.parametrize(("question", "text", "fault"), FAULTY)
def test_faults_are_named(question, text, fault):
    assert language_faults(question, text) == (fault,)


@given(st.text(max_size=60), st.text(st.characters(), max_size=400))
def test_faults_come_from_the_list_in_its_order(question, text):
    found = language_faults(question, text)
    assert found == tuple(name for name in LANGUAGE_FAULTS if name in found)
