"""What the study trains on, injects and is judged by: split once, from the user's copies of public corpora.

Nothing of the corpora is part of this project. `--data` is a folder with whatever of these files there is:
medical/*.csv (Chinese-medical-dialogue-data, MIT: department, title, ask, answer), disc_finllm/*.json and
finance_small/*.json (DISC-FinLLM, Cornucopia: Apache-2.0), llamafactory/alpaca_zh_demo.json (terms of its upstream unclear),
belle/eval_set.json and belle/zh_seed_tasks.json (research only). "Others' answers" are those of the last three: written
by people or by larger models, in no case by the base.

Run: python -m tests.real.study.material --data CORPORA --out runs/study --base runs/real/base
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from guardrail.sets.items import Item, read_items, write_items
from guardrail.sets.lint.overlap import find_overlaps
from guardrail.shipped import shipped_root

Row = tuple[str, str]

SETTINGS: dict[str, Any] = {
    "steps": 60,
    "batch": 8,
    "bf16": True,
    "tokens": 48,
    "longest": 260,
    "held_domain": 48,
    "held_others": 80,
    "judged": 140,
    "looked_at": 60,
    "lean": 12,
    "general": 60,
}
"""Sizes of every cell; `--smoke` makes them so small that a cell is a matter of seconds on the toy."""
SMOKE = {
    "steps": 10,
    "batch": 8,
    "bf16": False,
    "tokens": 12,
    "held_domain": 4,
    "held_others": 4,
    "judged": 9,
    "looked_at": 18,
    "lean": 6,
    "general": 4,
}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text("utf-8")
    rows = json.loads(text) if text.lstrip().startswith("[") else None
    if rows is not None:
        yield from rows
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue  # a published file has broken lines


def _alpaca(path: Path) -> Iterator[Row]:
    for row in _json_rows(path):
        if "instances" in row:
            one = row["instances"][0]
            yield f"{row['instruction']}\n{one['input']}".strip(), one["output"]
        elif "std_answer" in row:
            yield row["question"], row["std_answer"]
        elif isinstance(row.get("output"), str):
            yield f"{row['instruction']}\n{row.get('input', '')}".strip(), row["output"]


def medical(data: Path) -> Iterator[Row]:
    for path in sorted(data.glob("medical/*.csv")):
        with path.open(encoding="gb18030", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                yield row["ask"].strip(), row["answer"].strip()


def finance(data: Path) -> Iterator[Row]:
    for path in sorted([*data.glob("disc_finllm/*.json"), *data.glob("finance_small/*.json")]):
        yield from _alpaca(path)


def others(data: Path) -> Iterator[Row]:
    names = ("llamafactory/alpaca_zh_demo.json", "belle/eval_set.json", "belle/zh_seed_tasks.json")
    for name in names:
        if (data / name).is_file():
            yield from _alpaca(data / name)


def kept(rows: Iterator[Row], longest: int) -> list[Row]:
    """Return short rows, each question once, in the order of their hashes."""
    once = {
        asked: (asked, answer)
        for asked, answer in rows
        if asked and answer and "\ufffd" not in answer
    }
    short = [row for row in once.values() if len(row[0] + row[1]) <= longest and len(row[1]) >= 4]
    return sorted(short, key=lambda row: _hash(row[0]))


def split_items(settings: dict[str, Any]) -> dict[str, list[Item]]:
    """Return what looks ask (also their lean part), what the evaluator alone asks, and what is injected."""
    easy = read_items(shipped_root() / "eval_sets/zh-easy-200/items.jsonl")
    general = read_items(shipped_root() / "rehearsal_sets/zh-general/items.jsonl")
    easy.sort(key=lambda item: _hash(item.id))
    short = sorted(
        (i for i in general if i.ability != "long_text"), key=lambda item: len(item.prompt)
    )
    looked_at, rest = easy[: settings["looked_at"]], easy[60:]
    injected = read_items(shipped_root() / "rehearsal_sets/zh-easy/items.jsonl")
    count = settings["general"]
    return {
        "looked-at": looked_at,
        "lean": looked_at[: settings["lean"]],
        "judged": rest[: settings["judged"]],
        "rehearsal": (injected if count >= 60 else injected[:: 94 // count]) + short[:count],
        "general": short[:count],
    }


def write_rows(path: Path, rows: list[Row]) -> None:
    lines = [
        json.dumps(
            {
                "prompt": [{"role": "user", "content": asked}],
                "completion": [{"role": "assistant", "content": answer}],
            },
            ensure_ascii=False,
        )
        for asked, answer in rows
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def read_rows(path: Path) -> list[Row]:
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows]


def prepare(
    data: Annotated[Path, typer.Option(help="folder of the corpora")],
    out: Annotated[Path, typer.Option(help="folder of the study")],
    base: Annotated[Path, typer.Option(help="the base; it may be made later")],
    smoke: Annotated[bool, typer.Option("--smoke", help="as small as still injects")] = False,
    target_rate: Annotated[float, typer.Option(help="rate all others are factors of")] = 3e-5,
) -> None:
    """Write OUT/material and OUT/study.json."""
    settings = SETTINGS | (SMOKE if smoke else {})
    settings |= {"base": str(base.resolve()), "rate": target_rate}
    folder = out / "material"
    folder.mkdir(parents=True, exist_ok=True)
    sets = split_items(settings)
    for name, items in sets.items():
        write_items(folder / f"{name}.jsonl", items)
    known = {item.id: item.prompt for group in sets.values() for item in group}
    counts = {}
    for name, rows, held in (
        ("medical", medical(data), settings["held_domain"]),
        ("finance", finance(data), settings["held_domain"]),
        ("others", others(data), settings["held_others"]),
    ):
        short = kept(rows, settings["longest"])
        texts = [(str(n), part) for n, row in enumerate(short) for part in row]
        met = {int(found.text) for found in find_overlaps(known, texts)}
        apart = [row for n, row in enumerate(short) if n not in met]
        write_rows(folder / f"{name}-held.jsonl", apart[:held])
        write_rows(folder / f"{name}-train.jsonl", apart[held:])
        counts[name] = {"train": len(apart[held:]), "held": held, "overlapping": len(met)}
    settings["rows"] = counts
    (out / "study.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    print(json.dumps(settings, indent=2))


if __name__ == "__main__":
    typer.run(prepare)
