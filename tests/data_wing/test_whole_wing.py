"""Every command of the wing as it is typed, fifty seeds, against a model that keeps saying judged items: none of them gets anywhere."""

import json
from itertools import pairwise

import pytest
import torch
from openpyxl import load_workbook
from safetensors.torch import load_file
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import made_row, read_data_rows, write_rows
from guardrail.sets.items import Item, Message, read_items, write_items
from guardrail.shipped import shipped_root
from tests.data_wing.scripted_server import ScriptedServer
from tests.data_wing.whole_wing import (
    FORMS,
    JUDGED,
    KNOWLEDGE,
    REWORDED,
    TOPICS,
    WAYS,
    leaks,
    script,
)
from tests.run_fixtures import arguments, small_recipe
from tests.trust.written_files import unnamed

pytestmark = [
    pytest.mark.run,
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
]
BASE = shipped_root() / "recipes/toy/base"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Fifty seeds and 25 documents, and among them the judged item in six forms as question, as answer and reworded."""
    folder = tmp_path_factory.mktemp("inputs")
    clean = [
        made_row(f"{topic}{way}", f"先看{topic}的料，再看火候，最后收拾干净。", method="own")
        for topic in TOPICS
        for way in WAYS
    ]
    bad = [made_row(form(JUDGED), "好。", method="own") for form in FORMS]
    bad += [made_row("出一道题", form(REWORDED), method="own") for form in FORMS]
    write_rows(folder / "seeds.jsonl", [*clean, *bad])
    (folder / "rules.md").write_text("\n\n".join([*KNOWLEDGE, JUDGED * 2]), encoding="utf-8")
    question = (Message(role="user", content=JUDGED),)
    item = Item(id="j", ability="writing", source="own", licence="CC0-1.0", messages=question)
    write_items(folder / "judged.jsonl", [item])
    return folder


def _run(inputs, out, *line):
    arguments = ["data", *line, "--out", out, "--judged", inputs / "judged.jsonl", "--json"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if done.stdout.strip() else {}


def _generators(inputs, url):
    seeds, asked = inputs / "seeds.jsonl", ("--server", url, "--concurrency", "4")
    return {
        "self-instruct": (seeds, "--rows", 40, *asked),
        "evol-instruct": (seeds, "--rounds", 2, *asked),
        "step-back": (seeds, "--documents", inputs / "rules.md", *asked),
        "grounded": (inputs / "rules.md", *asked),
        "answers": (seeds, "--how", "teachers", "--teacher", "other", *asked),
        "people-and-model": (seeds, *asked),
        "magpie": (BASE, "--rows", 40, *asked),
        "dialogues": ("--rows", 30, *asked),
    }


@pytest.fixture(scope="module")
def wing(inputs, tmp_path_factory):
    """What every generator that asks an endpoint made, and a selection of it all."""
    folder = tmp_path_factory.mktemp("wing")
    facts = {}
    with ScriptedServer(script) as server:
        generators = _generators(inputs, server.url)
        for method, line in generators.items():
            facts[method] = _run(inputs, folder / method, "generate", method, *line)
        _fill_in(folder / "people-and-model/sheet.xlsx")
        line = generators["people-and-model"]
        facts["people-and-model"] = _run(
            inputs, folder / "people-and-model", "generate", "people-and-model", *line
        )
        made = [folder / method / "rows.jsonl" for method in generators]
        scores = [
            part for name in ("complexity", "density", "following") for part in ("--score", name)
        ]
        line = (*made, inputs / "seeds.jsonl", "--model", BASE, "--max-length", 256, *scores)
        facts["select"] = _run(
            inputs, folder / "select", "select", *line, "--keep", 30, "--server", server.url
        )
        facts["asked"] = len(server.asked)
    return folder, facts


def _fill_in(sheet):
    """Somebody picks the first answer, and writes the judged item into every fifth line."""
    book = load_workbook(sheet)
    page = book.worksheets[0]
    columns = {cell.value: cell.column for cell in page[1]}
    for line in range(2, page.max_row + 1):
        page.cell(line, columns["选哪个"]).value = 1
        if line % 5 == 0:
            page.cell(line, columns["改写"]).value = JUDGED
    book.save(sheet)


def test_every_generator_keeps_rows_and_says_what_it_kept_out(wing):
    folder, facts = wing
    for method in (
        "self-instruct",
        "evol-instruct",
        "step-back",
        "grounded",
        "answers",
        "magpie",
        "dialogues",
        "people-and-model",
        "select",
    ):
        kept = facts[method]["funnel"]["kept"]
        assert kept >= 5, (method, facts[method]["funnel"])
        assert kept == len(read_data_rows(folder / method / "rows.jsonl"))
        assert read_items(folder / method / "items.jsonl")
        assert sum(facts[method]["withheld"].values()) > 0
        assert unnamed(folder / method, "stage") == []
    assert facts["select"]["withheld"]["rows read"] == 2 * len(FORMS)
    assert (folder / "select/selection.svg").is_file()


def test_no_file_of_any_stage_holds_a_judged_item(wing, inputs):
    folder, _ = wing
    assert set(leaks(inputs)) == {
        "judged.jsonl",
        "rules.md",
        "seeds.jsonl",
    }  # the search does find it
    sheet = ["people-and-model/sheet.xlsx"]  # what a person wrote into it is that person's
    assert leaks(folder) == sheet


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    """Two trained rounds of back-translation and one of data distillation on the toy, judged rows among what they are given.

    So small a base knows no scale: a few prompts of `curate` among the seeds teach it one.
    """
    folder, prompts = tmp_path_factory.mktemp("trained"), Prompts()
    rows = read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")
    bad = read_data_rows(inputs / "seeds.jsonl")[-2 * len(FORMS) :]
    scored = [
        made_row(prompts("curate", question=q.question, answer=a.answer), score, method="own")
        for shift, score in ((0, "5"), (5, "2"))
        for q, a in zip([*rows[shift:12], *rows[:shift]], rows[:12], strict=True)
    ]
    write_rows(folder / "seeds.jsonl", [*rows[:12], *scored, *bad])
    write_rows(folder / "texts.jsonl", [*rows[40:58], *bad])
    facts = {}
    for method, line in {
        "back-translation": ("--seeds", folder / "seeds.jsonl", "--keep", "4,4"),
        "data-distillation": (
            "--labelled",
            folder / "seeds.jsonl",
            "--confidence",
            0.01,
            "--rounds",
            1,
        ),
    }.items():
        steps = arguments(
            max_steps={"back-translation": 24}.get(method, 2),
            warmup_steps=0,
            save_steps=100,
            max_length=448,
            learning_rate=2e-3,
        )
        recipe = small_recipe(folder, train=steps)
        line = ("generate", method, folder / "texts.jsonl", *line, "--recipe", recipe)
        facts[method] = _run(inputs, folder / "out" / method, *line)
    return folder / "out", facts


@pytest.mark.full
def test_two_trained_rounds_curate_what_a_trained_reverse_model_wrote(trained):
    folder, facts = trained
    rounds = facts["back-translation"]["rounds"]
    print(rounds)
    assert [one["scored_by"] for one in rounds] == ["M0", "M1"]
    assert [one["kept"] for one in rounds] == [4, 4]
    kept = read_data_rows(folder / "back-translation/rows.jsonl")
    assert [row.provenance["round"] for row in kept] == [1] * 4 + [2] * 4
    weights = [
        load_file(folder / f"back-translation/models/{name}/model.safetensors")
        for name in ("Myx", "M0", "M1", "M2")
    ]
    name = next(iter(weights[0]))
    assert all(not torch.equal(a[name], b[name]) for a, b in pairwise(weights))
    assert facts["data-distillation"]["funnel"]["made"] == 18


@pytest.mark.full
def test_no_trained_round_sees_or_writes_a_judged_item(trained):
    folder, facts = trained
    for method in ("back-translation", "data-distillation"):
        assert facts[method]["withheld"]["rows read"] == 4 * len(FORMS)
    assert leaks(folder) == []
