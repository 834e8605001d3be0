"""The server of `guardrail watch`: who is answered, what with, and what it costs."""

import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.ledger.file import read_ledger
from guardrail.ledger.follow import LedgerTail
from guardrail.live.serve import WatchServer, open_server
from guardrail.writer_lock import LOCK_FILE, release
from tests.report.stories import HOSTILE, Story, finished_ok, halted, running, undigested
from tests.run_fixtures import command, hear_ctrl_c


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "run").start()


@contextmanager
def served(folder: Path) -> Iterator[WatchServer]:
    server = open_server(folder, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(
    server: WatchServer, path: str = "/", host: str | None = "127.0.0.1"
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode("utf-8")
    connection.close()
    return found


def beat(server: WatchServer, path: str = "/version") -> dict:
    return json.loads(get(server, path)[2])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:9000", 200),
        ("LOCALHOST", 200),
        ("evil.example:8765", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8765", 403),
        ("evil.example@127.0.0.2", 403),
        ("", 403),
        (None, 403),
    ],
)
def test_only_this_machine_by_its_own_name_is_answered(
    story: Story, host: str | None, status: int
) -> None:
    running(story)
    with served(story.run) as server:
        assert server.server_address[0] == "127.0.0.1"
        found, _, body = get(server, host=host)
    assert found == status
    assert ("训练还在进行" in body) == (status == 200)


def test_the_policy_lets_one_script_run_and_nothing_else(story: Story) -> None:
    finished_ok(story)
    with served(story.run) as server:
        first, second = get(server), get(server)
    nonces = []
    for _, headers, body in (first, second):
        policy = headers["Content-Security-Policy"]
        nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
        assert nonce is not None
        assert re.findall(r"<script[^>]*>", body) == [f'<script nonce="{nonce[1]}">']
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
        assert "http-equiv" not in body
        nonces.append(nonce[1])
    assert nonces[0] != nonces[1]
    assert first[2].replace(nonces[0], "") == second[2].replace(nonces[1], "")


def test_a_run_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    with served(tmp_path / "later") as server:
        assert "等训练开始" in get(server)[2]
        before = beat(server)
        assert before["kind"] == "waiting"
        running(Story(tmp_path / "later").start())
        after = beat(server)
        assert after["kind"] == "report"
        assert after["version"] != before["version"]
        assert "训练还在进行" in get(server)[2]


def test_the_version_changes_with_a_look_at_once_and_with_nothing_else(story: Story) -> None:
    running(story)
    with served(story.run) as server:
        first = beat(server)["version"]
        assert "最后一条记录在" not in get(server)[2], "an age in the page would stand still"
        assert beat(server)["version"] == first
        story.look(40)
        second = beat(server)["version"]
        assert second != first
        assert ">40</th>" in get(server)[2]
        assert beat(server)["version"] == second


def test_an_ended_run_is_final_until_it_is_resumed(story: Story) -> None:
    finished_ok(story)
    with served(story.run) as server:
        end = beat(server)
        assert end["poll_s"] >= 10
        assert "最终结果" in end["heartbeat"]
        assert "guardrail resolve" not in get(server)[2], (
            "a decision is taken in the terminal, of a report"
        )
        story.ledger.append("rewound", 20, checkpoint="checkpoint-20")
        again = beat(server)
        assert again["poll_s"] <= 1
        assert "训练中" in again["heartbeat"]


def test_a_run_gone_silent_is_named_on_page_and_bar(story: Story) -> None:
    running(story)
    undigested(story.run)
    ledger = story.run / "ledger.jsonl"
    ledger.write_text(
        re.sub(r'"time": "20\d\d', '"time": "2001', ledger.read_text("utf-8")), "utf-8"
    )
    with served(story.run) as server:
        assert "没有动静" in beat(server)["heartbeat"]
        assert "进程很可能已经被杀掉" in get(server)[2]


def test_a_killed_run_is_told_at_once_on_the_bar(story: Story) -> None:
    running(story)
    release(story.run)
    left = f"process 1 on {socket.gethostname()} since 2026-01-01T00:00:00+00:00\n"
    (story.run / LOCK_FILE).write_text(left)  # what kill -9 leaves: the file, and no lock on it
    with served(story.run) as server:
        bar = beat(server)["heartbeat"]
        assert "进程已经不在" in bar
        assert "--resume" in bar


def test_a_run_killed_while_it_is_watched_changes_the_headline_too(story: Story) -> None:
    """Its ledger does not grow any more, so that nothing else would have the page read it anew."""
    running(story)
    with served(story.run) as server:
        before = beat(server)["version"]
        assert "训练已中断：进程不在了" not in get(server)[2]
        release(story.run)
        left = f"process 1 on {socket.gethostname()} since 2026-01-01T00:00:00+00:00\n"
        (story.run / LOCK_FILE).write_text(left)
        assert beat(server)["version"] != before
        assert "训练已中断：进程不在了" in get(server)[2]


def test_the_moment_a_run_goes_stale_changes_the_page(story: Story) -> None:
    running(story)
    undigested(story.run)
    ledger = story.run / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    then = datetime.now(timezone.utc) - timedelta(seconds=59)
    ledger.write_text(
        "".join(json.dumps(row | {"time": then.isoformat()}) + "\n" for row in rows), "utf-8"
    )
    with served(story.run) as server:
        before = beat(server)
        assert "训练中" in before["heartbeat"], "the limit is a minute"
        time.sleep(1.5)
        after = beat(server)
        assert "没有动静" in after["heartbeat"]
        assert after["version"] != before["version"]
        assert "进程很可能已经被杀掉" in get(server)[2]


def test_an_unchanged_page_is_not_built_again(story: Story) -> None:
    finished_ok(story)
    with served(story.run) as server:
        first = get(server)[2]
        assert "guardrail resolve" not in first, "a decision is for the file that stays"
        (story.run / "items.jsonl").unlink()  # a page built anew would miss it
        nonce = re.compile(r'nonce="[^"]+"')
        assert nonce.sub("", get(server)[2]) == nonce.sub("", first)


def test_the_page_speaks_the_language_asked_for(story: Story, tmp_path: Path) -> None:
    running(story)
    server = open_server(story.run, 0, "en")
    assert "Training" in server.heartbeat("", server.beat(""))
    assert 'lang="en"' in server.page("", "x")
    server.server_close()
    server = open_server(tmp_path / "none", 0, "en")
    assert "No ledger yet" in server.page("", "x")
    server.server_close()


def test_a_cut_or_replaced_ledger_is_read_anew(story: Story) -> None:
    running(story)
    undigested(story.run)
    ledger = story.run / "ledger.jsonl"
    whole = ledger.read_bytes()
    with served(story.run) as server:
        assert "第 <b>20</b>" in beat(server)["heartbeat"]
        ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
        assert "第 <b>0</b>" in beat(server)["heartbeat"]
        ledger.write_bytes(whole + b'{"seq": 1, "kind": "lo')
        assert "第 <b>20</b>" in beat(server)["heartbeat"]
        ledger.unlink()
        assert beat(server)["kind"] == "waiting"


def test_damage_in_the_middle_is_said_in_the_bar(story: Story) -> None:
    finished_ok(story)
    ledger = story.run / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'{"seq": 4', b"\x00\xff", 1))
    with served(story.run) as server:
        assert get(server)[0] == 200
        assert "1 行读不出来" in beat(server)["heartbeat"]


