"""No figure of the demo in a README was typed: each block is what `make readme-demo` wrote."""

from pathlib import Path

import pytest

from guardrail.sets.items import ABILITIES
from tests.release.readme_demo import OUTPUT, READMES, block, sealed_text, tidied, written_into

PRINTED = """
──── guarded: toy-sft, seed 1 ────
  anchors: red-line golds, 300 items
answering: 271 of 300 prompts are answered, others are at token 0 of 80 at most
  step    0  look 0   passed  97.2% (base 97.8%)  ok
                 share of items passed   \u0020
The guarded run ran to its end at step 100 after 3 actions:
Report: /home/somebody/with/a/long/path/of/folders/that/wraps/at/eighty/guardra
il/runs/demo-toy-sft/guarded/report.html
"""


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_a_readme_shows_what_the_demo_of_this_toy_printed(path: Path) -> None:
    readme = path.read_text(encoding="utf-8")
    shown = block(OUTPUT.read_text(encoding="utf-8"))
    assert written_into(readme, shown) == readme
    assert all(f"│ {ability} " in shown for ability in ABILITIES)
    assert "kept of base" not in readme.replace(shown, ""), "nor does it stand elsewhere"


def test_a_typed_figure_and_a_changed_toy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = sealed_text(PRINTED)
    assert "97.2%" in block(content)
    with pytest.raises(ValueError, match="edited by hand"):
        block(content.replace("97.2%", "99.2%"))
    monkeypatch.setattr("tests.release.readme_demo.MADE_FROM", ("README.md",))
    with pytest.raises(ValueError, match="the toy has changed"):
        block(content)


def test_anchors_and_the_folders_of_a_machine_are_left_out() -> None:
    assert tidied(PRINTED).splitlines() == [
        "──── guarded: toy-sft, seed 1 ────",
        "  step    0  look 0   passed  97.2% (base 97.8%)  ok",
        "                 share of items passed",
        "The guarded run ran to its end at step 100 after 3 actions:",
        "Report: runs/demo-toy-sft/guarded/report.html",
    ]


def test_a_readme_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="one marked block, this one 0"):
        written_into("# guardrail\n", "text\n")
