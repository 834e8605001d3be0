"""Files of a run are whole or not there, also where the disk is full in the middle of one."""

import subprocess
import sys

import pytest

FULL = """
import resource, sys
from pathlib import Path
from guardrail.files import append_whole, write_whole
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
try:
    if sys.argv[2] == "append":
        append_whole(path, b"x" * 100)
    else:
        write_whole(path, "x" * 100)
except OSError:
    sys.exit(7)
"""


@pytest.mark.parametrize("how", ["append", "write"])
@pytest.mark.parametrize("before", [None, "whole\n"])
def test_what_a_full_disk_cut_off_leaves_the_file_as_it_was(tmp_path, how, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)
    done = subprocess.run([sys.executable, "-c", FULL, str(path), how], check=False)
    assert done.returncode == 7
    assert (path.read_text() if path.exists() else "") == (before or "")
    assert {p.name for p in tmp_path.iterdir()} <= {"file"}
