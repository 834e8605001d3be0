"""Two answers side by side: what is shown of them and what is marked."""

import time

from hypothesis import given
from hypothesis import strategies as st

from guardrail.report.differences import difference, pieces, window

TEXT = st.text(alphabet="公园绿树。\n", max_size=60)


def marked(text: str, ranges) -> list[str]:
    return [text[a:b] for a, b in ranges]


def test_only_what_the_other_side_lacks_is_marked() -> None:
    base, now = "公园里绿树成荫，很安静。", "公园里红花成荫，很热闹。"
    left, right = difference(base, now)
    assert marked(base, left) == ["绿树", "安静"]
    assert marked(now, right) == ["红花", "热闹"]


def test_answers_with_little_in_common_are_not_marked() -> None:
    assert difference("公园里绿树成荫。", "请尽快归还欠款！") == ([], [])


def test_equal_answers_have_no_marks() -> None:
    assert difference("一样", "一样") == ([], [])


def test_single_equal_characters_between_marks_are_no_confetti() -> None:
    base, now = "前面一样的话甲的乙后面一样的话", "前面一样的话丙的丁后面一样的话"
    assert marked(base, difference(base, now)[0]) == ["甲的乙"]


@given(TEXT, TEXT)
def test_pieces_joined_are_the_text_and_marks_cover_every_change(base: str, now: str) -> None:
    for text, ranges in zip((base, now), difference(base, now), strict=True):
        cut = pieces(text, ranges)
        assert "".join(p.text for p in cut) == text
        assert "".join(p.text for p in cut if p.changed) == "".join(marked(text, ranges))
        assert all(a < b for a, b in ranges)


def test_marks_of_both_kinds_may_overlap() -> None:
    cut = pieces("值得注意的是公园", [(2, 7)], [(0, 6, "stock")])
    assert [(p.text, p.changed, p.part) for p in cut] == [
        ("值得", False, "stock"),
        ("注意的是", True, "stock"),
        ("公", True, ""),
        ("园", False, ""),
    ]


def test_long_answers_are_shown_where_they_begin_to_differ() -> None:
    base, now = "同" * 5000 + "甲" * 900, "同" * 5000 + "乙" * 10
    left, right = window(base, now, 600)
    assert left.start == right.start == 4940
    assert left.text == "同" * 60 + "甲" * 540
    assert right.text == "同" * 60 + "乙" * 10
    assert (left.left_out, right.left_out) == (360, 0)


def test_early_differences_are_shown_from_the_beginning() -> None:
    left, right = window("甲" * 700, "乙" * 20, 600)
    assert (left.start, left.left_out, right.text) == (0, 100, "乙" * 20)


def test_a_line_of_a_megabyte_takes_no_time() -> None:
    started = time.perf_counter()
    left, right = window("长" * 1_000_000, "长" * 999_999 + "短", 600)
    difference(left.text, right.text)
    assert time.perf_counter() - started < 1.0
    assert left.start == 999_939
