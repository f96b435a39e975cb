"""The drafted mail: a `mailto:` address with the link somebody has to open, in words the owner can set."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from dlt.common.configuration import configspec
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration

from dlt_cronofy.formatting import provider_name
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.privacy import PROTECTED
from dlt_cronofy.source.tables import Row

SUBJECT = "Your {connection} needs your attention"
TEXT = """\
Hello {name},

{request}

Your personal link, please do not forward it: {link}

Thank you
"""
# what each reason of `needs_action` asks for
REQUESTS = {
    "authorize": "we can no longer read your {connection}. Please sign in to our application and connect it"
    " again.",
    "widen_scope": "we are not allowed to read your {connection}. Please sign in to our application, connect"
    " it again and accept all permissions.",
    "relink": "your {connection} is no longer connected. Please connect it again.",
    "initial_sync": "the first synchronization of your {connection} has not finished. Please connect it"
    " again.",
    "no_writable_calendar": "we may not write to any calendar of your {connection}. Please give us a calendar"
    " that you can edit.",
    "migrate": "from 1 October 2026 Microsoft blocks the way in which your {connection} is connected."
    " Please connect it again.",
}
PLACEHOLDERS = ("name", "connection", "request", "link")
SAFE_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
# one plain address: a list of them, or a header after it, is none
_ADDRESS = re.compile(r"""[^\s@,;:?&<>"'()\[\]\\]+@[^\s@,;:?&<>"'()\[\]\\]+""")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@configspec
class MailConfiguration(BaseConfiguration):
    """What section `sources.cronofy` says of the mails that the report drafts."""

    mail_subject: str | None = None
    """subject of the mails that the report drafts; may hold `{name}` and `{connection}`"""
    mail_text: str | None = None
    """text of these mails; may hold `{name}`, `{connection}`, `{request}` and `{link}`. A line with `{link}`
    is left out where there is no link"""


@dataclass(frozen=True)
class Mail:
    """The words of the mails."""

    subject: str = SUBJECT
    text: str = TEXT

    def draft(self, row: Row) -> str | None:
        """The `mailto:` address for a row of `needs_action`; None if nobody can be written to.

        Without an address there is still a draft if there is a link: it has no recipient.
        """
        link, address = safe_link(row["url"]), row["email"] or ""
        address = address if _ADDRESS.fullmatch(address) else ""
        if not link and not address:
            return None
        words = {"name": _plain(row["name"]), "connection": connection(row), "link": link or ""}
        words["request"] = _filled(REQUESTS.get(row["reason"], ""), words)
        words["request"] = words["request"][:1].upper() + words["request"][1:]
        lines = [line for line in self.text.strip().splitlines() if link or "{link}" not in line]
        text = re.sub(r"\n{3,}", "\n\n", _filled("\n".join(lines), words))
        subject = _filled(self.subject, words)
        body = quote(text.replace("\n", "\r\n"), safe="")
        return f"mailto:{quote(address, safe='@')}?subject={quote(subject, safe='')}&body={body}"


def configured_mail() -> Mail:
    """The configured words.

    Raises:
        ConfigurationError: they hold a placeholder that there is not.
    """
    from dlt_cronofy.source.settings import CONFIG_SECTIONS

    try:
        found = resolve_configuration(MailConfiguration(), sections=CONFIG_SECTIONS)
    except (ConfigurationException, ValueError) as error:
        raise ConfigurationError(f"mail_subject, mail_text: {str(error).splitlines()[0]}") from None
    for name, words in (("mail_subject", found.mail_subject), ("mail_text", found.mail_text)):
        for unknown in set(_PLACEHOLDER.findall(words or "")) - set(PLACEHOLDERS):
            known = ", ".join(f"{{{placeholder}}}" for placeholder in PLACEHOLDERS)
            raise ConfigurationError(f"{name} in [sources.cronofy] holds {{{unknown}}}: there are {known}")
    return Mail(found.mail_subject or SUBJECT, found.mail_text or TEXT)


def safe_link(url: str | None) -> str | None:
    """A link that a browser may open; None for a digest, or for anything but a web address."""
    return url if url and SAFE_LINK.fullmatch(url) else None


def connection(row: Row) -> str:
    """What is to be connected: `Google Workspace calendar`, `Zoom account`, `calendar account`."""
    if row["profile_type"] is None:
        return "calendar account"
    provider = provider_name(row["provider"])
    if row["profile_type"] != "calendar":
        return f"{provider} account"
    return provider if provider.endswith("calendar") else f"{provider} calendar"


def _plain(name: str | None) -> str:
    return "" if not name or PROTECTED.fullmatch(name) else name


def _filled(text: str, words: Mapping[str, str]) -> str:
    """The text with the words in it; without a name the blank before it goes, too."""
    if not words["name"]:
        text = re.sub(r" ?\{name\}", "", text)
    return _PLACEHOLDER.sub(lambda found: words.get(found[1], ""), text)
