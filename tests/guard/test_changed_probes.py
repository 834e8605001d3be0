"""Probes changed on purpose before a resume: base is asked what the model is asked, whatever was measured before."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from guardrail.guard.changed_probes import baseline_of_now
from guardrail.guard.guard import Guard
from guardrail.guard.state import GuardState
from guardrail.judge.look_values import measure_completions, write_answers
from guardrail.ledger.file import Ledger
from guardrail.ledger.records import LookFacts
from guardrail.probes.business_probes import read_business
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items
from tests.data_wing.repaired_story import PRESSES
from tests.guard.asked_course import GOLD, Anchored

ANSWERS = ("请归还", "好的")
"""Look 0's, of each item."""


@pytest.mark.parametrize(("start", "wanted"), [("gold", [1.0, 0.0]), ("another", [0.0, 0.0])])
def test_the_baseline_is_asked_anew_by_the_probes_of_now(tmp_path, start, wanted):
    files = {name: tmp_path / f"{name}.py" for name in ("presses", "rushes")}
    for name, file in files.items():
        file.write_text(PRESSES.replace("presses", name), encoding="utf-8")
    recipe = read_recipe("toy-sft", changes=[f"probes.files=[{files['presses']}]"])
    items = [one.model_copy(update={"case": {}}) for one in read_items(recipe.sets.red_line)[:4]]
    said = [[SimpleNamespace(text=text, finish_reason="stop") for text in ANSWERS]] * 4
    before = read_business((str(files["rushes"]),))
    values = measure_completions(items, [list(ANSWERS)] * 4, [GOLD] * 4, before)
    write_answers(tmp_path / "look.jsonl", items, said, values)
    sha256 = hashlib.sha256((tmp_path / "look.jsonl").read_bytes()).hexdigest()
    look = {"number": 0, "trigger": "start", "level": "ok", "streams": ()}
    ledger = Ledger(tmp_path)
    ledger.append("started", 0)
    facts = LookFacts(step=0, answers="look.jsonl", answers_sha256=sha256, **look)
    ledger.append("look", 0, **facts.to_record())
    state = GuardState(baseline=dict(values))
    guard = Guard(recipe, tmp_path, ledger, Anchored(items), items, [], state, start_weights=start)
    guard.judge_against(baseline_of_now(guard))
    assert "rushes" not in state.baseline
    assert state.baseline["presses"].tolist() == [wanted] * 4
    np.testing.assert_array_equal(state.baseline["passed"], values["passed"])
