"""The report in a real browser: it asks for nothing, and is readable on a phone, in the dark and on paper."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from dlt_cronofy.report.contents import Report
from dlt_cronofy.report.page import render_page
from tests.pipelines.report.browser import running_browser

pytestmark = pytest.mark.timeout(300)

PHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def report_file(demo_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "health.html"
    file.write_text(render_page(demo_report), encoding="utf-8")
    return file


@pytest.fixture
def context(browser: Browser, width: int, scheme: str) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    yield context
    context.close()


@pytest.fixture
def opened(context: BrowserContext, report_file: Path) -> tuple[Page, list[str]]:
    """The page, and all it asked for or complained about."""
    page, noticed = context.new_page(), list[str]()
    page.on("request", lambda request: noticed.append(request.url))
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.goto(report_file.as_uri())
    return page, noticed


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("width", "scheme"), [(PHONE, "dark"), (DESK, "light"), (PHONE, "light"), (DESK, "dark")]
)
def test_it_asks_for_nothing_and_is_sound(opened: tuple[Page, list[str]], report_file: Path) -> None:
    page, noticed = opened
    assert noticed == [report_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # axe-core: contrast, names of images and links, headers of tables, order of headings, landmarks
    # its script is put into the page by the browser, whose policy allows none
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert "color-contrast" in {rule["id"] for rule in found.response["passes"]}


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light")])
def test_on_a_phone_text_is_large_enough_and_inside(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('td, th, p, li, dd, dt')]
            .filter(e => e.innerText.trim() && e.getClientRects().length && !e.closest('thead'))
            .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    )
    assert smallest >= 12
    # labels of drawings, as they come out on the screen
    heights = page.evaluate(
        "() => [...document.querySelectorAll('figure svg text')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(height for height in heights if height) >= 9
    outside = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(e => {
            const box = e.getBoundingClientRect();
            return box.width && !e.closest('thead') && (box.right > innerWidth + 1 || box.left < -1);
        }).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "light")])
def test_tables_are_tables_at_every_width(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    tables = page.get_by_role("table")
    assert tables.count() >= 4
    for number in range(tables.count()):
        table = tables.nth(number)
        headers = table.get_by_role("columnheader").count()
        cells = table.get_by_role("cell").count()
        rows = table.get_by_role("rowheader").count()
        assert rows > 0
        assert cells == rows * (headers - 1)


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "dark")])
def test_paper_is_white(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.pdf(format="A4")) > 20_000


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light")])
def test_no_heading_is_skipped(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1])")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
