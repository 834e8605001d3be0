"""One process writes a folder; another is refused by name and leaves it alone."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.writer_lock import LOCK_FILE, hold, release, writer_gone

HOLDER = """
import sys
from pathlib import Path
from guardrail.writer_lock import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def writer_of(folder):
    """Another process that writes a folder until the body ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_second_process_is_refused_by_name_and_writes_nothing(tmp_path):
    with writer_of(tmp_path) as process:
        with pytest.raises(InputError, match=f"being written by process {process.pid} on "):
            Ledger(tmp_path).append("started", 0)
        assert {p.name for p in tmp_path.iterdir()} == {LOCK_FILE}
    Ledger(tmp_path).append("started", 0)


def test_a_killed_process_holds_nothing(tmp_path):
    with writer_of(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert hold(tmp_path)
        release(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_run_has_one_writer_from_its_start_to_its_end(tmp_path):
    ledger = Ledger(tmp_path)
    for kind in ("started", "look", "action"):
        ledger.append(kind, 0)
        assert (tmp_path / LOCK_FILE).exists()
    ledger.append("ended", 1)
    # Somebody takes over, as one that measures looks afterwards.
    with writer_of(tmp_path), pytest.raises(InputError, match="being written"):
        ledger.append("domain_loss", 1)
    ledger.append("domain_loss", 1)
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_lock_goes_with_its_folder(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    assert hold(run)
    (run / LOCK_FILE).unlink()
    run.rmdir()
    run.mkdir()
    assert hold(run)
    release(run)


APPENDER = """
import sys
from pathlib import Path
from guardrail.ledger.file import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(75):
    ledger.append(sys.argv[2], number, text="字" * 200)
"""


def test_records_of_several_processes_are_numbered_once(tmp_path):
    """Each holds the run for one record, as whoever writes after its end does."""
    writers = [
        subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path), kind])
        for kind in ("metric", "decision")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    records = read_ledger(tmp_path)
    assert [r["seq"] for r in records] == list(range(150))


def test_a_killed_writer_is_gone_and_one_that_lives_or_ended_in_order_is_not(tmp_path):
    assert not writer_gone(tmp_path)
    with writer_of(tmp_path) as process:
        assert not writer_gone(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert writer_gone(tmp_path)
    assert hold(tmp_path)  # a resume: this process writes now
    assert not writer_gone(tmp_path)
    release(tmp_path)
    assert not writer_gone(tmp_path)


def test_of_a_writer_on_another_machine_nothing_is_said(tmp_path):
    (tmp_path / LOCK_FILE).write_text("process 1 on somewhere-else since 2026-01-01\n")
    assert not writer_gone(tmp_path)


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / LOCK_FILE)
    told: list[bool] = []
    asking = threading.Thread(target=lambda: told.append(writer_gone(tmp_path)), daemon=True)
    asking.start()
    asking.join(timeout=20)
    assert told == [False]
