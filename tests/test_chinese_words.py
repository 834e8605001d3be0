"""One thing has one Chinese name wherever a Chinese user reads of it; docs/architecture.md has the English ones."""

import re
from pathlib import Path

import pytest

from guardrail.shipped import shipped_root

ROOT = shipped_root()
NOT_SAID = {
    "评测": ["查看", "看一眼"],  # look
    "处置": ["动作", "出手"],  # action
    "绊线": ["触线", "绊网"],  # tripwire
    "原始模型": ["基座", "底座"],  # gold base
    "起点模型": ["起始模型", "初始模型"],  # start model
    "原始回答": ["标准回答", "金标"],  # gold
    "退化": ["损害", "伤害"],  # harm
    "容忍线": ["容忍度", "容差", "界限", "余量"],  # margin
    "复测": ["复查", "重测"],  # repeat
    "KL 参照": ["KL 参考", "参考模型"],  # KL reference
    "只算 KL 的样本": ["KL-only"],  # KL-only sample
    "旁路进程": ["侧车", "边车"],  # sidecar
    "运行文件夹": ["运行目录"],  # run folder
    "护栏": ["守护", "卫士"],  # guard
}
"""The word → others that were once used for the same thing, or offer themselves."""
FILES = [
    "README_zh.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*_zh.md"))),
    "guardrail/report/page/texts/zh.yaml",
    "guardrail/report/page/texts/look.zh.yaml",
    "guardrail/live/terminal_words.zh.yaml",
    "guardrail/live/translated_sentences.zh.yaml",
    "guardrail/cli/recipe_reference.zh.yaml",
    "guardrail/track/alerts.py",
]


def prose(path: Path) -> str:
    """What people read: without English output and without a translation file's own English."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blocks = re.compile(r"^```(\w*)\n.*?^```$", re.DOTALL | re.MULTILINE)
        return blocks.sub(lambda block: block[0] if block[1] else "", text)
    return re.sub(r'^"(?:[^"\\]|\\.)*": ', "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_a_thing_has_one_chinese_name(file: str) -> None:
    text = prose(ROOT / file)
    found = {
        f"{other}: say {word}"
        for word, others in NOT_SAID.items()
        for other in others
        if other in text
    }
    assert found == set()


@pytest.mark.parametrize("file", [file for file in FILES if file.endswith(".md")])
def test_a_chinese_page_leads_to_chinese_pages_where_there_are_any(file: str) -> None:
    """But for the English page of its own, and a section that the Chinese one lacks."""
    path = ROOT / file
    links = re.findall(r"\]\(([\w./-]+)\.md\)", path.read_text(encoding="utf-8"))
    own = path.stem.removesuffix("_zh")
    assert [
        n for n in links if Path(n).name != own and (path.parent / f"{n}_zh.md").is_file()
    ] == []
