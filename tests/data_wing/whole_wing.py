"""A scripted model that plays every part of the wing, and a search for judged text that knows nothing of the one under test."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from openpyxl import load_workbook

JUDGED = "请说明红烧肉从选肉到收汁的全部步骤，每步不超过十五个字"
REWORDED = "请说明红烧肉从选肉到收汁的全部步骤，每步最好不超过二十个字"
MOVED = "每步别超十五个字，说明红烧肉由选肉到收汁全部步骤"
"""Near it without thirteen units in a row; seen where it stands in a line of its own."""
FORMS: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: json.dumps({"q": text}),
    lambda text: quote(text),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: "".join(f"&#{ord(c)};" for c in text),
    lambda text: "​".join(text),
]
TOPICS = [
    "月饼",
    "风筝",
    "算盘",
    "灯笼",
    "剪纸",
    "皮影",
    "复利",
    "除湿",
    "薄荷",
    "简历",
    "搬家",
    "换乘",
    "发票",
    "口罩",
    "茶叶",
    "晾晒",
    "对联",
    "围棋",
    "二胡",
    "豆腐",
    "竹编",
    "书法",
    "砚台",
    "雨伞",
    "陶瓷",
]
WAYS = ["是怎样做成的", "该怎么挑选和保存"]
KNOWLEDGE = [
    f"{topic}的规矩：每月 {n + 3} 日前办理，逾期按 {n + 1}% 计收费用，最长可以分 {n + 6} 期，须由本人签字确认。"
    for n, topic in enumerate(TOPICS)
]


def chance(text: str, of: int) -> int:
    """A number below `of` that hangs on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % of


def _said(prompt: str, body: dict[str, Any]) -> str:
    """What a willing model would say to each template of the wing."""
    if "再出" in prompt:
        shown = int(re.search(r"提出的 (\d+) 个", prompt)[1])
        draw = [TOPICS[chance(f"{prompt}{n}", len(TOPICS))] for n in range(6)]
        asked = [
            f"{a}遇上{b}，第{chance(prompt + a + str(n), 997)}种办法{WAYS[n % 2]}"
            for n, (a, b) in enumerate(zip(draw[:3], draw[3:], strict=True))
        ]
        return "\n".join(f"{shown + 1 + n}. {text}" for n, text in enumerate(asked))
    if "分类任务吗：\n\n只写" in prompt:
        return "是" if chance(prompt, 3) == 0 else "否"
    if "先定类别" in prompt:
        return "类别：甲\n输入：昨天等了两个小时。\n\n类别：乙\n输入：师傅手脚麻利。"
    if "先写输入，再写输出" in prompt:
        return f"输入：无\n输出：{prompt.rsplit('任务：', 1)[1]}，照老规矩办。"
    if "最容易" in prompt:
        return str(1 + chance(prompt, 9))
    if "是不是“一回事”" in prompt:
        return "不同" if chance(prompt, 5) else "相同"
    if "给定题目：" in prompt:
        return prompt.split("给定题目：\n")[1] + f"，还要讲到{TOPICS[chance(prompt, len(TOPICS))]}"
    if "个读完这段资料" in prompt:
        topic = prompt.split("资料：\n")[-1][:2]
        return f"1. {topic}每月几日前办理？\n2. {topic}最长分多少期？\n3. {topic}每年办几次？"
    if "只依据下面的资料" in prompt:
        passage = prompt.split("资料：\n")[1].split("\n")[0]
        said = re.search(
            r"每月 \d+ 日前办理" if "几日前" in prompt else r"最长可以分 \d+ 期", passage
        )
        return f"依据：\n- {said[0]}\n答案：{said[0]}。" if "几次" not in prompt else "无法回答"
    if "退一步的问题：\n\n只写" in prompt:
        return "这类手艺一般讲究什么？"
    if "把有关的原理" in prompt:
        return "讲究选料和火候。"
    if "待查回答" in prompt:
        return "一致" if chance(prompt, 4) else "不一致"
    if "回答甲" in prompt:
        return "甲"
    if "挑出最好的一个" in prompt:
        return str(chance(prompt, 3))
    if "思考：" in prompt:
        return "思考：先看料，再看火候。\n答案：先选料，再上火。"
    if "知识点" in prompt:
        return "- 选料\n- 火候"
    if "一条条要求" in prompt:
        return "做到：说清步骤\n没做到：举例"
    if "坐席：”开头" in prompt:
        amount, day = re.search(r"应还 ([\d.]+) 元，(\d+) 日", prompt).groups()
        return f"客户：喂，我发工资就还。\n坐席：我是专员小林，您逾期的{amount}元，{day}日前在App里还清就行，记{chance(prompt, 997)}号。"
    if "写出用户当时提的那个问题" in prompt:
        return f"{prompt[-12:-2]}是怎么回事？"
    return f"先看{prompt[-9:]}，再看其余，编号{chance(prompt + str(body['seed']), 10**6)}。"


