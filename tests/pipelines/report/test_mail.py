"""The drafted mails: to whom, in which words, and what a hostile name cannot put into them."""

from urllib.parse import parse_qs, unquote

import pytest

from dlt_cronofy.report.mail import Mail, configured_mail, connection
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tables import Row

ROW: Row = {
    "name": "Ada Khan",
    "email": "ada.khan+1@northwind.example",
    "profile_type": "calendar",
    "provider": "gsuite",
    "reason": "relink",
    "url": "https://app.example/relink?a=1&b=2",
}


def drafted(mail: Mail, **differs: object) -> tuple[str, str, str]:
    """Recipient, subject and text as a mail program reads them."""
    draft = mail.draft({**ROW, **differs})
    assert draft is not None
    recipient, _, query = draft.removeprefix("mailto:").partition("?")
    parts = parse_qs(query, strict_parsing=True)
    assert set(parts) == {"subject", "body"}
    return unquote(recipient), parts["subject"][0], parts["body"][0].replace("\r\n", "\n")


def test_a_draft_names_person_connection_and_link() -> None:
    recipient, subject, text = drafted(Mail())
    assert recipient == ROW["email"]
    assert subject == "Your Google Workspace calendar needs your attention"
    assert text.startswith("Hello Ada Khan,\n\nYour Google Workspace calendar is no longer connected.")
    assert f"do not forward it: {ROW['url']}\n" in text


def test_without_a_link_its_line_is_left_out() -> None:
    _, _, text = drafted(Mail(), reason="authorize", profile_type=None, provider=None, url=None)
    assert "link" not in text
    assert "We can no longer read your calendar account." in text
    assert "\n\n\n" not in text


def test_without_a_name_nobody_is_called_by_a_digest() -> None:
    for name in (None, "hmac:" + "a" * 64):
        assert drafted(Mail(), name=name)[2].startswith("Hello,\n")


@pytest.mark.parametrize(
    "email",
    [
        None,
        "",
        "hmac:" + "a" * 64,
        "a@x.example?bcc=b@x.example",
        "a@x.example,b@x.example",
        "a b@x.example",
    ],
)
def test_what_is_no_address_is_no_recipient(email: str | None) -> None:
    assert drafted(Mail(), email=email)[0] == ""
    assert Mail().draft({**ROW, "email": email, "url": None}) is None


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", " https://x", "hmac:abc", ""])
def test_only_web_addresses_are_links(url: str) -> None:
    assert "link" not in drafted(Mail(), url=url)[2]


def test_a_hostile_name_adds_no_header() -> None:
    _, subject, text = drafted(Mail("{name}", "{name}"), name="x&bcc=b@x.example\r\n{link}")
    assert subject == "x&bcc=b@x.example\r\n{link}"
    assert "{link}" in text


def test_the_owner_sets_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_mail() == Mail()
    monkeypatch.setenv("SOURCES__CRONOFY__MAIL_SUBJECT", "{connection}, {name}")
    monkeypatch.setenv("SOURCES__CRONOFY__MAIL_TEXT", "{request}\n{link} {}")
    _, subject, text = drafted(configured_mail())
    assert subject == "Google Workspace calendar, Ada Khan"
    assert text.endswith(f"Please connect it again.\n{ROW['url']} {{}}")


def test_an_unknown_placeholder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES__CRONOFY__MAIL_TEXT", "Dear {nmae}")
    with pytest.raises(ConfigurationError, match=r"mail_text .* holds \{nmae\}: there are \{name\}, "):
        configured_mail()


@pytest.mark.parametrize(
    ("profile_type", "provider", "expected"),
    [
        (None, None, "calendar account"),
        ("calendar", "office365", "Microsoft 365 calendar"),
        ("calendar", "cronofy", "Application calendar"),
        ("conferencing", "zoom", "Zoom account"),
        ("calendar", "newcomer", "newcomer calendar"),
    ],
)
def test_a_connection_has_a_name(profile_type: str | None, provider: str | None, expected: str) -> None:
    assert connection({"profile_type": profile_type, "provider": provider}) == expected
