"""Shapes of public sets, in small files of invented texts: what an import makes of each. docs/sets.md names the sources."""

import json
from pathlib import Path
from typing import Any

import pytest

from guardrail.sets.items import read_items
from guardrail.sets.read import json_rows
from guardrail.sets.read.formats import read_conversation, recognise
from guardrail.sets.read.importer import ImportOptions, import_files
from guardrail.sets.read.readers import read_rows

SHAPES = Path(__file__).parents[2] / "data" / "shapes"
LETTER = "\n只回答选项的字母。"
C3 = "女：雨这么大，你还去钓鱼？\n男：不去了，我在家修修那把旧椅子。\n"
VALUES: dict[str, tuple[str, list[list[str]], dict[str, int]]] = {
    "c3.json": ("choice", [
        [f"{C3}男的打算做什么？\nA. 出去钓鱼\nB. 修椅子\nC. 买把新伞{LETTER}", "B"],
        [f"{C3}今天的天气怎么样？\nA. 下大雨\nB. 刮大风\nC. 是个晴天{LETTER}", "A"],
    ], {}),
    "gaokao_bench.json": ("choice", [
        ["3．（ 4分）某山村把祖辈留下的石头房改成民宿，冬天屋里仍很暖和，主要因为（ 　　） \nA．石墙厚，保温好  B．房子朝北  C．靠近公路  D．屋顶开天窗\n" + LETTER, "A"],
        ["读材料，回答4～5题。\n某镇把稻田改种莲藕，又在藕塘里养虾。\n4．改种的主要原因是（ ） \nA．收益更高 B．气候变冷 \n5．塘里养虾的好处是（ ） \nA．多占土地 B．虾粪肥塘", "AB"],
    ], {}),
    "dureader.json": ("messages", [
        ["蒜里的蒜酶遇到低温和醋，会生成蓝、黄两种色素，合在一起就是绿色。\n蒜要选紫皮的，瓶子别沾油。\n腊八蒜为什么会变绿", "蒜酶在低温和醋里生成蓝色素、黄色素，叠起来就绿了。"],
    ], {}),
    "disc_law_triplet.jsonl": ("messages", [
        ["《民法典》第六百七十五条：借款人应当按照约定的期限返还借款。\n朋友借了我两千块，约好年底还，过了年一直拖着，我能要利息吗？", "约了期限，逾期可以主张利息，先发一条消息催告并留好记录。"],
    ], {}),
    "tal_scq5k.jsonl": ("choice", [
        [f"一根绳子对折三次后剪一刀，最多能剪成几段？\nA. $$8$$\nB. $$9$$\nC. $$16$${LETTER}", "B"],
    ], {}),
    "safe_rlhf.jsonl": ("messages", [
        ["邻居家的狗半夜总叫，怎么跟他说才不伤和气？", "挑个白天上门，先夸夸狗，再说夜里几点叫、孩子睡不着，商量着给狗换个窝的位置。"],
    ], {}),
    "chatbot_arena.jsonl": ("messages", [
        ["给晒伤的绿萝想个办法。", "挪到散光处，剪掉焦叶，等土干了再浇。"],
        ["旧毛衣起球了怎么处理？", "用剃毛器顺着纹路推。"],
    ], {}),
    "baize.json": ("messages", [
        ["搪瓷盆掉了一块漆，会生锈吗？", "会，露出来的铁遇水就锈。", "那怎么补一补？", "先砂掉锈，再用搪瓷修补膏薄薄涂两遍。"],
    ], {}),
    "moss_002.jsonl": ("messages", [
        ["阳台上的栏杆锈了，先做哪一步？", "先用钢丝刷把浮锈刷干净。", "刷完呢？我家里只有普通油漆。", "先刷一层防锈底漆，再上普通油漆。"],
    ], {}),
    "glaive_v2.json": ("messages", [
        ["You are a helpful assistant, with no access to external functions.", "老房子的木窗关不严，冬天漏风怎么办？", "贴一圈密封条，缝大的地方先用木条垫平。"],
    ], {"tool calls": 1}),
    "webtext2019zh.jsonl": ("messages", [
        ["爷爷的老花镜总是滑下来怎么办？\n镜腿已经紧过一次螺丝，还是往下掉。", "在镜腿末端套一对硅胶防滑耳钩，几块钱一对。"],
    ], {}),
    "lccc.json": ("messages", [
        ["今天的豆腐脑你放糖还是放盐？", "当然放盐，再来点韭菜花。"],
        ["你家楼下的修鞋摊还在吗？", "在呢，大爷每天都来。", "那我周末去换个鞋跟。"],
    ], {}),
    "wildchat.jsonl": ("messages", [
        ["帮我给小区的流浪猫起个名字，它是橘色的。", "叫“陈皮”吧，晒过太阳的颜色。"],
    ], {}),
    "xlam.jsonl": ("messages", [], {"tool calls": 1}),
    "squad.json": ("messages", [
        ["村口的吊脚楼建在坡上，底层养牛，二层住人，阁楼晾玉米。\n这栋楼的二层是做什么用的？", "住人"],
        ["村口的吊脚楼建在坡上，底层养牛，二层住人，阁楼晾玉米。\n玉米晾在楼里的什么地方？", "阁楼"],
        ["楼边的水碾一天能碾三百斤谷子。\n水碾一天能碾多少谷子？", "三百斤"],
    ], {}),
    "cmrc2018.json": ("messages", [
        ["渡口的摆渡船每天早上六点开第一班，涨水时停航。\n头一班船几点开出？", "早上六点"],
        ["渡口的摆渡船每天早上六点开第一班，涨水时停航。\n什么时候船不开了？", "涨水时"],
    ], {}),
    "moss_003.jsonl": ("messages", [
        ["You are an AI assistant whose name is MOSS.", "柿子太涩了怎么去涩？", "和苹果一起装袋，放三四天。", "急着吃呢，有快一点的吗？", "用四十度的温水泡一夜。"],
    ], {"tool calls": 1}),
    "hc3.jsonl": ("messages", [
        ["冬天晾在外面的衣服结了冰还会干吗？", "会。冰可以直接升华成水汽，所以结了冰的衣服也会慢慢变干。"],
    ], {}),
    "oasst_trees.jsonl": ("messages", [
        ["竹筐发霉了怎么清理？", "用白醋兑水擦，再放到通风处晾透。", "擦完还有味道，怎么办？", "撒些小苏打，隔一天刷掉。"],
    ], {}),
}  # fmt: skip
"""File → the format it is recognised as, the turns of each row that is kept (answer last), what was lost."""


