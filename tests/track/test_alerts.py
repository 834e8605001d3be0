"""What is worth a message, once: rising levels, actions, halts; and how it reaches a service without a secret."""

import re

import pytest

from guardrail.errors import InputError
from guardrail.track.alert_services import (
    URLS_VARIABLE,
    NotDelivered,
    alert_services,
    deliver,
    send_alert,
)
from guardrail.track.alerts import Alert, AlertRule
from tests.track.inbox import Inbox


def stream(level, metric="passed", group="overall", base=0.96, now=0.7):
    return {
        "metric": metric, "group": group, "n": 40, "level": level, "tested": True, "base": base, "now": now
    }  # fmt: skip


def look(step, level, trigger="schedule"):
    streams = [stream("ok")] if level == "ok" else [stream("warn", "format"), stream(level)]
    return {
        "kind": "look", "step": step, "look": step, "level": level, "trigger": trigger, "answers": "looks/1.jsonl",
        "streams": streams,
    }  # fmt: skip


def action(step, kind, carried_out=True):
    return {
        "kind": "action", "step": step, "action": kind, "carried_out": carried_out, "reason": "serious: x",
        "before": {"boost": 1.0, "lr_factor": 1.0}, "after": {"boost": 1.5, "lr_factor": 0.5},
    }  # fmt: skip


def log(step):
    return {"kind": "log", "step": step}


def ended(step, outcome):
    return {"kind": "ended", "step": step, "outcome": outcome}


def fed(records, language="en"):
    rule = AlertRule("first", "/runs/first/report.html", language)
    return [alert for record in records for alert in rule.feed(record)]


def test_a_level_that_rises_is_told_once_and_one_that_stays_or_falls_is_not():
    levels = ["ok", "warn", "warn", "serious", "serious", "warn", "ok", "ok", "warn"]
    records = [r for n, level in enumerate(levels) for r in (look(n, level), log(n))]
    assert [a.title for a in fed(records)] == [
        "first: drift rose to warn at step 1",
        "first: drift rose to serious at step 3",
        "first: drift rose to warn at step 8",
    ]


def test_an_action_and_the_rise_that_led_to_it_are_one_message():
    checkpoint = {
        "kind": "checkpoint",
        "step": 4,
        "level": "ok",
        "path": "checkpoints/checkpoint-4",
    }
    (alert,) = fed([look(4, "ok"), checkpoint, look(8, "serious"), action(8, "cut_lr"), log(8)])
    assert alert.title == "first: drift rose to serious at step 8, learning rate cut"
    assert alert.severity == "warning"
    assert alert.text.splitlines() == [
        "Shown to be beyond the margin: the overall pass rate fell from 96.0% to 70.0%, "
        "format rate over all items fell from 96.0% to 70.0%",
        "KL weight ×1 → ×1.5",
        "Learning rate ×1 → ×0.5",
        "Reason: serious: x",
        "Nobody needs to act now, the guard looks on",
        "Last ok checkpoint: checkpoints/checkpoint-4",
        "Report: /runs/first/report.html",
    ]


def test_an_action_without_a_rise_is_told_and_one_that_only_watch_mode_thought_of_is_not():
    known = [look(4, "serious"), log(4)]
    assert len(fed([*known, look(8, "serious"), action(8, "raise_kl")])) == 2
    assert len(fed([*known, look(8, "serious"), action(8, "raise_kl", carried_out=False)])) == 1
    (alert,) = fed([look(4, "serious"), action(4, "cut_lr", carried_out=False)])
    assert "watch mode, not carried out" in alert.title


def test_a_halt_is_one_message_and_so_is_one_that_no_action_announced():
    halt = [
        look(4, "critical"),
        action(4, "repeat_look"),
        look(4, "critical", "repeat"),
        action(4, "halt"),
    ]
    titles = [(a.title, a.severity) for a in fed([*halt, ended(4, "halted")])]
    assert titles == [
        (
            "first: drift rose to critical at step 4, repeating the look on the same weights",
            "failure",
        ),
        ("first: run halted at step 4", "failure"),
    ]
    failure = {"kind": "error", "step": 4, "error": "OSError: disk full", "then": "halt"}
    (alert,) = fed([failure, ended(4, "halted")])
    assert alert.title == "first: run halted at step 4"
    assert "disk full" in alert.text


def test_a_finished_run_says_nothing_a_crashed_one_and_the_first_failed_look_do():
    assert fed([look(4, "ok"), ended(4, "finished")]) == []
    failure = {"kind": "error", "step": 4, "error": "OSError: disk full", "then": "continue"}
    crash = {"kind": "crashed", "step": 9, "error": "RuntimeError: boom"}
    titles = [a.title for a in fed([failure, failure, crash])]
    assert titles == [
        "first: the look at step 4 failed, training goes on",
        "first: run crashed at step 9",
    ]


def test_messages_are_chinese_english_or_both():
    records = [look(4, "serious"), action(4, "cut_lr")]
    (chinese,) = fed(records, "zh")
    assert chinese.title == "first：第 4 步退化升到“严重”级，已降低学习率"
    assert "最后一个通过评测的检查点：还没有" in chinese.text
    assert "Reason" not in chinese.text
    assert "总体通过率从 96.0% 降到 70.0%" in chinese.text
    assert "现在不需要人工处理" in chinese.text
    (both,) = fed(records, None)
    assert both.text.startswith("first：第 4 步")
    assert "Reason: serious: x" in both.text
    assert "原因：严重：x" in both.text


