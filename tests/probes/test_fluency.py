import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.probes.fluency import MACHINE_FLAVOURED, machine_flavour

NATURAL = [
    (
        "介绍一下机器学习",
        "机器学习就是让电脑从例子里自己找规律。比如给它一万张标好“猫”“狗”的照片，它慢慢调整内部的参数，下次见到没见过的也能猜个八九不离十。",
    ),
    (
        "李白是谁",
        "李白，字太白，唐代诗人，701年生，762年卒。天宝初年供奉翰林，不久被赐金放还。安史之乱中入永王幕府，因此获罪流放夜郎，途中遇赦。",
    ),
    (
        "写一则停电通知",
        "各位住户：因线路检修，6月8日上午9点至下午4点，3号楼停电。请提前给手机充电。给大家带来不便，请谅解。",
    ),
]
MACHINE = [
    (
        "为什么要早睡",
        "早睡对我们的身体健康有着重要的意义。充足的睡眠可以帮助我们恢复体力，增强免疫力，改善情绪状态。同时，早睡还有助于提高第二天的工作效率。因此，我们应该养成早睡的良好习惯。",
    ),
    (
        "怎样控制情绪",
        "控制情绪是一个人成熟的标志。当你感到愤怒的时候，你可以尝试深呼吸，这将会帮助你平静下来。识别触发你的情绪的因素也是有帮助的。这就是为什么我们需要对自己的情绪进行管理。",
    ),
    (
        "写一段关于春天的话",
        "春天，是一个充满希望的季节。嫩绿的小草仿佛在向人们问好，枝头的小鸟奏响了春天的乐章。让我们一起拥抱春天，在岁月的长河中绽放生命的光芒。",
    ),
]


@pytest.mark.parametrize(("question", "text"), NATURAL)
def test_plain_prose_has_hardly_any(question, text):
    assert machine_flavour(question, text).score < MACHINE_FLAVOURED / 2


@pytest.mark.parametrize(("question", "text"), MACHINE)
def test_formulas_add_up(question, text):
    assert machine_flavour(question, text).score >= MACHINE_FLAVOURED


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("opening", "这是一个很好的问题！挑瓜要看瓜蒂。"),
        ("closing", "挑瓜要看瓜蒂。希望以上内容对您有所帮助！"),
        ("skeleton", "首先看瓜蒂。其次听声音。最后掂一掂。"),
        ("stock", "值得注意的是，瓜蒂要卷。"),
        ("grand", "瓜农砥砺前行，谱写崭新篇章。"),
        ("translated", "对于瓜农来说，这是被认为很难的。"),
        ("antithesis", "瓜不是种出来的，而是等出来的。甜不只是味道，更是记忆。"),
        ("repeated", "瓜蒂要卷曲的好。瓜蒂要卷曲的好。瓜蒂要卷曲的好。"),
        ("stutter", "需要需要看看瓜蒂瓜蒂的的的颜色颜色。"),
        ("frames", "瓜有大的瓜。瓜有小的瓜。瓜有圆的瓜。瓜有长的瓜。"),
        (
            "monotone",
            "瓜蒂要看卷不卷。瓜皮要看青不青。声音要听闷不闷。底下要看黄不黄。切开要看红不红。",
        ),
        ("markdown", "# 瓜\n\n## 看\n\n---\n\n## 听"),
    ],
)
def test_each_habit_is_named(part, text):
    flavour = machine_flavour("怎么挑瓜？", text)
    assert flavour.parts[part] > 0
    assert flavour.score == pytest.approx(sum(flavour.parts.values()))


def test_what_was_asked_for_does_not_count():
    text = "首先洗米。其次加水。最后焖熟。"
    assert machine_flavour("怎么煮饭？", text).parts["skeleton"] > 0
    assert machine_flavour("分三步讲怎么煮饭。", text).score == 0
    verse = "四是四，十是十，十四是十四，四十是四十，十四是十四，四十是四十。"
    assert machine_flavour("来段绕口令", verse).score == 0
    assert machine_flavour("写封感谢信", "感谢帮忙。祝您工作顺利。").parts["closing"] == 0


@pytest.mark.parametrize(
    "text",
    [
        '```python\nprint("赋能")\nprint("赋能")\n```',
        '{\n  "a": "赋能赋能",\n  "b": "砥砺前行"\n}',
        "| 赋能 | 砥砺 |\n|---|---|\n| 谱写 | 辉煌 |",
        "他说：“让我们携手谱写辉煌篇章。”",
        "",
    ],
)
def test_code_json_tables_and_quotations_are_not_read(text):
    assert machine_flavour("随便", text).score == 0


def test_one_phrase_in_a_short_answer_is_no_machine():
    assert machine_flavour("能去吗？", "能去。希望对您有帮助。").score < 1.5


@given(st.text(max_size=60), st.text(st.characters(), max_size=600))
def test_the_score_is_bounded(question, text):
    flavour = machine_flavour(question, text)
    assert all(0 <= value <= 6 for value in flavour.parts.values())
    assert math.isfinite(flavour.score)


def test_a_loop_scores_high_however_long():
    for times in (20, 20_000):
        flavour = machine_flavour("写", "坚持每天练习。" * times)
        assert flavour.score > 4
        assert max(flavour.parts.values()) == 6
