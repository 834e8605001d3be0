import pytest
from pydantic import TypeAdapter

from guardrail.probes.measure import check_passes
from guardrail.sets.item_checks import Check
from guardrail.sets.items import read_items
from guardrail.sets.lint.contradictions import contradictions
from guardrail.shipped import shipped_root

READ = TypeAdapter(list[Check])


def checks(*raw: dict) -> list[Check]:
    return READ.validate_python(raw)


def count(kind: str, low: int | None = None, high: int | None = None, **more) -> dict:
    return {"kind": kind, "at_least": low, "at_most": high, **more}


def contains(**words) -> dict:
    return {"kind": "contains", **words}


def json(**more) -> dict:
    return {"kind": "json", **more}


IMPOSSIBLE = [
    (
        "disjoint bounds",
        [count("characters", high=20), count("characters", low=30)],
        "characters must",
    ),
    ("sentences", [count("sentences", 3), count("sentences", 1, 2)], "sentences must"),
    ("paragraphs", [count("paragraphs", 3), count("paragraphs", 1, 2)], "paragraphs must"),
    (
        "numbered",
        [count("list_items", 3, style="numbered"), count("list_items", 0, 2, style="numbered")],
        "numbered list_items must",
    ),
    (
        "both styles exceed any",
        [
            count("list_items", 3, style="numbered"),
            count("list_items", 3, style="bulleted"),
            count("list_items", high=5),
        ],
        "list_items must be at least 6",
    ),
    (
        "more items than lines",
        [count("list_items", 4), count("paragraphs", high=3)],
        "need 4 lines",
    ),
    (
        "table in one line",
        [{"kind": "table", "rows": 2}, count("paragraphs", high=3)],
        "need 4 lines",
    ),
    (
        "words too long",
        [contains(all=["通货膨胀", "货币政策"]), count("characters", high=7)],
        "takes 8 characters",
    ),
    (
        "parts too long",
        [{"kind": "in_order", "parts": ["冷水浸泡", "轻轻搓洗"]}, count("characters", high=7)],
        "takes 8 characters",
    ),
    (
        "ending too long",
        [{"kind": "ends_with", "any": ["伞还是干的", "伞仍是干的"]}, count("characters", high=4)],
        "takes 5 characters",
    ),
    (
        "sentences too many",
        [count("sentences", 5), count("characters", high=8)],
        "takes 9 characters",
    ),
    ("all and none", [contains(all=["雨伞"]), contains(none=["伞"])], "contains.all needs “雨伞”"),
    ("every any", [contains(any=["伞", "雨伞"], none=["伞"])], "contains.any needs"),
    ("case", [contains(all=["KL"]), contains(none=["kl"])], "contains.all needs “KL”"),
    (
        "opening",
        [{"kind": "starts_with", "any": ["通知"]}, contains(none=["通知"])],
        "starts_with needs “通知”",
    ),
    (
        "ending",
        [{"kind": "ends_with", "any": ["完"]}, contains(none=["完"])],
        "ends_with needs “完”",
    ),
    (
        "order",
        [{"kind": "in_order", "parts": ["先", "后"]}, contains(none=["后"])],
        "in_order needs “后”",
    ),
    ("json key", [json(keys={"价格": "number"}), contains(none=["价格"])], "json needs “价格”"),
    (
        "header",
        [{"kind": "table", "columns": ["姓名", "年龄"]}, contains(none=["年龄"])],
        "table needs “年龄”",
    ),
    (
        "forbidden answer",
        [{"kind": "one_of", "options": ["好评"]}, contains(none=["好"])],
        "no option of one_of meets contains",
    ),
    (
        "long options",
        [{"kind": "one_of", "options": ["好评", "差评"]}, count("characters", low=10)],
        "no option of one_of meets characters",
    ),
    (
        "each option fails another check",
        [
            {"kind": "one_of", "options": ["好评", "差评"]},
            contains(none=["好"]),
            {"kind": "starts_with", "any": ["好"]},
        ],
        "no option of one_of meets contains, starts_with",
    ),
    (
        "two answers",
        [{"kind": "one_of", "options": ["是"]}, {"kind": "one_of", "options": ["否"]}],
        "no option of one_of meets one_of",
    ),
    (
        "answer in lines",
        [{"kind": "one_of", "options": ["是"]}, count("paragraphs", low=2)],
        "one_of leaves 1 line",
    ),
    (
        "chinese answer in english",
        [{"kind": "one_of", "options": ["是"]}, {"kind": "language", "is": "en"}],
        "no option of one_of meets language",
    ),
    (
        "languages",
        [{"kind": "language", "is": "zh"}, {"kind": "language", "is": "en"}],
        "zh and en",
    ),
    ("members", [{"kind": "members", "options": ["甲", "乙", "乙"], "count": 3}], "3 of 2 options"),
    (
        "forbidden members",
        [{"kind": "members", "options": ["甲", "乙"], "count": 2}, contains(none=["乙"])],
        "leaves 1",
    ),
    (
        "demanded members",
        [{"kind": "members", "options": ["甲", "乙"], "count": 1}, contains(all=["甲", "乙"])],
        "demand 2 of them",
    ),
    (
        "two member counts",
        [
            {"kind": "members", "options": ["甲", "乙"], "count": 1},
            {"kind": "members", "options": ["乙", "甲"], "count": 2},
        ],
        "1 and 2 of the same",
    ),
    (
        "two openings",
        [{"kind": "starts_with", "any": ["通知"]}, {"kind": "starts_with", "any": ["公告"]}],
        "starts_with wants",
    ),
    (
        "two endings",
        [{"kind": "ends_with", "any": ["完"]}, {"kind": "ends_with", "any": ["终"]}],
        "ends_with wants",
    ),
    ("json and table", [json(), {"kind": "table"}], "table cannot pass beside"),
    (
        "json and answer",
        [json(), {"kind": "one_of", "options": ["是"]}],
        "one_of cannot pass beside",
    ),
    ("json and list", [json(), count("list_items", 2)], "list_items cannot pass beside"),
    ("json opening", [json(), {"kind": "starts_with", "any": ["好的"]}], "json opens with {"),
    (
        "two tables",
        [{"kind": "table", "columns": ["甲"]}, {"kind": "table", "columns": ["乙"]}],
        "two different headers",
    ),
    (
        "two row counts",
        [{"kind": "table", "rows": 1}, {"kind": "table", "rows": 2}],
        "1 and 2 rows",
    ),
    ("json roots", [json(), json(root="array")], "object and array"),
    ("json fences", [json(fence="required"), json(fence="forbidden")], "a fence"),
    (
        "json lengths",
        [json(root="array", length=1), json(root="array", length=2)],
        "1 and 2 elements",
    ),
    ("json types", [json(keys={"a": "string"}), json(keys={"a": "array"})], "array and string"),
    ("json values", [json(values={"a": 1}), json(values={"a": 2})], "to 1 and 2"),
    ("json keys", [json(keys={"a": "string"}), json(keys={"b": "string"})], "refuses further keys"),
    (
        "json refuses its own value",
        [json(keys={"a": "string"}, values={"b": 1})],
        "refuses the key",
    ),
    ("json value of another type", [json(keys={"a": "string"}, values={"a": 1})], "fixes it to 1"),
    (
        "json boolean is no number",
        [json(keys={"a": "number"}, values={"a": True})],
        "fixes it to True",
    ),
    ("json values of an array", [json(root="array", values={"a": 1})], "its root is an array"),
    ("json length of an object", [json(length=2)], "its root is an object"),
]


