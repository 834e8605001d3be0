import json
import re
from xml.etree import ElementTree

import pytest
from rich.console import Console

from guardrail.errors import InputError
from guardrail.sets.build.stats import EDGES, render_stats, set_stats, stats_picture
from guardrail.sets.items import Item


def item(ability: str, length: int, **more) -> Item:
    base = {
        "id": f"{ability}-{length}",
        "ability": ability,
        "source": "written for guardrail",
        "licence": "Apache-2.0",
        "messages": [{"role": "user", "content": "字" * length}],
    }
    return Item.model_validate(base | more)


TURNS = [
    {"role": "user", "content": "早"},
    {"role": "assistant", "content": "好"},
    {"role": "user", "content": "走"},
]
ITEMS = [
    item("refusal", 30, expects="refuse"),
    item(
        "instruction",
        10,
        checks=[
            {"kind": "contains", "all": ["字"]},
            {"kind": "contains", "none": ["词"]},
            {"kind": "characters", "at_most": 9},
        ],
    ),
    item("instruction", 19, cluster="c", checks=[{"kind": "characters", "at_most": 9}]),
    item("instruction", 1280, cluster="c", source="coig"),
    item("abacus", 20, messages=TURNS),
]


def test_every_count_is_of_items():
    stats = set_stats(ITEMS)
    assert stats["items"] == 5
    assert list(stats["abilities"]) == ["instruction", "refusal", "abacus"]
    assert stats["abilities"]["refusal"]["refuse"] == 1
    assert stats["checks"] == {"characters": 2, "contains": 1}
    assert list(stats["sources"].items()) == [("written for guardrail", 4), ("coig", 1)]
    assert stats["licences"] == {"Apache-2.0": 5}
    assert stats["expects"] == {"answer": 4, "refuse": 1}
    assert stats["turns"] == {"1": 4, "2": 1}
    assert (stats["clusters"], stats["clustered_items"], stats["without_checks"]) == (1, 2, 3)
    assert json.loads(json.dumps(stats)) == stats


def test_lengths_are_counted_over_all_messages_and_binned_at_the_edges():
    stats = set_stats(ITEMS)
    lengths = stats["abilities"]["instruction"]["characters"]
    assert lengths == {
        "mean": 436.3,
        "median": 19.0,
        "min": 10,
        "max": 1280,
        "histogram": [2, 0, 0, 0, 0, 0, 0, 1],
    }
    assert stats["abilities"]["abacus"]["characters"]["max"] == 3
    assert set_stats([item("format", 20)])["characters"]["histogram"][1] == 1
    assert sum(stats["characters"]["histogram"]) == len(ITEMS)
    assert len(stats["edges"]) == len(EDGES) == len(lengths["histogram"])


def test_no_item_is_an_error():
    with pytest.raises(InputError, match="at least one item"):
        set_stats([])


def test_the_tables_show_names_and_numbers_and_no_markup_of_a_source():
    odd = [*ITEMS, item("writing", 5, source="[red]crawl[/red]")]
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(render_stats(set_stats(odd)))
    text = shown.get()
    for said in (
        "指令遵循 instruction",
        "用词 contains",
        "[red]crawl[/red]",
        "Apache-2.0",
        "436.3",
    ):
        assert said in text


def drawn(stats, title="集"):
    return ElementTree.fromstring(stats_picture(stats, title))


def texts(picture) -> list[str]:
    return [node.text or "" for node in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_is_one_file_that_shows_every_ability_and_check():
    svg = stats_picture(set_stats(ITEMS), "集")
    said = " ".join(texts(ElementTree.fromstring(svg)))
    for expected in (
        "指令遵循 instruction",
        "abacus",
        "字数 characters",
        "19（10–1280）",
        "≥ 1280",
    ):
        assert expected in said
    rows = set_stats(ITEMS)["abilities"].values()
    bins = [n for row in rows for n in row["characters"]["histogram"] if n]
    middles = re.findall(r'text-anchor="middle">(\d+)<', svg)
    assert sorted(map(int, middles)) == sorted(bins)
    links = re.findall(r"https?://[^\"']+|url\(|<script|<image|@import", svg)
    assert links == ["http://www.w3.org/2000/svg"]


def test_the_picture_shows_names_as_text_whatever_they_are():
    odd = [item("writing", 5, source='<script>alert("1")</script>&')]
    picture = drawn(set_stats(odd), "<b>标题</b>\x00\ud800 & 题")
    assert texts(picture)[0] == "<b>标题</b>�� & 题"
    assert "<script>" in " ".join(texts(picture))
    assert {node.tag.rpartition("}")[2] for node in picture.iter()} <= {
        "svg",
        "style",
        "rect",
        "text",
        "path",
    }


def width(text: str, size: float) -> float:
    return sum(size * (1.0 if ord(c) > 0x2000 else 0.56) for c in text)


def test_no_two_texts_of_the_picture_meet_and_none_leaves_it():
    long = [item("a" * 60, 10 ** (n % 4), source="来源" * 60, id=f"x{n}") for n in range(120)]
    many = [*long, *ITEMS, *(item(f"ability_{n}", 40, expects="refuse") for n in range(12))]
    picture = drawn(set_stats(many), "很长的标题" * 40)
    _, _, right, bottom = map(float, picture.attrib["viewBox"].split())
    boxes = []
    for node in picture.iter("{http://www.w3.org/2000/svg}text"):
        size = {"h1": 20.0, "h2": 15.0, "soft": 12.0}.get(node.attrib["class"], 13.0)
        wide = width(node.text or "", size)
        back = {"end": 1.0, "middle": 0.5}.get(node.attrib.get("text-anchor", ""), 0.0)
        x, y = float(node.attrib["x"]) - back * wide, float(node.attrib["y"])
        boxes.append((x, y - 0.8 * size, x + wide, y + 0.15 * size, node.text))
    assert all(b[0] >= 0 and b[2] <= right and b[1] >= 0 and b[3] <= bottom for b in boxes)
    for n, one in enumerate(boxes):
        for other in boxes[n + 1 :]:
            apart = (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
            assert apart, (one, other)


def test_a_set_without_checks_has_a_picture():
    assert "没有 none" in texts(drawn(set_stats([item("refusal", 9, expects="refuse")])))
