"""Secrets do not leave memory: by key, by form, and through everything a recipe's arguments reach."""

import json

import pytest
import yaml

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.recipe import read_recipe
from guardrail.redaction import is_secret, redacted, redacted_change, redacted_text
from guardrail.report.report import build_report
from guardrail.track.wandb_run import set_server
from tests.report.stories import halted, told
from tests.test_recipe import GOOD, write

SECRET = "hunter2hunter2hunter2"
ARGUMENTS = {
    "hub_token": SECRET,
    "nested": {"api_key": SECRET, "list": [{"password": SECRET}]},
    "address": f"https://me:{SECRET}@example.com/x",
    "query": f"https://example.com/x?a=1&access_token={SECRET}",
    "header": f"Bearer {SECRET}",
    "known": f"hf_{SECRET}",
}
HARMLESS = {
    "eos_token": "<|im_end|>",
    "pad_token": "<pad>",
    "max_new_tokens": "64",
    "learning_rate": 1e-5,
    "token_ids": [1, 2],
    "data": "/home/me/rows.jsonl",
    "push_to_hub": False,
    "said": "前缀: 后缀 = 1, see https://example.com/a?b=c",
}


def test_secrets_go_by_key_and_by_form_and_the_rest_stays():
    assert SECRET not in json.dumps(redacted(ARGUMENTS))
    assert redacted(HARMLESS) == HARMLESS
    assert not [key for key in HARMLESS if is_secret(key)]


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Basic {SECRET}", f"eyJhbGciOiJI.{SECRET}.{SECRET}", f"https://hooks.slack.com/services/T/B/{SECRET}",
        f"https://open.feishu.cn/open-apis/bot/v2/hook/{SECRET}", f"AccountKey={SECRET}", f"AIza{SECRET}", f"npm_{SECRET}",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----", f"export HF_TOKEN={SECRET}",
        f'{{"token": "{SECRET}"}}', f"https://h/?X-Amz-Signature={SECRET}", f"http://h/?Token={SECRET}",
        f"feishu://{SECRET}", f"slack://a/{SECRET}", f"HTTPS://U:{SECRET}@H", f"SECRET_KEY: {SECRET}", f"LTAI{SECRET}",
    ],
)  # fmt: skip
def test_forms_that_secrets_are_known_to_have_are_hidden(text):
    assert SECRET not in redacted_text(text)
    assert "***" in redacted_text(text)


@pytest.mark.parametrize(
    "key",
    ["authToken", "clientSecret", "ssh_key", "signing_key", "webhook_url", "dsn", "basic_auth"],
)
def test_names_of_secrets_are_known_however_they_are_written(key):
    assert redacted({key: SECRET, "x": {key: [SECRET, {"a": SECRET}, 7]}}) == {
        key: "***",
        "x": {key: ["***", {"a": "***"}, 7]},
    }


def test_an_error_s_words_lose_them_too():
    said = redacted_text(
        f"ConnectionError: proxy http://u:{SECRET}@proxy:80, WANDB_API_KEY={SECRET} refused"
    )
    assert SECRET not in said
    assert said.startswith("ConnectionError: proxy http://***@proxy:80")


def test_a_change_of_the_command_line_is_repeated_without_its_secret():
    assert redacted_change(f"train.arguments.hub_token={SECRET}") == "train.arguments.hub_token=***"
    assert (
        redacted_change("train.arguments.learning_rate=1e-5")
        == "train.arguments.learning_rate=1e-5"
    )


def test_what_a_recipe_says_reaches_no_file_of_a_run(tmp_path):
    """Ledger, report and the next recipe are made of records; whoever reads those reads no secret."""
    story = told(halted, tmp_path / "run")
    header, *records = read_ledger(story.run)
    header["recipe"]["train"]["arguments"] |= ARGUMENTS
    (story.run / "ledger.jsonl").unlink()
    ledger = Ledger(story.run)
    for record in (header, *records):
        kept = {k: v for k, v in record.items() if k not in ("seq", "time", "kind", "step")}
        ledger.append(record["kind"], record["step"], **kept)
    ledger.append("crashed", 5, error=f"OSError: https://x:{SECRET}@example.com is down")
    build_report(story.run)
    following = yaml.safe_load((story.run / "recipe.next.yaml").read_text(encoding="utf-8"))
    assert "hub_token" not in following["train"]["arguments"]
    for file in story.run.rglob("*"):
        assert not file.is_file() or SECRET not in file.read_text(encoding="utf-8"), file


def test_a_hidden_secret_is_asked_for_and_not_used(tmp_path):
    path = write(tmp_path, train={"data": "d", "arguments": {"hub_token": "***"}})
    with pytest.raises(InputError, match=r"--set train\.arguments\.hub_token="):
        read_recipe(path)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.example.com",
        "http://api.wandb.ai",
        "https://api.wandb.ai.evil.example",
        "https://api.wandb.ai@evil.example",
        "https://evilwandb.ai",
        "https://[",
    ],
)
def test_a_recipe_alone_does_not_say_where_the_key_goes(tmp_path, monkeypatch, endpoint):
    monkeypatch.setenv("WANDB_BASE_URL", "")
    tracking = read_recipe(write(tmp_path, tracking={"endpoint": endpoint})).tracking
    with pytest.raises(InputError, match="WANDB_BASE_URL"):
        set_server(tracking)


@pytest.mark.parametrize("endpoint", ["https://api.wandb.ai", "https://me.wandb.io/"])
def test_w_and_b_s_own_servers_may_stand_in_a_recipe(tmp_path, monkeypatch, endpoint):
    monkeypatch.setenv("WANDB_BASE_URL", "")
    set_server(read_recipe(write(tmp_path, tracking={"endpoint": endpoint})).tracking)


def test_the_environment_goes_before_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "https://mine.example.com")
    set_server(read_recipe(write(tmp_path, tracking={"endpoint": "https://evil.example"})).tracking)


@pytest.mark.parametrize(
    "name",
    ["WANDB_BASE_URL", "HF_ENDPOINT", "https_proxy", "GUARDRAIL_ALERT_URLS", "SSL_CERT_FILE"],
)
def test_nor_does_its_environment(tmp_path, name):
    content = GOOD | {"launch": {"environment": {name: "https://evil.example"}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="which says where your keys"):
        read_recipe(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "name",
    ["PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV", "DYLD_INSERT_LIBRARIES"],
)
def test_nor_does_it_say_what_code_is_run(tmp_path, name):
    content = GOOD | {"launch": {"environment": {name: "/tmp/x"}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="which says what code is run"):
        read_recipe(tmp_path / "mine.yaml")


def test_records_keep_what_is_no_secret(tmp_path):
    Ledger(tmp_path).append("look", 0, **HARMLESS)
    assert HARMLESS.items() <= read_ledger(tmp_path)[0].items()
