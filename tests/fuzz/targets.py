"""Whatever somebody's file says, the answer is a page, items, a recipe, or one InputError: never a traceback or a hang.

    python -m tests.fuzz.targets --target recipe --inputs 1000 --seed 0

Three targets: ledger → status and report, recipe → its keys, corpus → items. An input is made of well-formed ones by
mutations that keep most of their form, by random numbers of a seed, so that a finding is made again by its number.
"""

import argparse
import gzip
import io
import json
import random
import resource
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from guardrail.errors import InputError
from guardrail.live.status import run_status
from guardrail.live.status_terminal import render_status
from guardrail.recipe import read_recipe
from guardrail.report.report import render_report
from guardrail.sets.read.importer import ImportOptions, import_files
from guardrail.shipped import shipped_recipes
from tests.report.stories import finished_drifted, told

LONGEST_S = 5.0
MOST_MIB = 500
PAGE_EVERY = 20
"""A page takes some 50 times as long as the status, which reads the same records."""

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, -(2**70), 10**400, 0.0, 1e308, -1e-308, float("inf"), float("nan"), "", " ",
    "\0", "\ud800", "\u202eabc", "a" * 5000, "<script>", "{{x}}", "../../etc/passwd", "/dev/zero", "~nobody/x", "%s",
    [], {}, [[]], {"": {}}, [None] * 50, "2026-11-30", "NaN", "=1+1", "\n\n", "1" * 5000, "critical", "ok",
)  # fmt: skip


class TooLong(BaseException):
    """An input that took longer than any may, whatever else the machine does: seconds of CPU."""


@dataclass
class Found:
    """What a number of inputs led to."""

    inputs: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    failures: list[str] | None = None


def mutate(value: Any, chance: random.Random, depth: int = 0) -> Any:
    """Return JSON content with a few things in it replaced, removed, doubled or nested."""
    if chance.random() < 0.02:
        return chance.choice(ODD)
    if isinstance(value, dict):
        made = {}
        for name, inner in value.items():
            dice = chance.random()
            if dice < 0.01:
                continue
            if dice < 0.015:
                name = str(chance.choice(ODD))[:60]
            made[name] = mutate(inner, chance, depth + 1)
        if chance.random() < 0.01:
            made[chance.choice(("id", "kind", "step", "", "x" * 300))] = chance.choice(ODD)
        return made
    if isinstance(value, list):
        made_list = [mutate(v, chance, depth + 1) for v in value if chance.random() > 0.01]
        if made_list and chance.random() < 0.01:
            made_list *= chance.choice((2, 3, 40))
        return made_list
    if chance.random() < 0.005:
        nested: Any = value
        for _ in range(chance.choice((3, 30, 300))):
            nested = [nested] if chance.random() < 0.5 else {"x": nested}
        return nested
    return value


def mangle(data: bytes, chance: random.Random) -> bytes:
    """Return bytes of which some are flipped, cut, doubled or inserted."""
    made = bytearray(data)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        if not made:
            break
        at = chance.randrange(len(made))
        dice = chance.random()
        if dice < 0.4:
            made[at] ^= 1 << chance.randrange(8)
        elif dice < 0.6:
            del made[at : at + chance.choice((1, 8, 200))]
        elif dice < 0.8:
            made[at:at] = made[at : at + chance.choice((1, 30, 300))] * chance.choice((1, 2, 20))
        elif dice < 0.95:
            made[at:at] = chance.choice(
                (
                    b"\0",
                    b"\xff\xfe",
                    b"[" * 500,
                    b'{"a":' * 300,
                    b"9" * 6000,
                    b"\n",
                    b'"',
                    b"&a ",
                    b"*a",
                    b"\r",
                    b"~x/",
                )
            )
        else:
            del made[at:]
    return bytes(made)


def _lines(records: list[Any], chance: random.Random) -> bytes:
    return b"".join(
        json.dumps(r, ensure_ascii=chance.random() < 0.5).encode("utf-8", "backslashreplace")
        + b"\n"
        for r in records
    )


def ledger_target(folder: Path) -> Callable[[random.Random, int], None]:
    """A mutated ledger, told as status in a terminal and now and then as a page."""
    run = told(finished_drifted, folder).run
    records = [json.loads(line) for line in (run / "ledger.jsonl").read_text("utf-8").splitlines()]
    for record in records:  # as many streams as a page is quick with
        if record["kind"] == "look":
            record["streams"] = record["streams"][::3]

    def ask(chance: random.Random, number: int) -> None:
        made = [mutate(record, chance) for record in records]
        if chance.random() < 0.3:
            chance.shuffle(made)
        data = _lines(made, chance)
        (run / "ledger.jsonl").write_bytes(mangle(data, chance) if chance.random() < 0.5 else data)
        if number % PAGE_EVERY == 0:
            page = render_report(run)
            assert "<script>" not in page
            assert len(page) < 20_000_000
        render_status(run_status(run))

    return ask


def recipe_target(folder: Path) -> Callable[[random.Random, int], None]:
    """A mutated shipped recipe, as YAML that a dumper writes or as its mangled text."""
    texts = [path.read_text("utf-8") for path in shipped_recipes().values()]
    contents = [yaml.safe_load(text) for text in texts]
    file = folder / "recipe.yaml"

    def ask(chance: random.Random, number: int) -> None:
        at = chance.randrange(len(texts))
        if chance.random() < 0.5:
            data = mangle(texts[at].encode(), chance)
        else:
            data = b""
            with suppress(ValueError, UnicodeError):  # what no dumper writes
                made = json.dumps(mutate(contents[at], chance))
                data = mangle(made.encode(), chance)
        file.write_bytes(data)
        recipe = read_recipe(file)
        json.dumps(recipe.model_dump(mode="json"), allow_nan=False).encode()

    return ask


