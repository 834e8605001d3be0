from typing import get_args

import pytest
from openpyxl import load_workbook
from pydantic import TypeAdapter

from guardrail.errors import InputError
from guardrail.sets.build.workbook import CUT, LONGEST_CELL, describe_check, export_xlsx
from guardrail.sets.item_checks import Check
from guardrail.sets.items import ABILITIES, Item, read_items
from guardrail.sets.wording import ABILITY_NAMES, CHECK_NAMES
from guardrail.shipped import shipped_root

DESCRIBED = [
    ({"kind": "characters", "at_most": 44}, "字数 ≤ 44"),
    ({"kind": "characters", "at_least": 20, "at_most": 44}, "字数 20–44"),
    ({"kind": "sentences", "at_least": 3, "at_most": 3}, "句数 = 3"),
    ({"kind": "paragraphs", "at_least": 2}, "段数 ≥ 2"),
    ({"kind": "list_items", "at_least": 2, "style": "numbered"}, "编号分点 ≥ 2"),
    (
        {"kind": "contains", "all": ["武汉"], "any": ["鹤", "楼"], "none": ["长沙"]},
        "必须出现：“武汉”；至少出现其一：“鹤”、“楼”；不得出现：“长沙”",
    ),
    ({"kind": "in_order", "parts": ["先", "后"]}, "依次出现：先 → 后"),
    ({"kind": "members", "options": ["梨", "桃"], "count": 1}, "恰好说出 1 个：“梨”、“桃”"),
    ({"kind": "starts_with", "any": ["通知", "公告"]}, "开头是：“通知” 或 “公告”"),
    ({"kind": "ends_with", "any": ["完"]}, "结尾是：“完”"),
    ({"kind": "one_of", "options": ["差评"]}, "只写答案：“差评”"),
    ({"kind": "language", "is": "en"}, "用英文回答"),
    ({"kind": "title", "at_most": 8}, "第一行是标题（不超过 8 字）"),
    ({"kind": "address", "is": "您"}, "称对方“您”，不称“你”"),
    (
        {"kind": "json", "keys": {"名": "string"}, "values": {"名": "甲"}, "fence": "forbidden"},
        '整个回答是 JSON 对象；只含键 名: string；名 = "甲"；不得用代码块',
    ),
    (
        {
            "kind": "json",
            "root": "array",
            "length": 2,
            "keys": {"a": "null"},
            "only_these_keys": False,
        },
        "整个回答是 JSON 数组；2 个元素；至少含键 a: null",
    ),
    (
        {"kind": "table", "columns": ["甲", "乙"], "rows": 2},
        "有一张 Markdown 表格；表头 甲 | 乙；2 行",
    ),
]
KINDS = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Check)[0])}


def item(name: str = "a", prompt: str = "写一则通知。", **more) -> Item:
    base = {
        "id": name,
        "ability": "writing",
        "source": "test",
        "licence": "Apache-2.0",
        "messages": [{"role": "user", "content": prompt}],
    }
    return Item.model_validate(base | more)


def exported(tmp_path, *items: Item):
    return load_workbook(export_xlsx(items, tmp_path / "set.xlsx")).worksheets[0]


@pytest.mark.parametrize(("raw", "said"), DESCRIBED, ids=[said for _, said in DESCRIBED])
def test_a_check_is_described_in_chinese(raw, said):
    assert describe_check(TypeAdapter(Check).validate_python(raw)) == said


def test_every_kind_of_check_and_every_ability_has_words():
    assert {raw["kind"] for raw, _ in DESCRIBED} == KINDS
    assert set(CHECK_NAMES) == KINDS
    assert tuple(ABILITY_NAMES) == ABILITIES


def test_one_row_an_item_with_its_dialogue_and_checks(tmp_path):
    turns = [
        {"role": "system", "content": "简短。"},
        {"role": "user", "content": "早"},
        {"role": "assistant", "content": "好"},
        {"role": "user", "content": "走"},
    ]
    checks = [{"kind": "characters", "at_most": 44}, {"kind": "language", "is": "zh"}]
    sheet = exported(
        tmp_path,
        item(checks=checks),
        item("b", ability="poetry", messages=turns, expects="refuse"),
    )
    rows = list(sheet.iter_rows(values_only=True))
    assert rows[0] == ("编号", "能力", "期望", "题目", "检查", "来源", "许可", "备注")
    checked = "· 字数 ≤ 44\n· 用中文回答"
    assert rows[1] == ("a", "写作", "回答", "写一则通知。", checked, "test", "Apache-2.0", None)
    assert rows[2][:4] == (
        "b",
        "poetry",
        "拒答",
        "【系统】简短。\n\n【用户】早\n\n【助手】好\n\n【用户】走",
    )
    assert len(rows) == 3


def test_the_header_stays_and_cells_wrap(tmp_path):
    sheet = exported(tmp_path, item())
    assert sheet.freeze_panes == "B2"
    assert sheet.auto_filter.ref == "A1:H2"
    assert sheet["D2"].alignment.wrap_text
    assert sheet.column_dimensions["D"].width == 70
    assert min(sheet.column_dimensions[c].width for c in "ABCDEFGH") >= 8


@pytest.mark.parametrize("text", ["=1+1", "+86 怎么拨", "-5 加 3", "@所有人", '=HYPERLINK("x")'])
def test_text_that_looks_like_a_formula_stays_text(tmp_path, text):
    cell = exported(tmp_path, item(prompt=text))["D2"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", True)
    assert not exported(tmp_path, item())["D2"].quotePrefix


def test_characters_the_format_refuses_are_shown(tmp_path):
    sheet = exported(tmp_path, item(prompt="响铃\x07、断\ufffe字、制表\t\n换行"))
    assert sheet["D2"].value == "响铃\\x07、断\\ufffe字、制表\t\n换行"


def test_a_cell_beyond_the_limit_is_cut_with_a_mark(tmp_path):
    whole = exported(tmp_path, item(prompt="字" * LONGEST_CELL))["D2"].value
    assert whole == "字" * LONGEST_CELL
    for long in ("字" * (LONGEST_CELL + 1), "😀" * 20_000):
        cut = exported(tmp_path, item(prompt=long))["D2"].value
        assert cut.endswith(CUT)
        assert LONGEST_CELL - 1 <= len(cut.encode("utf-16-le")) // 2 <= LONGEST_CELL


def test_a_failed_export_leaves_the_old_workbook_and_no_remains(tmp_path):
    path = export_xlsx([item("old")], tmp_path / "set.xlsx")

    def breaks():
        yield item("new")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        export_xlsx(breaks(), path)
    assert load_workbook(path).worksheets[0]["A2"].value == "old"
    (tmp_path / "folder.xlsx").mkdir()
    with pytest.raises(OSError, match=r"folder\.xlsx"):
        export_xlsx([item()], tmp_path / "folder.xlsx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.xlsx", "set.xlsx"]


@pytest.mark.parametrize(
    ("name", "said"), [("set.csv", "must end in .xlsx"), ("no/set.xlsx", "make it")]
)
def test_a_path_that_cannot_be_written_is_named(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        export_xlsx([item()], tmp_path / name)


def test_the_shipped_set_can_be_exported(tmp_path):
    items = read_items(shipped_root() / "eval_sets/zh-redline-300/items.jsonl")
    assert exported(tmp_path, *items).max_row == 301
