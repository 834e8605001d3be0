"""Anchors of the real toy base: the same bytes every time, also after an interruption."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.make import make_anchors
from guardrail.anchors.progress import read_progress
from guardrail.anchors.sft_rows import export_messages
from guardrail.anchors.store import read_anchors
from guardrail.anchors.weak_anchors import weak_anchors
from guardrail.engines.in_process import InProcessEngine
from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.read_back import sealed, unsealed
from guardrail.sets.items import read_items, write_items
from guardrail.shipped import shipped_root
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.checks.wanted_anchors import wanted_manifest
from tests.run_fixtures import as_yaml
from tests.test_writer_lock import writer_of

pytestmark = pytest.mark.run

BASE = shipped_root() / "recipes/toy/base"
DECODING = Decoding(mode="sampled", max_new_tokens=16)


@pytest.fixture(scope="module")
def engine():
    model, tokenizer = load_model(BASE)
    profile = resolve_profile(BASE, tokenizer, thinking=False)
    return InProcessEngine(model, tokenizer, DECODING, profile, 64)


def recipe_at(folder: Path, base: Path = BASE, red: int = 66, **changes) -> Path:
    """A recipe over the first items of the toy sets: 66 red-line items are two chunks of the engine."""
    folder.mkdir(parents=True, exist_ok=True)
    write_items(
        folder / "red.jsonl",
        read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[:red],
    )
    write_items(
        folder / "reh.jsonl",
        read_items(shipped_root() / "rehearsal_sets/toy-general/items.jsonl")[::40],
    )
    content = {
        "name": "small",
        "gold_base": str(base),
        "sets": {"red_line": "red.jsonl", "rehearsal": "reh.jsonl"},
        "train": {"data": "none.jsonl"},
        "anchors": "anchors",
        "looks": {"replicates": 1, "decoding": DECODING.model_dump(), },
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(as_yaml(content | changes), encoding="utf-8")
    return path


class Watched:
    """The real engine, counting its calls and failing at one of them, as a full disk or a kill would."""

    def __init__(self, engine, fail_at=None):
        self.engine, self.fail_at, self.calls = engine, fail_at, 0
        self.rows_at_once = engine.rows_at_once

    def answer(self, items, *, seed):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("out of memory")
        return self.engine.answer(items, seed=seed)

    def topk(self, items, golds, k):
        return self.engine.topk(items, golds, k)

    def topk_error(self, items, golds, ks, *, seed):
        return self.engine.topk_error(items, golds, ks, seed=seed)


def make(folder, engine, guardrail, **kept):
    manifest = wanted_manifest(guardrail.recipe, guardrail.red_line, guardrail.rehearsal)
    return make_anchors(folder, manifest, guardrail.red_line, guardrail.rehearsal, engine, engine, **kept)  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("made")
    guardrail = Guardrail.from_recipe(recipe_at(folder))
    told = []
    anchors = make(
        folder / "anchors", engine, guardrail, on_progress=lambda *facts: told.append(facts)
    )
    return folder, guardrail, anchors, told


def test_progress_counts_every_part_to_its_end(made):
    _, guardrail, _, told = made
    reached = {}
    for what, done, total in told:
        assert done <= total
        reached[what] = (done, total)
    red, reh = len(guardrail.red_line), len(guardrail.rehearsal)
    assert list(reached.items())[:3] == [
        ("red-line golds", (red, red)),
        ("replicate 1", (red, red)),
        ("rehearsal golds", (reh, reh)),
    ]
    assert told.count(("red-line golds", 64, red)) == 1


def test_anchors_rebuild_byte_for_byte(made, engine, tmp_path):
    folder, guardrail, _, _ = made
    make(tmp_path / "again", engine, guardrail)
    assert content(tmp_path / "again") == content(folder / "anchors")


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(made, engine, tmp_path):
    folder, guardrail, _, _ = made
    broken = tmp_path / "anchors"
    with pytest.raises(RuntimeError, match="out of memory"):
        make(broken, Watched(engine, fail_at=4), guardrail)
    with pytest.raises(InputError, match="no finished anchors"):
        read_anchors(broken)
    told = read_progress(broken)
    assert (told["answered"], told["found"]) == (
        66 + 64,
        0,
    )  # all golds, and the first chunk of replicates
    with (broken / "answers.partial.jsonl").open("ab") as file:
        file.write(b'{"item": "toy-red')  # killed in the middle of a line
    rest = Watched(engine)
    make(broken, rest, guardrail)
    assert rest.calls == 5 - 3
    assert content(broken) == content(folder / "anchors")
    assert read_progress(broken) is None


def test_what_another_base_began_is_not_continued(made, engine, tmp_path):
    _, guardrail, _, _ = made
    broken = tmp_path / "anchors"
    with pytest.raises(RuntimeError):
        make(broken, Watched(engine, fail_at=4), guardrail)
    path = broken / "answers.partial.jsonl"
    head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    other = unsealed(json.loads(head))
    other["gold_base"]["weights"] = "0" * 64
    path.write_text("".join([json.dumps(sealed(other)) + "\n", *lines]), encoding="utf-8")
    rest = Watched(engine)
    make(broken, rest, guardrail)
    assert rest.calls == 5


def test_the_least_k_with_an_accepted_error_is_stored(made):
    _, guardrail, anchors, _ = made
    errors, k = anchors.manifest.kl_error, anchors.manifest.top_k
    assert list(errors) == sorted(errors)
    assert sorted(errors.values(), reverse=True) == list(errors.values())
    assert errors[k] <= 0.01
    assert all(error > 0.01 for smaller, error in errors.items() if smaller < k)
    assert anchors.topk[guardrail.rehearsal[0].id].ids.shape[1] == k


def test_a_recipe_may_fix_k(engine, tmp_path):
    guardrail = Guardrail.from_recipe(recipe_at(tmp_path, red=4, rehearsal={"top_k": 8}))
    anchors = make(tmp_path / "anchors", engine, guardrail)
    assert anchors.manifest.top_k == 8
    guardrail.check_anchors(anchors)
    other = Guardrail.from_recipe(recipe_at(tmp_path, red=4, rehearsal={"top_k": 16}))
    with pytest.raises(InputError, match="top_k: anchors have 8, the recipe 16"):
        other.check_anchors(anchors)


def _edit_template(base: Path) -> None:
    path = base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")


def _edit_weights(base: Path) -> None:
    path = base / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _edit_tokenizer(base: Path) -> None:
    path = base / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_edit_template, "gold_base.chat_template"),
        (_edit_weights, "gold_base.weights"),
        (_edit_tokenizer, "gold_base.tokenizer"),
    ],
)
def test_anchors_of_a_changed_base_are_refused_by_name(made, tmp_path, edit, named):
    _, _, anchors, _ = made
    shutil.copytree(BASE, tmp_path / "base")
    Guardrail.from_recipe(recipe_at(tmp_path, tmp_path / "base")).check_anchors(anchors)
    edit(tmp_path / "base")
    with pytest.raises(InputError, match=named):
        Guardrail.from_recipe(recipe_at(tmp_path, tmp_path / "base")).check_anchors(anchors)


def test_anchors_of_another_thinking_mode_are_refused_by_name(made, tmp_path):
    _, _, anchors, _ = made
    with pytest.raises(InputError, match="thinking: anchors have False, the recipe True"):
        Guardrail.from_recipe(recipe_at(tmp_path, thinking=True)).check_anchors(anchors)


def test_weak_anchors_are_named_with_their_reason(made):
    _, guardrail, anchors, _ = made
    item = guardrail.red_line[0]
    good = anchors.answers[item.id][0]

    def reasons(*texts, finish="stop"):
        answers = tuple(replace(good, text=t, finish_reason=finish) for t in texts)
        changed = replace(anchors, answers={item.id: answers})
        return {(f.why, f.detail) for f in weak_anchors([item], changed)}

    passing = next(
        a.text for i in guardrail.red_line for a in anchors.answers[i.id]
        if i.id == item.id and not weak_anchors([item], replace(anchors, answers={item.id: (a,)}))
    )  # fmt: skip
    assert reasons(passing, passing) == set()
    assert reasons(passing, "完全不对") == {("replicates disagree", "1 of 2 answers")}
    assert reasons("完全不对") == {("base fails its own check", "1 of 1 answers")}
    assert ("empty", "1 of 1 answers") in reasons("<think>\n想了半天")
    assert ("cut", "2 of 2 answers") in reasons(passing, passing, finish="length")


def test_golds_are_exported_as_chat_rows_and_cut_ones_left_out(made, tmp_path):
    _, guardrail, anchors, _ = made
    cut = guardrail.rehearsal[0]
    answers = dict(anchors.answers)
    for item in guardrail.rehearsal:
        gold = replace(answers[item.id][0], finish_reason="stop")
        answers[item.id] = (gold,)
    answers[cut.id] = (replace(answers[cut.id][0], finish_reason="length"),)
    out = tmp_path / "new" / "golds.jsonl"
    written = export_messages(guardrail.rehearsal, replace(anchors, answers=answers), out)
    assert written == (len(guardrail.rehearsal) - 1, 1)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    second = guardrail.rehearsal[1]
    assert rows[0]["messages"] == [
        *second.chat(),
        {"role": "assistant", "content": answers[second.id][0].text},
    ]


def test_a_line_that_somebody_changed_is_not_taken_for_base_s_answer(made, engine, tmp_path):
    _, guardrail, _, _ = made
    broken = tmp_path / "anchors"
    with pytest.raises(RuntimeError):
        make(broken, Watched(engine, fail_at=4), guardrail)
    path = broken / "answers.partial.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    changed = json.loads(lines[2]) | {"text": "HACKED"}
    path.write_text("".join([*lines[:2], json.dumps(changed) + "\n", *lines[3:]]), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"answers\.partial\.jsonl` line 3 is not as it was written"
    ):
        make(broken, engine, guardrail)


def test_two_processes_do_not_make_the_same_anchors(made, engine, tmp_path):
    _, guardrail, _, _ = made
    (tmp_path / "anchors").mkdir()
    with (
        writer_of(tmp_path / "anchors"),
        pytest.raises(InputError, match="is being written by process"),
    ):
        make(tmp_path / "anchors", engine, guardrail)