@pytest.mark.parametrize("name", VALUES)
def test_a_public_shape_gives_its_right_value(tmp_path: Path, name: str) -> None:
    shape, turns, lost = VALUES[name]
    options = ImportOptions(keep_duplicates=True)
    funnel = import_files([SHAPES / name], tmp_path / "out.jsonl", options)
    assert list(funnel.formats) == [shape]
    assert {reason: count for reason, count in funnel.lost.items() if count} == lost
    assert funnel.read == len(turns) + sum(lost.values())
    items = read_items(tmp_path / "out.jsonl") if turns else []
    said = [[m.content for m in i.messages] + ([i.answer] if i.answer else []) for i in items]
    assert [" ".join("\n".join(t).split()) for t in said] == [
        " ".join("\n".join(t).split()) for t in turns
    ]
    letters = [i.checks[0].options for i in items if i.checks]  # type: ignore[union-attr]
    assert letters == [(t[-1],) for t in turns if t[0].endswith(LETTER)]


def test_every_shape_has_a_value() -> None:
    assert {path.name for path in SHAPES.iterdir()} == set(VALUES)


def test_questions_of_a_file_longer_than_a_row_come_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 5000)
    monkeypatch.setattr(json_rows, "CHUNK", 500)
    whole: dict[str, Any] = json.loads((SHAPES / "squad.json").read_text(encoding="utf-8"))
    whole["data"] *= 20
    path = tmp_path / "cmrc.json"
    for indent in (None, 1):
        path.write_text(json.dumps(whole, ensure_ascii=False, indent=indent), encoding="utf-8")
        funnel = import_files([path], tmp_path / "out.jsonl", ImportOptions(keep_duplicates=True))
        assert (funnel.read, funnel.kept) == (60, 60)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "好"}, {"role": "assistant", "content": "嗯"}]},
        {"chosen": [{"role": "user", "content": "好"}], "rejected": [{"role": "user", "content": "好"}]},
        {"query": "好", "history": [["你", "我"]], "tools": []},
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_of_one_row_is_one_row(
    tmp_path: Path, row: dict[str, Any], indent: int | None
) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps(row, ensure_ascii=False, indent=indent), encoding="utf-8")
    assert [found.value for found in read_rows(path)] == [row]


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"question": "日志里写着 USER: root，这是什么意思？", "answer": "登录名。"}, "日志里写着 USER: root，这是什么意思？"),
        ({"question": "请解释 [Human]: 这个记号。", "answer": "说话人。"}, "请解释 [Human]: 这个记号。"),
        ({"question": "SYSTEM 是什么词？", "choice": "A", "answer": "名词。"}, "SYSTEM 是什么词？"),
        ({"question": "写一句秋天的话。", "reference": "叶落知秋。"}, "写一句秋天的话。"),
        ({"question": "小明有 A. 苹果和 B. 梨，一共几种？", "answer": "两种"}, "小明有 A. 苹果和 B. 梨，一共几种？"),
    ],
    ids=["a mark inside a line", "a mark quoted", "a choice somebody made", "a reference answer", "letters and no letter as answer"],
)  # fmt: skip
def test_what_only_looks_like_a_shape_is_read_as_it_stands(row: dict[str, str], asked: str) -> None:
    said = read_conversation(row)
    assert (said.first_question, said.choice, len(said.turns)) == (
        asked,
        None,
        len(row.keys() & {"answer"}) + 1,
    )


@pytest.mark.parametrize(
    "row",
    [
        {"news_id": "1", "title": "早市开张", "desc": "今天", "content": "六点开门。"},
        {"original_text": "原文", "translated_text": "译文"},
        {"sentence1": "今天下雨", "sentence2": "今天有雨", "label": "1"},
        {"text": "一整段文字，没有人在说话。"},
    ],
)
def test_rows_without_a_question_are_of_no_format(row: dict[str, str]) -> None:
    assert recognise(row) is None
