"""Files that hold more than they say, or say a thing once and give it many times: the bound that ends it is named."""

import contextlib
import copy
import gzip
import io
import re
import tarfile
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from openpyxl import Workbook

from guardrail.errors import InputError
from guardrail.sets.read.readers import read_rows

MIB = 1 << 20
SPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRINGS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
LINE = b'{"instruction": "a", "output": "b"}\n'


def numbered(value, width=0):
    """An integer as Thrift has it, longer than it must be where a width is given."""
    left, made = value << 1, bytearray()
    while left > 127 or len(made) + 1 < width:
        made.append(left & 127 | 128)
        left >>= 7
    return bytes(made) + bytes([left])


def table(compression="zstd", **columns):
    packed = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), packed, compression=compression)
    return packed.getvalue()


def low_footer():
    """80 MiB in a page, of which the footer says that they are ten bytes."""
    made = table(instruction=pyarrow.array(["x" * (80 * MIB)], pyarrow.large_string()))
    about = parquet.ParquetFile(io.BytesIO(made)).metadata.row_group(0)
    for size in {about.column(0).total_uncompressed_size, about.total_byte_size}:
        true = numbered(size)
        assert true in made
        made = made.replace(true, numbered(10, len(true)))
    return made


def high_page():
    """A page that says it unpacks to 2 GiB."""
    made = table(instruction=pyarrow.array(["写一句"]))
    column = parquet.ParquetFile(io.BytesIO(made)).metadata.row_group(0).column(0)
    at = column.dictionary_page_offset
    assert made[at : at + 3] == b"\x15\x04\x15", "type and then the size"
    end = 3 + re.match(rb"[\x80-\xff]*[\0-\x7f]", made[at + 3 : at + 9]).end()
    return made[: at + 3] + numbered(2**31 - 1) + made[at + end :]


def long_list():
    """One row with a list of 20 million numbers, which packs to nothing."""
    numbers = pyarrow.array(np.zeros(20_000_000, np.int8))
    return table(instruction=pyarrow.ListArray.from_arrays([0, len(numbers)], numbers))


def workbook(sheet=None, strings=None, sheets=1):
    book, packed = Workbook(), io.BytesIO()
    book.worksheets[0].append(["instruction", "output"])
    for number in range(1, sheets):
        book.create_sheet(f"s{number}").append(["instruction", "output"])
    book.save(packed)
    made = io.BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            text = old.read(name).decode()
            if name == "xl/worksheets/sheet1.xml" and sheet is not None:
                text = f'<worksheet xmlns="{SPACE}"><sheetData>{sheet}</sheetData></worksheet>'
            if name == "[Content_Types].xml" and strings is not None:
                part = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{STRINGS}"/>'
                text = text.replace("</Types>", f"{part}</Types>")
            if name == "xl/_rels/workbook.xml.rels":
                text = re.sub(r"sheet[2-9]\.xml", "sheet1.xml", text)
            new.writestr(name, text)
        if strings is not None:
            new.writestr("xl/sharedStrings.xml", f'<sst xmlns="{SPACE}">{strings}</sst>')
    return made.getvalue()


def shared_cell():
    rows = '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>'
    rows += '<row><c t="s"><v>2</v></c><c t="s"><v>2</v></c></row>' * 100
    strings = f"<si><t>instruction</t></si><si><t>output</t></si><si><t>{'x' * MIB}</t></si>"
    return workbook(rows, strings)


