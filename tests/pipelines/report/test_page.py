"""The page: what it says, what it must not hold, and what hostile data cannot do to it."""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs

import dlt
import pytest

from dlt_cronofy.formatting import provider_name
from dlt_cronofy.report.command import worklist_csv
from dlt_cronofy.report.contents import EarlierReport, Report, read_report
from dlt_cronofy.report.health import PERSONAL
from dlt_cronofy.report.page import earlier_report, is_report, render_page
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


HOSTILE: Row = {
    "account_id": "acc_<script>alert(1)</script>",
    "customer": "<i>Northwind</i>",
    "email": '"><img src=x onerror=alert(1)>@example.com',
    "email_domain": "example.com",
    "name": "{{ 7 * 7 }} {% raw %} \u202egnp.exe",
    "token_keys": "<b>",
    "profile_type": "calendar",
    "profile_id": "pro_1",
    "profile_name": "' onmouseover='alert(1)",
    "provider": "</table><h1>",
    "reason": "relink",
    "rank": 3,
    "since": datetime(2026, 5, 1, tzinfo=UTC),
    "since_known": True,
    "days": 19.5,
    "url": "javascript:alert(document.domain)",
    "evidence_age_seconds": 0.0,
}


def with_actions(report: Report, *rows: Row) -> Report:
    return replace(report, health=replace(report.health, actions=list(rows)))


def action(number: int, **differs: object) -> Row:
    """A row of needs_action of an account of its own."""
    person = {"account_id": f"acc_{number}", "name": f"Person {number}", "email": f"e{number}@x.example"}
    link = f"https://app.example/relink/{number}"
    return {**HOSTILE, **person, "customer": "Northwind", "provider": "gsuite", "url": link, **differs}


@pytest.fixture(scope="module")
def page(demo_report: Report) -> str:
    return render_page(demo_report)


def test_it_says_what_the_health_says(page: str, demo_report: Report) -> None:
    health, text = demo_report.health, Page(page).text
    people = len({row["account_id"] for row in health.actions})
    down = [row for row in health.actions if row["reason"] == "relink"]
    assert f"{people} accounts need action" in text
    assert f"{len(down)} connections down" in text
    assert f"{health.never_read_tokens} of {health.tokens} tokens could never be read" in text
    for row in demo_report.rates.query("period == '30d' and profiles > 0").itertuples():
        assert f"{provider_name(row.provider)} {row.profiles:.0f} " in text
    for row in health.actions:
        assert (row["email"] or row["account_id"]) in text
    # what to do is read before anything else
    assert page.index('id="act"') < page.index('id="now"') < page.index('id="trends"')


def test_changes_are_those_since_the_last_report(
    demo_pipeline: dlt.Pipeline, demo_report: Report, page: str
) -> None:
    last = datetime(2026, 1, 20, tzinfo=UTC)
    earlier = EarlierReport(last, demo_report.source)
    later = read_report(demo_pipeline, None, earlier, anonymous=False)
    starts = later.outages["first_seen_at"]
    assert len(later.went_down) == (starts > last).sum() > len(demo_report.went_down) > 0
    assert later.since_last_report
    assert "What changed since the last report" in Page(render_page(later)).text
    assert f"What changed since {demo_report.since:%a %-d %b, %H:%M}" in Page(page).text

    # a report of another warehouse says nothing about this one
    other = read_report(demo_pipeline, None, EarlierReport(last, "another"), anonymous=False)
    assert other.since == demo_report.since
    assert "not of this warehouse" in Page(render_page(other)).text
    assert "not of this warehouse" not in Page(page).text


def test_it_remembers_what_it_knew(page: str, demo_report: Report) -> None:
    assert is_report(page)
    assert earlier_report(page) == EarlierReport(demo_report.health.as_of, demo_report.source)


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
    assert earlier_report(text) == EarlierReport(None, None)
    assert not is_report(text)


def test_links_are_in_drafted_mails_only(page: str, demo_report: Report) -> None:
    outside = [link for link in Page(page).links if not link.startswith("#")]
    assert all(link.startswith("mailto:") for link in outside)
    expected = {row["url"] for row in demo_report.health.actions if row["url"]}
    bodies = [parse_qs(link.partition("?")[2])["body"][0] for link in outside]
    assert expected == {url for body in bodies for url in re.findall(r"https://\S+", body)}
    assert len(expected) > 5


