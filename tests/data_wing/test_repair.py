"""`guardrail data repair`: what chooses, what is made, what never gets in, and that a killed repair goes on."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.repair.drifted_abilities import drifted_abilities, read_drifted_run, run_items
from guardrail.data.rows import read_data_rows
from guardrail.models.fingerprint import file_sha256
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items
from guardrail.sets.lint.duplicates import NearDuplicates, plain
from guardrail.sets.reserved import reserved_ids
from tests.data_wing.repaired_story import (
    PRESSES,
    drifted_run,
    judged_by_probes,
    rehearsal_items,
    rewrite_reserved,
)
from tests.data_wing.scripted_server import ScriptedServer
from tests.data_wing.whole_wing import FORMS, JUDGED, freely, leaks

pytestmark = pytest.mark.run
LOST = {"instruction": 0.6, "translation": 0.6}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return drifted_run(tmp_path_factory.mktemp("told"), LOST)


def repair(run, out, url, *line, code=0):
    asked = ["data", "repair", run, "--out", out, "--server", url, "--json", "--rows", 4, *line]
    done = CliRunner().invoke(app, list(map(str, asked)))
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.output


@pytest.fixture(scope="module")
def repaired(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("repaired") / "repair"
    with ScriptedServer(freely) as server:
        facts = repair(run, out, server.url)
        facts["asked"] = len(server.asked)
    return out, facts


def test_items_are_made_for_what_drifted_and_say_where_they_come_from(run, repaired):
    out, facts = repaired
    assert set(facts["abilities"]) == set(LOST)
    assert facts["drifted"]["shown"]
    assert all(one["seeds"] == 10 and 1 <= one["kept"] <= 4 for one in facts["abilities"].values())
    rows = read_data_rows(out / "rows.jsonl")
    assert {row.ability for row in rows} == set(LOST)
    assert {row.provenance["generator"] for row in rows} == {"self-instruct", "evol-instruct"}
    for row in rows:
        assert row.provenance["run"] == {"run": str(run), "name": "park", "look": 1, "step": 20}
        assert row.provenance["model"] == "scripted"
        assert row.answer
    assert facts["costs"]["by_purpose"]["answers"]["requests"] > 0
    assert facts["costs"]["requests"] == facts["asked"]


def test_the_next_recipe_differs_in_its_rehearsal_set_and_says_so(run, repaired):
    out, facts = repaired
    recipe = read_recipe(facts["recipe"])
    before = json.loads((run / "recipe.resolved.json").read_text(encoding="utf-8"))
    assert recipe.name == "park-repaired"
    assert recipe.train.arguments == before["train"]["arguments"]
    assert recipe.sets.red_line == before["sets"]["red_line"]
    assert recipe.anchors == str(out / "anchors")
    assert recipe.lineage.run == str(run)
    assert (recipe.lineage.look, recipe.lineage.step) == (1, 20)
    assert recipe.lineage.items == facts["funnel"]["kept"]
    assert set(recipe.lineage.abilities) == set(LOST)
    old, items = rehearsal_items(), read_items(recipe.sets.rehearsal)
    assert items[: len(old)] == old
    assert {item.id for item in items[len(old) :]} == {
        r.id for r in read_data_rows(out / "rows.jsonl")
    }
    assert all(item.source.startswith("repair after park, step 20: ") for item in items[len(old) :])


def test_nothing_near_a_judged_item_is_kept_and_none_of_its_words_stands_in_any_file(run, repaired):
    out, facts = repaired
    assert leaks(run) != []  # the search does find it
    assert leaks(out) == []
    assert facts["withheld"]["replies"] > 0
    judged = [plain(item.prompt) for item in read_items(run / "items.jsonl")]
    near = NearDuplicates(judged.__getitem__)
    for number, text in enumerate(judged):
        near.keep(number, text)
    assert not any(near.near(plain(row.prompt)) for row in read_data_rows(out / "rows.jsonl"))
    assert len(FORMS) == 6
    assert JUDGED in (run / "items.jsonl").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that lost one ability, and the files and replies of a repair that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = drifted_run(folder, {"writing": 0.6})
    with ScriptedServer(freely) as server:
        facts = repair(run, folder / "repair", server.url, "--rows", 2)
        return run, folder / "repair", facts, len(server.asked)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_repair_killed_anywhere_goes_on_to_the_same_files(
    undisturbed, tmp_path, share, monkeypatch
):
    run, whole, facts, in_all = undisturbed
    out, line = tmp_path / "repair", ("--rows", 2, "--concurrency", 1)
    with ScriptedServer(freely) as server, monkeypatch.context() as patch:
        server.dies_after = int(in_all * share)
        patch.setattr("guardrail.engines.vllm_client._TRIES", 1)
        assert "cannot be used" in repair(run, out, server.url, *line, code=2)
        answered = len(server.asked)
    assert not (out / "recipe.yaml").exists()
    with ScriptedServer(freely) as server:
        again = repair(run, out, server.url, *line)
        assert len(server.asked) == in_all - answered
    assert again["costs"] == facts["costs"]
    for name in ("rows.jsonl", "items.jsonl", "dropped.jsonl", "rehearsal.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_reserved_slice_never_chooses(tmp_path):
    """Whatever the reserved items were answered, the same is found to have drifted."""
    run = drifted_run(tmp_path, {"writing": 0.6})
    found = []
    for passed in (None, 0.0, 1.0):
        if passed is not None:
            rewrite_reserved(run, passed=passed)
        data = read_drifted_run(run)
        found.append(drifted_abilities(data, run_items(data, "red_line")))
    assert found[0].abilities == ("writing",)
    assert found[0].reserved > 10
    assert found[0] == found[1] == found[2]


def test_a_repair_says_how_small_a_change_the_reserved_slice_can_show(tmp_path):
    """By the spread of the other items' change, as a t interval over so many reserved items has it."""
    run = drifted_run(tmp_path, {"writing": 0.6})
    data = read_drifted_run(run)
    red_line = run_items(data, "red_line")
    kept_back = reserved_ids(red_line)
    first, last = (
        {
            row["item"]: row["passed"]
            for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        }
        for path in sorted((run / "looks").iterdir())
    )
    sizes = drifted_abilities(data, red_line).slice_sizes
    assert [one.group for one in sizes] == ["overall", "writing"]
    for one in sizes:
        mine = [item.id for item in red_line if one.group in ("overall", item.ability)]
        spread = np.std([first[i] - last[i] for i in mine if i not in kept_back], ddof=1)
        assert one.n == len({*mine} & kept_back)
        half = stats.t.ppf(0.975, one.n - 1) * spread / math.sqrt(one.n)
        assert one.shows == pytest.approx(half)
    line = ["data", "repair", run, "--out", tmp_path / "out", "--server", "http://127.0.0.1:9"]
    with ScriptedServer(freely) as server:
        line[-1] = server.url
        said = CliRunner().invoke(app, [*map(str, line), "--rows", "1"]).output
    assert (
        f"保留题共 {len(kept_back)} 道，能看出 {100 * sizes[0].shows:.1f} 个点及以上的变化" in said
    )


