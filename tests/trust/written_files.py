"""Every file the guard writes: how it is read back, and what becomes of a copy that is not as it was written.

    python -m tests.trust.written_files [--lang zh]

prints the table of docs/security.md. `unnamed` finds files of a real run that are not declared here.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.journal import Journal
from guardrail.anchors.progress import AnchorsProgress, read_progress
from guardrail.anchors.store import AnchorAnswer, Manifest, TopK, read_anchors, write_anchors
from guardrail.data.chat_endpoint import ChatEndpoint, user_says
from guardrail.data.rows import made_row
from guardrail.data.trained_model import is_trained, note_trained
from guardrail.engines.finished_model import stored_items
from guardrail.engines.vllm_client import VllmServer
from guardrail.guard.asked_looks import Measurement, open_asks, read_answer, write_answer
from guardrail.guard.checkpoints import complete_checkpoint
from guardrail.guard.resume import last_complete_checkpoint, resumed_state
from guardrail.judge.look_values import measure_completions, write_answers
from guardrail.ledger.file import Ledger, live_records, read_ledger
from guardrail.live.sidecar_status import read_alive
from guardrail.models.fingerprint import file_sha256
from guardrail.models.profile import Profile
from guardrail.recipe import Recipe, read_recipe, write_resolved_recipe
from guardrail.report.report import build_report
from guardrail.sets.items import Item, items_sha256, write_items
from guardrail.sidecar.after_end import judge_rest
from guardrail.sidecar.sign_of_life import SignOfLife
from guardrail.simulate import read_run_trajectory
from guardrail.track.wandb_run import note_run, noted_run
from guardrail.trainers.resumed_recipe import recipe_changes
from guardrail.writer_lock import release
from tests.data_wing.scripted_server import ScriptedServer
from tests.guard.asked_course import GOLD, asked_course, look_due

KINDS = ("changed", "cut", "another's", "emptied", "no JSON", "gone")
"""What is done to a copy: one digit or bit, half of it gone, the same file of another run, nothing in it, text in it."""
REFUSED, ANEW, LEFT_OUT = "refused", "anew", "left out"
_ZH = {
    "file": "文件", "changed": "改动", "cut": "截断", "another's": "别的运行的", "emptied": "清空",
    "no JSON": "不是 JSON", "gone": "缺失", REFUSED: "拒绝", ANEW: "重做", LEFT_OUT: "略去",
}  # fmt: skip

ROWS = [made_row("一加一等于几", "二。", method="own")]
QUESTIONS = [user_says(f"第{n}题", "a") for n in range(3)]


@dataclass(frozen=True)
class WrittenFile:
    """A file that is read back."""

    name: str
    """Below the folder of a run, of anchors or of a data stage; a pattern."""
    room: str
    read: Callable[[Path], Iterable[Any]]
    """Given that folder: what is believed of it, a list; raises InputError."""
    other: Mapping[str, str] = field(default_factory=dict)
    """Kinds that are not refused: made anew without what was changed, or left out until it is written again."""
    said: str = ""
    """What the refusal names where it is not the file."""
    digit_after: bytes = b""
    """Where the digit stands that is changed."""

    def outcome(self, kind: str) -> str:
        return self.other.get(kind, REFUSED)


# How each is read back, as the guard does it.


def _resumed(run: Path) -> list[Any]:
    checkpoint, state = resumed_state(run / "checkpoints", "checkpoint-30", run)
    return [str(checkpoint), state.looks]


def _replayed(run: Path) -> list[Any]:
    return [len(read_run_trajectory(run).looks)]


def _answered(run: Path) -> list[Any]:
    asks = [r for r in live_records(read_ledger(run)) if r["kind"] == "asked"]
    closed = {"kind": "started", "step": 0, "seq": 0}
    return [read_answer(run, ask) for ask in open_asks([closed, *asks])]


def _recipe(run: Path) -> list[Any]:
    recipe = read_recipe(str(run / "recipe.resolved.json"))
    checkpoint = last_complete_checkpoint(run / "checkpoints")
    recipe_changes(run, checkpoint, _header(recipe), allowed=False)
    return [recipe.name]


def _alive(run: Path) -> list[Any]:
    told = read_alive(run)
    return [] if told is None else [{**told, "silent_s": 0}]


def _items(file: str, of: str) -> Callable[[Path], list[Any]]:
    def read(folder: Path) -> list[Any]:
        return stored_items(folder, file, getattr(read_anchors(folder).manifest, of))

    return read


def _begun(folder: Path) -> list[Any]:
    journal = Journal(folder, _manifest())
    return [made for n in range(3) for made in journal.chunk([f"red-{n}"], 0) or ()]


def _progress(folder: Path) -> list[Any]:
    told = read_progress(folder)
    return [] if told is None else [told["answered"]]


def _replies(folder: Path) -> list[Any]:
    try:
        known = ChatEndpoint(
            VllmServer("http://127.0.0.1:9/v1"), "scripted", folder / "asked.jsonl"
        )
        return [known._known[key] for key in sorted(known._known) if key in _keys()]
    finally:
        release(folder)


def _trained(folder: Path) -> list[Any]:
    return [True] if is_trained(folder / "models/a", [row.id for row in ROWS]) else []


_OVER = dict.fromkeys(KINDS, LEFT_OUT)
_LINES = {"cut": ANEW, "another's": ANEW, "emptied": ANEW, "gone": ANEW}
"""Of a journal: whole lines stand, what a kill or a full disk can have left is asked anew."""

READ_BACK = (
    WrittenFile("ledger.jsonl", "run", _resumed),
    WrittenFile("looks/*.jsonl", "run", _replayed),
    WrittenFile("checkpoints/*/guardrail_state.json", "run", _resumed),
    WrittenFile("checkpoints/*/*.safetensors", "run", _resumed),
    WrittenFile("checkpoints/*/trainer_state.json", "run", _resumed),
    WrittenFile("sidecar/step-*.json", "run", _answered),
    WrittenFile("sidecar/alive.json", "run", _alive, _OVER),
    WrittenFile(
        "recipe.resolved.json", "run", _recipe,
        said="began with another recipe|recipe.resolved.json", digit_after=b'"seed": ',
    ),
    WrittenFile("wandb_run.json", "run", lambda run: [noted_run(run)["id"]] if noted_run(run) else [], {"gone": ANEW}),
    WrittenFile("manifest.json", "anchors", lambda folder: [read_anchors(folder).manifest], said="manifest|anchors"),
    WrittenFile("answers.jsonl", "anchors", lambda folder: [read_anchors(folder).answers]),
    WrittenFile("topk.safetensors", "anchors", lambda folder: [read_anchors(folder).topk.keys()]),
    WrittenFile("red-line.jsonl", "anchors", _items("red-line.jsonl", "red_line")),
    WrittenFile("rehearsal.jsonl", "anchors", _items("rehearsal.jsonl", "rehearsal")),
    WrittenFile("answers.partial.jsonl", "anchors", _begun, _LINES),
    WrittenFile("progress.json", "anchors", _progress, _OVER),
    WrittenFile("asked.jsonl", "stage", _replies, _LINES),
    WrittenFile("models/*/trained", "stage", _trained, {"gone": ANEW}),
    WrittenFile("models/*/*.safetensors", "stage", _trained),
)  # fmt: skip

NOT_READ_BACK = {
    "run": (
        "report.html", "report.json", "recipe.next.yaml", "writer.lock", "sidecar/lock", "wandb/*", "checkpoints/*",
        "metrics.jsonl", "logs/*", "runs/*", "tensorboard/*", "items.jsonl",
    ),
    "anchors": ("writer.lock",),
    "stage": (
        "writer.lock", "rows.jsonl", "items.jsonl", "dropped.jsonl", "preferences.jsonl", "preferences.swift.jsonl",
        "stage.json", "costs.json", "selection.svg", "sheet.xlsx", "models/*",
    ),
}  # fmt: skip
"""Files nobody reads back, files that people edit, and those of the trainer and of trackers; `checkpoints/*` and
`models/*` are bound whole, by the state and by `trained`."""
ALIKE = {"stage": {"judged.jsonl": "asked.jsonl", "asked-*.jsonl": "asked.jsonl"}}
"""Files that are written and read as another one is."""


def unnamed(folder: Path, room: str) -> list[str]:
    """Return the files of a folder that are declared nowhere here."""
    known = [one.name for one in READ_BACK if one.room == room]
    known += [*NOT_READ_BACK[room], *ALIKE.get(room, ())]
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not any(fnmatchcase(name, one) for one in known))


def table(language: str = "en") -> str:
    """Return the table as Markdown."""
    words = _ZH if language == "zh" else {}
    rows = [("file", *KINDS), ("---",) * (1 + len(KINDS))]
    for one in READ_BACK:
        shown = f"{one.room}: `{one.name}`"
        rows.append((shown, *map(one.outcome, KINDS)))
    return "\n".join(f"| {' | '.join(words.get(cell, cell) for cell in row)} |" for row in rows)


# What is tampered with: written by the guard itself, with nothing trained.


def written(folder: Path, of: int) -> None:
    """Write a run, anchors and a data stage below a folder; `of` tells one from another."""
    _write_run(folder / "run", of)
    _write_anchors(folder / "anchors", of)
    _write_stage(folder / "stage", of)


def _header(recipe: Recipe) -> dict[str, Any]:
    return {"name": recipe.name, "mode": recipe.mode, "recipe": recipe.model_dump(mode="json")}


def _write_run(run: Path, of: int) -> None:
    recipe = read_recipe("toy-sft", changes=["looks.engine=sidecar", f"seed={of}"])
    write_resolved_recipe(recipe, run)
    Ledger(run).append("started", 0, **_header(recipe))
    course = asked_course(run, lambda action: None)
    for step in (10, 20, 30):
        look_due(course, step)
    checkpoint = course.checkpoints / "checkpoint-30"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights of %d" % of * 40)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 30, "of": of}))
    complete_checkpoint(course.guard, checkpoint, limit=None, best=None)
    course.finish(30)
    guard = course.guard

    def answer(ask: Any, waiting: int) -> None:
        text = GOLD if of == 1 else GOLD.replace("您", "你")
        said = [[SimpleNamespace(text=text, finish_reason="stop")] * ask.samples] * len(
            guard.red_line
        )
        texts = [[one.text for one in row] for row in said]
        values = measure_completions(guard.red_line, texts, [GOLD] * len(texts))
        file = f"looks/look-{ask.look:04d}.jsonl"
        write_answers(run / file, guard.red_line, said, values)
        measured = guard.meter.only_judged(values)
        sha256 = file_sha256(run / file)
        write_answer(run, ask, Measurement(measured, file, 1.0 + of, answers_sha256=sha256))

    with SignOfLife(run, lambda text: None) as life:
        judge_rest(guard.meter, lambda: read_ledger(run), "gold", answer)
        life.tell("waiting", None, 0)
    note_run(run, SimpleNamespace(id=f"run{of}", project="p", entity="me"))
    build_report(run)


def _items_of(kind: str, of: int) -> list[Item]:
    return [
        Item.model_validate({
            "id": f"{kind}-{n}", "ability": "writing", "source": "own", "licence": "CC0-1.0",
            "messages": [{"role": "user", "content": f"第{n}题，第{of}套"}],
        })
        for n in range(2)
    ]  # fmt: skip


def _manifest(of: int = 1) -> Manifest:
    hashes = {"weights": f"{of}" * 64, "tokenizer": "b" * 64, "chat_template": "c" * 64}
    profile = Profile(
        stop=(2,), pad=0, thinking=False, heeds_thinking=True, opened="", system_turns=True, alternating=False,
        vocabulary=1000,
    )  # fmt: skip
    return Manifest(
        gold_base=hashes, kl_reference=hashes,
        red_line=items_sha256(_items_of("red", of)), rehearsal=items_sha256(_items_of("reh", of)),
        profile=profile, decoding=Decoding(mode="greedy"), replicates=1, seed=of, top_k=2, batch_size=4,
        engine="in-process", dtype="float32", versions={},
    )  # fmt: skip


def _write_anchors(folder: Path, of: int) -> None:
    import numpy as np

    answers = [AnchorAnswer(f"red-{n}", 0, f"答{of}", (5, of, 2), "stop") for n in range(2)]
    answers += [AnchorAnswer(f"reh-{n}", 0, f"好{of}", (8, 2), "stop") for n in range(2)]
    ids, logs = np.array([[1, 2], [3, of]], np.int32), np.full((2, 2), -1.0, np.float32)
    topk = {f"reh-{n}": TopK(ids, logs, np.array([-4.0, -4.0], np.float32)) for n in range(2)}
    write_anchors(folder, _manifest(of), answers, topk)
    write_items(folder / "red-line.jsonl", _items_of("red", of))
    write_items(folder / "rehearsal.jsonl", _items_of("reh", of))
    journal = Journal(folder, _manifest(of))
    for answer in answers[:2]:
        journal.append([answer])
    progress = AnchorsProgress(folder, 600)
    progress.tell("red-line golds", made=100 + of)


def _keys() -> set[str]:
    from guardrail.data.chat_endpoint import _key

    asking = ChatEndpoint(VllmServer("http://127.0.0.1:9/v1"), "scripted")
    return {_key(asking._body(one)) for one in QUESTIONS}


def _write_stage(folder: Path, of: int) -> None:
    folder.mkdir(parents=True)
    questions = QUESTIONS if of == 1 else [user_says(f"别的第{n}题", "a") for n in range(3)]
    with ScriptedServer(lambda prompt, body: f"{prompt}的答{of}") as server:
        ChatEndpoint(VllmServer(server.url, concurrency=1), "scripted", folder / "asked.jsonl")(
            questions
        )
    release(folder)
    model = folder / "models/a"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights of %d" % of * 40)
    rows = ROWS if of == 1 else [made_row("二加二", "四。", method="own")]
    note_trained(model, [row.id for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    print(table(parser.parse_args().lang))


if __name__ == "__main__":
    main()
