import math
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, live_records, read_ledger
from guardrail.ledger.follow import LedgerTail


def test_records_come_back_in_order_and_pandas_reads_them(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("look", 0, level="ok")
    ledger.append("action", 20, action="raise_kl", reason="翻译变差")
    assert [r["seq"] for r in read_ledger(tmp_path)] == [0, 1]
    frame = pd.read_json(tmp_path / "ledger.jsonl", lines=True)
    assert list(frame["kind"]) == ["look", "action"]
    assert frame.loc[1, "reason"] == "翻译变差"


def test_a_nan_is_refused_and_nothing_is_written(tmp_path):
    ledger = Ledger(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.append("log", 1, loss=math.nan)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_torn_last_line_is_left_out_and_cut_before_the_next_record(tmp_path):
    Ledger(tmp_path).append("look", 0)
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write('{"seq": 1, "kind": "动'.encode()[:-1])
    assert len(read_ledger(tmp_path)) == 1
    Ledger(tmp_path).append("action", 5)
    assert [r["kind"] for r in read_ledger(tmp_path)] == ["look", "action"]
    assert read_ledger(tmp_path)[1]["seq"] == 1


def test_damage_in_the_middle_is_named_by_line(tmp_path):
    ledger = Ledger(tmp_path)
    for step in range(3):
        ledger.append("look", step)
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(lines[0] + "garbage\n" + lines[2])
    with pytest.raises(InputError, match="line 2 is damaged"):
        read_ledger(tmp_path)


def test_lone_surrogates_in_model_output_do_not_stop_the_ledger(tmp_path):
    Ledger(tmp_path).append("error", 1, error="坏\ud800字")
    assert "ud800" in read_ledger(tmp_path)[0]["error"] or read_ledger(tmp_path)


def test_a_rewound_run_shows_only_its_live_branch(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("look", 0)
    ledger.append("look", 20)
    ledger.append("action", 20)
    ledger.append("look", 40)
    ledger.append("rewound", 20)
    ledger.append("look", 40, again=True)
    live = live_records(read_ledger(tmp_path))
    assert [(r["kind"], r["step"]) for r in live] == [
        ("look", 0),
        ("look", 20),
        ("action", 20),
        ("rewound", 20),
        ("look", 40),
    ]
    assert live[-1]["again"] is True


def test_a_missing_ledger_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match=r"ledger\.jsonl"):
        read_ledger(tmp_path)


WRITER = """
import sys
from pathlib import Path
from guardrail.ledger.file import Ledger
ledger = Ledger(Path(sys.argv[1]))
while True:
    record = ledger.append("look", 1, text="字" * 500)
    print(record["seq"], flush=True)
"""


def test_every_record_reported_before_kill_9_is_readable(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.readline()  # a busy machine takes seconds to start it
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    output += process.communicate()[0]
    acknowledged = [int(line) for line in output.split() if line.isdigit()]
    records = read_ledger(tmp_path)
    assert acknowledged
    assert len(records) >= len(acknowledged) - 1
    assert [r["seq"] for r in records] == list(range(len(records)))


FULL_DISK = """
import resource, sys
from pathlib import Path
from guardrail.ledger.file import Ledger
run = Path(sys.argv[1])
ledger = Ledger(run)
ledger.append("look", 0, text="字" * 50)

def full_after(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def fails(step):
    try:
        ledger.append("look", step, text="字" * 50)
    except OSError:
        return
    sys.exit("the write did not fail")

full_after(ledger.path.stat().st_size + 60)
fails(1)
fails(2)
full_after(resource.RLIM_INFINITY)
if sys.argv[2] == "uncut":  # as if the cut had failed like the write
    with ledger.path.open("ab") as file:
        file.write(b'{"seq": 1, "kind": "lo')
ledger.append("crashed", 1, error="no space left")
ledger.append("decision", 1)
"""


@pytest.mark.parametrize("then", ["cut", "uncut"])
def test_a_record_that_a_full_disk_cut_off_does_not_damage_the_next(tmp_path, then):
    """A limit on the file's size is a full disk to the writer: a partial write, then an error."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path), then], check=True)
    records = read_ledger(tmp_path)
    assert [r["kind"] for r in records] == ["look", "crashed", "decision"]
    assert [r["seq"] for r in records] == [0, 1, 2]


def test_whoever_writes_next_counts_on(tmp_path):
    training, sidecar = Ledger(tmp_path), Ledger(tmp_path)
    training.append("ended", 8)
    sidecar.append("look", 8)
    training.append("domain_loss", 8)
    sidecar.append("look", 8)
    assert [r["seq"] for r in read_ledger(tmp_path)] == [0, 1, 2, 3]


def test_a_last_line_that_was_written_whole_and_is_no_record_is_damage_and_not_torn(tmp_path):
    """Cut off silently, a record would be lost with it."""
    Ledger(tmp_path).append("look", 0)
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'{"seq": 1, "kind": "lo{"seq": 1, "kind": "ended", "step": 4}\n')
    before = (tmp_path / "ledger.jsonl").read_bytes()
    with pytest.raises(InputError, match="line 2 is damaged"):
        Ledger(tmp_path).append("action", 5)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


def test_two_ledgers_of_one_process_number_on(tmp_path):
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    for step in range(3):
        one.append("look", step)
        other.append("metric", step)
    assert [r["seq"] for r in read_ledger(tmp_path)] == list(range(6))


def written(folder):
    """A ledger of four records; its lines."""
    ledger = Ledger(folder)
    for step in range(4):
        ledger.append("log", step, loss=0.5)
    return ledger.path.read_bytes().splitlines(keepends=True)


EDITS = {
    "a value": lambda lines: [lines[0], lines[1].replace(b"0.5", b"0.4"), *lines[2:]],
    "NaN": lambda lines: [lines[0], lines[1].replace(b"0.5", b"NaN"), *lines[2:]],
    "the digest's name": lambda lines: [lines[0], lines[1].replace(b"digest", b"digesu"), *lines[2:]],
    "a digest": lambda lines: [lines[0], lines[1].replace(b'"digest": "', b'"digest": "0')[:-4] + b'"}\n', *lines[2:]],
    "gone": lambda lines: [lines[0], *lines[2:]],
    "twice": lambda lines: [lines[0], lines[0], *lines[1:]],
    "exchanged": lambda lines: [lines[0], lines[2], lines[1], lines[3]],
    "no digest": lambda lines: [lines[0], lines[1][:-48] + b"}\n", *lines[2:]],
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_a_line_that_was_changed_is_named_where_it_is_read_or_written_on(tmp_path, edit):
    lines = EDITS[edit](written(tmp_path))
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines))
    for use in (read_ledger, lambda run: Ledger(run).append("log", 9)):
        with pytest.raises(InputError, match=r"line 2 is damaged \(it, or a line before it"):
            use(tmp_path)
    tail = LedgerTail(tmp_path)
    tail.read_on()
    assert tail.damaged[0] == 2
    assert tail.damaged == {"exchanged": [2, 3, 4], "a digest": [2, 3]}.get(edit, [2])


def test_a_line_of_another_run_is_named(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    (tmp_path / "one/ledger.jsonl").write_bytes(b"".join([*one[:2], other[2], one[3]]))
    with pytest.raises(InputError, match="line 3 is damaged"):
        read_ledger(tmp_path / "one")


def test_a_ledger_of_an_older_version_has_no_digests_and_goes_on_with_them(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text('{"seq": 0, "kind": "started", "step": 0}\n')
    Ledger(tmp_path).append("rewound", 0)
    assert [sorted(r) for r in read_ledger(tmp_path)] == [
        ["kind", "seq", "step"], ["kind", "seq", "step", "time"]
    ]  # fmt: skip
    tail = LedgerTail(tmp_path)
    tail.read_on()
    assert tail.records == read_ledger(tmp_path)
    ledger.write_text(ledger.read_text().replace("started", "ended00"))
    assert read_ledger(tmp_path)[0]["kind"] == "ended00", "only what has a digest is held to it"
