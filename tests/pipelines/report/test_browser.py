"""The report in a real browser: it asks for nothing, and is readable on a phone, in the dark and on paper."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from dlt_cronofy.report.contents import Report
from dlt_cronofy.report.page import render_page
from dlt_cronofy.source.tables import Row
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


MANY, CUSTOMERS = 2_000, 40
OPENS_WITHIN_MS = 2000


def down(number: int) -> Row:
    """A row of needs_action: every second account is of a customer, the others of one domain."""
    of_customer = number % 2 == 0
    since = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return {
        "account_id": f"acc_{number}",
        "customer": f"Customer {number // 2 % CUSTOMERS:03}" if of_customer else None,
        "email": f"person{number}@mail.example",
        "email_domain": "mail.example",
        "name": f"Per O'Son {number}",
        "token_keys": f"user_{number}",
        "profile_type": "calendar",
        "profile_id": f"pro_{number}",
        "profile_name": f"person{number}@mail.example",
        "provider": "gsuite" if number % 3 else "zoom",
        "reason": "relink" if number % 7 else "initial_sync",
        "rank": 3 if number % 7 else 4,
        "since": since,
        "since_known": True,
        "days": 10.0,
        "url": f"https://app.example/relink/{number}?token={'x' * 80}",
        "evidence_age_seconds": 0.0,
    }


def write_report_of(rows: int, demo_report: Report, file: Path) -> None:
    actions = [down(number) for number in range(rows)]
    large = replace(demo_report, health=replace(demo_report.health, actions=actions))
    with pytest.MonkeyPatch.context() as patch:
        # they take the time, and are those of the other report
        patch.setattr("dlt_cronofy.report.page._figures", lambda _: [])
        file.write_text(render_page(large), encoding="utf-8")


@pytest.fixture(scope="module")
def large_file(demo_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "health.html"
    write_report_of(MANY, demo_report, file)
    return file


@pytest.fixture
def large(browser: Browser, large_file: Path) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": DESK, "height": 900})
    page.goto(large_file.as_uri())
    yield page
    page.close()


def visible(page: Page) -> list[str]:
    """Names of the people who can be seen in open groups."""
    names: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('.group:not([hidden])[open] tbody tr:not([hidden]) .who')]
            .map(who => who.firstChild.textContent.trim())"""
    )
    return names


@pytest.mark.parametrize("rows", [MANY, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_open_outages_open_at_once(
    rows: int, demo_report: Report, browser: Browser, tmp_path: Path
) -> None:
    write_report_of(rows, demo_report, tmp_path / "health.html")
    page = browser.new_page(viewport={"width": DESK, "height": 900})
    page.goto((tmp_path / "health.html").as_uri())
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded < OPENS_WITHIN_MS
    # what nobody looks at is not there yet
    assert page.evaluate("document.querySelectorAll('*').length") < 10_000
    page.close()


def test_one_person_and_one_customer_are_found(large: Page) -> None:
    search = large.get_by_label("Search")
    search.fill("o'son 1321")
    large.get_by_text("1 found").wait_for()
    assert visible(large) == ["Per O'Son 1321"]
    mail = large.locator(".group[open] tr:not([hidden]) a.mail")
    assert "relink%2F1321" in str(mail.get_attribute("href"))

    search.fill("customer 007")
    large.get_by_text("25 found").wait_for()
    assert len(visible(large)) == 25
    large.get_by_role("combobox", name="Provider").select_option("zoom")
    shown = visible(large)
    assert 0 < len(shown) < 25
    large.get_by_role("combobox", name="To do").select_option("initial_sync")
    assert 0 < len(visible(large)) < len(shown)

    large.get_by_role("combobox", name="Provider").select_option("")
    large.get_by_role("combobox", name="To do").select_option("")
    search.fill("nobody of that name")
    large.get_by_text("0 found").wait_for()
    search.fill("")
    expect(large.locator(".group[hidden]")).to_have_count(0)


def test_the_order_is_chosen(large: Page) -> None:
    # first a customer: its accounts are the even ones
    large.get_by_label("Search").fill("customer 003")
    large.get_by_text("25 found").wait_for()
    numbers = {}
    for order in ("oldest", "newest"):
        large.get_by_role("combobox", name="Order").select_option(order)
        numbers[order] = [int(name.rpartition(" ")[2]) for name in visible(large)]
    assert numbers["oldest"] == sorted(numbers["newest"])
    assert numbers["newest"] == sorted(numbers["newest"], reverse=True)
    assert len(numbers["newest"]) == 25


def test_an_account_has_a_place_that_opens(large: Page, large_file: Path) -> None:
    large.goto(f"{large_file.as_uri()}#a-acc_{MANY - 1}")
    large.locator(f"#a-acc_{MANY - 1}").wait_for(state="visible")
    assert large.locator(f"#a-acc_{MANY - 1} details").get_attribute("open") is not None


def test_a_long_group_shows_a_part_until_all_are_asked_for(large: Page) -> None:
    group = large.locator(".group", has_text="mail.example").filter(
        has=large.locator(".owner", has_text="mail.example")
    )
    if group.get_attribute("open") is None:
        group.locator("summary").first.click()
    more = group.get_by_role("button", name=f"Show all {MANY // 2:,}")
    more.wait_for()
    assert group.locator("tbody tr:not([hidden])").count() == 200
    more.click()
    assert group.locator("tbody tr:not([hidden])").count() == MANY // 2


def test_without_script_every_row_is_there(browser: Browser, large_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(large_file.as_uri(), wait_until="domcontentloaded")
    assert page.locator("#worklist tbody tr").count() == MANY
    assert page.locator("#tools").is_hidden()
    context.close()


@pytest.mark.long
def test_paper_has_all_people_and_their_links(browser: Browser, report_file: Path) -> None:
    page = browser.new_page()
    page.goto(report_file.as_uri())
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#worklist details.group:not([open])").count() == 0
    shown = page.evaluate(
        "() => getComputedStyle(document.querySelector('.mail[data-link]'), '::after').content"
    )
    assert "https://" in shown
    # no word is broken in a table
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.group th .who')).overflowWrap") == "normal"
    )
    page.close()
