"""A path may lead anywhere, since ledgers and recipes of others name them: a regular file is read, and nothing else waited for."""

import os
from pathlib import Path

import pytest

from guardrail.anchors.store import read_anchors
from guardrail.errors import InputError
from guardrail.read_back import read_bounded
from guardrail.sets.items import read_items
from guardrail.sets.read.readers import read_rows
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.simulate import read_trajectory

READERS = {
    "items": read_items,
    "rows": lambda path: list(read_rows(path)),
    "training rows": read_training_rows,
    "anchors": read_anchors,
    "trajectory": read_trajectory,
}
ODD = ("fifo", "/dev/zero", "loop", "folder", "none", "x" * 300, "a\0b", "/proc/self/mem")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("odd", ODD, ids=[ascii(name)[1:15] for name in ODD])
def test_what_is_no_regular_file_is_refused_in_a_line(tmp_path, monkeypatch, reader, odd):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    Path("folder").mkdir()
    with pytest.raises(InputError) as caught:
        READERS[reader](Path(odd))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_nothing_is_read_of_a_file_that_is_too_large(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        OSError, match="larger than 1048575 MiB"
    ):  # a read of so much would end in a MemoryError
        read_bounded(tmp_path / "large", (1 << 40) - 1)
