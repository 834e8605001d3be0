"""What a question asks for, as far as the probes of its answers must know.

Read from the words of the question alone. Does not see what only its meaning tells: a request for English
that never says so, a letter asked for without naming one.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from guardrail.text import chinese_share

__all__ = ["Request", "read_request"]

_CHINESE = r"(?:简体)?(?:中文|汉语|普通话|白话)"
_ENGLISH = r"英[文语]"
_OTHERS = r"(?:[日韩法德俄泰藏][语文]|朝鲜[语文]|西班牙[语文]|葡萄牙[语文]|意大利[语文]|阿拉伯[语文]|越南[语文]|拉丁[语文]|外语)"
_TRANSLATES = re.compile(
    rf"翻译|译[成作为一下出得]|翻[成作为]|翻一下|[汉中英日法德俄韩](?:译|翻[中汉英])|译文|[给帮把请]译|怎么译|[直意]译"
    rf"|(?:{_ENGLISH}|{_CHINESE})(?:里|中)?(?:该|要)?(?:怎么|怎样|如何)(?:说|讲|表达|写)"
    rf"|(?:怎么|怎样|如何)用(?:{_ENGLISH}|{_CHINESE})(?:说|讲|表达|写|翻)"
    r"|(?:put|render|turn)\b[^.?\n]{1,40}\binto (?:english|(?:simplified )?chinese)"
    rf"|(?:配上|对应的)(?:{_ENGLISH}|{_CHINESE})|(?:{_ENGLISH}|{_CHINESE})版|本地化|translat",
    re.IGNORECASE,
)
_INTO = (
    r"(?:[译翻][^，。；：:\n]{0,8}[成为作到](?:[^，。；：:\n]{0,8}的)?|(?:配上|对应的|要出|还缺))"
)
_INTO_ENGLISH = re.compile(
    rf"{_INTO}{_ENGLISH}|[中汉][译翻]英|英译(?![中汉])|(?:in)?to english"
    rf"|{_ENGLISH}(?:里|中)?(?:该|要)?(?:怎么|怎样|如何)|(?:怎么|怎样|如何)用{_ENGLISH}",
    re.IGNORECASE,
)
_INTO_CHINESE = re.compile(
    rf"{_INTO}{_CHINESE}|[英日法德俄韩外][译翻][中汉]|(?:in)?to (?:simplified )?chinese"
    rf"|{_CHINESE}(?:里|中)?(?:该|要)?(?:怎么|怎样|如何)",
    re.IGNORECASE,
)
_INTO_OTHER = re.compile(
    rf"{_INTO}{_OTHERS}|(?:in)?to (?:japanese|french|german|korean|russian|spanish)", re.IGNORECASE
)
_IN_ENGLISH = re.compile(
    rf"(?<![别不勿没])[用以拿](?:[^，。；：:\n]{{0,4}}的)?{_ENGLISH}(?![逗分句标冒单字名])|[写拟]一?.?[^，。；：:\n]{{0,4}}{_ENGLISH}[邮短信作句介回自文]"
    r"|\bin english\b",
    re.IGNORECASE,
)
_IN_OTHER = re.compile(rf"(?<![别不勿没])用{_OTHERS}")
_FOREIGN_TOPIC = re.compile(
    rf"[A-Za-z]{{3,}}[^。\n]{{0,6}}(?:意思|含义|怎么读|用法|区别|造句|发音|拼写)|英语|英文|单词|例句|词根|音标|口语|四六?级|雅思|托福|{_OTHERS}|[日韩法德俄]式?文字|语言学|english",
    re.IGNORECASE,
)
_VOICED = re.compile(
    r"扮演|模拟|你(?:来)?(?:是|当|做)一|角色|口吻|口气|小说|故事|童话|寓言|剧本|台词|对白|对话|笑话|段子|日记|独白"
    r"|诗|歌词|填词|词牌|对联|谜语|文案|通知|告示|启事|致辞|发言稿|演讲|讲稿"
    r"|(?:[写拟编发回改]|起草|润色|翻)[^。，；\n]{0,14}(?:信|邮件|消息|条|贺卡|留言|回复|文章|作文|文|稿|句|话)"
    r"|[写拟编](?:一|两|几)?[个份篇封段则首张幅]|回(?:复)?(?:他|她|对方|客户)|改写|重写|改得|续写|仿写|缩句|扩写|润色"
    r"|role.?play|pretend|rewrite|write (?:a|an|me)|reply",
    re.IGNORECASE,
)
_SCENE = re.compile(r"教我|告诉我|教教|怎么|如何|咋|怎样|步骤|方法")
_ASKS_NO = re.compile(
    r"拒绝|婉拒|回绝|推辞|推掉|谢绝|推脱|请假|不借|不肯|不去|不想去|道歉|致歉|录用|辞职|离职|辞呈|分手|declin|refus|reject|apolog",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    r"(?!有没有(?!必要))([一-鿿])[没不]\1|[能可是应]否|(?:吗|(?<![什怎多])么)\s*(?:[？?]|\Z)"
)
_FOR_ME = re.compile(r"[帮教给替]我|告诉我|发给我|你能|你可以|可以帮|能帮")
_STRUCTURE = re.compile(
    r"分[点条步项段]|步骤|列[出举表个]|清单|[几\d一二两三四五六七八九十][点条步项个](?!人)|编号|提纲|大纲|目录|表格|markdown"
    r"|首先|其次|小标题|标题|先.{0,6}再|条理|要点|方案|计划|攻略|教程|流程|总结|对比|梳理|逐[条一步]",
    re.IGNORECASE,
)
_REPEATS = re.compile(
    r"诗|[歌曲]词|儿歌|歌谣|绕口令|顺口溜|口号|排比|对联|重复|念白|快板|rap|造句|改成.{0,2}字句",
    re.IGNORECASE,
)


_WORD = re.compile(r"[A-Za-z]{2,}")
_ASKING = 200
"""Characters at each end of a long question where the request is looked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the answer is asked to be."""

    language: Literal["zh", "en", "other"]
    """The language to answer in."""
    translates: bool
    """It asks for a translation."""
    foreign: bool
    """Foreign words are its subject, so that an answer may quote any number of them."""
    voiced: bool
    """The answer speaks for somebody: a letter, a role, a story, a translation."""
    asks_no: bool
    """What is to be written may itself say no: a letter that declines, the translation of a refusal."""
    yes_no: bool
    """A no may be the answer."""
    structure: bool
    """It asks for points, steps, a table or headings."""
    repeats: bool
    """It asks for a form that lives on repetition: verse, slogans, tongue twisters."""


@lru_cache(maxsize=4096)
def read_request(question: str) -> Request:
    """Return what a question (all turns but the assistant's, joined) asks for."""
    if len(question) > 2 * _ASKING:
        # The request stands before or after the text it is about.
        question = f"{question[:_ASKING]}\n{question[-_ASKING:]}"
    translates = _TRANSLATES.search(question) is not None
    scene_only = _SCENE.search(question) is None or "写" in question
    voiced = translates or (_VOICED.search(question) is not None and scene_only)
    return Request(
        language=_language(question, translates),
        translates=translates,
        foreign=translates or _FOREIGN_TOPIC.search(question) is not None,
        voiced=voiced,
        asks_no=voiced and _ASKS_NO.search(question) is not None,
        yes_no=_ALTERNATIVE.search(question) is not None and _FOR_ME.search(question) is None,
        structure=_STRUCTURE.search(question) is not None,
        repeats=_REPEATS.search(question) is not None,
    )


def _language(question: str, translates: bool) -> Literal["zh", "en", "other"]:
    """The language asked for by name; else the one the source is not in, or the question's own."""
    if (_INTO_OTHER if translates else _IN_OTHER).search(question):
        return "other"
    words = len(_WORD.findall(question))
    if translates:
        into_english = _INTO_ENGLISH.search(question) is not None
        into_chinese = _INTO_CHINESE.search(question) is not None
        if into_english == into_chinese:
            return "en" if words < 5 else "zh"
        return "en" if into_english else "zh"
    if _IN_ENGLISH.search(question):
        return "en"
    return "en" if words >= 4 and chinese_share(question) < 0.1 else "zh"
