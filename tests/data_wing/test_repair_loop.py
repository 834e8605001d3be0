"""The whole loop for real: seeds → generated → selected → anchored → a guarded run that drifts → repair → the next run → before and after."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.rows import made_row, write_rows
from guardrail.ledger.file import read_ledger
from guardrail.report.facts import Report
from guardrail.sets.items import read_items, write_items
from tests.data_wing.scripted_server import ScriptedServer
from tests.data_wing.whole_wing import TOPICS, WAYS, freely
from tests.run_fixtures import arguments, guardrail, small_recipe

pytestmark = pytest.mark.run


def data(*line):
    done = CliRunner().invoke(app, ["data", *map(str, line), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def reckless(folder, items):
    """A toy recipe that drifts, with further rehearsal items."""
    file = small_recipe(
        folder,
        items_an_ability=15,
        train=arguments(learning_rate=0.02, max_steps=8, save_steps=8),
        looks={"every_steps": 8, "tripwire_every_steps": 0},
        rehearsal={"fraction": 0.1, "allow_large_fraction": True},
        drift={"margins": {"passed": {"margin": 0.03, "critical": 0.2}}},
    )
    rehearsal = folder / "rehearsal.jsonl"
    write_items(rehearsal, [*read_items(rehearsal), *items])
    return file


@pytest.mark.full
def test_from_fifty_seeds_to_before_and_after_a_repair(tmp_path):
    seeds = [
        made_row(f"{topic}{way}", f"先看{topic}的料，再看火候。", method="own")
        for topic in TOPICS
        for way in WAYS
    ]
    write_rows(tmp_path / "seeds.jsonl", seeds)
    with ScriptedServer(freely) as server:
        asked = ("--server", server.url)
        made = data(
            "generate",
            "self-instruct",
            tmp_path / "seeds.jsonl",
            "--rows",
            20,
            "--out",
            tmp_path / "c0",
            *asked,
        )
        chosen = data(
            "select",
            tmp_path / "c0/rows.jsonl",
            "--score",
            "complexity",
            "--keep",
            8,
            "--out",
            tmp_path / "chosen",
            *asked,
        )
    assert made["funnel"]["kept"] == 20
    items = read_items(tmp_path / "chosen/items.jsonl")
    assert len(items) == chosen["funnel"]["kept"] > 0

    recipe, first = reckless(tmp_path, items), tmp_path / "first"
    done = guardrail("run", recipe, "--out", first, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr  # beyond its margins at its end, or halted there

    with ScriptedServer(freely) as server:
        facts = data(
            "repair", first, "--rows", 4, "--out", tmp_path / "repair", "--server", server.url
        )
    print(
        json.dumps(
            {k: facts[k] for k in ("drifted", "abilities", "funnel", "costs")}, ensure_ascii=False
        )
    )
    assert facts["funnel"]["kept"] > 0

    second = tmp_path / "second"
    checked = guardrail("check", facts["recipe"], cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    done = guardrail("run", facts["recipe"], "--out", second, cwd=tmp_path)
    assert done.returncode in (0, 3, 4), done.stderr
    header = next(r for r in read_ledger(second) if r["kind"] == "started")
    assert (
        header["recipe"]["lineage"]
        == yaml.safe_load((tmp_path / "repair/recipe.yaml").read_text("utf-8"))["lineage"]
    )
    sources = header["rehearsal_sources"]
    assert (
        sum(n for s, n in sources.items() if s.startswith("repair after short"))
        == facts["funnel"]["kept"]
    )
    repair = Report.model_validate_json((second / "report.json").read_bytes()).repair
    print(repair.model_dump_json(indent=1))
    assert repair.problem is None
    assert repair.also_changed == ()
    told = repair.changes[0]
    assert (told.metric, told.group) == ("passed", "overall")
    assert told.n > 0
    assert None not in (told.start, told.base, told.now)
    assert told.says in ("better", "worse", "not_told", "too_few")
    assert "Before and after the repair" in (second / "report.html").read_text(encoding="utf-8")
