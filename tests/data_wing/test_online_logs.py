"""Online logs: every rule keeps one row and drops another, every kind of personal data is replaced and its lookalike left."""

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.online_logs import keep_good, read_logs
from guardrail.data.rows import read_data_rows
from guardrail.data.scrub_online import scrub_online
from guardrail.errors import InputError
from guardrail.sets.items import Item, Message, read_items, write_items

GOOD = {
    "query": "逾期三天会影响征信吗",
    "answer": "是否上报以银行规定为准，先把欠款还清最稳妥。",
    "thumbs": "up",
}


def _write(path, *lines):
    path.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )
    return path


def _kept(tmp_path, *lines):
    return keep_good(read_logs([_write(tmp_path / "log.jsonl", *lines)]))


@pytest.mark.parametrize(
    ("bad", "good", "reason"),
    [
        (
            {"thumbs": "down"},
            {"thumbs": "down", "correction": "还清以后要三到五个工作日才更新。"},
            "thumbs down without a correction",
        ),
        ({"thumbs": ""}, {"thumbs": "👍"}, "nobody liked or corrected it"),
        ({"answer": "会的。"}, {"answer": "会的，请尽快还清。"}, "answer too short"),
        ({"answer": ""}, {"answer": "", "correction": "请先把欠款还清。"}, "empty answer"),
        (
            {"answer": "我无法回答这个问题，征信的事我不能说。"},
            {"query": "怎么制作炸弹", "answer": "我无法回答这个问题，制作炸弹是犯罪。"},
            "refusal",
        ),
        (
            {"answer": "这是一个很好的问题！先把欠款还清最稳妥。"},
            {"answer": "这是银行的规定，先把欠款还清最稳妥。"},
            "boilerplate opening",
        ),
        ({"answer": "先把欠款还清\ufffd\ufffd最稳妥。"}, {}, "broken text"),
        ({"query": "征信？"}, {"query": "征信会受影响吗？"}, "too short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_rule_drops_one_row_and_keeps_another(tmp_path, bad, good, reason):
    assert _kept(tmp_path, GOOD | bad).dropped[0][0] == reason
    assert len(_kept(tmp_path, GOOD | good).rows) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "好的，已经帮您登记延期，下月三号前还款即可。",
        "抱歉给您添麻烦了，这笔费用会在三天内退回。",
        "非常抱歉，系统昨晚故障，现在已经可以还款。",
        "当然可以，登录以后点分期就能改还款日。",
    ],
)
def test_a_liked_answer_may_open_as_a_service_speaks(tmp_path, answer):
    assert [row.answer for row in _kept(tmp_path, GOOD | {"answer": answer}).rows] == [answer]
    written = GOOD | {"thumbs": "down", "correction": answer}
    assert [row.answer for row in _kept(tmp_path, written).rows] == [answer]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("抱歉，我无法回答这个问题，征信的事我不能说。", "refusal"),
        ("作为AI语言模型，我认为先把欠款还清最稳妥。", "boilerplate opening"),
        ("好的好的。", "answer too short"),
    ],
)
def test_a_liked_answer_that_is_none_goes(tmp_path, answer, reason):
    assert _kept(tmp_path, GOOD | {"answer": answer}).dropped[0][0] == reason


def test_the_lines_of_the_guide_are_read_as_it_says(tmp_path):
    for guide in ("data-wing.md", "data-wing_zh.md"):
        text = (Path(__file__).parents[2] / "docs" / guide).read_text(encoding="utf-8")
        lines = [
            x for x in text.splitlines() if x.startswith("{") and re.search('"(thumbs|rating)"', x)
        ]
        made = _kept(tmp_path, *map(json.loads, lines))
        assert (len(lines), len(made.rows), len(made.preferences)) == (3, 3, 1)


def test_a_correction_takes_the_answers_place_and_makes_a_pair(tmp_path):
    made = _kept(tmp_path, GOOD | {"thumbs": "down", "correction": "还清后以征信中心更新为准。"})
    (row,) = made.rows
    assert row.answer == "还清后以征信中心更新为准。"
    assert row.provenance["corrected"] is True
    assert made.preferences == [
        {
            "prompt": [{"role": "user", "content": GOOD["query"]}],
            "chosen": [{"role": "assistant", "content": row.answer}],
            "rejected": [{"role": "assistant", "content": GOOD["answer"]}],
            "id": row.id,
        }
    ]
    same = _kept(tmp_path, GOOD | {"thumbs": "down", "correction": GOOD["answer"]})
    assert [reason for reason, _ in same.dropped] == ["thumbs down without a correction"]


def test_of_the_same_question_the_corrected_then_the_later_answer_stays(tmp_path):
    first, later = GOOD, GOOD | {"answer": "先还清欠款，再向银行申请更正。"}
    corrected = GOOD | {"thumbs": "down", "correction": "以银行上报为准，还清五天后再查。"}
    near = GOOD | {"query": "逾期三天会影响我征信吗"}
    other = GOOD | {"query": "分期以后每个月几号还款"}
    reason = "same question, a better or later answer is kept"
    for lines, kept, why in (
        ([first, later], later["answer"], reason),
        ([corrected, later], corrected["correction"], reason),
        ([corrected, near], corrected["correction"], "near duplicate"),
    ):
        made = _kept(tmp_path, *lines)
        assert ([row.answer for row in made.rows], [r for r, _ in made.dropped]) == ([kept], [why])
    assert len(_kept(tmp_path, first, other).rows) == 2


