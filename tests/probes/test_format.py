import pytest
from pydantic import TypeAdapter

from guardrail.probes.measure import check_passes
from guardrail.sets.item_checks import Check

CHECK = TypeAdapter(Check)
PERSON = {"kind": "json", "keys": {"姓名": "string", "年龄": "integer"}, "values": {"年龄": 28}}


def passes(text: str, check: dict) -> bool:
    return check_passes(CHECK.validate_python(check), text)


@pytest.mark.parametrize(
    "text",
    [
        '{"姓名": "张伟", "年龄": 28}',
        '```json\n{"姓名": "张伟", "年龄": 28}\n```',
        '~~~\n{"年龄": 28, "姓名": "张伟"}\n~~~',
        '{\n "姓名": "张伟",\n "年龄": 28\n}',
    ],
)
def test_good_json_passes_fenced_or_not(text):
    assert passes(text, PERSON)


@pytest.mark.parametrize(
    "text",
    [
        '好的：{"姓名": "张伟", "年龄": 28}',
        '{"姓名": "张伟"}',
        '{"姓名": "张伟", "年龄": "28"}',
        '{"姓名": "张伟", "年龄": true}',
        '{"姓名": "张伟", "年龄": 29}',
        '{"姓名": "张伟", "年龄": 28, "城市": "北京"}',
        '{"姓名": "张伟", "年龄": 28, "年龄": 28}',
        "{'姓名': '张伟', '年龄': 28}",
        "[" * 100_000,
        "",
    ],
)
def test_bad_json_fails(text):
    assert not passes(text, PERSON)


def test_fence_may_be_required_or_forbidden():
    bare, fenced = '{"a": 1}', '```\n{"a": 1}\n```'
    assert not passes(bare, {"kind": "json", "fence": "required"})
    assert passes(fenced, {"kind": "json", "fence": "required"})
    assert not passes(fenced, {"kind": "json", "fence": "forbidden"})


def test_fixed_values_compare_as_json_at_every_depth():
    check = {"kind": "json", "values": {"a": {"ok": True}, "n": 3}}
    assert passes('{"a": {"ok": true}, "n": 3.0}', check)
    assert not passes('{"a": {"ok": 1}, "n": 3}', check)


def test_arrays_have_a_length_and_every_element_the_keys():
    check = {"kind": "json", "root": "array", "length": 2, "keys": {"名": "string"}}
    assert passes('[{"名": "甲"}, {"名": "乙"}]', check)
    assert not passes('[{"名": "甲"}]', check)
    assert not passes('[{"名": "甲"}, {"名": 2}]', check)


def test_nan_is_no_json():
    assert not passes('{"a": NaN}', {"kind": "json"})


TABLE = {"kind": "table", "columns": ["菜名", "价格"], "rows": 2}


@pytest.mark.parametrize(
    "text",
    [
        "| 菜名 | 价格 |\n|---|---|\n| 面 | 10 |\n| 饭 | 12 |",
        "如下：\n\n|菜名|价格|\n|-|:-:|\n|面|10|\n|饭||\n\n谢谢",
        "|**菜名**|**价格**|\n|:--|--:|\n|面|10|\n|饭 \\| 汤|12|",
    ],
)
def test_good_tables_pass(text):
    assert passes(text, TABLE)


@pytest.mark.parametrize(
    "text",
    [
        "菜名 价格\n面 10\n饭 12",
        "| 菜名 | 价格 |\n|---|---|\n| 面 | 10 |",
        "| 菜 | 价格 |\n|---|---|\n| 面 | 10 |\n| 饭 | 12 |",
        "| 菜名 | 价格 |\n|---|---|\n| 面 | 10 | 3 |\n| 饭 | 12 |",
        "| 菜名 | 价格 |\n|---|\n| 面 | 10 |\n| 饭 | 12 |",
    ],
)
def test_bad_tables_fail(text):
    assert not passes(text, TABLE)