def test_a_folder_of_runs_is_a_list_with_a_page_each(tmp_path: Path) -> None:
    finished_ok(Story(tmp_path / "one").start())
    halted(Story(tmp_path / "demo" / "第二 次").start())
    with served(tmp_path) as server:
        status, _, body = get(server)
        assert status == 200
        assert re.search(r"one</a>.*?已跑完.*?第 <b>40</b> / 100 步.*?正常", body, re.DOTALL)
        assert re.search(r"已被护栏叫停.*?危急", body, re.DOTALL)
        links = re.findall(r'<a href="(run/[^"]+)"', body)
        assert [unquote(link) for link in links] == ["run/demo/第二 次/", "run/one/"], (
            "newest first"
        )
        for link in links:
            assert "护栏报告" in get(server, f"/{link}")[2]
            assert beat(server, f"/{link}version")["kind"] == "report"
        for wrong in ("/run/../", "/run/%2e%2e/", "/run/demo/", "/run/", "/etc/passwd", "/x"):
            assert get(server, wrong)[0] == 404


def test_hostile_names_and_answers_leave_one_script(tmp_path: Path) -> None:
    story = Story(tmp_path / "runs" / "<script>alert(1)", bad_answer=HOSTILE).start()
    halted(story)
    story.ledger.append("crashed", 40, error=HOSTILE + "\udc80" + "w" * 2**20)
    with served(story.run) as server:
        assert get(server)[2].count("<script") == 1
        assert "<script" not in beat(server)["heartbeat"]
    with served(tmp_path / "runs") as server:
        assert get(server)[2].count("<script") == 1


def test_serving_with_nothing_new_costs_next_to_nothing(story: Story) -> None:
    running(story)
    with served(story.run) as server:
        get(server)
        started = time.process_time()
        for _ in range(60):
            beat(server)
        minute = time.process_time() - started
    assert minute < 0.6, "one open tab for a minute"


def test_a_browser_that_goes_away_is_no_error(
    story: Story, capfd: pytest.CaptureFixture[str]
) -> None:
    finished_ok(story)
    with served(story.run) as server:
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", server.server_address[1]))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        assert get(server)[0] == 200
        time.sleep(0.3)
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["watch", str(tmp_path), "--port", port, "--no-open"])
    assert result.exit_code == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in result.stderr
    assert "--port 0" in result.stderr


def test_ctrl_c_ends_the_watching_cleanly(tmp_path: Path) -> None:
    watching = command("watch", tmp_path, "--port", 0, "--no-open")
    with subprocess.Popen(
        watching, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
    ) as process:
        assert process.stderr is not None
        line = ""
        while "http://127.0.0.1:" not in line:
            line = process.stderr.readline()
            assert line, "the server ended before it said where it listens"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert "stopped watching" in said


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=12))
def test_reading_on_in_pieces_gives_what_reading_at_once_gives(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    run = tmp_path_factory.mktemp("pieces")
    records = [
        json.dumps({"seq": n, "kind": "log", "step": n, "text": "词" * (n % 40)}) for n in range(20)
    ]
    whole = ("\n".join(records) + "\n").encode()
    tail, seen = LedgerTail(run), []
    for cut in [*sorted(cuts), len(whole)]:
        (run / "ledger.jsonl").write_bytes(whole[:cut])
        seen += tail.read_on() or []
    assert seen == tail.records == read_ledger(run)
    assert tail.damaged == []