def test_where_nothing_drifted_there_is_nothing_to_repair(tmp_path):
    run = drifted_run(tmp_path, {})
    facts = repair(run, tmp_path / "out", "http://127.0.0.1:9")
    assert facts["recipe"] is None
    assert facts["drifted"]["abilities"] == []
    assert facts["costs"] is None


def test_where_nothing_is_kept_the_next_step_is_said(tmp_path):
    """As with a base too small to write tasks."""
    run, out = drifted_run(tmp_path, {"writing": 0.6}), tmp_path / "out"
    with ScriptedServer(lambda prompt, body: "嗯") as server:
        line = ["data", "repair", run, "--out", out, "--server", server.url, "--rows", 1]
        done = CliRunner().invoke(app, [*map(str, line)])
    assert done.exit_code == 1, done.output
    assert "写作退化了；越过“正常”的有：" in done.output
    assert "可以让更大的模型来写（--server）" in done.output
    assert json.loads((out / "stage.json").read_text("utf-8"))["funnel"]["kept"] == 0
    assert not (out / "recipe.yaml").exists()


def test_what_an_earlier_repair_left_does_not_stand_beside_one_that_finds_nothing(tmp_path):
    out, run = tmp_path / "out", drifted_run(tmp_path, {})
    out.mkdir()
    for name in ("recipe.yaml", "rehearsal.jsonl"):
        (out / name).write_text("mine")
    repair(run, out, "http://127.0.0.1:9")
    assert (out / "recipe.yaml").exists()  # until a stage was written there they are the user's
    repair(run, out, "http://127.0.0.1:9")
    assert not {"recipe.yaml", "rehearsal.jsonl"} & {path.name for path in out.iterdir()}


