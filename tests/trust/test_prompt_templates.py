"""A stranger's prompt template is text with gaps: it runs no code and makes no huge text; YAML of others is bounded too."""

import pytest

from guardrail.data.diversity import read_quotas
from guardrail.data.plan.make_plan import businesses
from guardrail.data.prompt_templates import Prompts
from guardrail.errors import InputError

TEMPLATES = {
    "code": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "values' code": "{{ question.__class__.__base__.__subclasses__() }}",
    "a huge text": "{{ '字' * 1000000000 }}",
    "a huge power": "{{ 9 ** 9 ** 9 }}",
    "a long loop": "{% for i in range(99999) %}{{ question }}{{ '012345678901234567890123456789012345678901234567890' }}{% endfor %}",
    "a longer range": "{% for i in range(10 ** 12) %}x{% endfor %}",
    "another file": "{% include '/etc/passwd' %}",
    "by zero": "{{ 1 / 0 }}",
    "of another kind": "{{ question + 1 }}",
    "deep": "{{ " + "(" * 5000 + " }}",
}


@pytest.mark.parametrize("what", TEMPLATES)
def test_a_template_that_does_more_than_say_its_text_is_refused_in_a_line(tmp_path, what):
    (tmp_path / "difficulty.zh.md").write_text(TEMPLATES[what], encoding="utf-8")
    with pytest.raises(InputError, match="cannot be filled in") as caught:
        Prompts(tmp_path)("difficulty", question="一加一")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_template_of_another_encoding_or_without_end_is_named(tmp_path):
    path = tmp_path / "difficulty.zh.md"
    for data in (b"\xff\xfe\xff", b"x" * (300 << 10)):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"difficulty\.zh\.md"):
            Prompts(tmp_path)("difficulty", question="一加一")


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize("read", [read_quotas, businesses])
@pytest.mark.parametrize("text", [LAUGHS, "a: " + "[" * 5000, "a: 1\na: 2\n", "- 1", "a: .inf"])
def test_yaml_of_others_is_read_as_strictly_as_a_recipe(tmp_path, read, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
