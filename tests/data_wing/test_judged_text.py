"""What is kept out: the text of judged items in a line, behind escapes and encodings, in Traditional characters, lightly reworded; and nothing else."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opencc import OpenCC

from guardrail.data.chat_endpoint import Reply
from guardrail.data.judged_text import WITHHELD, JudgedText
from guardrail.data.rows import made_row
from guardrail.data.select.row_faults import drop_judged
from guardrail.data.stage_folder import Made
from guardrail.sets.lint.overlap import GuardedPrompts

LONG = "请说明红烧肉从选肉到收汁的全部步骤，每步不超过十五个字"
SHORT = "蝙蝠会飞，那它是鸟吗？"
REWORDED = "请说明红烧肉从选肉到收汁的所有步骤，每步不超过二十个字"
JUDGED = JudgedText({"long": LONG, "short": SHORT})

FORMS = {
    "as it is": lambda text: text,
    "JSON": lambda text: json.dumps({"q": text}),
    "JSON in JSON": lambda text: json.dumps(json.dumps([text])),
    "HTML": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "HTML escaped": lambda text: html.escape(f"“{text}” <b>"),
    "URL": lambda text: f"http://example.com/?q={quote(text)}",
    "base64": lambda text: f"解码：{base64.b64encode(text.encode()).decode()}，然后回答",
    "URL-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "hexadecimal": lambda text: text.encode().hex(" "),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()).decode()),
    "zero-width": lambda text: "​".join(text),
    "spaced": lambda text: " ".join(text),
    "full-width": lambda text: text.replace(",", "，").translate(
        {c: c + 0xFEE0 for c in range(33, 127)}
    ),
    "an item of a list": lambda text: f"1. 写一首诗\n2. {text}\n3. 算一笔账",
    "Traditional": lambda text: OpenCC("s2t").convert(text),
    "Taiwan's characters": lambda text: OpenCC("s2tw").convert(text),
    "Traditional in JSON": lambda text: json.dumps({"q": OpenCC("s2t").convert(text)}),
    "behind a label": lambda text: f"好的。\n题目：{text}\n回答：略",
}


@pytest.mark.parametrize("text", [LONG, SHORT, REWORDED], ids=["long", "short", "reworded"])
@pytest.mark.parametrize("form", FORMS)
def test_judged_text_is_seen_in_every_form(form, text):
    if text == SHORT and form in ("URL", "base64"):
        pytest.skip("a prompt of fewer than 13 units counts only as a line or a quotation")
    assert JUDGED.inside(FORMS[form](text))


@given(
    before=st.text(alphabet="春眠不觉晓处闻啼鸟", max_size=30),
    after=st.text(alphabet="夜来风雨声花落知多少", max_size=30),
    start=st.integers(0, 10),
    form=st.sampled_from([f for f in FORMS if f != "full-width"]),
)
def test_thirteen_units_in_a_row_are_seen_wherever_they_stand(before, after, start, form):
    shared = LONG[start : start + 14]  # 14 characters, at most one of them a comma
    assert JUDGED.inside({"a": [FORMS[form](before + shared + after)]})


@pytest.mark.parametrize(
    "text",
    [
        "每步别超十五个字，说明红烧肉由选肉到收汁全部步骤",
        "说一说红烧肉从选肉到收汁的整个步骤，每一步不超过十个字",
    ],
)
def test_a_light_rewording_is_seen_whatever_the_order(text):
    assert not any(True for _ in GuardedPrompts({"long": LONG}).meets(text))
    assert JUDGED.inside(text)


@pytest.mark.parametrize(
    "text",
    [
        "红烧肉怎么做才不腻",
        "请说明清蒸鱼从选鱼到出锅的注意事项，每条不超过五十个字",
        "红烧肉配什么主食好，荤素怎么搭",
        "紅燒肉怎麼做才不膩",
        "请说明从选肉到下锅的步骤",
        "鸟会飞，那它是动物吗？",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
        "C:\\users\\name %100 &amp; \\ud83d",
        "",
    ],
)
def test_other_text_passes(text):
    assert not JUDGED.inside([text])


def test_a_reply_keeps_the_other_lines_and_is_no_answer():
    cleared = JUDGED.cleared(Reply(f"1. 写一首诗\n2. {LONG}\n3. 算一笔账"))
    assert cleared.text == "1. 写一首诗\n3. 算一笔账"
    assert not cleared.whole
    split = JUDGED.cleared(Reply(f"{LONG[:10]}\n{LONG[10:20]}", thinking=LONG))
    assert (split.text, split.thinking) == ("", "")
    assert JUDGED.cleared(Reply("写一首诗")) == Reply("写一首诗")


def test_what_is_put_together_of_harmless_parts_loses_its_words_kept_or_dropped():
    joined = made_row(f"{LONG[:10]}\n{LONG[10:]}", "好", method="own")
    in_provenance = made_row("问", "答", method="own", shown=[LONG])
    good = made_row("写一首诗", "春眠不觉晓", method="own")
    preferences = [{"prompt": LONG, "chosen": "a"}, {"prompt": "问", "chosen": "a"}]
    made = Made([joined, good], [("exact repeat", in_provenance)], preferences=preferences)
    clean = drop_judged(made, JUDGED)
    assert clean.rows == [good]
    assert [reason for reason, _ in clean.dropped] == ["exact repeat", WITHHELD]
    assert [row.provenance["withheld"] for _, row in clean.dropped] == [in_provenance.id, joined.id]
    assert not JUDGED.inside([row.as_dict() for _, row in clean.dropped])
    assert clean.preferences == preferences[1:]


def test_without_judged_items_nothing_is_withheld():
    assert not JudgedText({}).inside(LONG)
