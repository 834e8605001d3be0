"""Every command of the wing as it is typed, fifty seeds, against a model that keeps saying judged items: none of them gets anywhere.

Judged text is planted wherever text comes in: seeds, documents, replies, the sheet, logs and their corrections, golds, the
iteration before, the rehearsal set of a run that is repaired. Stages that train are walked by `trained` below and in test_spin.py.
"""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
import typer
from openpyxl import load_workbook
from safetensors.torch import load_file
from typer.testing import CliRunner

from guardrail.anchors.store import AnchorAnswer, write_anchors
from guardrail.cli.data import app as data_app
from guardrail.cli.main import app
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import made_row, read_data_rows, write_rows
from guardrail.sets.items import Item, Message, read_items, write_items
from guardrail.shipped import shipped_root
from tests.anchors.test_store import manifest
from tests.data_wing.repaired_story import drifted_run, rehearsal_items
from tests.data_wing.scripted_server import ScriptedServer
from tests.data_wing.whole_wing import (
    FORMS,
    JUDGED,
    KNOWLEDGE,
    MOVED,
    REWORDED,
    TOPICS,
    WAYS,
    freely,
    leaked,
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

GENERATED = (
    "self-instruct",
    "evol-instruct",
    "step-back",
    "grounded",
    "answers",
    "magpie",
    "dialogues",
    "people-and-model",
)
WALKED = {*(f"generate {name}" for name in GENERATED), "select", "logs", "spin", "repair"} | {
    "curriculum",
    "export",
}
TRAINED = {"generate back-translation", "generate data-distillation"}
WITHOUT_ROWS = {"plan", "prompts", "outcomes", "probe", "probe-template"}
"""They write no text of anybody's."""
RIGHTLY = ["people-and-model/sheet.xlsx", "repair/rehearsal.jsonl"]
"""A person's own words in the sheet; and the run's own rehearsal set, which the next run's begins with, line by line as it was."""
BAD = 3 * len(FORMS)
"""Judged rows among the seeds."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Fifty seeds and 25 documents, and among them the judged item in six forms as question, as answer, reworded and moved about."""
    folder = tmp_path_factory.mktemp("inputs")
    clean = [
        made_row(f"{topic}{way}", f"先看{topic}的料，再看火候，最后收拾干净。", method="own")
        for topic in TOPICS
        for way in WAYS
    ]
    bad = [made_row(form(JUDGED), "好。", method="own") for form in FORMS]
    bad += [made_row("出一道题", form(REWORDED), method="own") for form in FORMS]
    bad += [made_row("再出一道", "好。", method="own", seen=[form(MOVED)]) for form in FORMS]
    assert len(bad) == BAD
    write_rows(folder / "seeds.jsonl", [*clean, *bad])
    (folder / "rules.md").write_text("\n\n".join([*KNOWLEDGE, JUDGED * 2]), encoding="utf-8")
    question = (Message(role="user", content=JUDGED),)
    item = Item(id="j", ability="writing", source="own", licence="CC0-1.0", messages=question)
    write_items(folder / "judged.jsonl", [item])
    (folder / "log.jsonl").write_text(_lines(_log()), encoding="utf-8")
    _golds(folder / "anchors")
    return folder


def _lines(values):
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in values)


def _log() -> Iterator[dict[str, str]]:
    """Liked and corrected answers, and judged text as question, answer, correction, and as what was corrected."""
    for number, topic in enumerate(TOPICS):
        others = "、".join(TOPICS[(number * step + step) % len(TOPICS)] for step in (7, 11, 13))
        told = f"先看{topic}的料，再看火候，第{number}步收拾干净。"
        better = {"correction": f"先问清{others}，{told}"} if number % 3 == 0 else {}
        yield {"query": f"{topic}怎么配{others}", "answer": told, "thumbs": "up", **better}
    for near in (JUDGED, REWORDED, MOVED):
        for number, form in enumerate(FORMS):
            asked, bad = f"第{number}张单子怎么填，{near[-3:]}", form(near)
            yield {"query": bad, "answer": "先看料，再看火候。", "thumbs": "up"}
            yield {"query": f"{asked}？", "answer": bad, "thumbs": "up"}
            yield {"query": f"{asked}呢？", "answer": "不知道呀。", "correction": bad}
            yield {"query": f"{asked}吗？", "answer": bad, "correction": "先看料，再看火候。"}


def _golds(folder):
    """Anchors of items of which one is near the judged one, and another's gold is it."""
    items = [*rehearsal_items(4), _near_item()]
    golds = [JUDGED, *(f"答{number}，就这么办。" for number in range(1, len(items)))]
    said = [
        AnchorAnswer(item.id, replicate, gold, (1,), "stop")
        for item, gold in zip(items, golds, strict=True)
        for replicate in range(2)
    ]
    write_anchors(folder, manifest(), said, {})
    write_items(folder / "rehearsal.jsonl", items)


def _near_item() -> Item:
    asked = (Message(role="user", content=REWORDED),)
    return Item(id="near", ability="writing", source="own", licence="CC0-1.0", messages=asked)


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
        facts["logs"] = _run(inputs, folder / "logs", "logs", inputs / "log.jsonl")
        facts |= _played(inputs, folder, server.url)
        facts["repair"] = _repaired(inputs, folder / "repair", server)
    for name in ("curriculum/staged.jsonl", "export/juicer.jsonl", "export/distilabel.jsonl"):
        facts[name] = _rewritten(inputs, folder / name)
    return folder, facts


