"""Named filters: why a prompt of somebody's corpus is no good as an item. All are pure and see one item."""

import re
from collections.abc import Callable, Mapping

from guardrail.sets.items import Item
from guardrail.sets.lint.translationese import translation_marks
from guardrail.text import chinese_share, count_traditional, parse_answer

__all__ = ["FILTERS", "first_reason", "opens_as_machine", "opens_with_template"]

SHORTEST, LONGEST = 6, 2000
"""Characters a last question may have."""
LEAST_CHINESE = 0.5
"""Share of each question that is Chinese."""
MOST_TURNS = 4
"""Exchanges of a dialogue; more drift too far from its opening."""

_BROKEN = re.compile(
    r"\ufffd|锟斤拷|烫烫烫|Ã[\x80-\xbf]|â€|\\u[0-9a-f]{4}|&(?:lt|gt|amp|quot|nbsp);"
)
_SPECIAL = re.compile(
    r"<\|[^|>\n]{1,60}\|>|\[/?INST\]|<</?SYS>>|^#{2,4} ?(?:指令|Instruction|Response)", re.M
)
_PLACEHOLDER = re.compile(
    r"\{\{[^{}\n]{1,40}\}\}|\[[A-Z][A-Z _]{3,}\]|\[(?:插入|填写|在此|你的)[^\]\n]{0,20}\]|<(?:插入|填入)[^>\n]{0,20}>"
)
_PICTURE = "图片|图像|图表|图形|照片|截图|曲线图?|[柱条]形图|柱状图|条状图|饼图|折线图|散点图|直方图|示意图|结构图|电路图|流程图|漫画|表情包|二维码"
_NEEDS_MEDIA = re.compile(
    rf"https?://|www\.|(?:下|上|这|该|此|以下|附|所给|给出|给定|提供)(?:面?的?)(?:[一1]?[张幅个段])?(?:{_PICTURE}|音频|视频|录音|附件|链接|网页|网址)"
    r"|(?:看|如|据|读|观察|根据|结合|分析)(?:[下上左右][一1]?[张幅]?|这[张幅]|所给|给出的)?图(?![书谱纸标案腾像画例])(?:写|作答|回答|填空|写话|所示|可知|说话|完成|分析|判断|[，,。：:])"
    rf"|(?:根据|观察|结合|分析|看)(?:{_PICTURE})|(?:{_PICTURE})(?:中|里|上)?(?:所示|显示)|(?:看图(?![书谱纸])|如图|图中(?!国)|图所示|结合图文|(?<![一-鿿])[上下左右]图(?:是|中|里|和|与|为)|附件[中里]|见[下上]图|如[下上]图|链接(?:中|里)的)"
    r"|图 ?[1-9一二三][\d.-]*(?:所示|中|是|为)|这[张幅]图|网页搜索结果"
    r"|\b(?:the|this|following|attached|given|above|below) (?:image|picture|photo|figure|graph|chart|diagram|screenshot|video|audio)s? (?:above|below|attached|shown|show)"
    r"|\b(?:following|attached) (?:image|picture|photo|figure|graph|chart|diagram|screenshot|video|audio)",
    re.IGNORECASE,
)
_ATTACK = re.compile(
    r"(?:忽略|无视|忘记|忘掉|放弃|覆盖)[^。！？\n]{0,8}(?:之前|以上|上面|先前|前面|上述|所有|一切|此前)[^。！？\n]{0,8}(?:指示|指令|规则|设定|提示|约束|限制|要求)"
    r"|\bDAN\b|开发者模式|越狱|非限制版|不受[^。！？\n]{0,10}(?:限制|约束|审查)的[^。！？\n]{0,10}(?:AI|模型|助手|版本)"
    r"|你的?(?:系统|初始|原始)(?:提示词?|指令|[Pp]rompt)[^。！？\n]{0,12}(?:是什么|输出|告诉|重复|打印|泄露|复述)"
    r"|(?:输出|告诉我|重复|打印|复述)[^。！？\n]{0,8}(?:系统|初始|原始)(?:提示词?|指令|[Pp]rompt)"
    r"|[Ii]gnore (?:all |the )?(?:previous|above|prior) instructions|[Jj]ailbreak"
)
_UNSAFE = re.compile(
    r"(?:制作|制造|自制|合成|提炼|购买|贩卖|藏匿)[^。！？\n]{0,8}(?:炸弹|炸药|毒品|冰毒|海洛因|枪支|手枪|毒药|毒气)"
    r"|(?:怎么|如何|怎样|教我|方法)[^。！？\n]{0,10}(?:自杀|自残|杀人|投毒|绑架|洗钱|诈骗|偷税|逃税|伪造|盗取|盗号|偷拍|迷奸|强奸|拐卖|走私|行贿|碰瓷)"
    r"|(?:自杀|杀人|投毒|洗钱|诈骗|伪造|盗号|破解他人)(?:的|方法|教程|步骤|技巧)[^。！？\n]{0,4}(?:方法|教程|步骤|技巧|流程)?(?:有哪些|是什么|怎么)"
    r"|黄色小说|色情|裸聊|约炮|成人(?:网站|电影)|未成年[^。！？\n]{0,6}(?:性|裸)|儿童色情|种族(?:低劣|灭绝)|傻[逼bB]|操你妈"
)
_IDENTITY = re.compile(
    r"[Cc]hat ?[Gg][Pp][Tt]|CHATGPT|[Oo]pen ?[Aa][Ii]|OPENAI|[Gg][Pp][Tt]-?\d|文心一言|\bBard\b|\bClaude\b|你是谁|你叫什么|谁(?:开发|训练|创造)了你|你的(?:开发者|创造者|训练数据)|作为(?:一个)?(?:AI|人工智能)(?:语言)?模型"
)
_ROLE_PLAY = re.compile(
    r"\A[^。！？\n]{0,6}(?:我(?:想|希望|要)(?:让)?你(?:扮演|充当|担任|成为)|你(?:将|现在)?(?:要)?扮演|请(?:你)?(?:扮演|充当)|(?:现在)?你是一(?:个|名|位)|假设你是|假装你是|从现在(?:开始|起)[，,]?你)"
)
_CONTINUE = re.compile(
    r"\A(?:请|請|那)?(?:你)?(?:继续|繼續|接着|接下来|再来|下一步|好的?|是的?|对|可以|不对|没有了?|谢谢|同意|明白了?|[a-zA-Z0-9])"
    r"(?:往下|再)?(?:写|说|讲|来|做|生成|输出)?(?:一个|一遍|一次|一下|下去|吧|呀|啊)*[。.!！~，,]*\Z"
)
_MACHINE = re.compile(
    r"\A(?:作为(?:一个|一名|一款)?(?:AI|人工智能|语言模型|大?型?语言模型)|我是(?:一个|一名)?(?:AI|人工智能))"
)
_COURTESY = re.compile(
    r"\A(?:当然(?:可以|了|！|，|,|!)|好的[，,！!。]|没问题[，,！!]|非常(?:抱歉|感谢)|(?:很|非常)?(?:抱歉|对不起)[，,])"
)
_DEGREE = "(?:非常|很|十分|特别|相当|真正|真|极|挺|超级?|最)*"
_GOOD = r"(?:好|棒|妙|有趣|有意思|有意义|有深度|有价值|有代表性|重要|关键|专业|经典|值得[^，。！!\n]{1,6})"
_ENDS = r"(?=[，,。.！!～~、：:；;\s]|\Z)"
_PRAISE = re.compile(
    rf"\A[\s*#>“\"]*(?:[哇嗯啊噢哦]?[，,！!]?\s*)?(?:"
    rf"(?:[你您](?:问|提|提出)(?:了|的|出了?)?(?:真?是)?|[这那](?:可|确实|的确|真)?(?:真)?是|真是)?(?:一?个)?{_DEGREE}{_GOOD}的?(?:(?:[、，,]|而?且|并且|又|也|和){_DEGREE}{_GOOD}的?)?(?:问题|提问|话题|议题)"
    rf"|(?:[你您](?:的|提的|问的)?)?[这那]?个?(?:问题|提问|话题)(?:提得|问得|提的|问的)?{_DEGREE}{_GOOD}(?:[了啊呀哦]|(?:而?且|也|又|、){_DEGREE}{_GOOD})?"
    rf"){_ENDS}"
    r"|\A[\s*#>]*(?:非常)?(?:感谢|谢谢)[你您]的(?:提问|咨询|问题|信任|分享|来信)|\A[\s*#>]*(?:很|非常)(?:高兴|荣幸)能?(?:为|帮|回答)"
    rf"|\A[\s*#>]*问得{_DEGREE}好{_ENDS}|\A[\s*#>]*(?:that(?:'s| is)|what)? ?(?:an? )?(?:really |very )?(?:great|good|excellent|interesting) question",
    re.IGNORECASE,
)
"""Praise of the question, or thanks for it, where the answer should begin."""
_INPUT_LOST = re.compile(
    r"(?:您|你)?(?:没有|未|并未|还没有)(?:提供|给出|附上|输入|指定)(?:任何|具体|相关|需要|要|完整)?的?[^。！？\n]{0,10}(?:文章|文本|内容|句子|段落|信息|文字|链接|图片|输入|单词|材料|数据|列表|问题)"
    r"|请(?:您|你)?(?:提供|给出|输入|补充)(?:更多|具体|相关|需要|要|完整|原文)?[^。！？\n]{0,12}(?:文章|文本|内容|句子|段落|信息|文字|材料|原文|单词)[，,。！!]?(?:以便|我(?:才|将|会)|这样|方便)"
)
_NEEDS_TEXT = re.compile(
    r"(?:以下|下面|下列|上述|给定|这(?:篇|段|句|个|首))(?:的)?(?:这)?(?:篇|段|句|首|个)?(?:文章|文本|句子|段落|文字|短文|诗歌?|对话|新闻|材料|内容|单词|列表)[^：:“\"\n]{0,20}[。.？?！!]?\Z"
)


