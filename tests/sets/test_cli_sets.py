"""The commands as a user types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.sets.items import read_items

RED = "shipped:eval_sets/zh-redline-300/items.jsonl"
REHEARSAL = "shipped:rehearsal_sets/zh-general/items.jsonl"
QUESTIONS = [
    "豆汁儿为什么发酸，北京人怎么喝它？",
    "腌雪里蕻要放几天才没有亚硝酸盐？",
    "猫半夜跑酷，怎么让它安静？",
]


def call(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["sets", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output if code == 2 else done.stdout


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "mine.json"
    rows = [{"instruction": q, "input": "", "output": "答。"} for q in QUESTIONS]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def test_import_with_and_without_a_format(corpus, tmp_path):
    recognised = json.loads(call("import", corpus, "--out", tmp_path / "a.jsonl", "--json"))
    assert (recognised["read"], recognised["kept"]) == (3, 3)
    assert recognised["formats"] == {"alpaca": 3}
    named = json.loads(call("import", "belle", corpus, "--out", tmp_path / "b.jsonl", "--json"))
    assert named["formats"] == {"belle": 3}
    assert [i.source for i in read_items(tmp_path / "b.jsonl")] == ["belle:mine.json"] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["belle"], "no file given after the format `belle`"),
        (["absent.json"], "`absent.json` does not exist"),
        (["{corpus}", "--allow", "nothing"], "unknown filter `nothing`"),
    ],
)
def test_a_wrong_call_is_one_clear_message(corpus, tmp_path, words, said):
    words = [w.format(corpus=corpus) for w in words]
    output = " ".join(call("import", *words, "--out", tmp_path / "x.jsonl", code=2).split())
    assert said in output
    assert not (tmp_path / "x.jsonl").exists()


def test_compose_writes_both_sets_and_says_what_is_missing(corpus, tmp_path):
    call("import", "belle", corpus, "--out", tmp_path / "pool.jsonl")
    facts = json.loads(
        call("compose", tmp_path / "pool.jsonl", "--red-line", "303", "--rehearsal", "400",
             "--training-rows", "50000", "--out", tmp_path / "sets", "--json")
    )  # fmt: skip
    red = read_items(tmp_path / "sets/red-line.jsonl")
    assert len(red) == facts["red_line"]["items"]
    assert facts["red_line"]["missing"]
    assert facts["passes_per_prompt"] == pytest.approx(
        50_000 * 0.03 / 0.97 / facts["rehearsal"]["items"], abs=0.01
    )
    assert len(read_items(tmp_path / "sets/rehearsal.jsonl")) == facts["rehearsal"]["items"]


def test_what_is_drawn_can_be_linted_and_is_clean(tmp_path):
    facts = json.loads(call("draw", RED, "--count", "60", "--out", tmp_path, "--json"))
    assert (facts["drawn"], facts["judged"], facts["rehearsal"]) == (60, 240, 460)
    found = json.loads(
        call("lint", tmp_path / "red-line.jsonl", "--rehearsal", tmp_path / "rehearsal.jsonl", "--json")
    )  # fmt: skip
    assert found["findings"] == []


@pytest.mark.parametrize(
    ("name", "allow"),
    [
        (("zh-redline-300", "zh-general"), []),
        # Made from templates, which the two sets share by design: counted, not forbidden.
        (
            ("toy-redline-300", "toy-general"),
            ["--allow", "leakage", "--allow", "near-duplicate"],
        ),
    ],
)
def test_everything_shipped_is_clean(name, allow):
    red, rehearsal = name
    out = call(
        "lint", f"shipped:eval_sets/{red}/items.jsonl", "--rehearsal",
        f"shipped:rehearsal_sets/{rehearsal}/items.jsonl", *allow, "--json",
    )  # fmt: skip
    assert json.loads(out)["errors"] == 0


def test_lint_finds_judged_prompts_in_the_training_data_and_exits_1(tmp_path):
    item = read_items(Path(__file__).parents[2] / "eval_sets/zh-redline-300/items.jsonl")[0]
    training = tmp_path / "train.jsonl"
    rows = [{"messages": [{"role": "user", "content": q}]} for q in (*QUESTIONS, item.question)]
    training.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    found = json.loads(call("lint", RED, "--training", training, "--json", code=1))
    assert found["training_rows"] == 4
    assert [(f["rule"], f["subject"]) for f in found["findings"]] == [("training-overlap", item.id)]
    call("lint", RED, "--training", training, "--allow", f"training-overlap:{item.id}")


def test_lint_finds_benchmark_questions_in_the_training_data(tmp_path):
    question = "下列关于豆汁儿发酵过程的说法中，与实验室观察结果不相符合的一项是"
    benchmark = tmp_path / "cooking.csv"
    benchmark.write_text(f",Question,A,B,C,D,Answer\n0,{question},甲,乙,丙,丁,A\n", "utf-8")
    training = tmp_path / "train.jsonl"
    training.write_text(json.dumps({"query": f"请作答：{question}", "response": "A"}) + "\n")
    found = json.loads(
        call("lint", RED, "--training", training, "--benchmark", benchmark, "--json", code=1)
    )
    assert [f["subject"] for f in found["findings"]] == ["cooking-1"]


def test_stats_and_export(tmp_path):
    stats = json.loads(call("stats", RED, "--picture", tmp_path / "s.svg", "--json"))
    assert stats["items"] == 300
    assert (tmp_path / "s.svg").read_text("utf-8").startswith("<svg")
    call("export", REHEARSAL, "--to", "xlsx", "--out", tmp_path / "new/review.xlsx")
    assert (tmp_path / "new/review.xlsx").stat().st_size > 10_000