def test_a_chinese_message_can_be_passed_on_it_holds_no_code_of_the_program():
    halt = [
        look(4, "critical"),
        action(4, "halt") | {"reason": "critical: passed/overall、format/writing"},
    ]
    nothing = look(8, "untested")
    nothing["streams"] = [
        stream("untested") | {"tested": False, "reason": "20 items, 30 are needed"}
    ]
    watched = [
        look(4, "serious"),
        action(4, "cut_lr", False) | {"reason": "serious: passed/overall"},
    ]
    alerts = [*fed(halt, "zh"), *fed([nothing], "zh"), *fed(watched, "zh")]
    assert len(alerts) == 3
    for alert in alerts:
        said = f"{alert.title} {alert.text}".replace("/runs/first/report.html", "")
        assert set(re.findall("[A-Za-z_]+", said)) <= {"first", "KL"}
    assert "请看报告，决定回滚还是接受" in alerts[0].text
    assert "写作的格式正确率" in alerts[0].text
    assert "降低学习率，并提高 KL 权重" in alerts[2].title


def test_a_rise_at_the_last_look_does_not_say_that_nobody_needs_to_act():
    (alert,) = fed([look(4, "serious") | {"final": True}, action(4, "cut_lr")])
    assert "Nobody needs to act" not in alert.text


SECRET = "s3cr3t-token"


def test_services_take_an_alert_and_those_that_do_not_are_named_without_their_address(
    monkeypatch, caplog
):
    caplog.set_level("DEBUG")
    with Inbox() as inbox:
        urls = (inbox.url(SECRET), inbox.url(f"closed/{SECRET}"), f"json://127.0.0.1:9/{SECRET}")
        monkeypatch.setenv(URLS_VARIABLE, " ".join(urls))
        services = alert_services()
        alert = Alert("训练停了", "第 4 步", "failure")
        assert deliver(services, alert) == {"JSON": True, "JSON 2": False, "JSON 3": False}
        assert [(m["title"], m["message"], m["type"]) for m in inbox.got] == [
            ("训练停了", "第 4 步", "failure")
        ]
        with pytest.raises(NotDelivered, match=r"^JSON 2, JSON 3 did not take an alert$"):
            send_alert(services, alert)
    assert SECRET not in caplog.text


def test_an_address_that_is_none_is_named_by_its_place_only(monkeypatch):
    monkeypatch.setenv(URLS_VARIABLE, f"json://localhost/a nonsense://{SECRET}")
    with pytest.raises(InputError, match="address 2 of 2") as refused:
        alert_services()
    assert SECRET not in str(refused.value)


def test_no_variable_is_no_service(monkeypatch):
    monkeypatch.delenv(URLS_VARIABLE, raising=False)
    assert alert_services() == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("feishu://abcdefghij0123456789abcdefghij012345", "Feishu"),
        ("lark://abcdefghij0123456789abcdefghij012345", "Lark (Feishu)"),
        ("dingtalk://0123456789abcdef0123456789abcdef", "DingTalk"),
        ("wecombot://693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa", "WeCom Bot"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "Slack"),
        ("mailto://user:secret@example.com", "E-Mail"),
    ],
)
def test_the_services_people_here_use_are_known(monkeypatch, address, kind):
    monkeypatch.setenv(URLS_VARIABLE, address)
    assert [name for name, _ in alert_services()] == [kind]


HOSTILE = (
    "@all <!channel> <@U123> <at user_id=\"all\">所有人</at> [x](https://evil.example) http://evil.example "
    "www.evil.example evil.com/x a.evil.co.uk 1.2.3.4/x tel:123 mailto:a@evil.example \u3164 `code` *bold*\r\nReport: https://evil.example\n\x1b[31m\x07\u202etxt\u2066\0"
)  # fmt: skip


@pytest.mark.parametrize("language", ["zh", "en", None])
def test_names_and_errors_arrive_as_text_that_does_nothing(language):
    """No mention, link, markup, line or control character of a run's own reaches a service."""
    records = [
        {"kind": "started", "step": 0, "name": HOSTILE},
        {"kind": "checkpoint", "step": 0, "path": HOSTILE, "level": "ok"},
        look(1, "serious") | {"streams": [stream("serious", group=HOSTILE)]},
        action(1, HOSTILE) | {"reason": HOSTILE},
        {"kind": "error", "step": 2, "error": HOSTILE, "then": "continue"},
        look(3, "untested")
        | {"streams": [stream("untested") | {"tested": False, "reason": HOSTILE}]},
        {"kind": "crashed", "step": 3, "error": HOSTILE},
    ]
    rule = AlertRule("first", "/runs/first/report.html", language)
    alerts = [alert for record in records for alert in rule.feed(record)]
    assert len(alerts) == 4
    for alert in alerts:
        said = alert.title + alert.text
        assert "\n" not in alert.title
        assert len(alert.text.splitlines()) <= 15
        assert not set("@<>[]`*\x1b\x07\0\u202e\u2066\r") & set(said)
        assert "://" not in said
        assert not re.search(r"www\.|evil\.co|\.co\.|1\.2|tel:|\u3164", said)
        assert "evil" in said, "the words themselves must be there"
    assert "Report: /runs/first/report.html" in alerts[0].text or language == "zh"