def _user_turns(item: Item) -> list[str]:
    return [m.content for m in item.messages if m.role == "user"]


def _occurs(pattern: re.Pattern[str], item: Item) -> bool:
    """Whether it occurs in any turn or in the source's answer."""
    return any(pattern.search(m.content) for m in item.messages) or (
        item.answer is not None and pattern.search(item.answer) is not None
    )


def _found(hint: re.Pattern[str], pattern: re.Pattern[str], item: Item) -> bool:
    text = item.asked
    return hint.search(text) is not None and pattern.search(text) is not None


def _exchanges(item: Item) -> int:
    return sum(m.role == "user" for m in item.messages)


def _repeats_the_input(item: Item) -> bool:
    """The answer is the question over again, or opens with all of it."""
    answer, question = (item.answer or "").strip(), item.question.strip()
    return len(question) >= 12 and answer.startswith(question)


def _needs_missing_text(item: Item) -> bool:
    """The prompt speaks of a text that is not there, or the answer asks for it."""
    if item.answer and _INPUT_LOST.search(item.answer[:120]):
        return True
    return len(item.messages) == 1 and _NEEDS_TEXT.search(item.question.strip()) is not None


# What a prompt must hold for the long patterns to be worth their time: most hold none of these.
_MEDIA_HINT = re.compile("[图照截频录附链网漫线表二hwHWgG]")
_UNSAFE_HINT = re.compile("[炸毒洛枪药残杀架洗诈税伪盗偷奸拐私贿瓷黄色裸约网影童族傻操未破]")


