"""The page: what it says, what it must not hold, and what hostile data cannot do to it."""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import dlt
import pytest

from dlt_cronofy.report.contents import EarlierReport, Report, read_report
from dlt_cronofy.report.frames import Read
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


def with_actions(report: Report, *rows: Row) -> Report:
    return replace(report, health=replace(report.health, actions=list(rows)))


@pytest.fixture(scope="module")
def page(demo_report: Report) -> str:
    return render_page(demo_report)


def test_it_begins_with_who_must_do_what(page: str, demo_report: Report) -> None:
    actions, text = demo_report.health.actions, Page(page).text
    people = len({row["account_id"] or row["token_keys"] for row in actions})
    assert f"{people} accounts of" in text[: text.index("What must be done")]
    for row in actions:
        assert (row["name"] or row["email"] or row["account_id"] or row["token_keys"]) in text
    places = [text.index(part) for part in ("What must be done", "Worked before", "Now, and a week ago")]
    assert places == sorted(places)


def test_nobody_who_left_is_named(page: str, demo_read: Read) -> None:
    left = demo_read("SELECT account_id FROM account_health WHERE verdict = 'left'")["account_id"]
    assert len(left) > 0
    assert not [account for account in left if account in page]


def test_people_s_words_and_the_word_of_the_api_beside(page: str) -> None:
    text = Page(page).text
    assert "Google Workspace calendar" in text
    assert 'data-provider="gsuite"' in page
    assert "gsuite" not in text


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
    assert "What changed since the last report" not in Page(page).text


@pytest.mark.long
def test_a_report_of_another_warehouse_is_not_compared_with(demo_pipeline: dlt.Pipeline) -> None:
    other = EarlierReport(datetime(2026, 1, 20, tzinfo=UTC), "another")
    report = read_report(demo_pipeline, None, other, anonymous=False)
    assert report.replaces_other
    assert not report.since_last_report
    assert "The earlier report in this file was not of this warehouse" in Page(render_page(report)).text


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


def test_a_link_is_in_a_drafted_mail_and_nowhere_else(page: str, demo_report: Report) -> None:
    links = Page(page).links
    mails = [link for link in links if link.startswith("mailto:")]
    assert {link for link in links if not link.startswith(("mailto:", "#"))} == set()
    for row in demo_report.health.actions:
        if row["url"] and row["email"]:
            own = [mail for mail in mails if mail.startswith(f"mailto:{row['email']}?")]
            assert any(quote(row["url"], safe="") in mail for mail in own)


def test_nothing_of_people_is_in_an_anonymous_report(
    demo_pipeline: dlt.Pipeline, demo_report: Report
) -> None:
    anonymous = read_report(demo_pipeline, None, None, anonymous=True)
    text = render_page(anonymous)
    personal = {str(row[name]) for row in demo_report.health.actions for name in PERSONAL if row.get(name)}
    personal |= {row["email"] for row in demo_report.accounts.values() if row["email"]}
    assert len(personal) > 20
    assert not [value for value in personal if value in text]
    assert not [link for link in Page(text).links if not link.startswith("#")]
    assert all(row["account_id"] in text for row in anonymous.health.actions if row["account_id"])


HOSTILE: Row = {
    "account_id": "acc_<script>alert(1)</script>",
    "customer": "</details><script>alert(2)</script>",
    "email": '"><img src=x onerror=alert(1)>@example.com',
    "email_domain": "example.com",
    "name": "{{ 7 * 7 }} {% raw %} \u202egnp.exe",
    "token_keys": "<b>",
    "provider": "</table><h1>",
    "profile_type": "calendar",
    "profile_id": "p",
    "profile_name": "' onmouseover='alert(1)",
    "reason": "relink",
    "rank": 3,
    "since": datetime(2026, 1, 1, tzinfo=UTC),
    "since_known": True,
    "days": 1.0,
    "evidence_age_seconds": 0.0,
    "url": "javascript:alert(document.domain)",
}


@pytest.fixture
def without_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take the time, and the lists of outages are what is looked at."""
    monkeypatch.setattr("dlt_cronofy.report.page._figures", lambda _: [])


@pytest.mark.usefixtures("without_drawings")
def test_hostile_names_stay_text(demo_report: Report) -> None:
    text = render_page(with_actions(demo_report, HOSTILE))
    shown = Page(text)
    assert not {"img", "iframe", "object"} & shown.tags
    assert text.count("<script") == 1
    for name in ("email", "customer"):
        assert HOSTILE[name] in shown.text
    assert "{{ 7 * 7 }}" in shown.text


@pytest.mark.usefixtures("without_drawings")
@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", " https://x", "hmac-sha256:abc", "", None]
)
def test_only_web_addresses_are_in_a_mail(demo_report: Report, url: str | None) -> None:
    row = {**HOSTILE, "email": "ann@x.example", "url": url}
    page = Page(render_page(with_actions(demo_report, row)))
    [mail] = [link for link in page.links if link.startswith("mailto:")]
    assert mail.startswith("mailto:ann@x.example?subject=")
    assert "link" not in mail
    # an address that is none gets no mail, and without a link there is nothing to send
    page = Page(render_page(with_actions(demo_report, {**HOSTILE, "url": url})))
    assert not [link for link in page.links if link.startswith("mailto:")]


@pytest.mark.usefixtures("without_drawings")
def test_all_rows_are_there_however_many(demo_report: Report) -> None:
    many = [
        {**HOSTILE, "account_id": f"acc_{number}", "email": f"e{number}@x.example", "name": None}
        for number in range(250)
    ]
    text = Page(render_page(with_actions(demo_report, *many))).text
    assert all(f"e{number}@x.example" in text for number in range(250))


@pytest.mark.usefixtures("without_drawings")
def test_where_nothing_is_to_be_done_it_says_so(demo_report: Report) -> None:
    text = Page(render_page(with_actions(demo_report))).text
    assert "No account needs action" in text
    assert "every connection worked when it was last checked" in text


@pytest.mark.parametrize(
    ("polls", "expected"),
    [([], "Nothing was polled yet"), ([FAILED_POLL], "No account needs action")],
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
    assert "default-src 'none'; script-src 'sha256-" in page


def test_the_only_script_is_the_one_that_the_policy_allows(page: str) -> None:
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page
