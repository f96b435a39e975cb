"""The page: what it says, what it must not hold, and what hostile data cannot do to it."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import dlt
import pytest

from dlt_cronofy.report.contents import Report, read_report
from dlt_cronofy.report.health import PERSONAL
from dlt_cronofy.report.page import is_report, last_as_of, render_page
from dlt_cronofy.source.tables import Row
from tests.pipelines.report.conftest import FAILED_POLL, pipeline_on

pytestmark = pytest.mark.timeout(300)


class Page(HTMLParser):
    """What a reader of the source sees: links, loads from elsewhere, cells and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name == "href" and tag == "a"]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "src"], (tag, attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def with_outages(report: Report, *rows: Row) -> Report:
    return replace(report, health=replace(report.health, open_outages=list(rows)))


@pytest.fixture(scope="module")
def page(demo_report: Report) -> str:
    return render_page(demo_report)


def test_it_says_what_the_health_says(page: str, demo_report: Report) -> None:
    health, text = demo_report.health, Page(page).text
    people = len({row["account_id"] for row in health.open_outages})
    assert f"{people} accounts must be asked to relink" in text
    assert f"{len(health.open_outages)} connections are down." in text
    assert f"{health.never_read_tokens} of {health.tokens} tokens could never be read" in text
    for row in health.providers:
        assert f"{row['provider']} {row['profiles']} " in text
    for row in health.open_outages:
        assert (row["email"] or row["account_id"]) in text


def test_changes_are_those_since_the_last_report(
    demo_pipeline: dlt.Pipeline, demo_report: Report, page: str
) -> None:
    last = datetime(2026, 1, 20, tzinfo=UTC)
    later = read_report(demo_pipeline, None, last, anonymous=False)
    starts = later.outages["first_seen_at"]
    assert len(later.went_down) == (starts > last).sum() > len(demo_report.went_down) > 0
    assert later.since_last_report
    assert "What changed since the last report" in Page(render_page(later)).text
    assert f"What changed since {demo_report.since:%Y-%m-%d %H:%M}" in Page(page).text


def test_it_remembers_what_it_knew(page: str, demo_report: Report) -> None:
    assert is_report(page)
    assert last_as_of(page) == demo_report.health.as_of


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        '<meta name="dlt-cronofy-as-of" content="soon">',
        '<meta name="dlt-cronofy-as-of" content="2026-01-01">',
    ],
)
def test_what_is_no_report_knew_nothing(text: str) -> None:
    assert last_as_of(text) is None
    assert not is_report(text)


def test_links_are_those_of_the_open_outages(page: str, demo_report: Report) -> None:
    expected = [row["relink_url"] for row in demo_report.health.open_outages]
    assert Page(page).links == expected
    assert len(set(expected)) > 5


def test_nothing_of_people_is_in_an_anonymous_report(
    demo_pipeline: dlt.Pipeline, demo_report: Report
) -> None:
    anonymous = read_report(demo_pipeline, None, None, anonymous=True)
    text = render_page(anonymous)
    personal = {
        str(row[name]) for row in demo_report.health.open_outages for name in PERSONAL if row.get(name)
    }
    personal |= set(demo_report.emails.values())
    assert len(personal) > 20
    assert not [value for value in personal if value in text]
    assert not Page(text).links
    assert all(row["account_id"] in text for row in anonymous.health.open_outages)


HOSTILE: Row = {
    "account_id": "acc_<script>alert(1)</script>",
    "email": '"><img src=x onerror=alert(1)>@example.com',
    "name": "{{ 7 * 7 }} {% raw %} \u202egnp.exe",
    "token_keys": "<b>",
    "provider": "</table><h1>",
    "profile_type": "calendar",
    "profile_name": "' onmouseover='alert(1)",
    "started_after": None,
    "first_seen_at": datetime(2026, 1, 1, tzinfo=UTC),
    "last_seen_at": datetime(2026, 1, 2, tzinfo=UTC),
    "days_down": 1.0,
    "evidence_age_seconds": 0.0,
    "relink_url": "javascript:alert(document.domain)",
}


@pytest.fixture
def without_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take the time, and the lists of outages are what is looked at."""
    monkeypatch.setattr("dlt_cronofy.report.page._figures", lambda _: [])


@pytest.mark.usefixtures("without_drawings")
def test_hostile_names_stay_text(demo_report: Report) -> None:
    shown = Page(render_page(with_outages(demo_report, HOSTILE)))
    assert not {"script", "img", "iframe", "object", "form"} & shown.tags
    assert HOSTILE["email"] in shown.text
    assert "{{ 7 * 7 }}" in shown.text
    assert HOSTILE["provider"] in shown.text


@pytest.mark.usefixtures("without_drawings")
@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", " https://x", "hmac-sha256:abc", "", None]
)
def test_only_web_addresses_are_linked(demo_report: Report, url: str | None) -> None:
    shown = Page(render_page(with_outages(demo_report, {**HOSTILE, "relink_url": url})))
    assert shown.links == []
    assert "none kept" in shown.text


@pytest.mark.usefixtures("without_drawings")
def test_long_lists_end_and_say_so(demo_report: Report) -> None:
    many = [
        {**HOSTILE, "account_id": f"acc_{number}", "email": f"e{number}@x.example"} for number in range(250)
    ]
    text = Page(render_page(with_outages(demo_report, *many))).text
    assert "The 200 longest of 250 open outages; the view needs_relink has all" in text
    assert "e199@x.example" in text
    assert "e200@x.example" not in text


@pytest.mark.usefixtures("without_drawings")
def test_without_outages_nobody_is_asked(demo_report: Report) -> None:
    text = Page(render_page(with_outages(demo_report))).text
    assert "Nobody needs to relink" in text
    assert "no profile was disconnected when it was last seen" in text


@pytest.mark.parametrize(
    ("polls", "expected"),
    [([], "Nothing was polled yet"), ([FAILED_POLL], "1 of 1 token could never be read")],
    ids=["no poll", "a failed poll"],
)
def test_an_empty_warehouse_has_a_report(
    polls: list[Row], expected: str, warehouse_with: Callable[[list[Row]], Path], tmp_path: Path
) -> None:
    pipeline = pipeline_on(warehouse_with(polls), tmp_path)
    page = render_page(read_report(pipeline, None, None, anonymous=False))
    assert expected in Page(page).text
    assert "NaN" not in page
    assert is_report(page)


def test_postgres_has_the_same_report(
    postgres_pipeline: dlt.Pipeline, page: str, demo_report: Report
) -> None:
    other = read_report(postgres_pipeline, None, None, anonymous=False)
    renamed = replace(other, location=demo_report.location, dataset=demo_report.dataset)
    assert rounded(render_page(renamed)) == rounded(page)


def rounded(page: str) -> str:
    """Without the digits in which sums differ that were added up in another order."""
    return re.sub(r"\d+\.\d{6,}(?:e-?\d+)?", lambda number: f"{float(number[0]):.4f}", page)


def test_it_loads_nothing(page: str) -> None:
    assert not {"script", "img", "iframe", "object", "embed", "video", "audio"} & Page(page).tags
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    outside = set(re.findall(r"""(?:href|src|action)=["'](?!#|data:)([^"']+)""", page))
    assert outside == set(Page(page).links)
    assert page.count("://") == len(Page(page).links)
    assert "default-src 'none'" in page
