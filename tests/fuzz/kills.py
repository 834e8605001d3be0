"""Kills and full disks at random instants of what a guarded run writes: nothing is lost, doubled or merged.

    python -m tests.fuzz.kills --moments 100 --seed 0 --disk /mnt/small

A writer does what a training does beside its steps, over and over: a look's answers, records, a checkpoint with the
guard's state, rotation, a report. It says each record that was acknowledged. At a random instant it is killed
(SIGKILL), or the disk below it is full: a real one, a small tmpfs where one may be mounted, else a limit on what a
file may hold. Then a second writer goes on, as a resume does, and what is there is compared with what was said.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.guard.bound_checkpoint import bind
from guardrail.guard.checkpoints import rotate
from guardrail.guard.resume import checkpoint_step, resumed_state
from guardrail.guard.state import STATE_FILE, GuardState, write_state
from guardrail.ledger.file import FILE_NAME, Ledger, read_ledger
from guardrail.ledger.records import LookFacts
from guardrail.models.fingerprint import file_sha256
from guardrail.report.report import build_report

SAVED = 20_000
"""Bytes of a checkpoint's weights."""


def write(run: Path, begin: int, say: Any) -> None:
    """Write steps until somebody ends it; `say` is told what is acknowledged."""
    ledger = Ledger(run)
    if begin:
        ledger.append("rewound", begin, checkpoint=f"checkpoint-{begin}", set_aside=[])
    else:
        say(ledger.append("started", 0, name="kills", mode="guard", recipe={}))
    state = GuardState(looks=begin)
    step = begin
    while True:
        step += 1
        say(ledger.append("log", step, loss=1.0 / step, learning_rate=1e-5))
        rows = "".join(
            json.dumps({"item": f"i{n}", "text": "字" * 200}, ensure_ascii=False) + "\n"
            for n in range(40)
        )
        file = f"looks/look-{step:04d}.jsonl"
        (run / "looks").mkdir(exist_ok=True)
        write_whole(run / file, rows)
        look = LookFacts(step=step, number=step, trigger="save", answers=file, level="untested", streams=(),
                         answers_sha256=file_sha256(run / file))  # fmt: skip
        say(ledger.append("look", step, **look.to_record()))
        state.looks += 1
        state.baseline = {"passed": np.ones((40, 2))}
        checkpoint = run / f"checkpoints/checkpoint-{step}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "model.bin").write_bytes(os.urandom(SAVED))
        say(
            ledger.append(
                "checkpoint", step, path=f"checkpoints/checkpoint-{step}", level="untested"
            )
        )
        write_state(checkpoint, state, bind(run, checkpoint))
        rotate(run / "checkpoints", 3, [checkpoint])
        if step % 3 == 0:
            build_report(run)


def writer(run: Path, begin: int, how: str, limit: int) -> None:
    """The process that is killed, or that a full disk ends."""

    def say(record: dict[str, Any]) -> None:
        print(json.dumps([record["seq"], record["kind"], record["step"]]), flush=True)

    if how == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(run, begin, say)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (run / "ballast").unlink(missing_ok=True)  # there is room again
        lines = [f.line for f in traceback.extract_tb(error.__traceback__) if f.name == "write"]
        print(f"full: {lines[-1] if lines else error}", flush=True)
        say(Ledger(run).append("crashed", 0, error=f"OSError: {error.strerror}"))


def ended(run: Path, begin: int, how: str, limit: int, chance: random.Random) -> str:
    """What a writer said until it was killed or had no room; a fork, since starting a process takes seconds."""
    end, other = os.pipe()
    process = os.fork()
    if not process:
        os.close(end)
        os.dup2(other, 1)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        with contextlib.suppress(BaseException):
            writer(run, begin, how, limit)
        sys.stdout.flush()
        os._exit(0)
    os.close(other)
    with os.fdopen(end, encoding="utf-8") as said:
        first = said.readline() if how == "kill" and chance.random() < 0.9 else ""
        if how == "kill":
            time.sleep(chance.uniform(0.0, 0.3))
            os.kill(process, signal.SIGKILL)
        rest = said.read()
    os.waitpid(process, 0)
    return first + rest


