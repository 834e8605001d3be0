"""Page one says one pass rate, how long it took in a named zone, and who answered; what is long is folded."""

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from guardrail.report.page.phrases import Phrases
from tests.report.stories import (
    Story,
    finished_ok,
    halted,
    header_of,
    running,
    shown_text,
    told,
)


def with_header(story: Story, **changes: object) -> None:
    ledger = story.run / "ledger.jsonl"
    first, *rest = ledger.read_text(encoding="utf-8").splitlines()
    changed = json.dumps(json.loads(first) | changes, ensure_ascii=False)
    ledger.write_text("\n".join([changed, *rest]) + "\n", encoding="utf-8")


def with_look(story: Story, **changes: object) -> None:
    ledger = story.run / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["kind"] == "look":
            row |= changes
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    ledger.write_text(text, encoding="utf-8")


def test_page_one_has_one_pass_rate_over_all_and_it_is_the_judged_one(tmp_path: Path) -> None:
    page, facts = told(halted, tmp_path).build()
    overall = next(
        s for s in facts["looks"][-1]["streams"] if (s["metric"], s["group"]) == ("passed", "overall")
    )  # fmt: skip
    figures = facts["key_figures"]
    assert (figures["passed_base"], figures["passed_now"]) == (overall["base"], overall["now"])
    header = shown_text(header_of(page))
    said = re.findall(r"总体通过率[^。；]*?([\d.]+)%[^。；]*?([\d.]+)%", header)
    assert len(said) >= 2
    assert len(set(said)) == 1
    assert "平均通过率" not in header


def test_times_are_local_with_their_zone_and_the_duration_ends_with_the_run(tmp_path: Path) -> None:
    story = told(finished_ok, tmp_path)
    ledger = story.run / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    began = datetime(2026, 3, 1, 22, 30, tzinfo=timezone.utc)
    for row in rows:
        row["time"] = began.isoformat()
        if row["kind"] in ("ended", "domain_loss"):
            row["time"] = (began + timedelta(hours=3)).isoformat()
    later = (began + timedelta(days=2)).isoformat()
    decided = {"kind": "decision", "decision": "accept", "by": "w", "note": "n", "time": later}
    rows.append(decided | {"step": 40, "seq": len(rows)})
    ledger.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page, facts = story.build(language="en")
    assert facts["duration_s"] == 3 * 3600
    first, last = began.astimezone(), (began + timedelta(hours=3)).astimezone()
    assert f"{first:%Y-%m-%d %H:%M}–" in shown_text(header_of(page))
    assert f"{last:%H:%M} UTC" in shown_text(header_of(page))
    assert "3.0 h" in shown_text(header_of(page))


def test_a_zone_is_named_by_its_distance_from_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shanghai(datetime):
        def astimezone(self, tz: object = None) -> datetime:
            return datetime.astimezone(self, timezone(timedelta(hours=8)))

    at = Shanghai(2026, 3, 1, 22, 30, tzinfo=timezone.utc)
    assert Phrases("zh").moment(at) == "2026-03-02 06:30 UTC+08:00"
    assert Phrases("zh").span(at, at) == "2026-03-02 06:30–06:30 UTC+08:00"


SERVED = {"version": "0.12", "name": "guard", "root": "/models/tuned/step-20", "parent": ""}