ROWS: tuple[Any, ...] = (
    {"instruction": "写一句问候语，给老客户", "input": "", "output": "您好，好久不见。"},
    {"messages": [{"role": "user", "content": "今天天气怎么样呢？"}, {"role": "assistant", "content": "晴。"}]},
    {"conversations": [{"from": "human", "value": "介绍一下长城的历史"}, {"from": "gpt", "value": "长城…"}]},
    {"kind": "对联", "input": "春风又绿江南岸，求下联", "target": "明月何时照我还"},
    {"Question": "中国的首都是哪里？", "A": "北京", "B": "上海", "C": "广州", "D": "天津", "Answer": "A"},
    {"id": 1, "instances": [{"input": "x", "output": "y"}], "instruction": "把下面的句子翻译成英文"},
    {"round_0": {"response": '{"Q": "为什么天是蓝的？", "A": "散射。"}'}},
    {"conversation": [{"human": "怎样做红烧肉？", "assistant": "先焯水。"}], "category": "菜"},
    {"query": "请解释一下量子纠缠", "response": "……", "history": [["你好呀朋友", "你好"]], "system": "助手"},
    {"input": ["你好，请问你会什么？"], "output": ["很多。"]},
    {"prompt": [{"role": "user", "content": "写一首关于秋天的诗"}], "chosen": [{"role": "assistant", "content": "好"}]},
)  # fmt: skip


def _packed(rows: list[Any], chance: random.Random) -> bytes:
    dice = chance.random()
    lines = _lines(rows, chance)
    if dice < 0.5:
        return lines
    if dice < 0.6:
        return b"[" + b",".join(lines.splitlines()) + b"]"
    if dice < 0.65:
        keyed = {f"k{n}": row for n, row in enumerate(rows)}
        return json.dumps(keyed).encode()
    if dice < 0.75:
        cells = [",".join(f'"{v}"' for v in row.values()) for row in rows if isinstance(row, dict)]
        return ("instruction,input,output\n" + "\n".join(cells)).encode("utf-8", "backslashreplace")
    if dice < 0.85:
        return gzip.compress(lines, 1)
    if dice < 0.95:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("rows.jsonl", lines)
        return packed.getvalue()
    from openpyxl import Workbook

    book, packed = Workbook(), io.BytesIO()
    for row in [
        ("instruction", "output"),
        ("写一句问候语给客户", "好"),
        *[(ascii(r)[:50], "x") for r in rows],
    ]:
        with suppress(Exception):  # characters no workbook holds
            book.worksheets[0].append(row)
    book.save(packed)
    return packed.getvalue()


def importer_target(folder: Path) -> Callable[[random.Random, int], None]:
    """Mutated rows of all formats, in all packings, mangled before or after they are packed."""
    file, out = folder / "rows", folder / "items.jsonl"

    def ask(chance: random.Random, number: int) -> None:
        row = chance.choice(ROWS)
        rows = [mutate(row, chance) for _ in range(chance.choice((1, 2, 5)))]
        data = _packed(rows, chance)
        file.write_bytes(mangle(data, chance) if chance.random() < 0.7 else data)
        import_files(
            [file], out, ImportOptions(skip_broken=chance.random() < 0.5, keep_duplicates=True)
        )

    return ask


TARGETS: dict[str, Callable[[Path], Callable[[random.Random, int], None]]] = {
    "ledger": ledger_target,
    "recipe": recipe_target,
    "importer": importer_target,
}


def fuzz(target: str, inputs: int, seed: int = 0, first: int = 0) -> Found:
    """Return what so many inputs of a target led to; every failure is named by the number that makes it again."""
    found = Found(failures=[])

    def too_long(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, too_long)
    try:
        with TemporaryDirectory() as folder:
            ask = TARGETS[target](Path(folder))
            for number in range(first, first + inputs):
                started = time.process_time()
                signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
                try:
                    ask(random.Random(f"{target}-{seed}-{number}"), number)
                except InputError as error:
                    found.refused += 1
                    if "\n" in str(error) or len(str(error)) > 5000:
                        found.failures.append(f"{number}: an error of {len(str(error))} characters")
                except (Exception, TooLong) as error:
                    found.failures.append(f"{number}: {type(error).__name__}: {error!s:.200}")
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                found.inputs += 1
                found.slowest_s = max(found.slowest_s, time.process_time() - started)
    finally:
        signal.signal(signal.SIGPROF, before)
    return found


def most_mib() -> float:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=list(TARGETS), required=True)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    asked = parser.parse_args()
    at_start, started = most_mib(), time.process_time()
    found = fuzz(asked.target, asked.inputs, asked.seed, asked.first)
    facts = {
        "target": asked.target,
        "inputs": found.inputs,
        "refused": found.refused,
        "failures": len(found.failures or ()),
        "slowest_s": round(found.slowest_s, 2),
        "cpu_s": round(time.process_time() - started, 1),
        "mib_at_start": round(at_start),
        "mib_most": round(most_mib()),
    }
    print(json.dumps(facts))
    for failure in (found.failures or ())[:20]:
        print(" ", failure)
    sys.exit(bool(found.failures))


if __name__ == "__main__":
    main()
