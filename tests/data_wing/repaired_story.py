"""A told run with a rehearsal set of its own, to be repaired: its red line holds the judged text of whole_wing.py."""

import json
from pathlib import Path

from guardrail.models.fingerprint import file_sha256
from guardrail.sets.items import Item, Message, read_items, write_items
from guardrail.sets.reserved import reserved_ids
from tests.data_wing.whole_wing import JUDGED, TOPICS, WAYS
from tests.report.stories import Story, red_line, undigested

ABILITIES = ("instruction", "writing", "translation")


def judged_items() -> list[Item]:
    """The red line of stories, its first item asking what must not leak."""
    first, *others = red_line()
    asked = (Message(role="user", content=JUDGED),)
    return [first.model_copy(update={"messages": asked}), *others]


def rehearsal_items(an_ability: int = 10) -> list[Item]:
    """Rehearsal items of three abilities."""
    asked = [f"{topic}{way}" for topic in TOPICS for way in WAYS]
    return [
        Item(
            id=f"reh-{ability}-{n:02d}",
            ability=ability,
            source="test",
            licence="Apache-2.0",
            messages=(Message(role="user", content=asked[10 * k + n]),),
        )
        for k, ability in enumerate(ABILITIES)
        for n in range(an_ability)
    ]


def drifted_run(folder: Path, failing: dict[str, float], *, an_ability: int = 10) -> Path:
    """A run of two looks; `failing` gives each ability's share of bad answers at the second."""
    run = folder / "run"
    items = judged_items()
    story = Story(run, items=items).start()
    write_items(run / "rehearsal.jsonl", rehearsal_items(an_ability))
    story.look(0, trigger="start")
    story.look(20, failing, trigger="save")
    story.end(20, "halted")
    for name in ("ledger.jsonl", "recipe.resolved.json"):
        text = (run / name).read_text(encoding="utf-8")
        (run / name).write_text(
            text.replace("/nowhere.jsonl", str(run / "rehearsal.jsonl")), encoding="utf-8"
        )
    undigested(run)
    return run


PRESSES = """
MARGINS = {"presses": (0.02, 0.05)}
def presses(chat, case):
    return float("归还" in chat[-1]["content"])
def cluster(chat, case):
    return case.get("template")
"""
"""A business's probes, which find the bad answer of stories."""


def judged_by_probes(run: Path, file: Path) -> None:
    """Let a run have been judged by these probes of a business too; two items each are of one template."""
    file.write_text(PRESSES, encoding="utf-8")
    items = read_items(run / "items.jsonl")
    clusters = {item.id: f"t{n // 2}" for n, item in enumerate(items)}
    cases = [one.model_copy(update={"case": {"template": clusters[one.id]}}) for one in items]
    write_items(run / "items.jsonl", cases)
    for answers in (run / "looks").iterdir():
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        told = [row | {"presses": float("归还" in row["text"])} for row in rows]
        answers.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in told), encoding="utf-8"
        )
    path = run / "ledger.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    # As the run folder of a stranger may name what it likes.
    records[0]["recipe"]["probes"] = {"files": [str(run / "theirs.py")]}
    records[0] |= {"probes_sha256": [file_sha256(file)], "probe_clusters": clusters}
    for record in records:
        if record["kind"] == "look":
            record["streams"].append(record["streams"][0] | {"metric": "presses"})
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    undigested(run)


def rewrite_reserved(run: Path, *, passed: float) -> None:
    """Let every reserved item of the newest look have passed, or failed."""
    kept_back = reserved_ids(read_items(run / "items.jsonl"))
    path = sorted((run / "looks").iterdir())[-1]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["item"] in kept_back:
            row["passed"] = passed
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
    )
