"""A stranger's run folder: its page reads nothing but the run, and survives whatever its ledger says."""

import json
import os

import pytest

from guardrail.errors import InputError
from guardrail.live.status import run_status
from guardrail.live.status_terminal import render_status
from guardrail.report.report import render_report
from guardrail.sets.items import items_sha256, read_items
from tests.report.stories import Story, finished_drifted, halted, told


def change(story: Story, kind: str, **fields) -> None:
    """Change the newest record of a kind, or what a function makes of a field."""
    ledger = story.run / "ledger.jsonl"
    records = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    record = [r for r in records if r["kind"] == kind][-1]
    record |= {k: v(record[k]) if callable(v) else v for k, v in fields.items()}
    ledger.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def problems(story: Story) -> list[str]:
    return [p["code"] for p in story.build()[1]["items_problems"]]


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.jsonl"
    path.write_text(
        '{"item": "translation-000", "text": "TOPSECRET"}\nTOPSECRET\n', encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("how", ["absolute", "upwards", "link", "fifo", "zero", "folder"])
def test_answers_outside_of_the_run_are_not_read(tmp_path, secret, how):
    story = told(finished_drifted, tmp_path)
    name = "looks/mine.jsonl"
    if how == "link":
        (story.run / name).symlink_to(secret)
    elif how == "fifo":
        os.mkfifo(story.run / name)
    named = {
        "absolute": str(secret), "upwards": "../secret.jsonl", "zero": "/dev/zero", "folder": "looks"
    }.get(how, name)  # fmt: skip
    change(story, "look", answers=named, answers_sha256=None)
    page, facts = story.build()
    assert [p["code"] for p in facts["items_problems"]] == ["missing"]
    assert "TOPSECRET" not in page + json.dumps(facts)


def test_answers_that_were_changed_since_the_look_are_named(tmp_path):
    story = told(finished_drifted, tmp_path)
    change(story, "look", answers_sha256="0" * 64)
    assert problems(story) == ["rewritten"]


def test_items_elsewhere_are_read_only_if_they_are_those_the_run_began_with(tmp_path, secret):
    story = told(finished_drifted, tmp_path)
    elsewhere = tmp_path / "items.jsonl"
    (story.run / "items.jsonl").rename(elsewhere)

    def sets(path):
        return lambda recipe: recipe | {"sets": {"red_line": str(path), "rehearsal": str(path)}}

    change(story, "started", recipe=sets(elsewhere))
    assert problems(story) == ["red_line"]
    digest = items_sha256(read_items(elsewhere))
    change(story, "started", recipe=sets(elsewhere), red_line_sha256=digest)
    assert problems(story) == []
    change(story, "started", recipe=sets(secret), red_line_sha256=digest)
    page, facts = story.build()
    assert "TOPSECRET" not in page + json.dumps(facts)
    assert facts["items_problems"][0]["code"] == "red_line"


@pytest.mark.parametrize("how", ["fifo", "zero", "folder"])
def test_a_ledger_that_is_no_file_is_said_and_not_waited_for(tmp_path, how):
    path = tmp_path / "ledger.jsonl"
    if how == "fifo":
        os.mkfifo(path)
    elif how == "zero":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=r"cannot be read|holds no ledger\.jsonl"):
        render_report(tmp_path)


def streams(count):
    one = {"n": 0, "level": "ok", "tested": True, "base": 0.5, "now": 0.5}
    return [one | {"metric": "passed", "group": f"g{n}"} for n in range(count)]


CHANGES = {
    "no streams": ("look", {"streams": []}),
    "no items": ("look", {"streams": lambda found: [s | {"n": 0} for s in found]}),
    "infinities": (
        "look",
        {"streams": lambda found: [s | {"harm": 1e308, "se": -1e308} for s in found]},
    ),
    "1900 groups": ("look", {"streams": streams(1900)}),
    "20000 groups": ("look", {"streams": streams(20_000)}),
    "a name of 20 MB": ("started", {"name": "字" * 7_000_000}),
    "a name of 3 MB": ("started", {"name": "x" * 3_000_000}),
    "a group of 2 MB": ("look", {"streams": [{**streams(1)[0], "group": "x" * 2_000_000}]}),
    "an error of 3 MB": ("ended", {"outcome": "crashed", "error": "x" * 3_000_000}),
    "an endless weight": ("started", {"recipe": lambda r: r | {"rehearsal": {"weight": 1e308}}}),
    "a deep recipe": ("started", {"recipe": json.loads('{"a":' * 500 + "1" + "}" * 500)}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_page_survives_what_no_run_says(tmp_path, what):
    story = told(halted, tmp_path)
    kind, fields = CHANGES[what]
    change(story, kind, **fields)
    page, facts = story.build()
    assert len(page) < 5_000_000
    render_status(run_status(story.run))
    said = any(size in what for size in ("20000", "20 MB", "deep"))
    assert bool(facts["damaged_ledger_lines"]) == said, "what is left out is said"
