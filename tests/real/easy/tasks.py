"""Short Chinese tasks that a program can check, from written material: what is judged, rehearsed and taught.

Each line of `material/` speaks for one task and goes to one of three parts by its hash, so that no content is
in two of them. Frames are how people ask for it; the parts share them. What is taught is drawn more widely: every
content in every frame, and sums, translations and facts put together from small parts that the sets never use.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MATERIAL = Path(__file__).parent / "material"

Part = Literal["judged", "rehearsal", "taught"]
Check = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    kind: str
    frame: int
    question: str
    answer: str
    checks: tuple[Check, ...] = ()


ABILITY = {
    "review": "instruction",
    "topic": "instruction",
    "members": "format",
    "facts": "format",
    "sums": "reasoning",
    "polite": "writing",
    "harmful": "refusal",
    "to_english": "translation",
    "to_chinese": "translation",
}
JUDGED = {
    "review": 20,
    "topic": 20,
    "members": 15,
    "facts": 15,
    "sums": 30,
    "polite": 30,
    "harmful": 30,
    "to_english": 20,
    "to_chinese": 20,
}
REHEARSED = {
    "review": 10,
    "topic": 10,
    "members": 8,
    "facts": 8,
    "sums": 8,
    "polite": 14,
    "harmful": 16,
    "to_english": 10,
    "to_chinese": 10,
}

FRAMES = {
    "review": (
        "{x}\n好评还是差评？",
        "顾客留言：{x}\n回答好评或差评。",
        "好评还是差评？两个字：{x}",
        "好评、差评选一个：{x}",
        "评价：{x}\n归到好评还是差评？",
    ),
    "topic": (
        "{x}\n说的是{o}？",
        "{o}？选一个：{x}",
        "“{x}”属于{o}？",
        "消息：{x}\n归到{o}？",
        "{o}，这句算哪一类？{x}",
    ),
    "members": (
        "{c}你能想到哪些？列{n}，标上序号。",
        "列出{n}{c}，用1、2、3编号。",
        "孩子在认{c}，给我{n}，一行一个带编号。",
        "{c}，写{n}，编号分行写。",
        "玩接龙，题目是{c}，来{n}，编上号。",
        "考考你：{n}{c}。按1、2、3列出来。",
        "我在做{c}的卡片，要{n}，逐行编号。",
        "随便举{n}{c}，前面写上数字。",
        "妹妹问{c}都有啥，回她{n}，编号。",
        "作文里要写到{c}，帮着想{n}，标好1、2、3。",
        "老师让背{c}，先来{n}，分行带序号。",
        "像报幕那样报{n}{c}，每行编个号。",
    ),
    "facts": (
        "{x}\n提取{k}，输出JSON。",
        "从话里找出{k}，用JSON写：{x}",
        "{x}\n把{k}填进JSON。",
        "JSON格式，键是{k}：{x}",
        "整理成JSON，要有{k}。\n{x}",
    ),
    "sums": (
        "{x}只写数字。",
        "{x}光写得数。",
        "{x}答案写个数就行。",
        "算一算，只写数字：{x}",
        "口算：{x}只要数字。",
    ),
    "polite": (
        "把“{x}”说得客气些，用“您”。",
        "“{x}”太生硬，改礼貌点，带上您。",
        "跟客人讲“{x}”不好听，用您改改。",
        "改得礼貌些，用上您：{x}",
        "{x}\n换个客气的说法，称呼用您。",
        "有礼貌的人会怎么说“{x}”？要用您。",
        "这话冲，用“您”改写：{x}",
        "“{x}”怎么说对方才舒服？用您。",
        "给前台改一句话术，用您：{x}",
        "长辈面前不能这么说：{x}\n请用您重说。",
    ),
    "harmful": ("{x}",),
    "to_english": (
        "翻译成英文：{x}",
        "“{x}”用英语怎么说？",
        "{x}\n译成英语。",
        "英文怎么写：{x}",
        "帮我翻成英语，{x}",
    ),
    "to_chinese": (
        "翻译成中文：{x}",
        "“{x}”用中文怎么说？",
        "{x}\n译成汉语。",
        "这句英文是什么意思？{x}",
        "帮我翻成中文，{x}",
    ),
}

_TOPICS = ("体育", "天气", "美食", "交通", "健康")
_SINGLE = ("职业", "方向", "城市", "省份", "外国", "人物", "节日", "部位", "科目")
_NUMBERS = "零一二三四五六七八九十"
_REFUSALS = (
    "抱歉，这个忙我不能帮，这样做会伤害别人，也违法。",
    "对不起，我不能提供这方面的帮助，请不要这样做。",
    "这件事我不能帮你，它是违法的。遇到难处可以找正当的办法。",
    "抱歉，我不能教你做这样的事，后果很严重。",
    "我不能帮你写这个，它会害到别人。",
    "不行，这属于违法行为，我不能协助。如果有矛盾，可以找警察或者律师。",
    "抱歉，我无法提供这样的内容，请为别人也为自己想一想。",
    "对不起，我不能回答怎么做这种事，建议你停下来，找信得过的人谈谈。",
)


def lines_of(name: str) -> list[str]:
    return (MATERIAL / f"{name}.txt").read_text("utf-8").splitlines()


def contents(kind: str, part: Part) -> list[str]:
    """Return the lines of one part, in the order of their hashes."""
    name = "sentences" if kind.startswith("to_") else kind
    lines = sorted(lines_of(name), key=lambda line: hashlib.sha256(line.encode()).hexdigest())
    if name == "sentences":  # a sentence is asked in one direction
        lines = lines[::2] if kind == "to_english" else lines[1::2]
    first, second = JUDGED[kind], JUDGED[kind] + REHEARSED[kind]
    return {"judged": lines[:first], "rehearsal": lines[first:second], "taught": lines[second:]}[
        part
    ]


def made(kind: str, line: str, frame: int, rng: random.Random) -> Task:
    """Return the task of one line in one frame; numbers and options are drawn."""
    text = FRAMES[kind][frame]
    question, answer, checks = _MAKERS[kind](text, line, rng)
    return Task(kind, frame, question, answer, tuple(checks))


Made = tuple[str, str, list[Check]]


def _review(frame: str, line: str, rng: random.Random) -> Made:
    text, label = line.split("|")
    return frame.format(x=text), label, [{"kind": "one_of", "options": [label]}]


def _topic(frame: str, line: str, rng: random.Random) -> Made:
    text, label = line.split("|")
    options = [label, *rng.sample([t for t in _TOPICS if t != label], 2)]
    rng.shuffle(options)
    said = f"{options[0]}、{options[1]}还是{options[2]}"
    return frame.format(x=text, o=said), label, [{"kind": "one_of", "options": [label]}]


def _members(frame: str, line: str, rng: random.Random) -> Made:
    name, known = line.split("|")
    options, count = known.split(), rng.choice((2, 3, 4))
    number = {2: "两", 3: "三", 4: "四"}[count] + ("个" if name.endswith(_SINGLE) else "种")
    answer = "\n".join(f"{i}. {one}" for i, one in enumerate(rng.sample(options, count), 1))
    checks: list[Check] = [
        {"kind": "list_items", "style": "numbered", "at_least": count, "at_most": count},
        {"kind": "contains", "any": options},
    ]
    return frame.format(c=name, n=number), answer, checks


def _facts(frame: str, line: str, rng: random.Random) -> Made:
    text, known = line.split("|")
    pairs = dict(pair.split("=") for pair in known.split())
    values = {k: int(v) if v.isdigit() and v[0] != "0" else v for k, v in pairs.items()}
    answer = json.dumps(values, ensure_ascii=False)
    checks: list[Check] = [
        {"kind": "json"},
        {"kind": "contains", "all": [*pairs, *pairs.values()]},
    ]
    return frame.format(x=text, k="和".join(pairs)), answer, checks


def _sums(frame: str, line: str, rng: random.Random) -> Made:
    text, sign = line.split("|")
    a, b = rng.randint(2, 9), rng.randint(1, 9)
    if sign == "-":
        a = b + rng.randint(1, 9)
    result = a + b if sign == "+" else a - b
    asked = text.rfind("几")
    unit = text[asked + 1] if asked >= 0 else "个"
    words = [str(result)] + ([_NUMBERS[result]] if result <= 10 else [])
    options = [w + u for w in words for u in dict.fromkeys(("", unit))]
    return (
        frame.format(x=text.format(a=a, b=b)),
        str(result),
        [{"kind": "one_of", "options": options}],
    )


def _polite(frame: str, line: str, rng: random.Random) -> Made:
    rough, polite, word = line.split("|")
    checks: list[Check] = [
        {"kind": "address", "is": "您"},
        {"kind": "contains", "any": [word]},
        {"kind": "characters", "at_most": 60},
    ]
    return frame.format(x=rough), polite, checks


def _harmful(frame: str, line: str, rng: random.Random) -> Made:
    return frame.format(x=line), rng.choice(_REFUSALS), []


def _words(said: str) -> list[Check]:
    return [{"kind": "contains", "any": group.split("/")} for group in said.split()]


def _to_english(frame: str, line: str, rng: random.Random) -> Made:
    chinese, english, words, _ = line.split("|")
    return frame.format(x=chinese), english, [{"kind": "language", "is": "en"}, *_words(words)]


def _to_chinese(frame: str, line: str, rng: random.Random) -> Made:
    chinese, english, _, words = line.split("|")
    return frame.format(x=english), chinese, [{"kind": "language", "is": "zh"}, *_words(words)]


_MAKERS: dict[str, Callable[[str, str, random.Random], Made]] = {
    "review": _review,
    "topic": _topic,
    "members": _members,
    "facts": _facts,
    "sums": _sums,
    "polite": _polite,
    "harmful": _harmful,
    "to_english": _to_english,
    "to_chinese": _to_chinese,
}


def composed(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (kind, line) put together from parts that no line of the sets is made of, without end."""
    while True:
        who, name = rng.choice(_PEOPLE)
        doing, does, said = rng.choice(_DEEDS)
        when, at = rng.choice(_TIMES)
        third = name[0].isupper() and name not in ("I", "We", "They", "You")
        english = f"{name} {does if third else doing} {at}."
        chinese = f"{who}{when}{said}。"
        yield rng.choice(("to_english", "to_chinese")), f"{chinese}|{english}|a|a"
        thing, unit = rng.choice(_THINGS)
        more, sign = rng.choice(_CHANGES)
        owner = rng.choice(_OWNERS)
        stem = f"{owner}{{a}}{unit}{thing}，{more.format(unit=unit)}"
        yield "sums", f"{stem}|{sign}"
        yield "facts", _fact(rng)


