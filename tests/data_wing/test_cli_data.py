"""The commands end to end against a scripted endpoint: seeds → generated → evolved → selected, killed and gone on."""

import json
import re

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.rows import made_row, read_data_rows, write_rows
from guardrail.sets.items import Item, Message, read_items, write_items
from guardrail.sets.lint.overlap import find_overlaps, training_texts
from tests.data_wing.scripted_server import ScriptedServer

TOPICS = [
    "黄河的源头",
    "复利的算法",
    "端午的来历",
    "空调的除湿",
    "薄荷的浇水",
    "简历的写法",
    "搬家的清单",
    "地铁的换乘",
    "发票的报销",
    "口罩的选法",
    "茶叶的保存",
    "被子的晾晒",
]
JUDGED = "请说明红烧肉从选肉到收汁的全部步骤，每步不超过十五个字"


def _script(prompt, body):
    """Everything a run asks, told by the words of the shipped templates; new tasks differ with the seed."""
    if "再出" in prompt:
        shown = int(re.search(r"提出的 (\d+) 个", prompt)[1])
        start = body["seed"] % 1000 * 3 + body["seed"] // 1000 * 12
        asked = [f"{TOPICS[(start + n) % 12]}，第{start + n}回怎么说才明白" for n in range(3)]
        return "\n".join(f"{shown + 1 + n}. {text}" for n, text in enumerate([*asked, JUDGED]))
    if "分类任务吗：\n\n只写" in prompt:
        return "否"
    if "先写输入，再写输出" in prompt:
        return f"输入：无\n输出：{prompt.rsplit('任务：', 1)[1]}，照规矩办。"
    if "最容易" in prompt:
        return str(1 + len(prompt) % 9)
    if "是不是“一回事”" in prompt:
        return "不同"
    if "给定题目：" in prompt:
        return prompt.split("给定题目：\n")[1] + "，并举一个例子"
    return f"先看{prompt[:4]}，再看其余。"


@pytest.fixture
def seeds(tmp_path):
    rows = [
        made_row(f"{t}是怎样的", "是这样的。", method="own")
        for t in ("月饼", "风筝", "算盘", "灯笼", "剪纸", "皮影")
    ]
    write_rows(tmp_path / "seeds.jsonl", rows)
    item = Item(
        id="j1",
        ability="instruction",
        source="own",
        licence="CC0-1.0",
        messages=(Message(role="user", content=JUDGED),),
    )
    write_items(tmp_path / "judged.jsonl", [item])
    return tmp_path


def _run(*arguments):
    done = CliRunner().invoke(app, ["data", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def _wing(folder, url):
    """The three stages; their facts."""
    common = ("--server", url, "--judged", folder / "judged.jsonl", "--concurrency", "1")
    made = _run(
        "generate",
        "self-instruct",
        folder / "seeds.jsonl",
        "--rows",
        "9",
        "--out",
        folder / "c0",
        *common,
    )
    evolved = _run(
        "generate",
        "evol-instruct",
        folder / "c0/rows.jsonl",
        "--rounds",
        "2",
        "--out",
        folder / "evolved",
        *common,
    )
    chosen = _run(
        "select",
        folder / "evolved/rows.jsonl",
        "--score",
        "complexity",
        "--keep",
        "3",
        "--out",
        folder / "chosen",
        *common,
    )
    return made, evolved, chosen


def test_from_seeds_to_chosen_rows_and_no_judged_item_in_any_output(seeds):
    with ScriptedServer(_script) as server:
        made, evolved, chosen = _wing(seeds, server.url)
    assert made["funnel"]["kept"] >= 6
    assert [f["round"] for f in evolved["rounds"]] == [0, 1, 2]
    assert chosen["funnel"]["kept"] == 3
    assert chosen["costs"]["by_purpose"]["difficulty"]["requests"] > 0
    rows = read_data_rows(seeds / "chosen/rows.jsonl")
    scores = [row.scores["complexity"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    for stage in ("c0", "evolved", "chosen"):
        out = [
            json.loads(line)
            for line in (seeds / stage / "rows.jsonl").read_text("utf-8").splitlines()
        ]
        assert not find_overlaps({"j1": JUDGED}, training_texts(out))
        assert len(read_items(seeds / stage / "items.jsonl")) == len(
            {row["messages"][-2]["content"] for row in out}
        )
    assert made["withheld"]["replies"] >= 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97], ids=["generating", "evolving", "selecting"])
def test_a_wing_killed_anywhere_goes_on_to_the_same_rows(
    seeds, tmp_path_factory, share, monkeypatch
):
    whole = tmp_path_factory.mktemp("whole")
    for name in ("seeds.jsonl", "judged.jsonl"):
        (whole / name).write_bytes((seeds / name).read_bytes())
    with ScriptedServer(_script) as server:
        _wing(whole, server.url)
        in_all = len(server.asked)
    with ScriptedServer(_script) as server, monkeypatch.context() as patch:
        server.dies_after = int(in_all * share)
        patch.setattr("guardrail.engines.vllm_client._TRIES", 1)
        with pytest.raises(AssertionError, match="cannot be used"):
            _wing(seeds, server.url)
        answered = len(server.asked)
    with ScriptedServer(_script) as server:
        _wing(seeds, server.url)
        assert len(server.asked) == in_all - answered
    for stage in ("c0", "evolved", "chosen"):
        assert (seeds / stage / "rows.jsonl").read_bytes() == (
            whole / stage / "rows.jsonl"
        ).read_bytes()


def test_without_an_endpoint_the_next_step_is_said(seeds):
    done = CliRunner().invoke(
        app,
        [
            "data",
            "generate",
            "self-instruct",
            str(seeds / "seeds.jsonl"),
            "--out",
            str(seeds / "o"),
        ],
    )
    assert done.exit_code == 2
    assert "--server" in done.output


def test_templates_are_copied_once(tmp_path):
    assert CliRunner().invoke(app, ["data", "prompts", "--out", str(tmp_path / "p")]).exit_code == 0
    assert len(list((tmp_path / "p").glob("*.zh.md"))) >= 20
    assert CliRunner().invoke(app, ["data", "prompts", "--out", str(tmp_path / "p")]).exit_code == 2


@pytest.mark.parametrize(
    "command",
    [
        "self-instruct",
        "evol-instruct",
        "step-back",
        "grounded",
        "answers",
        "people-and-model",
        "magpie",
        "dialogues",
        "back-translation",
        "data-distillation",
    ],
)
def test_every_generator_has_help_with_an_example(command):
    done = CliRunner().invoke(app, ["data", "generate", command, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output


def test_the_plan_is_whole_in_a_terminal_of_80_columns():
    """Chinese has no spaces for a table to break at."""
    done = CliRunner().invoke(app, ["data", "plan", "--size", "8B"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert "│" in done.output
    assert "…" not in done.output