@pytest.mark.parametrize(
    ("text", "kinds", "left"),
    [
        ("打 １３８12345678 找我", ["手机号"], "打 1381234567 找我"),
        ("证号 11010519491231002X", ["身份证号"], "证号 110105194912310021"),
        ("卡 6222021234567890128", ["银行卡号"], "卡 6222021234567890129"),
        ("写信到 lao.zhou@mail.example.com", ["邮箱"], "写信到 lao.zhou 就行"),
        ("座机 010-12345678", ["座机号"], "日期 2010-12345"),
        ("京A·12345 和粤BD12345", ["车牌号", "车牌号"], "京东A12345 号订单"),
        ("微信号：abc_12345", ["微信号"], "微信支付 abc 就行"),
        ("加我QQ 12345678", ["QQ号"], "QQ 等级 64"),
        ("登录 192.168.3.7", ["IP地址"], "版本 300.1.1.1 和 12:30:45"),
        ("本机 fe80::1ff:fe23:4567:890a", ["IP地址"], "比分 12:30:45"),
        ("点 https://a.example/x?sid=9&t=1 登录", ["链接参数"], "点 https://a.example/x 登录"),
        ("我住在北京市朝阳区建国路88号", ["地址"], "住在一起的朋友"),
        ("收货地址：水岸新村三幢", ["地址"], "这个地址不对怎么办"),
        ("姓名：欧阳娜娜，请查", ["姓名"], "姓名写错了怎么改"),
        ("我叫王小明，来还款", ["姓名"], "我叫了一辆车"),
        ("我是李强。", ["姓名"], "我是高兴的。"),
        ("周先生，您方便吗", ["姓名"], "先生，您方便吗"),
        ("密码：hunter2 登不上", ["密码"], "密码：请在设置里重置"),
        ("口令是abc@2024，帮我改", ["密码"], "口令是 6-16 位字母和数字"),
    ],
)
def test_personal_data_is_replaced_by_its_kind_and_its_lookalike_left(text, kinds, left):
    scrubbed, found = scrub_online(text)
    assert sorted(found.elements()) == sorted(kinds)
    assert scrubbed.count("〔") == len(kinds)
    assert scrub_online(left) == (left, {})
    assert scrub_online(scrubbed) == (scrubbed, {})


def test_names_that_the_log_marks_go_wherever_they_stand(tmp_path):
    line = GOOD | {
        "names": "司徒婉儿、阿猛",
        "query": "阿猛替司徒婉儿问，逾期三天会影响征信吗",
        "correction": "司徒婉儿的征信以银行上报为准。",
    }
    (row,) = read_logs([_write(tmp_path / "log.jsonl", line)])
    assert row.question == "〔姓名〕替〔姓名〕问，逾期三天会影响征信吗"
    assert row.answer == "〔姓名〕的征信以银行上报为准。"
    assert row.provenance["scrubbed"] == {"姓名": 3}
    assert "婉儿" not in json.dumps(row.as_dict(), ensure_ascii=False)


@pytest.mark.parametrize(
    "names",
    ["司徒婉儿,阿猛", "司徒婉儿; 阿猛", "司徒婉儿 阿猛", "司徒婉儿/阿猛", ["司徒婉儿，阿猛"]],
)
def test_names_are_told_apart_however_they_are_listed(tmp_path, names):
    line = GOOD | {"names": names, "query": "阿猛替司徒婉儿问，逾期三天会影响征信吗"}
    (row,) = read_logs([_write(tmp_path / "log.jsonl", line)])
    assert row.question == "〔姓名〕替〔姓名〕问，逾期三天会影响征信吗"


def test_tables_and_chats_of_several_turns_are_read(tmp_path):
    with (tmp_path / "log.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["query", "answer", "评分", "改写", "user_id"])
        table.writerow([GOOD["query"], GOOD["answer"], "5", "", "u-77"])
        table.writerow(["分期以后几号还款", "每月。", "1", "每月8日自动扣款。", "u-78"])
    rows = read_logs([tmp_path / "log.csv"])
    assert [(row.provenance["thumbs"], row.provenance["corrected"]) for row in rows] == [
        ("up", False),
        ("down", True),
    ]
    assert "u-7" not in json.dumps([row.as_dict() for row in rows])
    turns = [
        {"role": "user", "content": "喂，哪位？"},
        {"role": "assistant", "content": "我是青穗贷专员。"},
        {"role": "user", "content": "那我下周还可以吗？"},
        {"role": "assistant", "content": "可以，15日前还清就行。"},
    ]
    log = _write(tmp_path / "chat.jsonl", {"messages": turns, "thumbs": 1, "arm": "B"})
    (row,) = read_logs([log])
    assert row.messages == tuple(turns)
    assert row.provenance["arm"] == "B"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (GOOD | {"thumbs": "meh"}, "neither up nor down"),
        ({"query": "问", "answer": "答", "rating": 9}, "no number from 1 to 5"),
        ({"answer": "答", "thumbs": "up"}, "no question|fit no known format"),
    ],
)
def test_a_line_that_is_no_interaction_is_named(tmp_path, line, fault):
    with pytest.raises(InputError, match=fault):
        read_logs([_write(tmp_path / "log.jsonl", GOOD, line)])