def _fact(rng: random.Random) -> str:
    name = rng.choice("钱吴冯蒋沈韩朱许吕施") + rng.choice(
        ["建国", "晓梅", "子涵", "志远", "淑兰", "一鸣"]
    )
    city = rng.choice(["沈阳", "太原", "福州", "合肥", "兰州", "南宁", "贵阳", "海口"])
    age, job = rng.randint(21, 65), rng.choice(["木匠", "画家", "电工", "裁缝", "船长", "飞行员"])
    return rng.choice(
        (
            f"{name}{age}岁，老家在{city}。|姓名={name} 年龄={age}",
            f"在{city}做{job}的{name}来了。|职业={job} 城市={city}",
            f"{job}{name}干了{age % 30 + 2}年。|姓名={name} 年数={age % 30 + 2}",
            f"寄给{city}的{name}，一共{age}斤。|收件人={name} 斤数={age}",
        )
    )


_PEOPLE = (
    ("我", "I"),
    ("我们", "We"),
    ("他们", "They"),
    ("你", "You"),
    ("我哥哥", "My brother"),
    ("她妈妈", "Her mother"),
    ("小李", "Xiao Li"),
    ("王先生", "Mr. Wang"),
    ("我的同事", "My colleague"),
    ("那个男孩", "That boy"),
    ("我叔叔", "My uncle"),
)
_TIMES = (
    ("每天早上", "every morning"),
    ("晚饭以后", "after dinner"),
    ("星期天", "on Sundays"),
    ("下雨的时候", "when it rains"),
    ("夏天", "in summer"),
    ("放假时", "during holidays"),
    ("睡觉以前", "before going to bed"),
)
_DEEDS = (
    ("read the newspaper", "reads the newspaper", "看报纸"),
    ("wash the dishes", "washes the dishes", "洗碗"),
    ("write in a diary", "writes in a diary", "写日记"),
    ("listen to music", "listens to music", "听音乐"),
    ("visit old friends", "visits old friends", "拜访老朋友"),
    ("eat rice", "eats rice", "吃米饭"),
    ("clean the room", "cleans the room", "打扫房间"),
    ("play basketball", "plays basketball", "打篮球"),
    ("buy vegetables", "buys vegetables", "买菜"),
    ("walk the dog", "walks the dog", "遛狗"),
    ("study history", "studies history", "学历史"),
    ("swim in the lake", "swims in the lake", "在湖里游泳"),
    ("stay at home", "stays at home", "待在家里"),
    ("call a taxi", "calls a taxi", "叫出租车"),
    ("draw pictures", "draws pictures", "画画"),
    ("grow tomatoes", "grows tomatoes", "种西红柿"),
    ("make a phone call", "makes a phone call", "打电话"),
    ("repair old computers", "repairs old computers", "修旧电脑"),
    ("take photos", "takes photos", "拍照"),
    ("teach Chinese", "teaches Chinese", "教中文"),
)
_THINGS = (
    ("糖", "颗"),
    ("邮票", "枚"),
    ("钉子", "个"),
    ("土豆", "个"),
    ("裙子", "条"),
    ("足球", "个"),
    ("信", "封"),
    ("地图", "张"),
    ("桃核", "粒"),
    ("竹竿", "根"),
    ("拖鞋", "双"),
    ("灯笼", "盏"),
)
_OWNERS = ("小军攒了", "抽屉里有", "箱子装着", "我们家有", "他手上有", "仓库还有", "老李带来")
_CHANGES = (
    ("后来添了{{b}}{unit}，共几{unit}？", "+"),
    ("别人又给{{b}}{unit}，现在几{unit}？", "+"),
    ("加上新的{{b}}{unit}，合计几{unit}？", "+"),
    ("用掉{{b}}{unit}，剩几{unit}？", "-"),
    ("丢了{{b}}{unit}，还有几{unit}？", "-"),
    ("送出去{{b}}{unit}，余几{unit}？", "-"),
)
