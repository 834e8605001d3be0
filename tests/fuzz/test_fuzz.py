"""The fuzz of docs/security.md, in processes of their own: memory is told for each target."""

import json
import subprocess
import sys

import pytest

from tests.fuzz.targets import MOST_MIB
from tests.run_fixtures import ROOT

pytestmark = [pytest.mark.run, pytest.mark.full]


def told(*args: object) -> tuple[int, str]:
    line = [sys.executable, "-W", "ignore", "-m", *map(str, args)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("target", "inputs"), [("ledger", 25_000), ("recipe", 20_000), ("importer", 60_000)]
)
def test_nothing_somebody_s_file_says_is_a_traceback_a_hang_or_a_flood(target, inputs):
    code, said = told("tests.fuzz.targets", "--target", target, "--inputs", inputs)
    assert code == 0, said
    assert json.loads(said.splitlines()[0])["mib_most"] < MOST_MIB


def test_nothing_is_lost_doubled_or_merged_by_kills_and_full_disks():
    code, said = told("tests.fuzz.kills", "--moments", 100)
    assert code == 0, said
