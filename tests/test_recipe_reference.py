"""The reference of recipe keys is made of the schema, complete and current in both languages."""

import pytest

from guardrail.cli.recipe_reference import recipe_keys, recipe_reference
from guardrail.shipped import shipped_root

DOCS = {"en": "recipe-keys.md", "zh": "recipe-keys_zh.md"}


@pytest.mark.parametrize("language", DOCS)
def test_the_page_in_docs_is_the_one_the_schema_makes(language):
    page = shipped_root() / "docs" / DOCS[language]
    assert page.read_text(encoding="utf-8") == recipe_reference(language)


def test_every_key_has_a_meaning_and_what_is_not_required_a_default():
    keys = recipe_keys()
    assert {"name", "looks.decoding.mode", "launch.processes"} <= {key.name for key in keys}
    for key in keys:
        assert key.meaning.strip(), key.name
    assert [k.name for k in keys if k.default is None and not k.section] == [
        "name",
        "gold_base",
        "sets.red_line",
        "sets.rehearsal",
    ]