def _played(inputs, folder, url):
    """Two iterations of SPIN by a server; the rows of the first were edited before the second read them."""
    line = ("spin", inputs / "seeds.jsonl", "--server", url, "--anchors", inputs / "anchors")
    line = (*line, "--general-share", 0.1)
    first = _run(inputs, folder / "spin-0", *line)
    rows = read_data_rows(folder / "spin-0/rows.jsonl")
    edited = [made_row(f"问{n}", form(JUDGED), method="own") for n, form in enumerate(FORMS)]
    pair = rows[0].provenance
    bad = [made_row(r.question, r.answer, **pair) for r in edited]
    bad += [made_row("问", "答", **{**pair, "rejected": form(MOVED)}) for form in FORMS]
    write_rows(inputs / "edited/rows.jsonl", [*rows, *bad])
    line = (*line, "--previous", inputs / "edited")
    return {"spin-0": first, "spin-1": _run(inputs, folder / "spin-1", *line)}


def _repaired(inputs, out, server):
    """A run that lost an ability; of its rehearsal items, the seeds, one is near the judged item."""
    run = drifted_run(inputs / "told", {"writing": 0.6})
    own = read_items(run / "rehearsal.jsonl")
    write_items(run / "rehearsal.jsonl", [*own, _near_item()])
    server.script = freely
    return _run(inputs, out, "repair", run, "--rows", 2, "--server", server.url)


def _rewritten(inputs, out):
    """The seeds in curriculum order, or as another tool reads them."""
    line = ["data", out.parent.name, inputs / "seeds.jsonl", "--judged", inputs / "judged.jsonl"]
    line += ["--out", out, *(("--json",) if out.parent.name == "curriculum" else ())]
    if out.parent.name == "export":
        line += ["--to", {"juicer": "data-juicer"}.get(out.stem, out.stem)]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert done.exit_code == 0, done.output
    return done.output


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
    for method in (*GENERATED, "select", "logs", "spin-0", "spin-1"):
        kept = facts[method]["funnel"]["kept"]
        assert kept >= 5, (method, facts[method]["funnel"])
        assert kept == len(read_data_rows(folder / method / "rows.jsonl"))
        assert read_items(folder / method / "items.jsonl")
        assert sum(facts[method]["withheld"].values()) > 0
        assert unnamed(folder / method, "stage") == []
    assert facts["select"]["withheld"]["rows read"] == BAD
    assert (folder / "select/selection.svg").is_file()
    assert facts["logs"]["withheld"]["rows read"] == 4 * BAD
    assert facts["logs"]["preferences"] > 0
    golds = 2
    assert facts["spin-0"]["withheld"]["rows read"] == BAD + golds
    assert facts["spin-1"]["withheld"]["rows read"] == BAD + golds + 2 * len(FORMS)
    assert facts["spin-1"]["mixed_in"] == facts["spin-0"]["funnel"]["kept"]
    assert facts["repair"]["funnel"]["kept"] > 0
    seeds = len(TOPICS) * len(WAYS)
    for name in ("curriculum/staged.jsonl", "export/juicer.jsonl", "export/distilabel.jsonl"):
        assert len((folder / name).read_text("utf-8").splitlines()) == seeds
    assert json.loads(facts["curriculum/staged.jsonl"])["withheld"] == BAD
    assert facts["export/juicer.jsonl"].rstrip().endswith(f"judged item: {BAD}")


@pytest.mark.parametrize("text", [JUDGED, REWORDED, MOVED])
def test_the_search_finds_judged_text_and_its_near_duplicates_in_every_form(text):
    assert all(leaked(f"先看{form(text)}，再说") for form in FORMS)
    assert not leaked("红烧肉怎么做才不腻，步骤说明在哪里看")


def test_no_file_of_any_stage_holds_a_judged_item_or_a_near_duplicate(wing, inputs):
    folder, facts = wing
    planted = {"judged", "seeds", "log", "edited/rows", "anchors/rehearsal", "told/run/rehearsal"}
    assert {"rules.md", *(f"{name}.jsonl" for name in planted)} <= set(leaks(inputs))
    assert leaks(folder) == RIGHTLY
    # The sheet's judged lines did not become rows, and of the rehearsal set they are the run's own, as they were.
    own = (inputs / "told/run/rehearsal.jsonl").read_text("utf-8").splitlines()
    lines = (folder / "repair/rehearsal.jsonl").read_text("utf-8").splitlines()
    assert lines[: len(own)] == own
    assert not any(map(leaked, lines[len(own) :]))
    assert len(lines) == len(own) + facts["repair"]["funnel"]["kept"]


def test_no_command_of_the_wing_is_left_out_of_the_walk():
    group = typer.main.get_command(data_app)
    names = {*group.commands} - {"generate"}
    names |= {f"generate {name}" for name in group.commands["generate"].commands}
    assert names == WALKED | TRAINED | WITHOUT_ROWS


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    """Two trained rounds of back-translation and one of data distillation on the toy, judged rows among what they are given.

    So small a base knows no scale: a few prompts of `curate` among the seeds teach it one.
    """
    folder, prompts = tmp_path_factory.mktemp("trained"), Prompts()
    rows = read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")
    bad = read_data_rows(inputs / "seeds.jsonl")[-BAD:]
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
        assert facts[method]["withheld"]["rows read"] == 2 * BAD
    assert leaks(folder) == []