FILTERS: Mapping[str, Callable[[Item], bool]] = {
    "too short": lambda item: len(item.question.strip()) < SHORTEST,
    "too long": lambda item: len(item.question) > LONGEST,
    "broken text": lambda item: _occurs(_BROKEN, item),
    "special tokens": lambda item: _SPECIAL.search(item.asked) is not None,
    "not Chinese": lambda item: any(
        chinese_share(turn) < LEAST_CHINESE for turn in _user_turns(item)
    ),
    "Traditional characters": lambda item: count_traditional(item.asked) > 0,
    "too many turns": lambda item: _exchanges(item) > MOST_TURNS,
    "unfilled placeholder": lambda item: _occurs(_PLACEHOLDER, item),
    "needs image or link": lambda item: _found(_MEDIA_HINT, _NEEDS_MEDIA, item),
    "attack": lambda item: _ATTACK.search(item.asked) is not None,
    "unsafe": lambda item: _found(_UNSAFE_HINT, _UNSAFE, item),
    "identity": lambda item: _IDENTITY.search(item.asked) is not None,
    "role-play template": lambda item: _ROLE_PLAY.search(item.asked) is not None,
    "means nothing alone": lambda item: _CONTINUE.search(item.question.strip()) is not None,
    "text is missing": _needs_missing_text,
    "boilerplate opening": lambda item: (
        _COURTESY.search((item.answer or "").lstrip()) is not None
        or opens_as_machine(item.answer or "")
    ),
    "answer repeats the question": _repeats_the_input,
    "translated": lambda item: len(translation_marks(item.question)) > 1,
}
"""Reason → whether it holds of an item, in the order they are asked; the first that holds is counted."""


def opens_as_machine(answer: str) -> bool:
    """Return whether an answer opens as nobody of a service's speaks: 作为AI, praise of the question; 好的 and 抱歉 are no such opening."""
    return _MACHINE.search(answer.lstrip()) is not None or opens_with_template(answer)


def opens_with_template(answer: str) -> bool:
    """Return whether an answer opens with praise of the question (这是一个很好的问题) or thanks for it."""
    return _PRAISE.search(parse_answer(answer).text[:80]) is not None


def first_reason(item: Item, allowed: frozenset[str] = frozenset()) -> str | None:
    """Return the first filter that holds of an item and is not allowed, `None` if the item is good."""
    for reason, holds in FILTERS.items():
        if reason not in allowed and holds(item):
            return reason
    return None
