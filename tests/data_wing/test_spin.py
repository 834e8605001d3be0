"""SPIN: what becomes a pair and what does not, the forms of DPO, and two iterations trained for real on the toy."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from guardrail.anchors.store import AnchorAnswer, write_anchors
from guardrail.cli.main import app
from guardrail.data.chat_endpoint import ChatRequest, Costs, Reply
from guardrail.data.generate.spin import gold_rows, play, with_golds
from guardrail.data.judged_text import WITHHELD
from guardrail.data.preference_pairs import swift_pair
from guardrail.data.preference_training import train_on_pairs
from guardrail.data.rows import made_row, read_data_rows, write_rows
from guardrail.data.stage_folder import Made, read_stage, write_stage
from guardrail.data.trained_model import LocalAnswerer
from guardrail.errors import InputError
from guardrail.models.load import load_model
from guardrail.recipe import read_recipe
from guardrail.sets.items import Item, Message, read_items, write_items
from guardrail.shipped import shipped_root
from tests.anchors.test_store import manifest
from tests.data_wing.scripted_server import ScriptedServer
from tests.data_wing.whole_wing import FORMS, JUDGED, MOVED, leaks
from tests.run_fixtures import arguments, script, small_recipe
from tests.warm import SWIFT

BASE = shipped_root() / "recipes/toy/base"


def _rows(*answers):
    return [
        made_row(f"第{n}问", answer, method="own", before=[{"role": "system", "content": "短答。"}])
        for n, answer in enumerate(answers)
    ]


def _says(*replies):
    asked = []

    def opponent(requests):
        asked.extend(requests)
        return list(replies)

    return opponent, asked


def test_what_the_opponent_says_otherwise_is_rejected_and_its_iteration_stays_in_the_row():
    opponent, asked = _says(Reply("别的答案"), Reply("想好了", thinking="先想想"))
    rows = _rows("自己的答案", "第二个答案")
    made = play(opponent, rows, 3, name="iteration-3", seed=10, max_tokens=64)
    assert asked[0] == ChatRequest(tuple(rows[0].messages[:-1]), "spin", 13, 1.0, 64)
    assert made.preferences[0] == {
        "prompt": list(rows[0].messages[:-1]),
        "chosen": [{"role": "assistant", "content": "自己的答案"}],
        "rejected": [{"role": "assistant", "content": "别的答案"}],
        "id": made.rows[0].id,
        "iteration": 3,
        "opponent": "iteration-3",
        "side": "domain",
    }
    assert made.rows[0].provenance["parents"] == [rows[0].id]
    assert made.preferences[1]["rejected"][0]["content"] == "<think>\n先想想\n</think>\n\n想好了"
    assert swift_pair(made.preferences[0]) == {
        "messages": [*rows[0].messages],
        "rejected_response": "别的答案",
        **{name: made.preferences[0][name] for name in ("id", "iteration", "opponent", "side")},
    }


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(" 自己的答案\n"), "rejected equals chosen"),
        (Reply("自己的答", finish_reason="length"), "answer empty or cut"),
        (Reply("", finish_reason="refused"), "answer empty or cut"),
        (Reply("别的", finish_reason="withheld"), WITHHELD),
    ],
    ids=["equal", "cut", "refused", "withheld"],
)
def test_what_is_no_pair_is_dropped_and_counted_and_its_neighbour_kept(reply, reason):
    made = play(_says(reply, Reply("别的"))[0], _rows("自己的答案", "好"), 0, name="m")
    assert made.funnel() == {"made": 2, "lost": {reason: 1}, "kept": 1}
    assert [pair["chosen"][0]["content"] for pair in made.preferences] == ["好"]


@pytest.fixture
def anchors(tmp_path):
    """Anchors of three rehearsal items, the gold of one of them cut."""
    items = [
        Item(
            id=f"reh-{n}",
            ability="writing",
            source="own",
            licence="CC0-1.0",
            messages=(Message(role="user", content=f"写一首第{n}样的诗"),),
        )
        for n in range(3)
    ]
    answers = [
        AnchorAnswer(i.id, k, f"诗{i.id}{k}", (1,), "length" if i.id == "reh-1" else "stop")
        for i in items
        for k in range(2)
    ]
    folder = tmp_path / "anchors"
    write_anchors(folder, manifest(), answers, {})
    write_items(folder / "rehearsal.jsonl", items)
    return folder


def test_golds_of_base_are_played_for_on_the_rehearsal_side(anchors):
    golds = gold_rows(anchors)
    assert [(row.question, row.answer) for row in golds] == [
        ("写一首第0样的诗", "诗reh-00"),
        ("写一首第2样的诗", "诗reh-20"),
    ]
    rows = with_golds(_rows(*"一二三四五六七八九十"), golds, 0.1, seed=1)
    assert [row.provenance["method"] for row in rows] == ["own"] * 10 + ["gold"]
    made = play(_says(*[Reply("别的")] * 11)[0], rows, 0, name="m")
    assert [pair["side"] for pair in made.preferences] == ["domain"] * 10 + ["rehearsal"]
    assert made.rows[-1].provenance["item"] in ("reh-0", "reh-2")
    with pytest.raises(InputError, match=r"at most 0\.1"):
        with_golds(rows, golds, 0.2, seed=1)


def test_a_finished_iteration_is_read_back_and_one_of_other_rows_refused(tmp_path):
    made = play(_says(Reply("别的"), Reply("好"))[0], _rows("自己的答案", "好"), 0, name="m")
    assert read_stage(tmp_path, {"rows": "a"}) is None
    write_stage(tmp_path, made, None, {"rows": "a"})
    back, _ = read_stage(tmp_path, {"rows": "a"})
    assert [row.provenance["rejected"] for row in back.rows] == ["别的"]
    assert [reason for reason, _ in back.dropped] == ["rejected equals chosen"]
    with pytest.raises(InputError, match="made with other rows"):
        read_stage(tmp_path, {"rows": "b"})
    (tmp_path / "rows.jsonl").write_text("{")
    with pytest.raises(InputError, match="no stage as it was written"):
        read_stage(tmp_path, {"rows": "a"})


def test_pairs_and_costs_of_an_earlier_call_do_not_stand_beside_a_stage_without(tmp_path):
    made = play(_says(Reply("别的"))[0], _rows("自己的答案"), 0, name="m")
    left = {"preferences.jsonl", "preferences.swift.jsonl", "costs.json"}
    (tmp_path / "preferences.jsonl").write_text("mine")
    write_stage(tmp_path, Made(), None, {})
    assert (tmp_path / "preferences.jsonl").read_text() == "mine"  # no stage was here before
    write_stage(tmp_path, made, Costs(), {})
    assert left <= {path.name for path in tmp_path.iterdir()}
    write_stage(tmp_path, Made(), None, {})
    assert not left & {path.name for path in tmp_path.iterdir()}


def test_one_iteration_by_a_server_is_exported_and_judged_text_kept_out(tmp_path, anchors):
    question = "请说明红烧肉从选肉到收汁的全部步骤，每步不超过十五个字"
    item = Item(
        id="j",
        ability="writing",
        source="own",
        licence="CC0-1.0",
        messages=(Message(role="user", content=question),),
    )
    write_items(tmp_path / "judged.jsonl", [item])
    write_rows(tmp_path / "rows.jsonl", [*_rows(*"一二三"), made_row(question, "好", method="own")])
    line = ["data", "spin", tmp_path / "rows.jsonl", "--judged", tmp_path / "judged.jsonl"]
    line += ["--anchors", anchors, "--general-share", "0.1", "--json"]
    answer = lambda prompt, body: question if prompt == "第0问" else f"答{prompt}"  # noqa: E731
    with ScriptedServer(answer) as server:
        done = CliRunner().invoke(
            app, list(map(str, [*line, "--server", server.url, "--out", tmp_path / "out"]))
        )
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["funnel"] == {"made": 4, "lost": {WITHHELD: 1}, "kept": 3}
    assert facts["withheld"]["rows read"] == facts["withheld"]["replies"] == 1
    pairs = [
        json.loads(one)
        for one in (tmp_path / "out/preferences.jsonl").read_text("utf-8").splitlines()
    ]
    assert [(pair["iteration"], pair["side"]) for pair in pairs] == [
        (0, "domain"),
        (0, "domain"),
        (0, "rehearsal"),
    ]
    assert facts["mixed_in"] == 0
    files = "".join(p.read_text("utf-8") for p in (tmp_path / "out").glob("*.jsonl"))
    assert question not in files
    assert len(read_items(tmp_path / "out/items.jsonl")) == 3


def _by_server(folder, out, *more, says=lambda prompt, body: f"答{prompt}", code=0):
    line = ["data", "spin", folder / "rows.jsonl", "--out", folder / out, "--json", *more]
    with ScriptedServer(says) as server:
        done = CliRunner().invoke(app, [*map(str, line), "--server", server.url])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else " ".join(done.output.split())


def _exported(folder, name="preferences.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def test_an_iteration_by_a_server_has_the_pairs_of_the_one_before_mixed_in_and_no_older_ones(
    tmp_path,
):
    """As in the paper's section 6.1: 50k pairs at first, 50k and the 50k before from then on."""
    write_rows(tmp_path / "rows.jsonl", _rows(*"一二三"))
    for number in range(3):
        more = ["--previous", tmp_path / f"{number - 1}"] if number else []
        facts = _by_server(
            tmp_path, f"{number}", *more, says=lambda prompt, body, n=number: f"{n}轮{prompt}"
        )
        trained = [number - 1] * 3 + [number] * 3 if number else [0] * 3
        assert (facts["iteration"], facts["mixed_in"]) == (number, 3 if number else 0)
        assert facts["funnel"]["kept"] == 3  # of its own
        for name in ("preferences.jsonl", "preferences.swift.jsonl"):
            pairs = _exported(tmp_path / f"{number}", name)
            assert [pair["iteration"] for pair in pairs] == trained
    for pair in _exported(tmp_path / "2"):
        assert pair["rejected"][0]["content"].startswith(f"{pair['iteration']}轮")
        assert pair["opponent"] == "scripted"