def moment(folder: Path, how: str, chance: random.Random) -> list[str]:
    """One kill or full disk, twice; return what they hit, or raise AssertionError where something was lost."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    said: list[list[Any]] = []
    hits: list[str] = []
    for attempt in range(2):
        begin = 0
        if attempt:
            checkpoint, state = resumed_state(run / "checkpoints", True, run)
            begin = checkpoint_step(checkpoint) if checkpoint else 0
            assert state.looks == begin, "the state is not its checkpoint's"
        if how == "disk":
            room = shutil.disk_usage(run).free - chance.randrange(20_000, 900_000)
            (run / "ballast").write_bytes(b"\0" * max(0, room))
        limit = chance.randrange(2_000, 60_000)
        output = ended(run, begin, how, limit, chance)
        full = ""
        for told in output.splitlines():
            if told.startswith("["):
                said.append(json.loads(told))
            elif told.startswith("full"):
                full = told
        hits.append(full if how != "kill" else f"killed {_where(run)}")
        (run / "ballast").unlink(missing_ok=True)
        _compare(run, said)
    return hits


def _where(run: Path) -> str:
    """In the middle of what a kill came, as far as what lies there tells."""
    partial = next(run.rglob("*.partial"), None)
    if partial is not None:
        return "in writing " + re.sub(r"\d+", "N", partial.name.partition(".")[0])
    ledger = run / "ledger.jsonl"
    if ledger.is_file() and not ledger.read_bytes().endswith(b"\n"):
        return "in a record"
    saved = sorted((run / "checkpoints").glob("checkpoint-*"), key=checkpoint_step)
    if saved and not (saved[-1] / STATE_FILE).is_file():
        return "in a save"
    return "between two writes"


def _compare(run: Path, said: list[list[Any]]) -> None:
    if not (run / FILE_NAME).exists():
        assert not said, "acknowledged, and there is no ledger"
        return
    records = read_ledger(run)
    numbers = [r["seq"] for r in records]
    assert numbers == list(range(len(records))), "numbers doubled or left out"
    there = Counter((r["seq"], r["kind"], r["step"]) for r in records)
    lost = [one for one in said if not there[tuple(one)]]
    assert not lost, f"acknowledged and lost: {lost[:3]}"
    for look in (r for r in records if r["kind"] == "look"):
        assert file_sha256(run / look["answers"]) == look["answers_sha256"], (
            "answers of another look"
        )
    for name in ("report.json", "recipe.resolved.json"):
        if (run / name).is_file():
            json.loads((run / name).read_text(encoding="utf-8"))
    if (run / "report.html").is_file():
        assert (run / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    try:
        resumed_state(run / "checkpoints", True, run)
    except InputError as error:
        raise AssertionError(f"no way to go on: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--disk", type=Path, help="a small file system of its own, for real full disks"
    )
    asked = parser.parse_args()
    ways = ["kill", "kill", "limit"] + (["disk", "disk"] if asked.disk else [])
    table: Counter[str] = Counter()
    failures = []
    hits: Counter[str] = Counter()
    for number in range(asked.moments):
        how = ways[number % len(ways)]
        place = asked.disk if how == "disk" else Path(tempfile.gettempdir())
        with tempfile.TemporaryDirectory(dir=place) as folder:
            try:
                hits.update(moment(Path(folder), how, random.Random(f"{asked.seed}-{number}")))
            except AssertionError as error:
                failures.append(f"{number} ({how}): {error}")
        table[how] += 1
    print(
        json.dumps(
            {
                "moments": dict(table),
                "hit": dict(hits.most_common()),
                "failures": failures,
            },
            indent=1,
        )
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
