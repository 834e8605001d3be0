"""The live page in headless Chromium, while a second process appends to the ledger."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from guardrail.read_back import SEAL
from tests.report.stories import COLLAPSE, HOSTILE, Story
from tests.report.test_report_in_browser import CHROMIUM, QUIET
from tests.run_fixtures import command, hear_ctrl_c

pytestmark = [
    pytest.mark.run,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
]

APPEND = """
import sys
for line in sys.stdin.buffer:
    with open(sys.argv[1], "ab") as ledger:
        ledger.write(line)
    print("written", flush=True)
"""
"""The second process: what comes in is a record, and is in the file when it says so."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield launched
        launched.close()


def recorded(folder: Path, **options: str) -> tuple[Path, list[bytes]]:
    """Record a run of five looks that ends; return its folder without a ledger, and the ledger's lines."""
    story = Story(folder / "run", **options).start()
    story.look(0, trigger="start")
    for step in (20, 40, 60):
        story.look(step, COLLAPSE if step == 40 else {"instruction": 0.1, "writing": 0.1})
        story.log(step)
    story.checkpoint(60, "ok")
    story.look(80, {"instruction": 0.1}, trigger="end")
    story.end(80)
    ledger = story.run / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.unlink()
    return story.run, lines


def kind(line: bytes) -> str:
    return json.loads(line)["kind"]


class Run:
    """A recorded run that is played again, a watching server, and a page that shows it."""

    def __init__(self, page: Page, run: Path, lines: list[bytes], writer: subprocess.Popen) -> None:
        self.page, self.run, self.left, self._writer = page, run, list(lines), writer
        self.complaints: list[str] = []

    def play(self, until: str, count: int = 1) -> None:
        """Append records up to the next one of a kind; the last one is in the file when this returns."""
        stdin, stdout = self._writer.stdin, self._writer.stdout
        assert stdin is not None
        assert stdout is not None
        while count:
            line = self.left.pop(0)
            count -= kind(line) == until
            stdin.write(line)
            stdin.flush()
            assert stdout.readline() == b"written\n"

    def see(self, text: str, timeout_s: float = 15) -> None:
        self.page.get_by_text(re.compile(text)).first.wait_for(timeout=1000 * timeout_s)