def test_an_error_names_the_line(tmp_path):
    odd = GOOD | {"messages": [{"role": "wizard", "content": "变"}]}
    for line in ({"thumbs": "up"}, odd):
        with pytest.raises(InputError, match=r"log\.jsonl.*2"):
            read_logs([_write(tmp_path / "log.jsonl", GOOD, line)])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD | {"query": "这张账单对吗", "images": ["bill.png"]}, "image, sound or video"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "b"}}]},
                    {"role": "assistant", "content": "账单没有问题，请按时还款。"},
                ],
                "thumbs": "up",
            },
            "image, sound or video",
        ),
        (
            GOOD | {"query": "查一下余额", "tool_calls": [{"function": {"name": "balance"}}]},
            "tool calls",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "我手机13812345678"},
                    {"role": "user", "content": "能分期吗"},
                    {"role": "assistant", "content": "可以分期，请在App里申请。"},
                ],
                "thumbs": "up",
            },
            "turn order",
        ),
        (
            {
                "messages": [{"role": "assistant", "content": "您好，请问要分期吗，今天有优惠。"}],
                "thumbs": "up",
            },
            "turn order",
        ),
    ],
)
def test_what_is_no_conversation_in_text_is_dropped_with_its_reason(tmp_path, line, reason):
    log = _write(tmp_path / "log.jsonl", line, GOOD)
    done = CliRunner().invoke(
        app, ["data", "logs", str(log), "--out", str(tmp_path / "out"), "--json"]
    )
    assert done.exit_code == 0, done.output
    funnel = json.loads(done.stdout)["funnel"]
    assert (funnel["lost"], funnel["kept"]) == ({reason: 1}, 1)
    assert "13812345678" not in (tmp_path / "out/dropped.jsonl").read_text("utf-8")


def test_the_command_writes_rows_without_personal_data_or_judged_items(tmp_path):
    judged = "请说明红烧肉从选肉到收汁的全部步骤，每步不超过十五个字"
    question = (Message(role="user", content=judged),)
    write_items(
        tmp_path / "judged.jsonl",
        [Item(id="j", ability="writing", source="own", licence="CC0-1.0", messages=question)],
    )
    bad = GOOD | {"query": "再出一道难的题目", "correction": f"好的，题目：{judged}"}
    mine = GOOD | {"query": "我手机13812345678能改吗", "answer": "可以，在App里点“修改手机号”。"}
    log = _write(tmp_path / "log.jsonl", GOOD, bad, mine, GOOD | {"query": judged})
    line = ["data", "logs", log, "--judged", tmp_path / "judged.jsonl", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, [*map(str, line), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["funnel"]["kept"] == 2
    assert facts["withheld"]["rows read"] == 2
    assert facts["scrubbed"] == {"手机号": 1}
    assert facts["kept_by_feedback"] == {"thumbs up": 2}
    files = "".join(path.read_text("utf-8") for path in (tmp_path / "out").iterdir())
    assert "13812345678" not in files
    assert "红烧肉" not in files
    rows = read_data_rows(tmp_path / "out/rows.jsonl")
    assert {row.provenance["method"] for row in rows} == {"online-log"}
    assert len(read_items(tmp_path / "out/items.jsonl")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/" * 5_000,
        "1.2.3.4.5." * 2_000,
        "路1号a" * 20_000,
        "a" * 99_000 + "@ ",
        "password: " * 10_000,
        "basic " * 15_000,
    ],
)
def test_a_long_hostile_text_is_scrubbed_in_time_that_grows_with_it(text):
    scrub_online(text)  # took minutes while a pattern looked ahead to the end from every place


def test_keys_and_passwords_go(tmp_path):
    said = scrub_online("看 https://me:pa55@a.example/x，key 是 sk-abcdefghijklmnop1234")[0]
    assert said == "看 https://***@a.example/x，key 是 ***"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("我的 password: hunter2，谢谢", "我的 password: ***，谢谢"),
        ("api_key = 9f8e7d6c 不行", "api_key = *** 不行"),
        ("用 Bearer Zm9vYmFyMTIz 请求", "用 Bearer *** 请求"),
        ("x" * 1_990 + ". password: hunter2", "x" * 1_990 + ". password: ***"),
        ("password：hunter2，谢谢", "password：〔密码〕，谢谢"),
        ("password: 请在设置里重置", "password: 请在设置里重置"),
        ("A basic understanding of it", "A basic understanding of it"),
    ],
)
def test_what_a_label_says_is_a_secret_goes_and_the_words_around_it_stay(text, left):
    assert scrub_online(text)[0] == left
