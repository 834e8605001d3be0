import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from guardrail.errors import InputError
from guardrail.sets.read import json_rows
from guardrail.sets.read.readers import read_rows

ROWS = [
    {"instruction": "用一句话介绍豆汁儿。", "input": "", "output": "豆汁儿是发酵的绿豆汤。"},
    {"instruction": "把“下雨了，收衣服”译成英文。", "input": "", "output": "It's raining."},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def _zip(data: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("README.md", "no data")
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _frame(method: str) -> bytes:
    buffer = io.BytesIO()
    getattr(pd.DataFrame(ROWS), method)(buffer, index=False)
    return buffer.getvalue()


KEYED = json.dumps({"7": ROWS[0], "9": ROWS[1]}, ensure_ascii=False)


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode(),
        LINES.rstrip("\n").encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        json.dumps(ROWS, ensure_ascii=False, indent=2).encode(),
        json.dumps(ROWS).encode(),
        b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
        KEYED.encode(),
        json.dumps(json.loads(KEYED), ensure_ascii=False, indent=1).encode(),
        gzip.compress(LINES.encode()),
        _zip(json.dumps(ROWS).encode(), "data/rows.json"),
        _tar({"a.json": json.dumps(ROWS[0]).encode(), "b.json": json.dumps(ROWS[1]).encode()}),
        _frame("to_parquet"),
        _frame("to_excel"),
        _frame("to_csv"),
        pd.DataFrame(ROWS).to_csv(index=False, sep="\t").encode(),
    ],
    ids=[
        "jsonl", "no newline at the end", "jsonl with BOM", "array", "escaped array", "array with BOM",
        "keyed", "keyed over lines", "gzip", "zip", "tar.gz", "parquet", "xlsx", "csv", "tsv",
    ],
)  # fmt: skip
def test_every_shape_gives_the_same_rows_whatever_the_suffix(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(data)
    assert [row.value for row in read_rows(path)] == ROWS


def test_rows_say_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + LINES, encoding="utf-8")
    assert [row.where for row in read_rows(path)] == [f"`{path}` line 2", f"`{path}` line 3"]


def test_a_broken_line_is_a_row_with_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES + '{"instruction": "断在半\n[1]\n', encoding="utf-8")
    rows = list(read_rows(path))
    assert [bool(row.problem) for row in rows] == [False, False, True, True]
    assert rows[2].where.endswith("line 3")
    assert rows[3].problem == "is a list, not an object"


def test_coig_rounds_are_one_row(tmp_path: Path) -> None:
    path = tmp_path / "dialogue.json"
    path.write_text(json.dumps({"round_0": {"response": "x"}, "round_1": {"response": "y"}}))
    assert len(list(read_rows(path))) == 1


def test_gb18030_is_read_when_named_and_recognised_when_not(tmp_path: Path) -> None:
    for name, data in (
        ("rows.csv", "问题,answer\n豆汁儿怎么喝？,配焦圈\n".encode("gb18030")),
        ("rows.jsonl", LINES.encode("gb18030")),
        ("array.json", json.dumps(ROWS, ensure_ascii=False).encode("gb18030")),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert len(list(read_rows(path, "gb18030"))) == len(data.splitlines()) - (
            name == "rows.csv"
        ) + (name == "array.json")
        with pytest.raises(InputError, match=name):
            list(read_rows(path))
    with pytest.raises(InputError, match="takes `--encoding gb18030`"):
        list(read_rows(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (json.dumps(ROWS).encode()[:-20], "breaks off after element 1"),
        (json.dumps(json.loads(KEYED), indent=1).encode()[:-30], "breaks off after entry 1"),
        (b"just some words\nand more", "neither JSON nor a table"),
        pytest.param(gzip.compress(LINES.encode())[:60], "is damaged", id="gzip"),
        pytest.param(_zip(LINES.encode(), "a.jsonl")[:80], "is damaged", id="zip"),
        pytest.param(_frame("to_parquet")[:200], "is damaged", id="parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said) as error:
        list(read_rows(path))
    assert str(path) in str(error.value)


def test_a_line_that_is_far_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES + json.dumps({"instruction": "长" * 2000}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 3 is longer than"):
        list(read_rows(path))


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES * 2000, encoding="utf-8")
    told: list[int] = []
    assert len(list(read_rows(path, progress=told.append))) == 4000
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size
