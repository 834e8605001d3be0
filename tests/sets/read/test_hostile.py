"""A stranger's small file costs little: each bound is named where it is passed, and nothing is unpacked beyond it."""

import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from openpyxl import Workbook

from guardrail.errors import InputError
from guardrail.sets.read.clean import scrub_personal_data
from guardrail.sets.read.importer import ImportOptions, import_files
from guardrail.sets.read.raw_rows import LONGEST_LINE
from guardrail.sets.read.readers import read_rows

ROW = {"instruction": "写一句给老客户的问候语", "output": "您好。"}
MIB = 1 << 20


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return packed.getvalue()


def workbook(sheet: str | None = None) -> bytes:
    book, packed = Workbook(), io.BytesIO()
    book.worksheets[0].append(["instruction", "output"])
    book.worksheets[0].append(["写一句问候语", "您好"])
    book.save(packed)
    if sheet is None:
        return packed.getvalue()
    changed = io.BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, sheet.encode() if name.endswith("sheet1.xml") else text)
    return changed.getvalue()


def sheet(rows: str) -> str:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{space}"><sheetData>{rows}</sheetData></worksheet>'


def table(**columns: pyarrow.Array) -> bytes:
    packed = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), packed, compression="zstd")
    return packed.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def encrypted() -> bytes:
    content = bytearray(zipped(a__jsonl=json.dumps(ROW).encode()))
    for at in (6, content.index(b"PK\1\2") + 8):  # the flag of both headers
        content[at] |= 1
    return bytes(content)


LINE = json.dumps(ROW).encode()
FILES = {
    "nested array": (lambda: b"[" * 40_000, "nested deeper than 100 levels"),
    "nested object": (lambda: b'{\n"a":' * 7000, "nested deeper than 100 levels"),
    "nested line": (lambda: LINE + b"\n" + b'{"a":' * 9000, "line 2 is not valid JSON"),
    "long element": (lambda: b'[{"a": "' + b"x" * (5 * MIB) + b'"}]', "longer than 4 MiB"),
    "long line": (lambda: LINE + b"\n" + b'{"a": "' + b"x" * (5 * MIB) + b'"}\n', "longer than 4 MiB"),
    "long text in a table": (lambda: b"a,b\n" + b"x," * (3 * MIB), "longer than 4 MiB"),
    "an open quotation mark": (lambda: b'a,b\n"' + b"x,y\n" * (2 * MIB), "quotation mark missing"),
    "blank lines": (lambda: LINE + b"\n" * 200_000, "empty lines"),
    "blank lines at first": (lambda: b"{" + b"\n" * 200_000, None),
    "gzip of nothing": (lambda: gzip.compress(LINE + b"\n" + b" " * (80 * MIB), 9), "200 times its size|longer"),
    "zip of nothing": (lambda: zipped(a__jsonl=LINE + (b"\n" * 90_000 + LINE) * 900), "200 times its size|empty lines"),
    "an archive in an archive": (lambda: zipped(a__json=zipped(b__json=LINE)), "archive inside of an archive"),
    "tar of an archive": (lambda: tarred("a.json", gzip.compress(LINE)), "archive inside of an archive"),
    "encrypted": (encrypted, "cannot be unpacked|is damaged"),
    "one large cell": (lambda: table(instruction=pyarrow.array(["x" * (30 * MIB)])), "more than 4 MiB"),
    "much in little": (
        lambda: table(instruction=pyarrow.array(["x" * (2 * MIB)] * 40, pyarrow.large_string())),
        None,
    ),
    "a far row": (lambda: workbook(sheet('<row r="900000000"><c r="A1"><v>1</v></c></row>')), None),
    "a far column": (
        lambda: workbook(sheet('<row r="1"><c r="XFD1"><v>1</v></c></row>')),
        "more than 1000 columns",
    ),
    "no sheet": (lambda: workbook("<a/>"), None),
    "broken sheet": (lambda: workbook("<a"), "cannot be read"),
}  # fmt: skip


def refusal(work: Callable[[], object]) -> str:
    """What is said where something is refused, empty where it is not; anything but an InputError is a failure."""
    try:
        work()
    except InputError as error:
        return str(error)
    return ""


def read_all(file: Path) -> None:
    for row in read_rows(file):
        assert len(json.dumps(row.value, default=str)) <= 2 * LONGEST_LINE
        if row.problem:
            raise InputError(f"{row.where} {row.problem}")


@pytest.mark.parametrize("what", FILES)
def test_a_small_file_costs_little(tmp_path, what):
    make, wanted = FILES[what]
    (tmp_path / "rows").write_bytes(make())
    said = refusal(lambda: read_all(tmp_path / "rows"))
    assert len(said) < 600
    assert "\n" not in said
    assert wanted is None or re.search(wanted, said), said


@pytest.mark.parametrize("name", ["rows.zip", "rows.gz", "rows.xlsx", "rows.parquet"])
def test_a_broken_archive_is_one_line(tmp_path, name):
    whole = {
        "rows.zip": zipped(a__jsonl=LINE * 50),
        "rows.gz": gzip.compress(LINE * 50),
        "rows.xlsx": workbook(),
        "rows.parquet": table(instruction=pyarrow.array(["写一句问候语"] * 50)),
    }[name]
    file = tmp_path / name
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        for broken in (whole[:at], whole[:at] + b"\xff" + whole[at + 1 :]):
            file.write_bytes(broken)
            said = refusal(lambda: import_files([file], tmp_path / "items.jsonl"))
            assert "\n" not in said
            assert len(said) < 600


ODD_ROWS = [
    {"conversations": [{"from": ["x"]}]},
    {"conversations": "x"},
    {"conversation": [1]},
    {"instances": [{}], "instruction": 1},
    {"round_0": 1},
    {"round_0": ["x"]},
    {"query": [[1]], "answer": 2},
    {"input": ["a"], "output": "x"},
    {"input": ["a"]},
    {"history": 3, "query": "你好呀朋友"},
    {"messages": [{"role": {}, "content": [1]}]},
    {"Question": [], "A": 1, "B": 2, "C": 3, "D": 4},
    {"instruction": "\ud800" * 20, "output": "x"},
    {"kind": {}, "input": {}},
    {"prompt": [{"role": "user", "content": "x"}], "chosen": [1]},
    {f"key{n}": 1 for n in range(5000)},
]


@pytest.mark.parametrize("row", ODD_ROWS, ids=lambda row: next(iter(row)))
def test_an_odd_row_is_named_or_counted(tmp_path, row):
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{json.dumps(row)}\n", encoding="utf-8")
    out = tmp_path / "items.jsonl"
    assert len(refusal(lambda: import_files([file], out))) < 800
    assert not refusal(lambda: import_files([file], out, ImportOptions(skip_broken=True)))


def test_personal_data_is_looked_for_in_linear_time():
    """Quadratic, this would take longer than any test runs."""
    assert scrub_personal_data("a" * 2_000_000 + "@ ")[1] == 0