@contextmanager
def watched(
    browser: Browser, folder: Path, recording: tuple[Path, list[bytes]], width: int = 1440
) -> Iterator[Run]:
    run, lines = recording
    appending = [sys.executable, "-c", APPEND, str(run / "ledger.jsonl")]
    watching = command("watch", folder, "--port", 0, "--no-open")
    with (
        subprocess.Popen(appending, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer,
        subprocess.Popen(
            watching, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
        ) as server,
        browser.new_context(viewport={"width": width, "height": 900}) as context,
    ):
        try:
            page = context.new_page()
            found = None
            assert server.stderr is not None
            while found is None:
                found = re.search(r"http://127\.0\.0\.1:\d+/", server.stderr.readline())
            played = Run(page, run, lines, writer)
            say = played.complaints.append
            page.on("console", lambda m: say(f"console {m.type}: {m.text}"))
            page.on("pageerror", lambda e: say(f"error: {e}"))
            page.on("dialog", lambda d: (say(f"dialog: {d.message}"), d.dismiss()))
            page.on("request", lambda r: None if r.url.startswith(found[0]) else say(r.url))
            page.goto(found[0])
            yield played
        finally:
            context.close()
            assert writer.stdin is not None
            writer.stdin.close()
            server.send_signal(signal.SIGINT)


def test_looks_appear_by_themselves_from_waiting_to_the_end(
    browser: Browser, tmp_path: Path
) -> None:
    recording = recorded(tmp_path)
    with watched(browser, recording[0], recording) as run:
        run.see("等训练开始")
        run.play("domain_loss")
        run.see("训练还没有走出第一步")
        for step in (0, 20, 40, 60):
            run.play("look")
            run.page.locator(f"#heat .wide thead th:text-is('{step}')").wait_for(timeout=15_000)
        run.play("ended")
        run.see("这一页就是最终结果")
        run.page.wait_for_function("document.title.startsWith('使用这份权重')", timeout=15_000)
        assert run.complaints == []


def test_reading_is_not_disturbed_by_a_new_look(browser: Browser, tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    with watched(browser, recording[0], recording) as run:
        run.play("look", 3)
        run.page.locator("#heat .wide thead th:text-is('40')").wait_for(timeout=15_000)
        page = run.page
        recipe = page.locator("#reproduce summary", has_text="解析后的配方")
        recipe.focus()
        page.keyboard.press("Enter")
        first = page.locator("#examples details").first
        first.locator("> summary").click()
        assert first.get_attribute("open") is None, "it stood open and was closed by hand"
        recipe.focus()
        page.evaluate("document.querySelector('#blind').scrollIntoView()")
        where = page.locator("#blind").bounding_box()
        page.evaluate("document.querySelector('#reproduce').marked = true")
        run.play("look")
        page.locator("#heat .wide thead th:text-is('60')").wait_for(timeout=15_000)
        page.wait_for_timeout(200)
        assert recipe.locator("xpath=following-sibling::pre").is_visible()
        assert page.locator("#examples details").first.get_attribute("open") is None
        assert page.evaluate("document.activeElement.textContent").startswith("解析后的配方")
        now = page.locator("#blind").bounding_box()
        assert where is not None
        assert now is not None
        assert abs(now["y"] - where["y"]) <= 2
        assert page.evaluate("scrollY") > 0
        assert page.evaluate("document.querySelector('#reproduce').marked") is None, (
            "the section was replaced, else this test shows nothing"
        )
        assert run.complaints == []


def test_selected_text_is_left_alone_until_it_is_let_go(browser: Browser, tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    with watched(browser, recording[0], recording) as run:
        run.play("look", 2)
        run.page.locator("#heat .wide thead th:text-is('20')").wait_for(timeout=15_000)
        run.page.evaluate("getSelection().selectAllChildren(document.querySelector('.outcome'))")
        run.play("look")
        run.page.locator("#heat .wide thead th:text-is('40')").wait_for(timeout=15_000)
        assert "第 20 步" in run.page.evaluate("getSelection().toString()")
        run.page.evaluate("getSelection().removeAllRanges()")
        run.page.locator(".outcome", has_text="第 40 步").wait_for(timeout=15_000)


def test_hostile_records_run_nothing(browser: Browser, tmp_path: Path) -> None:
    run_folder, lines = recorded(tmp_path, bad_answer=HOSTILE + "w" * 3000)
    bad = HOSTILE + "<img src=http://example.invalid/x onerror=alert(1)>\u202e\x1b[31m"
    # Without digests, as older versions wrote: nothing else keeps such records from the page.
    records = [
        {key: value for key, value in json.loads(line).items() if key != SEAL} for line in lines
    ]
    records[0]["name"] = bad
    broken = {
        "seq": 99,
        "time": records[0]["time"],
        "kind": "error",
        "step": 40,
        "then": "continue",
    }
    records.insert(-3, broken | {"during": "look", "error": bad + "w" * 2**20})
    hostile = [(json.dumps(record) + "\n").encode() for record in records]
    with watched(browser, run_folder, (run_folder, hostile), width=390) as run:
        run.play("error")
        run.page.locator("#live[data-kind=report]").wait_for(state="attached", timeout=15_000)
        run.see("没有做成")
        run.page.wait_for_timeout(1200)
        assert run.complaints == []
        assert run.page.locator("script").count() == 1
        assert run.page.locator("img, iframe, object").count() == 0
        assert run.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_ended_run_is_hardly_asked_for_and_a_lost_server_is_named(
    browser: Browser, tmp_path: Path
) -> None:
    recording = recorded(tmp_path)
    with watched(browser, recording[0], recording) as run:
        run.play("ended")
        run.see("这一页就是最终结果")
        run.page.wait_for_timeout(1500)
        asked: list[str] = []
        run.page.on("request", lambda r: asked.append(r.url))
        run.page.wait_for_timeout(4000)
        assert len(asked) <= 1  # a run that goes on is asked for every second
    with watched(browser, tmp_path / "nothing", recorded(tmp_path / "other")) as run:
        run.see("等训练开始")
        run.page.route("**/version", lambda route: route.abort())
        run.see("连接断开")
        run.see("没有回应，这一页停在")


def test_the_live_page_is_reached_by_keyboard_and_fits_a_phone(
    browser: Browser, tmp_path: Path
) -> None:
    recording = recorded(tmp_path)
    with watched(browser, recording[0], recording, width=390) as run:
        run.play("look", 4)
        run.page.locator("#heat .tall tbody th:text-is('60')").wait_for(timeout=15_000)
        page = run.page
        unreachable = page.eval_on_selector_all(
            "*",
            """all => all.filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
                && e !== document.documentElement && e.tabIndex < 0).map(e => e.className)""",
        )
        assert unreachable == []
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('main a, main summary')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        bar = page.locator("#live").bounding_box()
        assert bar is not None
        assert bar["height"] <= 110
        # The last words of the page can be scrolled out from under the bar.
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        foot = page.locator("footer").bounding_box()
        assert foot is not None
        assert foot["y"] + foot["height"] <= bar["y"]


def test_a_list_of_runs_leads_to_each(browser: Browser, tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    with watched(browser, tmp_path, recording) as run:
        run.see("等训练开始")
        run.play("look", 2)
        run.see("所有运行")
        run.page.get_by_role("link", name="run").click()
        run.see("训练还在进行")
        run.play("look")
        run.page.locator("#heat .wide thead th:text-is('40')").wait_for(timeout=15_000)
        assert run.complaints == []
