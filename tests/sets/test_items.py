import json

import pytest

from guardrail.errors import InputError
from guardrail.sets.items import Item, items_sha256, read_items, write_items

GOOD = {
    "id": "a-1",
    "ability": "format",
    "source": "test",
    "licence": "Apache-2.0",
    "messages": [{"role": "user", "content": "用JSON输出。"}],
    "checks": [{"kind": "json", "keys": {"a": "string"}}, {"kind": "language", "is": "zh"}],
}


def write(tmp_path, *lines: str | bytes):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return path


def line(**changes) -> str:
    return json.dumps(GOOD | changes, ensure_ascii=False)


def test_items_survive_a_round_trip(tmp_path):
    items = read_items(write(tmp_path, line(), "", line(id="a-2", expects="refuse")))
    write_items(tmp_path / "copy.jsonl", items)
    copied = read_items(tmp_path / "copy.jsonl")
    assert copied == items
    assert items_sha256(copied) == items_sha256(items)
    assert items_sha256(items[:1]) != items_sha256(items)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"id": "a-1", ', r"line 2 is not valid JSON"),
        (line(ability="Format!"), r"line 2, field `ability`"),
        (line(question="?"), r"line 2, field `question`"),
        (line(messages=[]), r"line 2, field `messages`"),
        (
            line(messages=[{"role": "assistant", "content": "好"}]),
            r"the last message must be the user's",
        ),
        (line(checks=[{"kind": "characters"}]), r"`at_least`, `at_most` or both"),
        (line(checks=[{"kind": "rhymes"}]), r"line 2, field `checks.0`"),
        ('"text"', r"line 2"),
        (line(id="a-0"), r"id `a-0` was already used on line 1"),
        ("请写通知".encode("gb18030"), r"line 2 is not UTF-8"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_field(tmp_path, bad, said):
    path = write(tmp_path, line(id="a-0"), bad)
    with pytest.raises(InputError, match=said) as caught:
        read_items(path)
    assert "items.jsonl" in str(caught.value)


def test_the_bare_name_of_a_shipped_set_is_answered_with_how_it_is_written(tmp_path):
    with pytest.raises(InputError, match=r"`shipped:eval_sets/zh-easy-200/items\.jsonl`"):
        read_items(tmp_path / "zh-easy-200")


def test_empty_and_missing_sets_are_errors(tmp_path):
    with pytest.raises(InputError, match="is empty"):
        read_items(write(tmp_path, "", "  "))
    with pytest.raises(InputError, match="does not exist"):
        read_items(tmp_path / "absent.jsonl")


def test_the_question_is_the_last_user_message():
    messages = [
        {"role": "system", "content": "简短。"},
        {"role": "user", "content": "一"},
        {"role": "assistant", "content": "二"},
        {"role": "user", "content": "三"},
    ]
    assert Item.model_validate(GOOD | {"messages": messages}).question == "三"


def test_a_number_without_end_is_named_by_its_line(tmp_path):
    (tmp_path / "items.jsonl").write_text('{"id": ' + "9" * 100_000 + "}")
    with pytest.raises(InputError, match="line 1 is not valid JSON") as caught:
        read_items(tmp_path / "items.jsonl")
    assert len(str(caught.value)) < 600
