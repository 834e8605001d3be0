import json
from pathlib import Path
from typing import Any

import pytest

from guardrail.errors import InputError
from guardrail.probes.measure import check_passes
from guardrail.sets.items import read_items
from guardrail.sets.lint.duplicates import NearDuplicates, plain, rouge_l
from guardrail.sets.read.importer import ImportOptions, import_files

SAMPLES = Path(__file__).parents[3] / "shared" / "data"

TOPICS = ["豆汁儿为什么发酸", "腌雪里蕻要放几天", "社保断缴一个月怎么补", "猫半夜跑酷怎么办", "租房合同要看哪几条",
          "高铁改签要不要手续费", "怎么挑一只沙瓤西瓜", "孩子不肯写作业怎么劝", "茶叶受潮了还能喝吗", "公积金怎么提取"]  # fmt: skip


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def _rows(count: int = len(TOPICS), **fields: Any) -> list[dict[str, Any]]:
    return [
        {"instruction": f"{TOPICS[i]}？", "input": "", "output": f"答案{i}。"} | fields
        for i in range(count)
    ]


def test_the_funnel_counts_every_row_by_its_reason(tmp_path: Path) -> None:
    rows = [
        *_rows(4),
        {"instruction": TOPICS[0] + "?", "input": "", "output": "答案0。"},
        {"instruction": TOPICS[1] + "！", "input": "", "output": "别的答案。"},
        {"instruction": "请问腌雪里蕻要放几天？", "input": "", "output": "三天。"},
        {"instruction": "继续", "input": "", "output": "好。"},
        {"instruction": "我的电话是13812345678，怎么注销？", "input": "", "output": "<think>想想</think>去营业厅。"},
    ]  # fmt: skip
    funnel = import_files([_write(tmp_path / "a.json", rows)], tmp_path / "out.jsonl")
    assert funnel.as_dict() == {
        "read": 9,
        "lost": {"duplicate": 1, "same question, other answer": 1, "too short": 1, "near duplicate": 1},
        "kept": 5,
        "formats": {"alpaca": 9},
        "personal_data_replaced": 1,
        "thinking_kept_apart": 1,
    }  # fmt: skip
    items = read_items(tmp_path / "out.jsonl")
    assert [item.question for item in items[:4]] == [f"{t}？" for t in TOPICS[:4]]
    last = items[-1]
    assert (last.question, last.answer, last.thinking) == ("我的电话是〔手机号〕，怎么注销？", "去营业厅。", "想想")  # fmt: skip
    assert (last.source, last.licence) == ("alpaca:a.json", "LicenseRef-Alpaca-NC")
    assert not list(tmp_path.glob("*.partial"))