def test_nothing_of_people_is_in_an_anonymous_report(
    demo_pipeline: dlt.Pipeline, demo_report: Report
) -> None:
    anonymous = read_report(demo_pipeline, None, None, anonymous=True)
    text = render_page(anonymous)
    people = [*demo_report.health.actions, *demo_report.accounts.values()]
    personal = {str(row[name]) for row in people for name in PERSONAL if row.get(name)}
    assert len(personal) > 400
    assert not [value for value in personal if value in text]
    assert all(link.startswith("#") for link in Page(text).links)
    assert all(row["account_id"] in text for row in anonymous.health.actions if row["account_id"])
    assert not [value for value in personal if value.encode() in worklist_csv(anonymous.health.actions)]


@pytest.fixture
def without_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take the time, and the lists are what is looked at."""
    monkeypatch.setattr("dlt_cronofy.report.page._figures", lambda _: [])


@pytest.mark.usefixtures("without_drawings")
def test_hostile_names_stay_text(demo_report: Report) -> None:
    text = render_page(with_actions(demo_report, HOSTILE))
    shown = Page(text)
    assert not {"img", "iframe", "object", "i"} & shown.tags
    assert text.count("<script") == 1
    assert "{{ 7 * 7 }}" in shown.text
    for name in ("customer", "email", "provider", "account_id"):
        assert HOSTILE[name] in shown.text


@pytest.mark.usefixtures("without_drawings")
def test_the_script_is_the_one_that_the_policy_allows(demo_report: Report) -> None:
    text = render_page(with_actions(demo_report))
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


@pytest.mark.usefixtures("without_drawings")
def test_all_rows_are_there_however_many(demo_report: Report) -> None:
    customers = [f"Customer {number % 25}" for number in range(250)]
    many = [action(number, customer=customer) for number, customer in enumerate(customers)]
    text = render_page(with_actions(demo_report, *many))
    assert "250 accounts of 25 customers need action" in text
    assert all(f"e{number}@x.example" in text for number in range(250))
    # those of closed groups are text until somebody opens one
    assert 0 < text.count('<details class="group" open') < 25
    assert text.count("<noscript>") == 25 - text.count('<details class="group" open')


@pytest.mark.usefixtures("without_drawings")
def test_without_actions_nobody_is_asked(demo_report: Report) -> None:
    text = Page(render_page(with_actions(demo_report))).text
    assert "No account needs action" in text
    assert "every connection worked when it was last checked" in text


@pytest.mark.usefixtures("without_drawings")
def test_those_who_left_are_named_nowhere(demo_report: Report) -> None:
    account = str(demo_report.went_down["account_id"].iloc[-1])
    stayed = {key: row for key, row in demo_report.accounts.items() if key != account}
    left = replace(
        with_actions(demo_report),
        accounts=stayed,
        went_down=demo_report.went_down[demo_report.went_down["account_id"] != account],
        flapping=demo_report.flapping[demo_report.flapping["account_id"] != account],
    )
    assert account in render_page(with_actions(demo_report))
    assert account not in render_page(left)


@pytest.mark.usefixtures("without_drawings")
def test_the_first_look_has_nothing_to_compare(demo_report: Report) -> None:
    as_of = demo_report.health.as_of
    first = replace(demo_report, health=replace(demo_report.health, since=as_of))
    text = Page(render_page(first)).text
    assert "This is the first look" in text
    assert "What changed since" not in text
    assert "uptime, last 7 days" not in text


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
    renamed = replace(
        other, location=demo_report.location, dataset=demo_report.dataset, source=demo_report.source
    )
    assert other.source != demo_report.source
    assert rounded(render_page(renamed)) == rounded(page)


def rounded(page: str) -> str:
    """Without the digits in which sums differ that were added up in another order."""
    return re.sub(r"\d+\.\d{6,}(?:e-?\d+)?", lambda number: f"{float(number[0]):.4f}", page)


def test_it_loads_nothing(page: str) -> None:
    assert not {"img", "iframe", "object", "embed", "video", "audio"} & Page(page).tags
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    outside = set(re.findall(r"""(?:href|src|action)=["'](?!#|data:|mailto:)([^"']+)""", page))
    assert outside == set()
    # addresses stand where paper shows them, and nowhere else
    assert page.count("://") == page.count('data-link="https://')