@pytest.mark.parametrize(
    ("raw", "said"), [c[1:] for c in IMPOSSIBLE], ids=[c[0] for c in IMPOSSIBLE]
)
def test_checks_that_cannot_all_pass_are_named(raw, said):
    assert said in " | ".join(contradictions(checks(*raw)))


POSSIBLE = [
    ([count("characters", 10, 30), count("characters", 30)], "字" * 30),
    ([contains(all=["武汉", "汉口"]), count("characters", high=3)], "武汉口"),
    ([contains(all=["大雨伞店", "雨伞"]), count("characters", high=4)], "大雨伞店"),
    ([contains(all=["machine learning"]), count("characters", high=2)], "machine learning"),
    ([contains(any=["伞", "帽"], none=["伞"])], "帽"),
    ([{"kind": "starts_with", "any": ["通知", "公告"]}, contains(none=["通知"])], "公告：停水"),
    (
        [{"kind": "starts_with", "any": ["通"]}, {"kind": "starts_with", "any": ["通知"]}],
        "通知",
    ),
    ([{"kind": "one_of", "options": ["差评"]}, count("characters", 1, 2)], "差评"),
    ([{"kind": "one_of", "options": ["差评"]}, count("characters", 3)], "“差评”。"),
    ([{"kind": "one_of", "options": ["好评", "差评"]}, contains(none=["好"])], "差评"),
    ([json(keys={"a": "integer"}), json(keys={"a": "number"}, values={"a": 1})], '{"a": 1}'),
    (
        [json(keys={"a": "string"}, only_these_keys=False), json(values={"b": 1})],
        '{"a": "甲", "b": 1}',
    ),
    ([json(fence="required"), {"kind": "starts_with", "any": ["```json"]}], "```json\n{}\n```"),
    ([json(), count("list_items", 0, 0)], "{}"),
    ([count("list_items", 2, style="numbered"), count("paragraphs", high=2)], "1. 甲\n2. 乙"),
    ([count("sentences", 3), count("paragraphs", high=1)], "一。二。三。"),
    ([{"kind": "members", "options": ["甲", "乙"], "count": 1}, contains(all=["甲"])], "甲"),
]


@pytest.mark.parametrize(("raw", "answer"), POSSIBLE, ids=[str(n) for n in range(len(POSSIBLE))])
def test_checks_that_an_answer_passes_together_are_left_alone(raw, answer):
    together = checks(*raw)
    assert all(check_passes(check, answer) for check in together)
    assert contradictions(together) == []


@pytest.mark.parametrize("folder", ["eval_sets/zh-redline-300", "rehearsal_sets/zh-general"])
def test_the_shipped_sets_contradict_nothing(folder):
    items = read_items(shipped_root() / folder / "items.jsonl")
    assert {
        item.id: contradictions(item.checks) for item in items if contradictions(item.checks)
    } == {}
