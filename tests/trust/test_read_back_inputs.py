"""What people hand over beside corpora, and what is told of a command: read within bounds, told without secrets."""

import json
import os
import socket
import sys
import threading

import pytest
from openpyxl import Workbook

from guardrail.data.business.debt_outcomes import read_outcomes
from guardrail.data.generate.people_and_model import read_sheet
from guardrail.data.generate.retrieval import read_passages
from guardrail.data.rows import made_row
from guardrail.data.stage_folder import Made, write_stage
from guardrail.data.trained_model import train_on
from guardrail.errors import InputError
from guardrail.live.serve import open_server
from guardrail.recipe import read_recipe
from guardrail.redaction import redacted_line
from guardrail.rehearse.command import failure_reason, run_command

TASK = made_row("写一句问候语", "", method="own")
THREE = [["一", "二", "三"]]
OUTCOME = {"debtor": "d", "owed": 10, "paid": 5, "agreed": True, "contacts": 1}


def sheet(path, cells, head=("编号", "选哪个", "准确")):
    book = Workbook()
    book.worksheets[0].append(head)
    book.worksheets[0].append(cells)
    book.save(path)


def one_line(caught):
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"PK\5\6" + b"\0" * 18, b"\0" * 500, b"{}"])
def test_a_sheet_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "sheet.xlsx").write_bytes(content)
    with pytest.raises(InputError, match=r"sheet\.xlsx") as caught:
        read_sheet(tmp_path / "sheet.xlsx", [TASK], THREE, model="m")
    one_line(caught)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ((TASK.id, "²", ""), "选哪个 must be"),
        ((TASK.id, "1", "9" * 5000), "准确 must be"),
        (("x" * 5000, "1", ""), "is not a task of this stage"),
    ],
    ids=["superscript", "long", "another's"],
)
def test_a_cell_that_is_no_choice_is_named_and_cut(tmp_path, cells, said):
    sheet(tmp_path / "sheet.xlsx", cells)
    with pytest.raises(InputError, match=said) as caught:
        read_sheet(tmp_path / "sheet.xlsx", [TASK], THREE, model="m")
    one_line(caught)


def test_a_workbook_of_something_else_is_no_sheet_left_empty(tmp_path):
    sheet(tmp_path / "sheet.xlsx", ("a", "b", "c"), head=("x", "y", "z"))
    with pytest.raises(InputError, match="no column 编号"):
        read_sheet(tmp_path / "sheet.xlsx", [TASK], THREE, model="m")


def test_a_document_is_a_regular_file_of_a_bounded_size(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((64 << 20) + 1)
    for name, said in (
        ("fifo", "no regular file"),
        ("large", "at most 64 MiB"),
        ("none", "No such"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_passages([tmp_path / name])
        one_line(caught)


def test_a_sentence_without_end_is_cut(tmp_path):
    (tmp_path / "rules.md").write_text("长" * 100_000, encoding="utf-8")
    assert max(len(one.text) for one in read_passages([tmp_path / "rules.md"])) <= 4 * 800


LOGS = {
    "deep": ('{"a":' * 20_000, "nested deeper|not valid JSON"),
    "a long value": (json.dumps(OUTCOME | {"owed": "x" * 9000}), "line 1 is no outcome: `owed`"),
    "a long line": (json.dumps(OUTCOME | {"debtor": "x" * (5 << 20)}), "longer than 4 MiB"),
    "a long name": (json.dumps(OUTCOME | {"x" * 9000: 1}), "is no outcome"),
    "a deep array": ("[" * 5000, "nested deeper|not valid"),
}


@pytest.mark.parametrize("what", LOGS)
def test_a_log_of_outcomes_is_read_within_the_bounds_of_corpora(tmp_path, what):
    line, said = LOGS[what]
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=said) as caught:
        read_outcomes(tmp_path / "log.jsonl")
    one_line(caught)


def test_a_table_of_outcomes_is_read_too(tmp_path):
    (tmp_path / "log.csv").write_text(
        "debtor,owed,paid,agreed,contacts,minutes\na,10,5,true,2,\nb,10,10,false,1,3\n"
    )
    assert [(o.owed, o.agreed, o.minutes) for o in read_outcomes(tmp_path / "log.csv")] == [
        (10.0, True, None),
        (10.0, False, 3.0),
    ]


@pytest.fixture
def server(tmp_path):
    server = open_server(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: localhost:x\r\n\r\n", b"200"),
        (b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"431"),
        (b"\x16\x03\x01\r\n\r\n", b"400"),
    ],
)  # fmt: skip
def test_a_malformed_request_has_an_answer_and_no_traceback(server, capfd, caplog, request_, code):
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=30) as client:
        client.sendall(request_)
        assert code in client.recv(4000)[:400]
    assert "Traceback" not in capfd.readouterr().err
    assert not caplog.records


@pytest.mark.parametrize(
    "content", ["", "a\nb", "[]", '{"rows": "x"}', '{"files": 1, "digest": "x"}']
)
def test_a_note_of_a_finished_training_is_not_believed_on_its_word(tmp_path, content):
    (tmp_path / "trained").write_text(content)
    with pytest.raises(
        InputError, match=r"trained` is not as it was written.*take the folder away"
    ):
        train_on(read_recipe("toy-sft"), [TASK], tmp_path)


SECRET = "hf_" + "a" * 30


@pytest.mark.parametrize(
    "words",
    [
        ("--hub_token", "plain-word"),
        ("--hub-token", "plain-word"),
        ("--hub_token=plain-word",),
        ("train.arguments.hub_token=plain-word",),
        (f"--x={SECRET}",),
        (SECRET,),
        ("--url", "https://me:plain-word@host/x"),
    ],
)
def test_a_command_is_logged_without_its_secrets(tmp_path, words):
    code = "import sys; sys.exit('InputError: ' + ' '.join(sys.argv[1:]))"
    result = run_command([sys.executable, "-c", code, *words], tmp_path / "log", limit_s=60)
    told = (tmp_path / "log").read_text().splitlines()[1]
    assert told.startswith("$ ")
    for secret in ("plain-word", SECRET):
        assert secret not in told
    assert SECRET not in failure_reason(result, verbose=False)
    assert "***" in " ".join(redacted_line(words))
    assert redacted_line(["--eos_token", "x", "--max_tokens=5"]) == [
        "--eos_token",
        "x",
        "--max_tokens=5",
    ]


def test_a_stage_says_its_settings_without_secrets(tmp_path):
    settings = {
        "server": "http://me:plain-word@host/v1",
        "api_key": "plain-word",
        "teachers": [SECRET],
    }
    told = write_stage(tmp_path, Made(), None, settings)
    for text in (json.dumps(told), (tmp_path / "stage.json").read_text()):
        assert "plain-word" not in text
        assert SECRET not in text
