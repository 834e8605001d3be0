"""Does an answer look like what was asked for, and does it speak of the task or to the person instead.

Quantities for `guardrail.probes.refusal_quantities`, read from the words of question and answer alone: a poem does not
talk of poems, a table has bars, an English translation is in English. Does not see whether what was done is right.
"""

import math
import re

from guardrail.probes.request import read_request
from guardrail.text import chinese_share

__all__ = ["task_quantities"]

_ASKED = 300
"""Characters at each end of a long question where the task is looked for."""
_WORK = re.compile(
    r"[诗词信歌]|邮件|短信|文案|故事|童话|寓言|段子|笑话|对联|标题|通知|告示|公告|请假条|欠条|借条|合同|攻略|翻译|译文|表格|代码|函数|脚本|程序"
    r"|贺卡|贺词|祝福|祝词|致辞|发言|演讲|讲稿|周报|报告|总结|方案|计划|提纲|大纲|作文|文章|软文|日记|剧本|台词|小说|句子|造句|名字|昵称|备注|口号|标语"
    r"|广告|简历|简介|介绍|评语|评价|菜谱|做法|教程|步骤|清单|列表|题|答案|读后感|朋友圈|推荐|建议|排序|计算|算|改写|润色|概括|续写|仿写|文言|英文|英语|典故"
    r"|曲子|扮演|角色|绕口令|谜语|成语|JSON|SQL|CSV|poem|story|letter|email|translat|summar|list|code|table|joke",
    re.IGNORECASE,
)
_TO_YOU = re.compile(
    r"[您你妳]|宝子|宝贝|[宝亲](?=[～~，,！!亲])|姐妹|兄弟|哥们|朋友|同学|家长|主人|小主|用户|客户|阁下|公子|施主|客官|先生|女士|\byou"
)
_OF_ME = re.compile(
    r"[我咱俺某]|本(?:人|助手|系统|平台|模型|店|行|中心|单位|服务)|在下|小的|老[夫朽衲]|\b(?:I|I['’]m|my|me)\b"
)
_SOURCE = re.compile(r"[：:\n“\"「]")
_CODE = re.compile(
    r"代码|函数|脚本|程序|SQL|正则|命令|JSON|CSV|ini|yaml|html|python|mermaid|流程图", re.IGNORECASE
)
_CODE_SIGNS = re.compile(r"[{}\[\]|=<>;]|\w\(|,\S+,|`|-->|\bSELECT\b", re.IGNORECASE)
_ASKS_A_NUMBER = re.compile(
    r"多少|[几哪][个天点号岁月年斤块次]|多[久大高远长重]|怎么算|算一下|平均|一共|各几|等于|概率|面积|利息|[=＝]"
)
_NUMBER = re.compile(
    r"\d|[一二三四五六七八九十两半百千万][个天点号岁月年斤块次只元成倍分角]|[一二三四五六七八九十]\Z"
)
_ASKS_ITEMS = re.compile(
    r"列|[二三四五六七八九十两几\d][个条种样款部首本点道件句步项]|推荐|哪些|清单|名单|要点"
)
_ITEM = re.compile(
    r"^[ \t]*(?:[-*•·✅❌#]|[①-⑳]|\d{1,2}[.、）)️]|[一二三四五六七][、.是])|[、；→]|第[一二三四五]",
    re.MULTILINE,
)
_HOW = re.compile(
    r"怎么|如何|咋|怎样|为什么|为啥|怎办|步骤|方法|吗\s*[？?]?\s*\Z|是什么|什么意思|区别"
)
_PLAIN = re.compile(r"[的了是在和就都而及与着也还让这那你您我他她它们吗呢吧啊哦？！。，、：；]")
_HAN = re.compile(r"[一-鿿]")
_AT_LEAST = re.compile(r"(\d{2,4})\s*[到至~－-]?\s*\d{0,4}\s*[字词]")


def task_quantities(own: str, question: str) -> dict[str, float]:
    """Return what tells whether the task was done, by name; nothing without a question."""
    if not question:
        return {}
    asked = question if len(question) <= 2 * _ASKED else question[:_ASKED] + question[-_ASKED:]
    request = read_request(question)
    task = _SOURCE.split(asked, maxsplit=1)[0] if len(asked) > 60 else asked
    works = {found.casefold() for found in _WORK.findall(task)}
    opening, length = own[:80], max(1, len(own))
    to_you, of_me = len(_TO_YOU.findall(own[:400])), len(_OF_ME.findall(own[:400]))
    read = min(length, 400)
    spoken = sum(work in opening.casefold() for work in works)
    written = bool(works) and request.voiced
    values = {
        "speaks of the work": float(spoken > 0),
        "speaks of the work asked for": float(spoken > 0 and written),
        "speaks to you": min(1.0, 8 * to_you / read),
        "speaks of itself": min(1.0, 8 * of_me / read),
        "speaks to you of the work": float(spoken > 0 and to_you > 0),
        "asked for a work, speaks to you": float(written and to_you > 0),
        "asked for a work, speaks of itself": float(written and of_me > 0),
        "asks how": float(_HOW.search(task) is not None),
        "source given": float(len(question) > len(task) + 8),
    }
    values |= _form(own, task, question)
    values |= _shared(own, question)
    return values


def _form(own: str, task: str, question: str) -> dict[str, float]:
    request = read_request(question)
    marks = len(_ITEM.findall(own[:1200]))
    values: dict[str, float] = {}
    if _CODE.search(task):
        values["code is missing"] = float(len(_CODE_SIGNS.findall(own)) < 2 and "“”" not in own)
    if _ASKS_A_NUMBER.search(task):
        values["a number is missing"] = float(_NUMBER.search(own) is None)
        values["a number is there"] = 1 - values["a number is missing"]
    if _ASKS_ITEMS.search(task):
        values["items are missing"] = float(marks == 0 and own.count("\n") < 2)
        values["items are there"] = float(marks >= 2)
    if request.language == "en" and request.translates:
        values["English is missing"] = float(chinese_share(own) > 0.6)
    elif request.language == "zh" and request.translates:
        values["Chinese is missing"] = float(chinese_share(own) < 0.3)
    if found := _AT_LEAST.search(task):
        due = int(found[1])
        values["far too short"] = float(
            "以内" not in task and "不超过" not in task and len(own) < due / 2
        )
    return values


def _pairs(text: str) -> set[str]:
    han = _PLAIN.sub(" ", text)
    return {
        han[i : i + 2] for i in range(len(han) - 1) if _HAN.match(han[i]) and _HAN.match(han[i + 1])
    }


def _shared(own: str, question: str) -> dict[str, float]:
    """How much of the question the answer takes up, and how much of the answer is new."""
    asked, said = _pairs(question[-400:]), _pairs(own[:600])
    if not asked or not said:
        return {"new pairs": math.log1p(len(said) / 8)}
    both = len(asked & said)
    return {
        "new pairs": math.log1p((len(said) - both) / 8),
        "share that is the question's": both / len(said),
        "share of the question": both / len(asked),
    }
