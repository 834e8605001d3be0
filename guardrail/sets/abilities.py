"""Which ability does a prompt of somebody's corpus speak for: a guess from its task label and its words."""

import re

__all__ = ["guess_ability"]

_LONG_TEXT = 300
"""Characters from which a prompt that asks about its own text counts as long text."""

_TASKS = {
    "translation": re.compile(r"translat(?!ed)|翻译|NMT|ClassicalChinese", re.I),
    "long_text": re.compile(r"summar|closed qa|extract|摘要|阅读|MRC|Summary", re.I),
    "reasoning": re.compile(r"math|reason|cot|exam|multiple choice|推理|数学|NLI|\Acode\Z", re.I),
    "writing": re.compile(
        r"generation|brainstorm|writing|poem|compos|写作|作文|Couplet|ProductDesc|Lyric|JinYong",
        re.I,
    ),
    "format": re.compile(r"\bjson\b|\btable\b|NER\b|格式", re.I),
}
_WORDS = {
    "translation": re.compile(
        r"(?:翻译|译)(?:成|为|到)|(?:中|英)译(?:中|英)|(?:用|转(?:换)?[成为])英[语文](?:表达|怎么说|说)|翻译(?:以下|下面|下列|这)"
    ),
    "format": re.compile(
        r"JSON|json|XML|YAML|CSV|Markdown|表格|格式(?:输出|返回|为)|(?:列出|输出|返回)[^。\n]{0,8}列表"
    ),
    "reasoning": re.compile(
        r"推理|推断|逻辑|为什么|原因|计算|求解?|多少|证明|如果[^。\n]{2,40}(?:那么|会|谁)|概率|方程|哪一?个(?:是|更)"
    ),
    "writing": re.compile(
        r"写(?:一|出|篇|封|首|段|份|个)|撰写|作文|续写|改写|润色|编(?:一|写)(?:个|段|则)?|创作|起草|造句|文案|标题"
    ),
}
_ABOUT_A_TEXT = re.compile(
    r"总结|概括|摘要|归纳|主旨|阅读|根据(?:以下|下面|上述|文章|材料|短文|上文)|文中|提取|这(?:段|篇)"
)


def guess_ability(question: str, task: str | None) -> str:
    """Return the likely ability; `instruction` where nothing speaks for another.

    The label wins over the words. A guess: people correct it in the file. `refusal` is never guessed,
    since which requests must be refused is a decision.
    """
    if task is not None:
        for ability, pattern in _TASKS.items():
            if pattern.search(task):
                return ability
    if len(question) >= _LONG_TEXT and _ABOUT_A_TEXT.search(question):
        return "long_text"
    for ability, pattern in _WORDS.items():
        if pattern.search(question[:400]):
            return ability
    return "instruction"
