"""Both languages say the same things, and nothing that is never said."""

import re
import string
from pathlib import Path
from typing import get_args

import pytest

import guardrail
from guardrail.judge.ladder import Kind
from guardrail.judge.verdict import LEVELS, Stream
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import FormName, FormReason, PrecisionFacts
from guardrail.live.sidecar_status import STATES
from guardrail.probes.fluency import machine_flavour
from guardrail.probes.metrics import METRICS, SHOWN
from guardrail.report.page.phrases import Phrases
from guardrail.report.page.texts import LANGUAGES, language_of_run, texts
from guardrail.report.recommendation import Advice
from guardrail.report.repaired import SliceChange
from guardrail.sets.item_checks import Check
from guardrail.sets.items import ABILITIES

ZH, EN = texts("zh"), texts("en")
KEYS = [(section, key) for section, entries in ZH.items() for key in entries]

STANDINGS = [
    "few_items",
    "few_clusters",
    "blind",
    "no_budget",
    "untested",
    "not_shown",
    "attention",
]
CHECKS = get_args(get_args(Check)[0])
GROUPS = ["overall", *ABILITIES]
CODED = {
    "recommendation": get_args(Advice),
    "level": [*LEVELS, *STANDINGS],
    "symbol": [*LEVELS, *STANDINGS],
    "level_sentence": [*LEVELS, "untested"],
    "standing": STANDINGS,
    "metric": [m.name for m in METRICS],
    "shown": SHOWN,
    "ability": GROUPS,
    "ability_short": GROUPS,
    "action": [kind for kind in get_args(Kind) if kind != "none"],
    "check": [get_args(c.model_fields["kind"].annotation)[0] for c in CHECKS],
    "check_word": {
        field.alias or name for c in CHECKS for name, field in c.model_fields.items()
    } - {"kind"},
    "check_value": ["numbered", "bulleted", "zh", "en", "required", "forbidden"],
    "form": get_args(FormName),
    "form_why": get_args(FormReason),
    "flavour": machine_flavour("", "").parts,
    "sidecar": STATES,
    "repair_says": get_args(SliceChange.model_fields["says"].annotation),
}  # fmt: skip
"""Sections whose keys are codes of the program: exactly these."""


def source() -> str:
    folder = Path(guardrail.__file__).parent
    rooms = ("report", "live", "track")
    files = [
        file for room in rooms for kind in ("*.py", "*.j2") for file in (folder / room).rglob(kind)
    ]
    return "\n".join(f.read_text(encoding="utf-8") for f in files)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_keys_in_the_same_order() -> None:
    english = [(section, key) for section, entries in EN.items() for key in entries]
    assert english == KEYS


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_look_says_what_a_run_says_in_words_of_its_own(language) -> None:
    run, look = texts(language), texts(language, one_look=True)
    assert [section for section in run if section not in look] == []
    said = {(s, k): text for s, entries in look.items() for k, text in entries.items()}
    assert set(said) < set(KEYS), "a look has no text that a run lacks"
    assert {k for k in said if not fields(said[k]) <= fields(run[k[0]][k[1]])} == set()


def test_a_look_has_the_same_words_of_its_own_in_both_languages() -> None:
    own = []
    for language, run in (("zh", ZH), ("en", EN)):
        look = texts(language, one_look=True)
        own.append({(s, k) for s, k in KEYS if look[s].get(k) != run[s][k]})
    assert own[0] == own[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_texts(language) -> None:
    for section, entries in texts(language).items():
        for key, text in entries.items():
            assert str(text).strip() or (section, key) == ("page", "comma"), (section, key)
            assert text.count("<") == text.count(">"), (section, key)


def test_both_languages_fill_in_the_same_values() -> None:
    differ = [k for k in KEYS if fields(ZH[k[0]][k[1]]) != fields(EN[k[0]][k[1]])]
    assert differ == []


@pytest.mark.parametrize("section", CODED)
def test_every_code_of_the_program_has_a_word(section: str) -> None:
    assert sorted(ZH[section]) == sorted(CODED[section])


def test_no_text_is_unused() -> None:
    code = source()
    dotted = set(re.findall(r"(?=\b(\w+\.\w+))", code))
    quoted = set(re.findall(r'"(\w+)"', code))
    unused = [
        f"{section}.{key}"
        for section, key in KEYS
        # The glossary is shown whole.
        if section not in CODED and section != "glossary"
        if f"{section}.{key}" not in dotted and key not in quoted
    ]
    assert unused == []


def test_chinese_is_chinese_and_english_is_english() -> None:
    assert [k for k in KEYS if re.search("[一-鿿]", EN[k[0]][k[1]])] == []
    halfwidth = [k for k in KEYS if re.search("[一-鿿] ?[,;:?!](?![^<]*>)", ZH[k[0]][k[1]])]
    assert halfwidth == [], "Chinese sentences have full-width punctuation"
    assert [k for k in KEYS if re.search("[，。；：（）！？]", EN[k[0]][k[1]])] == []


@pytest.mark.parametrize(
    ("language", "facts", "said"),
    [
        ("zh", {"weights": "float32", "forwards": "bfloat16", "autocast": True, "tuning": "full"},
         "全量微调，权重 float32，前向计算 bfloat16（自动混合精度），未量化"),
        ("en", {"weights": "bfloat16", "forwards": "bfloat16", "autocast": False, "tuning": "LoRA",
                "quantization": "bitsandbytes 4-bit nf4"},
         "LoRA adapter trained, weights bfloat16, forwards bfloat16, quantised: bitsandbytes 4-bit nf4"),
    ],
)  # fmt: skip
def test_one_phrase_says_in_which_precision_was_trained(language, facts, said) -> None:
    assert Phrases(language).precision(PrecisionFacts(**facts)) == said


def test_chinese_sentences_have_their_whole_words() -> None:
    look = texts("zh", one_look=True)
    assert "结果就会偏乐观" in look["blind"]["sealed"]
    assert "来回答：" in ZH["repair"]["lead"]


def test_a_run_without_a_resolved_recipe_speaks_the_language_of_its_header(tmp_path: Path) -> None:
    """As a script with `attach` leaves it, and a checkpoint of ms-swift right in the run folder."""
    Ledger(tmp_path).append("started", 0, recipe={"language": "en"})
    checkpoint = tmp_path / "checkpoint-8"
    checkpoint.mkdir()
    assert language_of_run(tmp_path) == "en"
    assert language_of_run(*checkpoint.parents[:2]) == "en"
    assert language_of_run(*(checkpoint / "adapter").parents[:2]) == "en"
    assert language_of_run(checkpoint) == "zh"


def test_several_metrics_are_named_with_the_first_ones_values_in_brackets() -> None:
    def stream(metric: str, group: str, base: float, now: float) -> Stream:
        return Stream(
            metric=metric, group=group, n=60, level="serious", base=base, now=now, tested=True
        )

    fallen = [
        stream("passed", "overall", 0.972, 0.287),
        stream("similarity", "refusal", 0.9, 0.5),
    ]
    zh, en = Phrases("zh"), Phrases("en")
    said = zh.say("measured", "drifted_several", streams=zh.streams(fallen * 5, 1))
    assert said == "总体通过率（97.2% → 28.7%）等 10 项指标已证实超过容忍线"
    assert zh.streams(fallen[:1], 1) == "总体通过率从 97.2% 降到 28.7%"
    assert zh.stream(fallen[1]) == "拒答：与原回答的相似度"
    assert "97.2% to 28.7%" in en.streams(fallen * 5, 1)
