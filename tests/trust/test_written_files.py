"""A tampered copy of any file the guard writes is refused by name where it is read, or nothing of it is believed."""

import re
import shutil

import pytest

from guardrail.errors import InputError
from tests.run_fixtures import ROOT
from tests.trust.written_files import (
    ANEW,
    KINDS,
    LEFT_OUT,
    READ_BACK,
    REFUSED,
    table,
    unnamed,
    written,
)

CASES = [(one, kind) for one in READ_BACK for kind in KINDS]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of this run, and of another."""
    folder = tmp_path_factory.mktemp("written")
    for of in (1, 2):
        written(folder / str(of), of)
    return folder


def the_file(folder, one):
    return sorted((folder / one.room).glob(one.name))[-1]


def changed(content, after):
    """One digit another one, where there is a value of digits; else one bit."""
    digits = [m.end() - 1 for m in re.finditer((after or rb"[:\[,] ?") + rb"\d", content)]
    made = bytearray(content)
    at = digits[len(digits) // 2] if digits else len(content) // 2
    made[at] = (made[at] - 47) % 10 + 48 if digits else made[at] ^ 1
    return bytes(made)


def tamper(two, folder, one, kind):
    path = the_file(folder, one)
    content = path.read_bytes()
    if kind == "gone":
        path.unlink()
        return path.name
    other = the_file(two / "2", one).read_bytes()
    made = {
        "changed": changed(content, one.digit_after),
        "cut": content[: len(content) // 2],
        "another's": other,
        "emptied": b"",
        "no JSON": b"this is no JSON\n",
    }[kind]
    assert made != content
    path.write_bytes(made)
    return path.name


@pytest.mark.parametrize(("one", "kind"), CASES, ids=[f"{one.name} {kind}" for one, kind in CASES])
def test_a_tampered_copy_is_refused_by_name_or_nothing_of_it_is_believed(tmp_path, two, one, kind):
    folder = tmp_path / "1"
    shutil.copytree(two / "1" / one.room, folder / one.room)
    whole = list(one.read(folder / one.room))
    assert whole, "it is read as it was written"
    name = tamper(two, folder, one, kind)
    if one.outcome(kind) == REFUSED:
        with pytest.raises(InputError, match=one.said or re.escape(name)) as caught:
            one.read(folder / one.room)
        said = str(caught.value)
        assert "\n" not in said
        assert len(said) < 1000
        assert re.search(r"[;.] \w|, or ", said), "the next step"
        return
    found = list(one.read(folder / one.room))
    assert all(believed in whole for believed in found)
    assert len(found) < len(whole)
    assert one.outcome(kind) != LEFT_OUT or not found


def test_no_file_is_written_that_the_table_does_not_name(two):
    for room in ("run", "anchors", "stage"):
        assert unnamed(two / "1" / room, room) == []
    assert {one.outcome(kind) for one, kind in CASES} == {REFUSED, ANEW, LEFT_OUT}


@pytest.mark.parametrize(("file", "language"), [("security.md", "en"), ("security_zh.md", "zh")])
def test_the_table_of_the_docs_is_this_one(file, language):
    """`python -m tests.trust.written_files [--lang zh]` prints it."""
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    assert table(language) in text