def script(prompt: str, body: dict[str, Any]) -> Any:
    """The same, with judged text slipped into every fourth reply in one form or another."""
    if "prompt" in body:
        said = f"请问{TOPICS[body['seed'] % 25]}{WAYS[body['seed'] % 2]}，又有什么讲究"
    else:
        said = _said(prompt, body)
    key = f"{prompt}{body['seed']}"
    if chance(key, 4) == 0:
        place, near = chance(key + "p", 3), (JUDGED, REWORDED)[chance(key + "w", 2)]
        if near == REWORDED and place < 2 and chance(key + "m", 2):
            near = MOVED
        judged = FORMS[chance(key + "form", len(FORMS))](near)
        said = (f"{said}\n9. {judged}", f"{judged}\n{said}", f"{said}{judged}")[place]
    return {"text": said, "logprobs": {"content": [{"logprob": -0.05}]}}


def freely(prompt: str, body: dict[str, Any]) -> Any:
    """The scripted model with an imagination of its own where it is to evolve a question."""
    if "给定题目：" in prompt:
        one, other = (TOPICS[chance(prompt + n, len(TOPICS))] for n in "ab")
        return f"拿{one}和{other}比一比，哪一样更费工夫，第{chance(prompt, 97)}回"
    return script(prompt, body)


def leaks(folder: Path) -> list[str]:
    """The files below a folder that hold the judged item or a near duplicate of it, behind whichever escape."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix not in (".safetensors", ".pt", ".pth", ".bin")
        and any(map(leaked, _text(path).splitlines()))
    ]


def leaked(line: str) -> bool:
    """Whether a line has 13 characters of the judged item in a row, or half of its pairs of neighbours in any order."""
    wanted = _han(JUDGED)
    windows = [wanted[n : n + 13] for n in range(len(wanted) - 12)]
    pairs = {wanted[n : n + 2] for n in range(len(wanted) - 1)}
    for text in map(_han, _forms(line)):
        if any(window in text for window in windows):
            return True
        if 2 * sum(pair in text for pair in pairs) >= len(pairs):
            return True
    return False


def _han(text: str) -> str:
    return "".join(re.findall("[一-鿿]", text))


def _text(path: Path) -> str:
    if path.suffix == ".xlsx":
        return "\n".join(
            str(cell) for sheet in load_workbook(path) for row in sheet.values for cell in row
        )
    return path.read_text("utf-8", errors="replace")


def _forms(text: str) -> Iterator[str]:
    plain = text.replace("\\\\", "\\")
    yield text
    yield re.sub(r"\\+u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), plain)
    yield unquote(text)
    yield html.unescape(text)
    for token in re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", text):
        yield (
            base64.b64decode(token + "==").decode("utf-8", errors="replace")
            if len(token) % 4 == 0
            else ""
        )