def test_an_ability_with_few_seeds_is_evolved_alone(tmp_path):
    run = drifted_run(tmp_path, {"writing": 0.6}, an_ability=5)
    with ScriptedServer(freely) as server:
        facts = repair(run, tmp_path / "out", server.url)
    assert {row.provenance["generator"] for row in read_data_rows(tmp_path / "out/rows.jsonl")} == {
        "evol-instruct"
    }
    assert "instructions" not in facts["costs"]["by_purpose"]


@pytest.mark.parametrize("lacking", ["looks", "items.jsonl", "rehearsal.jsonl"])
def test_a_run_that_lost_what_a_repair_needs_is_told_what(tmp_path, lacking):
    run = drifted_run(tmp_path, LOST)
    (run / lacking).rename(tmp_path / "gone")
    said = repair(run, tmp_path / "out", "http://127.0.0.1:9", code=2)
    assert {"looks": "is missing", "items.jsonl": "red-line", "rehearsal.jsonl": "rehearsal"}[
        lacking
    ] in said
    assert not (tmp_path / "out").exists()


def test_a_run_judged_by_a_business_s_own_probes_is_refused(tmp_path):
    run = drifted_run(tmp_path, LOST)
    judged_by_probes(run, tmp_path / "mine.py")
    said = repair(run, tmp_path / "out", "http://127.0.0.1:9", code=2)
    assert "`probes.files`" in said
    assert "`--probes FILE`" in " ".join(said.split())
    assert not (tmp_path / "out").exists()
    (tmp_path / "other.py").write_text(f"{PRESSES}#")
    other = ("--probes", tmp_path / "other.py")
    said = "".join(repair(run, tmp_path / "out", "http://127.0.0.1:9", *other, code=2).split())
    for file in ("mine.py", "other.py"):
        assert file_sha256(tmp_path / file) in said
    assert not (tmp_path / "out").exists()


def test_probes_that_the_user_names_judge_and_stand_in_the_next_recipe(tmp_path):
    """Their streams and clusters count as in the run; what the run folder names is neither carried out nor handed on."""
    run, mine = drifted_run(tmp_path, {"writing": 0.6}), tmp_path / "mine.py"
    before = drifted_abilities(read_drifted_run(run), run_items(read_drifted_run(run), "red_line"))
    judged_by_probes(run, mine)
    data = read_drifted_run(run)
    rehearsal = run_items(data, "rehearsal")
    drifted = drifted_abilities(data, run_items(data, "red_line"), [mine])
    assert "presses/overall" in drifted.streams
    assert not any(stream.startswith("presses") for stream in before.streams)
    assert (drifted.items, drifted.reserved) == (before.items, before.reserved)
    with ScriptedServer(freely) as server:
        facts = repair(run, tmp_path / "out", server.url, "--probes", mine)
    assert set(facts["abilities"]) == {"writing"}
    assert tuple(facts["drifted"]["abilities"]) == drifted.abilities
    made = sum(one["kept"] for one in facts["abilities"].values())
    assert made > 0
    recipe = read_recipe(tmp_path / "out/recipe.yaml")
    assert len(read_items(recipe.sets.rehearsal)) == len(rehearsal) + made
    assert recipe.probes.files == (str(mine),)
    assert recipe.lineage.probes_sha256 == (file_sha256(mine),)


def test_help_has_an_example_and_what_comes_next():
    done = CliRunner().invoke(app, ["data", "repair", "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output
    assert "guardrail run" in done.output