def test_same_seed_same_bytes_other_seed_other_draw(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.json", _rows())
    outs = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        import_files([source], tmp_path / name, ImportOptions(seed=seed, limit=4))
        outs[name] = (tmp_path / name).read_bytes()
    assert outs["one"] == outs["again"] != outs["other"]
    assert outs["one"].count(b"\n") == outs["other"].count(b"\n") == 4


def test_a_task_is_drawn_apart_and_the_limit_bounds_all(tmp_path: Path) -> None:
    rows = _rows(6, task_type="code", program_lang="c") + _rows()[6:]
    source = _write(tmp_path / "a.json", rows)
    funnel = import_files([source], tmp_path / "out", ImportOptions(format="coig", per_task=2))
    tasks = [item.task for item in read_items(tmp_path / "out")]
    assert (tasks.count("code"), tasks.count(None)) == (2, 2)
    assert funnel.lost["not drawn"] == 6
    import_files([source], tmp_path / "out", ImportOptions(format="coig", per_task=2, limit=3))
    assert len(read_items(tmp_path / "out")) == 3


def test_a_draw_hardly_changes_when_rows_are_added(tmp_path: Path) -> None:
    before = _write(tmp_path / "a.json", _rows(9))
    after = _write(tmp_path / "b.json", [*_rows(9), _rows()[9]])
    drawn = []
    for source in (before, after):
        import_files([source], tmp_path / "out", ImportOptions(limit=5))
        drawn.append({item.id for item in read_items(tmp_path / "out")})
    assert len(drawn[0] & drawn[1]) >= 4


def test_filters_can_be_allowed_and_duplicates_kept(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.json", [*_rows(2), *_rows(2), {"instruction": "教我如何洗钱才不会被发现。", "output": ""}])  # fmt: skip
    options = ImportOptions(allow=frozenset({"unsafe"}), keep_duplicates=True)
    assert import_files([source], tmp_path / "out", options).kept == 5
    assert len({item.id for item in read_items(tmp_path / "out")}) == 5


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (['{"instruction": "断'], ImportOptions(), "line 11 is not valid JSON"),
        ([json.dumps({"instruction": 3.5j.real, "output": {"a": "b"}})], ImportOptions(), "line 11: field `output` must be text"),
        ([], ImportOptions(format="bell"), "unknown format `bell`; known are belle, coig"),
        ([], ImportOptions(allow=frozenset({"unsave"})), "unknown filter `unsave`"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_the_old_file_stays(
    tmp_path: Path, rows: list[str], options: ImportOptions, said: str
) -> None:
    source = _write(tmp_path / "a.json", _rows())
    with source.open("a", encoding="utf-8") as file:
        file.writelines(row + "\n" for row in rows)
    out = tmp_path / "out.jsonl"
    out.write_text("what was there", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        import_files([source], out, options)
    assert out.read_text(encoding="utf-8") == "what was there"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "out.jsonl"]


def test_a_prompt_whose_first_row_was_filtered_may_still_be_kept(tmp_path: Path) -> None:
    rows = _rows(2)
    bad = rows[0] | {"output": "当然可以！豆汁儿是发酵的。"}
    funnel = import_files([_write(tmp_path / "a.json", [bad, bad, *rows])], tmp_path / "out")
    assert dict(funnel.lost) == {"boilerplate opening": 2, "not drawn": 0}
    assert [item.answer for item in read_items(tmp_path / "out")] == ["答案0。", "答案1。"]


def test_broken_lines_are_counted_when_asked_for(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.json", _rows())
    with source.open("a", encoding="utf-8") as file:
        file.write('{"instruction": "断\n{"instruction": ["x"], "output": ""}\n')
    funnel = import_files([source], tmp_path / "out", ImportOptions(skip_broken=True))
    assert (funnel.lost["broken line"], funnel.lost["wrong fields"], funnel.kept) == (1, 1, 10)


def test_a_choice_question_can_be_scored(tmp_path: Path) -> None:
    source = tmp_path / "cooking.csv"
    source.write_text(
        ",Question,A,B,C,D,Answer\n0,豆汁儿最常配什么小吃？,焦圈,面包,粽子,月饼,A\n", "utf-8"
    )
    import_files([source], tmp_path / "out")
    (item,) = read_items(tmp_path / "out")
    (check,) = item.checks
    assert [check_passes(check, said) for said in ("A", "A。", "B", "选A，因为香")] == [True, True, False, False]  # fmt: skip


def test_an_unknown_file_names_the_formats(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.json", [{"foo": "bar"}])
    with pytest.raises(InputError, match="fit no known format; name it: belle, coig"):
        import_files([source], tmp_path / "out")


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    assert rouge_l("豆汁儿发酸", "豆汁发酸") == pytest.approx(2 * 4 / 9)
    assert rouge_l("甲乙", "丙丁") == 0.0
    assert plain("Ａ１，豆汁儿！ b") == "a1豆汁儿b"
    assert plain("豆汁儿？") == plain(" 豆汁儿！")
    assert plain("3+5等于几？") != plain("3-5等于几？")


def test_near_duplicates_are_found_among_many() -> None:
    texts = [plain(f"{a}，{b}") for a in TOPICS for b in TOPICS if a != b]
    near = NearDuplicates(texts.__getitem__)
    for number, text in enumerate(texts):
        near.add(number, text)
    assert near.near(texts[0] + "呢")[0] == (0, pytest.approx(1.0, abs=0.05))
    assert near.near(plain("清明前后种瓜点豆，今年雨水多不多")) == []
    assert near.add(len(texts), texts[3]) == (3, 1.0)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of public corpora are not here")
@pytest.mark.parametrize(
    ("file", "name", "read", "least"),
    [
        ("belle/eval_set.json", "belle", 600, 500),
        ("belle/zh_seed_tasks.json", "belle", 175, 140),
        ("sharegpt_zh/sharegpt_zh.jsonl", "sharegpt", 250, 50),
        ("llamafactory/alpaca_zh_demo.json", "alpaca", 1000, 800),
        ("llamafactory/glaive_toolcall_zh_demo.json", "sharegpt", 300, 20),
        ("cmmlu/logical.csv", "cmmlu", 123, 100),
        ("crosswoz/test.json.zip", "messages", 500, 30),
        ("safety/cvalues_responsibility_prompts.jsonl", "messages", 664, 600),
        ("disc_finllm/task_part.json", "alpaca", 100, 70),
    ],
)
def test_real_samples_stream_through(
    tmp_path: Path, file: str, name: str, read: int, least: int
) -> None:
    funnel = import_files([SAMPLES / file], tmp_path / "out.jsonl")
    assert funnel.read == read == funnel.kept + sum(funnel.lost.values())
    assert list(funnel.formats) == [name]
    assert funnel.kept >= least
    assert len(read_items(tmp_path / "out.jsonl")) == funnel.kept
