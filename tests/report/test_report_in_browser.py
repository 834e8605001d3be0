"""The report in headless Chromium: no console error, no request, no overflow, no script, readable by all."""

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from guardrail.report.report import build_report
from tests.report.stories import HOSTILE, Story, finished_ok, halted, only_look_zero, told
from tests.report.test_report import FLAVOURED

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.run,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A halted run with everything a page can show: rehearsed items, machine flavour, metrics, a decision."""
    story = Story(tmp_path_factory.mktemp("halted") / "run", bad_answer=FLAVOURED)
    story.items = [i.model_copy(update={"rehearsed": i.id == "writing-000"}) for i in story.items]
    halted(story.start())
    for step in range(0, 40, 2):
        story.ledger.append("metric", step, name="reward", value=step / 40)
    story.ledger.append("decision", 40, decision="rollback", by="王敏", note="退回第 20 步")
    return story.run


@pytest.fixture(scope="module", params=["zh", "en"])
def report(run: Path, request: pytest.FixtureRequest) -> Path:
    page = build_report(run, language=request.param)
    return page.rename(run / f"report.{request.param}.html")


def opened(
    browser: Browser, path: Path, width: int, scheme: str = "light"
) -> tuple[Page, list[str]]:
    """Open a page; return it and everything it should not have done."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(f"console {m.type}: {m.text}"))
    page.on("pageerror", lambda e: complaints.append(f"error: {e}"))
    page.on("dialog", lambda d: (complaints.append(f"dialog: {d.message}"), d.dismiss()))
    page.on(
        "request",
        lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url),
    )
    page.goto(path.as_uri())
    return page, complaints


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_without_complaint_and_fits(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    page, complaints = opened(browser, report, width, scheme)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1 .advice").inner_text() in ("回滚", "Roll back")
    assert page.locator(".panel svg").count() == 7
    page.close()


def test_text_in_charts_keeps_its_size_on_a_phone(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 390)
    sizes = page.eval_on_selector_all(
        ".timeline span, .timeline i, .heat.tall th, .heat.tall td",
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))",
    )
    assert min(sizes) >= 11
    page.close()


def test_chart_labels_stay_inside_the_chart(browser: Browser, report: Path) -> None:
    for width in (390, 1440):
        page, _ = opened(browser, report, width)
        box = page.locator(".timeline").bounding_box()
        assert box is not None
        edges = page.eval_on_selector_all(
            ".end, .tick, .chip",
            "all => all.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right])",
        )
        assert edges
        assert min(left for left, _ in edges) >= box["x"]
        assert max(right for _, right in edges) <= box["x"] + box["width"]
        page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_axe_finds_nothing_against_wcag_aa(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    page, _ = opened(browser, report, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
    found = page.evaluate(
        "tags => axe.run({runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})", tags
    )
    told = [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"]]
    assert told == []
    page.close()


def test_every_scrolling_region_and_fold_is_reached_by_keyboard(
    browser: Browser, report: Path
) -> None:
    page, _ = opened(browser, report, 390)
    unreachable = page.eval_on_selector_all(
        "*",
        """all => all.filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
            && e !== document.documentElement && e.tabIndex < 0).map(e => e.className)""",
    )
    assert unreachable == []
    page.locator("summary").first.focus()
    was_open = page.locator("details").first.get_attribute("open")
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") != was_open
    page.close()


def test_tab_walks_links_and_folds_in_the_order_of_the_page(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1440)
    tops = []
    for _ in range(14):
        page.keyboard.press("Tab")
        tops.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY"))
        outlined = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outlined) == "solid", "the focus must be seen"
    assert tops == sorted(tops)
    page.close()


def test_hostile_answers_run_nothing(browser: Browser, tmp_path: Path) -> None:
    story = Story(tmp_path / "run", bad_answer=HOSTILE + "w" * 5000).start()
    halted(story)
    story.ledger.append("metric", 3, name=HOSTILE, value=1.0)
    story.ledger.append("crashed", 40, error=HOSTILE + "w" * 900, last_ok_checkpoint=None)
    story.ledger.append("decision", 40, decision="accept", by=HOSTILE, note=HOSTILE + "w" * 900)
    build_report(story.run)
    page, complaints = opened(browser, story.run / "report.html", 390)
    assert complaints == []
    assert page.locator("script, img, iframe, object").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_the_policy_of_the_page_stops_what_would_get_through(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    """Even text that were not escaped could load and run nothing."""
    broken = tmp_path / "broken.html"
    bad = "<img src=https://example.org/x.png><script>document.title='ran'</script>"
    broken.write_text(
        report.read_text(encoding="utf-8").replace("<main>", "<main>" + bad), encoding="utf-8"
    )
    page, complaints = opened(browser, broken, 1440)
    assert page.title() != "ran"
    assert len([c for c in complaints if "Content Security Policy" in c]) == 2
    page.close()


@pytest.mark.parametrize(
    ("tell", "advice"), [(finished_ok, "使用这份权重"), (only_look_zero, "继续")]
)
def test_runs_that_ended_well_or_only_began_open_too(
    browser: Browser, tmp_path: Path, tell, advice
) -> None:
    page_path = build_report(told(tell, tmp_path).run)
    page, complaints = opened(browser, page_path, 390)
    assert complaints == []
    assert page.locator("h1 .advice").inner_text() == advice
    page.close()


def test_page_one_fits_one_sheet_when_printed(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 703)  # A4 less margins of 12 mm, at 96 to the inch
    page.emulate_media(media="print")
    millimetres = (
        page.locator("header").evaluate("e => e.getBoundingClientRect().height") * 25.4 / 96
    )
    assert millimetres <= 297 - 24
    page.close()


def test_printing_shows_what_was_folded(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1440, "dark")
    page.emulate_media(media="print")
    folded = page.locator("details:not([open]) article").first
    assert folded.evaluate("e => e.getBoundingClientRect().height") > 0
    # The longest tables are for the screen: on paper they were a third of the pages.
    assert not page.locator("details.long").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()