def test_an_iteration_without_a_pair_of_its_own_has_none_mixed_in(tmp_path):
    write_rows(tmp_path / "rows.jsonl", _rows("一"))
    _by_server(tmp_path, "0")
    facts = _by_server(tmp_path, "1", "--previous", tmp_path / "0", says=lambda prompt, body: "一")
    assert facts["mixed_in"] == 0
    assert not (tmp_path / "1/preferences.jsonl").exists()


def test_a_previous_folder_without_pairs_is_refused(tmp_path):
    write_rows(tmp_path / "rows.jsonl", _rows("一"))
    said = _by_server(tmp_path, "1", "--previous", tmp_path, code=2)
    assert f"`--previous {tmp_path}` holds no pairs of an iteration" in said


def test_an_opponent_and_one_alone_must_be_named(tmp_path):
    write_rows(tmp_path / "rows.jsonl", _rows("一"))
    line = ["data", "spin", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]
    for more in ([], ["--recipe", "toy-sft", "--server", "http://127.0.0.1:9"]):
        done = CliRunner().invoke(app, [*line, *more])
        assert done.exit_code == 2
        assert "SPIN needs an opponent" in done.output
    done = CliRunner().invoke(app, [*line, "--recipe", "toy-grpo"])
    assert done.exit_code == 2
    assert "`trainer` does not go with" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("opponent", "option", "instead"),
    [
        ("--server", ["--iterations", "3"], "--recipe"),
        ("--server", ["--beta", "0"], "--recipe"),
        ("--server", ["--learning-rate", "0"], "--recipe"),
        ("--recipe", ["--previous", "spin-0"], "--iterations"),
        ("--server", ["--general-share", "0.05"], "--anchors"),
    ],
)
def test_an_option_of_the_other_side_is_refused_not_left_unheard(
    tmp_path, opponent, option, instead
):
    write_rows(tmp_path / "rows.jsonl", _rows("一"))
    line = ["data", "spin", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]
    value = {"--server": "http://127.0.0.1:9", "--recipe": "toy-sft"}[opponent]
    done = CliRunner().invoke(app, [*line, opponent, value, *option])
    assert done.exit_code == 2
    assert f"`{option[0]}` is about" in done.output
    assert f"`{instead}`" in done.output


