"""翻译腔 in prompts: named heuristics for text that was translated from English."""

import re

__all__ = ["TRANSLATION_MARKS", "translation_marks"]

TRANSLATION_MARKS: dict[str, re.Pattern[str]] = {
    # "Given the following sentence": 给定的句子, 以下给定的列表
    "given": re.compile(
        r"给定(?:的|一个|一组|一段|以下|文本|句子|单词|列表|数据|输入|文章|段落|主题|情况)"
    ),
    # "Generate a", "Create a": a bare verb with 一个 opens the prompt
    "make_a": re.compile(
        r"\A(?:生成|创建|创造|构建|构造|制定|提供|描述|编写|撰写|想象|识别|确定)(?:一|两|三|四|五|六|十|\d+)(?:个|种|份|篇|段|条|组|些|名)"
    ),
    # "Rewrite the following sentence"
    "the_following": re.compile(
        r"\A(?:重写|改写|编辑|重新排列|分类|识别|总结|解释|转换|计算)(?:以下|下列|下面|这个|该|给)[^，。]{0,4}(?:句子|文本|单词|短语|列表|段落|文章|陈述|语句|方程|表达式)"
    ),
    # names and places of English textbooks
    "foreign_names": re.compile(
        r"约翰|玛丽|汤姆|爱丽丝|鲍勃|杰克|史密斯|萨拉|莎拉|艾米丽|迈克|大卫|[一-鿿]·[一-鿿]{2}"
    ),
    "foreign_units": re.compile(
        r"[0-9]\s*(?:美元|美分|英里|英尺|英寸|磅|加仑|盎司|华氏度)|\$\s?[0-9]"
    ),
    # 对于…来说, 作为一个…
    "for_somebody": re.compile(
        r"对于[^，。！？\n]{1,16}来说|作为一(?:个|名)[^，。！？\n]{1,14}(?:，|的)"
    ),
    # 的 three times in one clause
    "piled_de": re.compile(r"的[^，。！？；、\n的]{1,8}的[^，。！？；、\n的]{1,8}的|的的"),
    # a passive with its English agent, 进行了…
    "passive": re.compile(
        r"被[^，。！？\n]{1,8}所[一-鿿]|(?:被认为是|被称为是|被视为是|被用来|被用于)"
    ),
    "carry_out": re.compile(r"(?:进行|做出|作出|给予)(?:了|一个|一次|一些)[^，。！？\n]{0,10}的"),
    # English punctuation kept inside Chinese
    "english_punctuation": re.compile(r"(?<=[一-鿿])(?:,(?=[一-鿿])|[?.](?:\s|\Z))"),
    # plural 们 on things, 它们的
    "plurals": re.compile(r"(?:它们的|动物们|植物们|国家们|公司们|事物们|其他们)"),
}
"""Name → what it looks for. One mark is common in good Chinese; two are telling."""


def translation_marks(text: str) -> tuple[str, ...]:
    """Return the names of the heuristics that fire, in the order of `TRANSLATION_MARKS`.

    Two or more speak for a translation. Does not see a good translation, nor names and units that
    belong to the subject (an item about dollars); callers let a person override by id.
    """
    return tuple(name for name, pattern in TRANSLATION_MARKS.items() if pattern.search(text))