def overlapping():
    """A thousand members that are the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", LINE * 40_000)
        archive.filelist += [copy.copy(archive.filelist[0]) for _ in range(1000)]
    return packed.getvalue()


def tarred(headers, mode="w:gz"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for header in headers:
            archive.fileobj.write(header)
        member = tarfile.TarInfo("a.jsonl")
        member.size = len(LINE)
        archive.addfile(member, io.BytesIO(LINE))
    return packed.getvalue()


def pax(size, kind=tarfile.XHDTYPE):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, size
    record = b"%d path=" % size
    content = record + b"a" * (size - len(record) - 1) + b"\n"
    return header.tobuf(tarfile.USTAR_FORMAT) + content + b"\0" * (-size % 512)


FILES = {
    "a footer that says little": (low_footer, "200 times its size"),
    "a page that says much": (high_page, "200 times its size"),
    "a long list": (long_list, "200 times its size|more than 4 MiB"),
    "a million empty rows": (lambda: table(instruction=pyarrow.array([""] * 1_000_000)), "200 times its size"),
    "a text for every row": (
        lambda: table(instruction=pyarrow.array(["x" * MIB] * 100)), "200 times its size|more than 4 MiB",
    ),
    "shared strings": (lambda: workbook(strings="<si><t/></si>" * 200_000), "elements, out of proportion"),
    "empty cells": (lambda: workbook("<row>" + "<c/>" * 900 + "</row>" + "<row/>" * 200_000), "elements, out of"),
    "a cell for every row": (shared_cell, "200 times its size"),
    "one sheet many times": (lambda: workbook(sheets=3), "the same sheet more than once"),
    "members that overlap": (overlapping, "200 times its size"),
    "a long pax header": (lambda: tarred([pax(100_000)]), "more than 64 KiB about a member"),
    "a long name": (lambda: tarred([pax(100_000, tarfile.GNUTYPE_LONGNAME)]), "more than 64 KiB about"),
    "many pax headers for all": (lambda: tarred([pax(60_000, tarfile.XGLTYPE)] * 20), "more than 16 headers for all"),
    "pax headers without end": (lambda: tarred([pax(600)] * 5000), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_says_less_than_it_holds_is_ended_and_the_bound_named(tmp_path, what):
    make, wanted = FILES[what]
    data = make()
    assert len(data) < 2 * MIB
    (tmp_path / "rows").write_bytes(data)
    with pytest.raises(InputError, match=wanted) as caught:
        for _ in read_rows(tmp_path / "rows"):
            pass
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "make", [lambda: tarred([pax(6000)]), lambda: tarred([pax(90, tarfile.XGLTYPE)] * 3)]
)
def test_what_a_tar_usually_says_of_a_member_is_read(tmp_path, make):
    (tmp_path / "rows").write_bytes(make())
    with pytest.raises(InputError, match="holds no file of rows"):  # by that path it has no suffix
        list(read_rows(tmp_path / "rows"))


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_of_any_writer_s_settings_is_read(tmp_path, compression, version, dictionary):
    rows = [
        {"messages": [{"role": "user", "content": f"第{n}题" * 50}] * (n % 4), "scores": [0.5] * n}
        for n in range(300)
    ]
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "rows", compression=compression, data_page_version=version,
        use_dictionary=dictionary, data_page_size=2000, row_group_size=100, write_page_index=True,
        write_page_checksum=True,
    )  # fmt: skip
    assert [row.value["scores"] for row in read_rows(tmp_path / "rows")] == [
        r["scores"] for r in rows
    ]


def test_gzip_of_a_tar_is_still_streamed(tmp_path):
    (tmp_path / "rows").write_bytes(gzip.compress(tarred([], "w")))
    assert [row.value["output"] for row in read_rows(tmp_path / "rows")] == ["b"]


def test_no_byte_of_a_parquet_file_ends_the_process(tmp_path):
    """Asked for a column of a damaged footer, pyarrow does."""
    rows = [{"messages": [{"role": "user", "content": f"第{n}题"}]} for n in range(20)]
    packed = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), packed)
    whole = packed.getvalue()
    footer = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    for at in range(footer, len(whole) - 8):
        for value in (0, 127, whole[at] ^ 1):
            (tmp_path / "rows").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            with contextlib.suppress(InputError):
                list(read_rows(tmp_path / "rows"))