TRAINS = [
    pytest.mark.run,
    pytest.mark.trl1,
    # TRL 1.16 asks transformers 5.23 by the old name.
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing.{0,9} is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two iterations of twelve rows on the toy, two optimizer steps each; judged rows among what they are given."""
    folder = tmp_path_factory.mktemp("spin")
    write_rows(
        folder / "rows.jsonl",
        read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")[:12],
    )
    steps = arguments(max_steps=2, warmup_steps=0, learning_rate=1e-4, logging_steps=1)
    recipe = small_recipe(folder, train=steps)
    bad = [made_row(form(near), "好。", method="own") for form in FORMS for near in (JUDGED, MOVED)]
    bad += [made_row("问", form(JUDGED), method="own") for form in FORMS]
    write_rows(folder / "bad.jsonl", bad)
    asked = (Message(role="user", content=JUDGED),)
    item = Item(id="j", ability="writing", source="own", licence="CC0-1.0", messages=asked)
    write_items(folder / "judged.jsonl", [item])
    line = ["data", "spin", folder / "rows.jsonl", folder / "bad.jsonl", "--recipe", recipe]
    line += ["--out", folder / "out", "--judged", folder / "judged.jsonl"]
    line = [*map(str, line), "--answer-tokens", "48", "--json"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    return folder, line, json.loads(done.stdout)


@pytest.mark.parametrize("number", [0, 1])
class TestEachIteration:
    pytestmark = TRAINS

    def test_its_opponent_is_its_own_model_and_what_that_says_is_rejected(self, played, number):
        folder = played[0] / "out"
        model = BASE if number == 0 else folder / f"models/iteration-{number}"
        rows = read_data_rows(folder / f"iteration-{number}/rows.jsonl")
        again = play(
            LocalAnswerer(model, thinking=False),
            read_data_rows(played[0] / "rows.jsonl"),
            number,
            name="again",
            max_tokens=48,
        )
        said = [row.provenance["rejected"] for row in rows]
        assert said == [row.provenance["rejected"] for row in again.rows]
        assert {row.provenance["iteration"] for row in rows} == {number}

    def test_training_begins_at_its_own_reference(self, played, number):
        # Where policy and reference are one model the logistic loss is log 2, whatever the pairs.
        state = json.loads(
            (played[0] / f"out/models/iteration-{number + 1}/trainer_state.json").read_text()
        )
        losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
        assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
        assert losses[1] != losses[0]


class TestTwoIterations:
    pytestmark = TRAINS

    def test_the_opponent_is_replaced(self, played):
        weights = [
            load_file(folder / "model.safetensors")
            for folder in (BASE, *(played[0] / f"out/models/iteration-{n}" for n in (1, 2)))
        ]
        name = next(iter(weights[0]))
        assert not torch.equal(weights[0][name].float(), weights[1][name])
        assert not torch.equal(weights[1][name], weights[2][name])
        said = [
            {row.id: row.provenance["rejected"] for row in read_data_rows(path)}
            for path in sorted(played[0].glob("out/iteration-*/rows.jsonl"))
        ]
        assert said[0] != said[1]

    def test_all_pairs_are_exported_and_counted(self, played):
        folder, _, facts = played
        lines = (folder / "out/preferences.jsonl").read_text("utf-8").splitlines()
        counts = [one["kept"] for one in facts["iterations"]]
        assert [one["mixed_in"] for one in facts["iterations"]] == [0, counts[0]]
        assert [json.loads(line)["iteration"] for line in lines] == [0] * counts[0] + [1] * counts[
            1
        ]
        assert facts["funnel"]["made"] == 24
        assert facts["costs"]["requests"] == 24
        assert facts["arguments_left_out"] == ["assistant_only_loss"]

    def test_no_file_holds_a_judged_item(self, played):
        folder, _, facts = played
        assert facts["withheld"]["rows read"] == 3 * len(FORMS)
        assert (folder / "out/iteration-1/preferences.swift.jsonl").is_file()
        assert set(leaks(folder)) == {"bad.jsonl", "judged.jsonl"}

    def test_the_second_is_trained_on_its_own_pairs_and_those_of_the_first(self, played):
        folder, _, facts = played
        counts = [one["kept"] for one in facts["iterations"]]
        for number, numbers in enumerate(([0] * counts[0], [0] * counts[0] + [1] * counts[1])):
            pairs = _exported(folder / f"out/iteration-{number}")
            assert [pair["iteration"] for pair in pairs] == numbers
            model = folder / f"out/models/iteration-{number + 1}"
            start = BASE if number == 0 else folder / "out/models/iteration-1"
            recipe = read_recipe(folder / "short.yaml")
            given = {"beta": 0.1, "learning_rate": None}
            # It is taken for finished with these pairs, and with no others.
            assert train_on_pairs(recipe, pairs, start, model, **given)[0] == model
            with pytest.raises(InputError, match="other"):
                train_on_pairs(recipe, pairs[1:], start, model, **given)

    def test_killed_before_its_end_it_goes_on_and_does_nothing_twice(self, played):
        folder, line, facts = played
        files = [
            folder / "out/iteration-0/rows.jsonl",
            folder / "out/iteration-1/rows.jsonl",
            folder / "out/models/iteration-1/model.safetensors",
        ]
        before = [path.stat().st_mtime_ns for path in files]
        last = load_file(folder / "out/models/iteration-2/model.safetensors")
        for lost in ("stage.json", "rows.jsonl", "models/iteration-2/trained"):
            (folder / "out" / lost).unlink()
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == facts
        assert [path.stat().st_mtime_ns for path in files] == before
        again = load_file(folder / "out/models/iteration-2/model.safetensors")
        assert all(torch.equal(last[name], again[name]) for name in last)

    def test_other_rows_in_the_same_folder_are_refused(self, played):
        folder, line, _ = played
        write_rows(folder / "other.jsonl", _rows("一"))
        done = CliRunner().invoke(
            app, [str(folder / "other.jsonl") if "rows.jsonl" in p else p for p in line]
        )
        assert done.exit_code == 2
        assert "other rows" in " ".join(done.output.split())

    def test_other_training_in_the_same_folder_is_refused(self, played):
        folder, line, _ = played
        for option, name in (("--beta", "beta"), ("--learning-rate", "learning_rate")):
            done = CliRunner().invoke(app, [*line, option, "0.25"])
            assert done.exit_code == 2
            assert f"made with other {name};" in " ".join(done.output.split())
        # And by the model itself, where the pairs were taken away.
        recipe, model = read_recipe(folder / "short.yaml"), folder / "out/models/iteration-1"
        lines = (folder / "out/iteration-0/preferences.jsonl").read_text("utf-8").splitlines()
        pairs, as_was = [json.loads(one) for one in lines], {"beta": 0.1, "learning_rate": None}
        assert train_on_pairs(recipe, pairs, BASE, model, **as_was)[0] == model
        lora = recipe.train.model_copy(update={"lora": {"r": 4}})
        for other, changes in (
            (recipe, {"beta": 0.2}),
            (recipe, {"learning_rate": 1e-6}),
            (recipe.model_copy(update={"train": lora}), {}),
        ):
            with pytest.raises(InputError, match="by other settings"):
                train_on_pairs(other, pairs, BASE, model, **as_was | changes)


class TestArrived:
    pytestmark = TRAINS

    def test_it_ends_with_what_it_has_though_the_recipe_evaluates(self, tmp_path):
        """The rows' answers are what the second opponent will say: the start model, at a learning rate of 0."""
        model, tokenizer = load_model(BASE, dtype="float32")
        for part in (model, tokenizer):
            part.save_pretrained(tmp_path / "base")
        rows = read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")[:2]
        said = play(
            LocalAnswerer(tmp_path / "base", thinking=False), rows, 1, name="m", max_tokens=48
        )
        own = [
            made_row(r.question, r.provenance["rejected"], method="own", before=r.messages[:-2])
            for r in said.rows
        ]
        assert len(own) == 2
        write_rows(tmp_path / "rows.jsonl", own)
        evaluates = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
        steps = arguments(max_steps=1, warmup_steps=0, save_steps=1, save_strategy="steps")
        steps["arguments"] |= evaluates
        recipe = small_recipe(tmp_path, train=steps)
        line = ["data", "spin", tmp_path / "rows.jsonl", "--recipe", recipe, "--iterations", 3]
        line += ["--learning-rate", 0, "--answer-tokens", 48, "--json", "--out", tmp_path / "out"]
        done = CliRunner().invoke(app, [*map(str, line)])
        assert done.exit_code == 0, done.output
        facts = json.loads(done.stdout)
        assert [one["kept"] for one in facts["iterations"]] == [2, 0]
        assert facts["iterations"][1]["lost"] == {"rejected equals chosen": 2}
        assert facts["models"] == [str(tmp_path / "out/models/iteration-1")]
        assert set(facts["arguments_left_out"]) >= {"eval_strategy", "load_best_model_at_end"}
        assert len((tmp_path / "out/preferences.jsonl").read_text("utf-8").splitlines()) == 2


@pytest.mark.run
@pytest.mark.full
@pytest.mark.swift
def test_ms_swift_reads_the_pairs_as_preferences(tmp_path):
    made = play(_says(Reply("别的"), Reply("好的"))[0], _rows("一", "二"), 0, name="m")
    write_stage(tmp_path, made, None, {})
    done = script(
        "data_wing.swift_reads", "pairs", tmp_path / "preferences.swift.jsonl", loaded=SWIFT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "一>别的|二>好的"


def test_a_stage_whose_settings_hold_a_secret_is_taken_up_again(tmp_path):
    """They are written without it."""
    settings = {"server": "http://user:hidden@host/v1", "iteration": 0}
    write_stage(tmp_path, Made(rows=_rows("一")), Costs(), settings)
    assert "hidden" not in (tmp_path / "stage.json").read_text(encoding="utf-8")
    assert read_stage(tmp_path, settings) is not None
    with pytest.raises(InputError, match="made with other iteration"):
        read_stage(tmp_path, {**settings, "iteration": 1})