@pytest.mark.parametrize(
    ("engine", "look", "kind", "said"),
    [
        ("in-process", {}, "in_process", "进程内 transformers 5.19，bfloat16，训练中的权重"),
        ("the trainer's vLLM", {}, "rollout", "训练器的 vLLM vllm 0.11"),
        ("a sidecar", {}, "sidecar", "旁路进程"),
        ("a sidecar", {"served": SERVED}, "sidecar", "旁路进程 vllm 0.12，tuned/step-20"),
        ("vllm-server", {"served": SERVED}, "server", "vLLM 服务器 vllm 0.12，tuned/step-20"),
        (None, {}, None, "账本里没有记"),
    ],
)
def test_the_page_says_who_answered_the_looks_in_which_version_and_precision(
    tmp_path: Path, engine: str | None, look: dict, kind: str | None, said: str
) -> None:
    story = told(finished_ok, tmp_path)
    with_header(
        story,
        engine=engine,
        versions={"transformers": "5.19", "vllm": "0.11"},
        precision={
            "weights": "float32", "forwards": "bfloat16", "autocast": True, "tuning": "full"
        },
    )  # fmt: skip
    with_look(story, **look)
    page, facts = story.build()
    assert facts["look_engine"]["kind"] == kind
    assert f"由谁作答 {said} " in shown_text(header_of(page))


def test_a_decision_is_asked_for_only_where_it_can_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "over").mkdir()
    ended, _ = told(halted, tmp_path / "over").build()
    going_on, _ = told(running, tmp_path).build()
    assert "guardrail resolve" in ended
    assert "resolve" not in shown_text(going_on).replace("recipe.resolved", "")


def test_items_hashes_and_words_are_folded(tmp_path: Path) -> None:
    story = told(halted, tmp_path)
    data = tmp_path / "rows.jsonl"
    data.write_text("{}\n")
    for name in ("ledger.jsonl", "recipe.resolved.json"):
        text = (story.run / name).read_text(encoding="utf-8")
        (story.run / name).write_text(text.replace("/data.jsonl", str(data)), encoding="utf-8")
    page, facts = story.build()
    open_parts = re.sub(r"<details(?! open)(?:(?!<details).)*?</details>", "", page, flags=re.S)
    open_parts = re.sub(
        r"<details(?! open)(?:(?!<details).)*?</details>", "", open_parts, flags=re.S
    )
    hashes = [f["sha256"] for f in facts["reproduce"]["files"] if f["sha256"]]
    assert hashes
    assert all(digest in page and digest not in open_parts for digest in hashes)
    assert page.count('<article class="item">') == len(facts["worst_items"]) > 2
    assert open_parts.count('<article class="item">') == 2
    assert "只用来评测、从不参与训练的题目" not in open_parts


@pytest.mark.parametrize(
    ("untested", "said"),
    [
        ((), "这几项单独看，还没有证实越线"),
        (("writing",), "有的题目或模板太少，有的还没有证实越线"),
        (("instruction", "writing", "translation", "reasoning"), "这几项题目或模板太少"),
    ],
)
def test_abilities_that_fell_are_called_untested_only_where_they_were_not_tested(
    tmp_path: Path, untested: tuple[str, ...], said: str
) -> None:
    story = told(halted, tmp_path)
    ledger = story.run / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for stream in row.get("streams", ()) if row["kind"] == "look" else ():
            if stream["group"] == "overall":
                continue
            tested = stream["group"] not in untested
            why = "" if tested else "10 items, 30 are needed"
            level = "ok" if tested else "untested"
            stream |= {"level": level, "tested": tested, "reason": why}
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    ledger.write_text(text, encoding="utf-8")
    page, _ = story.build()
    header = shown_text(header_of(page))
    assert "退化最多的几项能力" in header
    assert said in header


def test_the_abilities_that_fell_are_those_of_what_is_above_ok(tmp_path: Path) -> None:
    """Where the language alone broke over all items, a pass rate that fell unproven is not what is named."""
    story = told(halted, tmp_path)
    ledger = story.run / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for stream in row.get("streams", ()) if row["kind"] == "look" else ():
            broken = (stream["metric"], stream["group"]) == ("language", "overall")
            stream |= {"level": "critical" if broken and row["step"] else "ok", "tested": True}
            if (stream["metric"], stream["group"]) == ("language", "writing"):
                stream |= {"harm": 0.4, "margin": 0.03}
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    ledger.write_text(text, encoding="utf-8")
    page, _ = story.build()
    header = shown_text(header_of(page))
    assert "退化最多的几项能力：写作的语言不纯率 +40.0 个点。" in header
