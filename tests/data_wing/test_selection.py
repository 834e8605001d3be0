"""Selection: IFD by hand, faults one by one, hard examples, quotas, the command."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.chat_endpoint import ChatEndpoint, Reply
from guardrail.data.judged_scores import density, difficulty, following
from guardrail.data.judged_text import JudgedText
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row, read_data_rows, write_rows
from guardrail.data.select.choose_rows import choose_rows
from guardrail.data.select.hard_examples import find_hard, style_wavers
from guardrail.data.select.ifd import ifd_scores, same_order
from guardrail.data.select.row_faults import drop_faulty, drop_judged
from guardrail.data.select.selection_picture import selection_picture
from guardrail.data.stage_folder import Made
from guardrail.engines.vllm_client import VllmServer
from guardrail.errors import InputError
from guardrail.shipped import shipped_root
from tests.data_wing.scripted_server import ScriptedServer

BASE = shipped_root() / "recipes/toy/base"


@pytest.fixture(scope="module")
def toy():
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(BASE)


def _by_hand(model, tokenizer, row):
    """IFD token by token from the formula: the template as text, one forward each, no code of the project."""

    def mean_loss(prompt_text, answer):
        prompt = tokenizer(prompt_text, add_special_tokens=False)["input_ids"]
        target = tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + target])).logits[0].double()
        told = torch.log_softmax(logits, -1)
        return -sum(told[len(prompt) - 1 + i, t].item() for i, t in enumerate(target)) / len(target)

    with_question = tokenizer.apply_chat_template(
        list(row.messages[:-1]), tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    without_turn = tokenizer.apply_chat_template(
        list(row.messages[:-1]), tokenize=False, add_generation_prompt=False, enable_thinking=False
    )
    opening = with_question[len(without_turn) :]
    return mean_loss(with_question, row.answer) / mean_loss(opening, row.answer)


def test_ifd_is_the_ratio_of_the_paper_under_the_training_template(toy):
    rows = read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")[:12]
    rows.append(made_row("把“早上好”译成英文", "Good morning", method="own"))
    scores = ifd_scores(*toy, rows, thinking=False, max_length=512, pad_id=0, chunk=5)
    for row, score in zip(rows, scores, strict=True):
        assert score.ifd == pytest.approx(_by_hand(*toy, row), abs=1e-5)


def test_a_row_that_the_training_would_cut_has_no_ifd(toy):
    short, long = (
        made_row("你好吗", "我很好", method="own"),
        made_row("你好吗", "我很好" * 60, method="own"),
    )
    scores = ifd_scores(*toy, [short, long], thinking=False, max_length=64, pad_id=0)
    assert [score.truncated for score in scores] == [False, True]


def test_the_same_model_orders_rows_alike_and_two_rows_tell_nothing(toy):
    rows = read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")[:5]
    scores = ifd_scores(*toy, rows, thinking=False, max_length=512, pad_id=0)
    assert same_order(scores, scores) == pytest.approx(1)
    assert math.isnan(same_order(scores[:2], scores[:2]))


GOOD = "先列收入和支出，再看每月能剩多少，剩下的先还利率高的那笔。"
FAULTS = [
    (
        "IFD above 1",
        made_row("怎么安排每月的还款", GOOD, method="own").scored(ifd=1.01),
        made_row("怎么安排每月的还款", GOOD, method="own").scored(ifd=0.99),
    ),
    (
        "answer truncated",
        made_row("怎么安排每月的还款", GOOD, method="own").scored(truncated=1.0),
        made_row("怎么安排每月的还款", GOOD, method="own"),
    ),
    (
        "empty answer",
        made_row("怎么安排每月的还款", "<think>想一想</think>", method="own"),
        made_row("怎么安排每月的还款", "<think>想一想</think>先记账。", method="own"),
    ),
    (
        "boilerplate opening",
        made_row("怎么安排每月的还款", "这是一个很好的问题！" + GOOD, method="own"),
        made_row("怎么安排每月的还款", "问题不大。" + GOOD, method="own"),
    ),
    (
        "unfilled placeholder",
        made_row("给[COMPANY NAME]写一份通知", GOOD, method="own"),
        made_row("给物业公司写一份通知", GOOD, method="own"),
    ),
    (
        "needs image or link",
        made_row("描述一下这张图片里有什么", GOOD, method="own"),
        made_row("描述一下深秋的颐和园", GOOD, method="own"),
    ),
]


@pytest.mark.parametrize(("reason", "dropped", "kept"), FAULTS, ids=[f[0] for f in FAULTS])
def test_each_fault_drops_its_row_and_keeps_its_neighbour(reason, dropped, kept):
    assert [r for r, _ in drop_faulty([dropped]).dropped] == [reason]
    assert drop_faulty([kept]).rows == [kept]


def test_repeats_near_duplicates_and_conflicts():
    rows = [
        made_row("请介绍一下黄河的发源地和流经的省份", "发源于青海。", method="own"),
        made_row("请介绍一下黄河的发源地和流经的省份！", "发源于青海。", method="own"),
        made_row("请介绍一下黄河的发源地和它流经的省份", "在青海发源。", method="own"),
        made_row("一年有几个节气呢", "二十四个。", method="own"),
        made_row("一年有几个节气呢", "十二个。", method="own"),
    ]
    made = drop_faulty(rows)
    assert made.rows == rows[:1]
    assert [r for r, _ in made.dropped] == [
        "duplicate",
        "near duplicate",
        *["same question, other answer"] * 2,
    ]
    assert drop_faulty(rows[3:], frozenset({"same question, other answer"})).rows == rows[3:]
    with pytest.raises(InputError, match="no filter is called"):
        drop_faulty(rows, frozenset({"too dull"}))


def test_text_of_a_judged_item_is_found_in_questions_and_answers():
    judged = {"j1": "请用三句话介绍青藏铁路的起点、终点和沿途风光，不要提到火车"}
    rows = [
        made_row("请用三句话介绍青藏铁路的起点、终点和沿途风光，不要提到火车", "好", method="own"),
        made_row("出一道题", "请用三句话介绍青藏铁路的起点、终点和沿途风光", method="own"),
        made_row("介绍一下青藏铁路", "它从西宁到拉萨。", method="own"),
    ]
    assert drop_judged(Made(rows=rows), JudgedText(judged)).rows == rows[2:]


def _scored(ability, ifd, number):
    return made_row(f"题目{number}", "答", method="own", ability=ability).scored(ifd=ifd)


def test_the_highest_scores_are_kept_under_quotas_and_shortfalls_are_told():
    rows = [_scored("reasoning", 0.9 - n / 100, n) for n in range(5)] + [_scored("writing", 0.5, 9)]
    made = choose_rows(Made(rows=rows), 4, quotas={"reasoning": 2, "format": 3}, per_ability=5)
    assert [row.scores["ifd"] for row in made.rows] == [0.9, 0.89, 0.5]
    assert made.facts["short_of_quota"] == {"format": 3}
    assert {reason for reason, _ in made.dropped} == {"ability's quota is full"}
    assert [row.scores["ifd"] for row in choose_rows(Made(rows=rows), 1).rows] == [0.9]
    with pytest.raises(InputError, match="no score `density`"):
        choose_rows(Made(rows=rows), 1, by="density")


def test_the_picture_is_well_formed_and_hides_no_markup():
    from xml.etree import ElementTree

    made = Made(rows=[_scored("reasoning", 0.9, 1)], dropped=[("<b>&", _scored("writing", 0.2, 2))])
    text = "".join(ElementTree.fromstring(selection_picture(made, "ifd", "一 & 二")).itertext())
    assert "<b>&" in text
    assert "一 & 二" in text


def _judge(script):
    server = ScriptedServer(lambda prompt, body: script(prompt))
    return server, ChatEndpoint(VllmServer(server.url), "scripted")


def test_judged_scores_are_read_off_what_the_judge_writes():
    def script(prompt):
        if "难度" in prompt:
            return "7" if "贷款" in prompt else "很难"
        if "知识点" in prompt:
            return "- 北京是首都\n- 故宫建于明代" if "北京" in prompt else "无。"
        return "做到：三句话\n没做到：不提火车\n- 做到：语气平实"

    server, judge = _judge(script)
    rows = [
        made_row("介绍北京", "北京是首都，故宫建于明代。", method="own"),
        made_row("介绍一下", "总之很好。", method="own"),
    ]
    with server:
        assert difficulty(judge, Prompts(), ["算贷款", "别的"]) == [7.0, None]
        dense, empty = density(judge, Prompts(), rows)
        assert dense == pytest.approx(100 * 2 / 13)
        assert empty == 0.0
        assert following(judge, Prompts(), rows[:1]) == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("answers", "verdicts", "kinds"),
    [
        (["十二", "十二", "十二", "十二"], ["一致"] * 4, ()),
        (["十三", "十三", "十三", "十三"], ["不一致"] * 4, ("wrong",)),
        (["十二", "十三", "十二", "十二"], ["一致", "不一致", "一致", "一致"], ("hesitant",)),
        (
            [
                "等于十二",
                "等于十二",
                "等于十二",
                "因为三乘以四，三个四加起来，所以结果等于十二，没有余数。",
            ],
            ["一致"] * 4,
            ("inconsistent_in_style",),
        ),
    ],
)
def test_hard_examples_of_three_kinds(answers, verdicts, kinds):
    def script(prompt, body):
        if "待查回答" in prompt:
            return verdicts[answers.index(prompt.split("待查回答：\n")[1].split("\n")[0])]
        return answers[body["seed"]]

    with ScriptedServer(script) as server:
        endpoint = ChatEndpoint(VllmServer(server.url), "scripted")
        found = find_hard(
            endpoint, endpoint, Prompts(), [made_row("三乘四等于几", "十二", method="own")]
        )
    assert found[0].kinds == kinds


def test_a_list_beside_prose_is_another_style():
    assert style_wavers("怎么做", ["先洗菜，再切菜", "1. 洗菜\n2. 切菜"])
    assert not style_wavers("怎么做", ["先洗菜，再切菜", "先洗净，再切好"])


def test_rows_come_back_as_they_were_written(tmp_path):
    row = made_row("问", "答案在此", method="own", ability="writing", parents=["x"]).scored(ifd=0.5)
    write_rows(tmp_path / "rows.jsonl", [row])
    assert read_data_rows(tmp_path / "rows.jsonl") == [row]


def test_the_command_chooses_by_ifd_and_leaves_a_funnel(tmp_path):
    rows = read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")[:40]
    write_rows(tmp_path / "in.jsonl", rows)
    arguments = [
        "data",
        "select",
        str(tmp_path / "in.jsonl"),
        "--model",
        str(BASE),
        "--keep",
        "5",
        "--max-length",
        "256",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    kept = read_data_rows(tmp_path / "out/rows.jsonl")
    assert facts["funnel"]["made"] == 40
    assert facts["funnel"]["kept"] == len(kept) <= 5
    assert all(row.scores["ifd"] <= 1 for row in kept)
    assert (tmp_path / "out/selection.svg").is_file()
    lines = (tmp_path / "out/dropped.jsonl").read_text("utf-8").splitlines()
    assert len(lines) + len(kept) == 40


def test_of_two_near_duplicates_the_one_with_the_higher_score_stays(tmp_path):
    plain, harder = (
        made_row(q, a, method="own").scored(density=d)
        for q, a, d in (
            ("请介绍一下黄河的发源地和流经的省份", "青海。", 0.2),
            ("请介绍一下黄河的发源地和流经的各个省份", "青海，九省。", 0.9),
        )
    )
    write_rows(tmp_path / "in.jsonl", [plain, harder])
    arguments = [
        "data",
        "select",
        str(tmp_path / "in.jsonl"),
        "--by",
        "density",
        "--keep",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    done = CliRunner().invoke(app, arguments)
    assert json.loads(done.stdout)["funnel"]["lost"] == {"near duplicate": 1}
    assert [r.question for r in read_data_rows(tmp_path / "out/rows.jsonl")] == [harder.question]


def test_a_reply_that_was_cut_is_not_whole():
    assert Reply("答").whole
    assert not Reply("答", finish_reason="length").whole
    assert not Reply("").whole
    assert isinstance(made_row("问", "答", method="own"), DataRow)
