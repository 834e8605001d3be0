"""Short real runs on the toy base: a recipe file with changes, runs in processes of their own, ledgers."""

import atexit
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from guardrail.ledger.file import live_records, read_ledger
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items, write_items
from guardrail.shipped import shipped_recipes, shipped_root
from tests.warm import TRL, WarmProcess

ROOT = Path(__file__).parent.parent


def as_yaml(content: dict[str, Any]) -> str:
    """A recipe's text; one value in two places would become an alias, which no recipe has."""
    return yaml.safe_dump(json.loads(json.dumps(content)), allow_unicode=True)


def small_recipe(folder: Path, *, items_an_ability: int = 10, **changes: Any) -> Path:
    """Write a short version of the toy recipe: few items, few steps; `changes` merge one level deep, None takes away."""
    content = yaml.safe_load(shipped_recipes()["toy-sft"].read_text(encoding="utf-8"))
    content["name"] = "short"
    content["language"] = "en"  # what tests read of a terminal
    for key, source in (
        ("red_line", "eval_sets/toy-redline-300"),
        ("rehearsal", "rehearsal_sets/toy-general"),
    ):
        kept: dict[str, list[Any]] = {}
        for item in read_items(shipped_root() / source / "items.jsonl"):
            kept.setdefault(item.ability, []).append(item)
        path = folder / f"{key}.jsonl"
        write_items(path, [i for group in kept.values() for i in group[:items_an_ability]])
        content["sets"][key] = str(path)
    content["anchors"] = str(folder / "anchors")
    content["looks"] |= {"every_steps": 4, "tripwire_every_steps": 2, "early_look_kl": 0.0}
    content["looks"]["replicates"] = 2  # answers are most of a short run
    content["looks"]["decoding"]["max_new_tokens"] = 64
    content["train"] = arguments()
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            content[key] |= value
        elif value is None:
            content.pop(key)
        else:
            content[key] = value
    file = folder / "short.yaml"
    file.write_text(as_yaml(content), encoding="utf-8")
    return file


@cache
def _anchors() -> Path:
    """A folder of this session for anchors several tests share."""
    held = tempfile.TemporaryDirectory(prefix="anchors-")
    atexit.register(held.cleanup)
    return Path(held.name)


def anchored(file: Path) -> Path:
    """Give a recipe the anchors it asks for, which are made once for all tests that ask for the same."""
    from guardrail.trainers.attach import Guardrail
    from guardrail.trainers.checks.wanted_anchors import wanted_manifest

    recipe = read_recipe(file)
    asking = Guardrail.from_recipe(recipe)
    wanted = wanted_manifest(recipe, asking.red_line, asking.rehearsal).model_dump_json()
    kept = _anchors() / hashlib.sha256(wanted.encode()).hexdigest()
    if kept.is_dir():
        shutil.copytree(kept, str(recipe.anchors))
        return file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asking.anchors()
    shutil.copytree(str(recipe.anchors), kept)
    return file


def arguments(**changes: Any) -> dict[str, Any]:
    """The toy recipe's training section with other trainer arguments."""
    content = yaml.safe_load(shipped_recipes()["toy-sft"].read_text(encoding="utf-8"))
    train: dict[str, Any] = content["train"]
    train["held_out"] = 0.02
    train["arguments"] |= {
        "max_steps": 12,
        "save_steps": 4,
        "per_device_train_batch_size": 4,
        "logging_steps": 2,
        "max_length": 192,
    } | changes
    return train


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind on the live branch of a run's ledger."""
    return [r for r in live_records(read_ledger(run)) if r["kind"] == kind]


def process(
    line: Sequence[object], *, cwd: Path = ROOT, timeout: float = 900, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Carry out a command line to its end, from a cold start."""
    variables = {k: str(v) for k, v in environment.items()}
    return subprocess.run(
        [*map(str, line)],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "guardrail", *map(str, args)]


def logged(run: Path, step: int | None = None) -> bool:
    """Whether a run's ledger has a log record, or that of a step."""
    there = (run / "ledger.jsonl").is_file()
    return there and any(r["kind"] == "log" and step in (None, r["step"]) for r in read_ledger(run))


def wait(
    until: Callable[[], bool],
    process: "subprocess.Popen[Any] | WarmProcess",
    pause: float,
    seconds: float = 300,
) -> None:
    """Wait until something holds or the process has ended, and not longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not until() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(pause)


def hear_ctrl_c() -> None:
    """Before a program starts: what a shell runs in the background is deaf to SIGINT, and so is what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def warm(
    line: Sequence[object], *, cwd: Path = ROOT, timeout: float = 900, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Carry out a command line to its end in a process that begins with the trainer loaded."""
    with WarmProcess(line, cwd=cwd, **environment) as one:
        code = one.wait(timeout)
        return subprocess.CompletedProcess(
            one.args, code, one.output("stdout"), one.output("stderr")
        )


def guardrail(*args: object, cwd: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return warm(command(*args), cwd=cwd, **environment)


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def places_of(ranks: int) -> list[dict[str, object]]:
    """What torchrun tells each rank of one machine; one alone is told nothing."""
    if ranks == 1:
        return [{}]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": ranks}
    meeting |= {"LOCAL_WORLD_SIZE": ranks}
    return [meeting | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(ranks)]


def script(
    module: str, *args: object, ranks: int = 1, loaded: tuple[str, ...] = TRL
) -> subprocess.CompletedProcess[str]:
    """Run a module below tests/ as users run a script of theirs: alone, or as one of several ranks.

    The ranks find each other as those of torchrun do. Where the launcher itself has a part in what is tested, a
    test starts `script_line(..., ranks=...)`.
    """
    line = script_line(module, *args)
    places = places_of(ranks)
    with ExitStack() as ended:
        started = [
            ended.enter_context(
                WarmProcess(line, cwd=ROOT, loaded=loaded, ACCELERATE_USE_CPU="true", **place)
            )
            for place in places
        ]
        codes = [one.wait(900) for one in started]
        said = ["".join(one.output(name) for one in started) for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(line, max(codes, key=abs), *said)


def script_line(module: str, *args: object, ranks: int = 1) -> list[str]:
    """Return the command line of `script`."""
    line: list[object] = [sys.executable]
    if ranks > 1:
        line += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", ranks]
    return [*map(str, [*line, "-m", f"tests.{module}", *args])]
