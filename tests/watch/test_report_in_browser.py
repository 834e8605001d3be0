"""The report in headless Chromium: no console error, no request, no overflow, no script."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.watch.test_report import HOSTILE, Story, halted, only_look_zero

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
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
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    story = Story(tmp_path_factory.mktemp("halted") / "run").start()
    halted(story)
    story.build()
    return story.run / "report.html"


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
    assert page.locator("h1").inner_text().startswith("建议回滚")
    assert page.locator(".panel svg").count() == 6
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_aa_contrast(browser: Browser, report: Path, scheme: str) -> None:
    """4.5 to 1 against the nearest background that is painted, gradients left out."""
    page, _ = opened(browser, report, 1440, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    poor = page.evaluate(
        """() => {
        const parse = c => c.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = e => {
            for (; e; e = e.parentElement) {
                const style = getComputedStyle(e), c = parse(style.backgroundColor);
                if (c.length < 4 || c[3] > 0) return c;
                if (style.backgroundImage !== 'none') return null;
            }
            return [255, 255, 255];
        };
        const poor = [];
        for (const e of document.querySelectorAll('body *')) {
            const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
            if (!text || e.closest('svg') || !e.getClientRects().length) continue;
            const back = ground(e);
            if (!back) continue;
            const [a, b] = [light(parse(getComputedStyle(e).color)), light(back)].sort((x, y) => y - x);
            if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(e.className + ': ' + e.textContent.slice(0, 20));
        }
        return [...new Set(poor)];
    }"""
    )
    assert poor == []
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


def test_hostile_answers_run_nothing(browser: Browser, tmp_path: Path) -> None:
    story = Story(tmp_path / "run", bad_answer=HOSTILE + "w" * 5000).start()
    halted(story)
    story.ledger.append("crashed", 40, error=HOSTILE + "w" * 900, last_ok_checkpoint=None)
    story.build()
    page, complaints = opened(browser, story.run / "report.html", 390)
    assert complaints == []
    assert page.locator("script, img, iframe, object").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_run_that_has_only_begun_opens_too(browser: Browser, tmp_path: Path) -> None:
    story = Story(tmp_path / "run").start()
    only_look_zero(story)
    story.build()
    page, complaints = opened(browser, story.run / "report.html", 390)
    assert complaints == []
    assert page.locator("h1").inner_text().startswith("先不用动")
    page.close()


def test_printing_shows_what_was_folded(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1440, "dark")
    page.emulate_media(media="print")
    folded = page.locator("details:not([open]) table").first
    assert folded.evaluate("e => e.getBoundingClientRect().height") > 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()
