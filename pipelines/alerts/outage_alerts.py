"""Alerts: after a load, one message about the outages that opened in it. Off unless `alerts_to` is set.

No state is kept: an outage opened in a load if the change that began it carries the load's run_id. A load
that was killed and is finished by this one counts as this one's. Nothing personal is sent.
"""

import html
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.configuration import configspec
from dlt.common.configuration.exceptions import ValueNotSecretException
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration, RuntimeConfiguration
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import CONFIG_SECTIONS, SecretText, hidden
from dlt_cronofy.source.tables import Row
from dlt_cronofy.warehouse.dataset import read, sql_client

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("dlt_cronofy")

VERSION = 1
SLACK = "slack"
LISTED_OUTAGES = 50
ATTEMPTS, TIMEOUT_SECONDS = 3, 10.0

# a question mark stands for a list of values
WENT_DOWN = """
    SELECT account_id, profile_type, profile_id, observed_at
    FROM {profile_changes}
    WHERE state = 'disconnected' AND run_id IN (?)
"""
OPEN_OUTAGES = """
    SELECT account_id, profile_type, profile_id, provider, first_seen_at, started_after
    FROM {outages}
    WHERE ended_at IS NULL
"""
RUNS_OF_PACKAGES = """
    SELECT run_id FROM {polls} WHERE _dlt_load_id IN (?)
    UNION
    SELECT run_id FROM {profile_changes} WHERE _dlt_load_id IN (?)
"""
# those that `needs_relink` names too
TOKENS_OF_ACCOUNTS = """
    SELECT account_id, token_key FROM {userinfo} WHERE account_id IN (?)
    UNION
    SELECT account_id, token_key FROM {account} WHERE account_id IN (?)
    UNION
    SELECT account_id, token_key FROM {profile_changes} WHERE account_id IN (?)
"""
# these would write the URL into their log, or a line of their own for each attempt
SENDERS_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11")

Message = dict[str, Any]
Client = SqlClientBase[Any]
Profile = tuple[str, str, str, datetime]


@configspec
class AlertsConfiguration(BaseConfiguration):
    """What section `sources.cronofy` says of alerts; apart from the source's own, which sends none."""

    alerts_to: SecretText | None = None
    """where to send new outages: `slack`, or the URL of a webhook; off if not set"""


@dataclass(frozen=True, slots=True)
class OpenedOutage:
    """One outage that opened in the loads just finished and is still open."""

    account_id: str
    profile_type: str
    profile_id: str
    provider: str
    first_seen_at: datetime
    started_after: datetime | None

    @property
    def already_down(self) -> bool:
        """Whether the profile was down when it was first seen, so that nobody knows since when."""
        return self.started_after is None

    def as_dict(self, token_keys: Sequence[str]) -> Message:
        """For the message: ids, times and states, no name and no URL."""
        return asdict(self) | {
            "first_seen_at": self.first_seen_at.isoformat(),
            "started_after": self.started_after.isoformat() if self.started_after else None,
            "already_down": self.already_down,
            "token_keys": list(token_keys),
        }


def _new_client() -> "httpx.Client":
    import httpx

    from dlt_cronofy.source.api.transport import USER_AGENT, verifying_context

    return httpx.Client(
        timeout=TIMEOUT_SECONDS, verify=verifying_context(), headers={"User-Agent": USER_AGENT}
    )


def slack_body(message: Message) -> Message:
    """What an incoming webhook of Slack's takes."""
    return {"text": slack_text(message), "mrkdwn": True}


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts go: any server that takes a POST with JSON.

    Attributes:
        name: for people; never the URL.
        body: what is sent of a message; None for the message as it is.
    """

    url: Secret
    name: str = "the webhook in alerts_to"
    body: Callable[[Message], Message] | None = None
    new_client: "Callable[[], httpx.Client]" = _new_client

    @classmethod
    def slack(cls, hook: Secret) -> "Receiver":
        """An incoming webhook of Slack's, which gets the message in words."""
        return cls(hook, "Slack", slack_body)

    def deliver(self, message: Message) -> str | None:
        """Send a message once; says what went wrong, without the URL.

        A redirect is no delivery: who follows it sends it anywhere.
        """
        body = message if self.body is None else self.body(message)
        with (
            self.new_client() as client,
            # the body of the response is not read
            client.stream("POST", self.url.reveal(), json=body) as response,
        ):
            return None if response.is_success else f"HTTP status {response.status_code}"


@dataclass(frozen=True, slots=True)
class Alerts:
    """Sends the outages that opened to a receiver; everything that waits is injected."""

    receiver: Receiver
    sleep: Callable[[float], None] = time.sleep
    timeout_seconds: float = TIMEOUT_SECONDS

    def send_opened(self, pipeline: dlt.Pipeline, run_id: str, finished_packages: Sequence[str]) -> int:
        """Send one message about what opened in this run and in those whose packages it finished.

        Returns:
            How many outages the receiver got; 0 also where it could not be reached.
        """
        with sql_client(pipeline) as client:
            opened = opened_outages(client, sorted({run_id} | _finished_runs(client, finished_packages)))
            if not opened:
                return 0
            keys = _token_keys(client, [outage.account_id for outage in opened[:LISTED_OUTAGES]])
        problem = self._deliver(opened_message(run_id, opened, keys))
        if problem is not None:
            logger.warning(
                "%s got no alert of %d opened outage(s), after %d tries: %s; needs_relink lists them",
                *(self.receiver.name, len(opened), ATTEMPTS, problem),
            )
            return 0
        logger.info("%s got an alert of %d opened outage(s)", self.receiver.name, len(opened))
        return len(opened)

    def _deliver(self, message: Message) -> str | None:
        """What went wrong at last, None where nothing did."""
        problem = self._attempt(message)
        for waited in range(ATTEMPTS - 1):
            if problem is None:
                break
            self.sleep(2.0**waited)
            problem = self._attempt(message)
        return problem

    def _attempt(self, message: Message) -> str | None:
        """One delivery, abandoned when its time is up: the client bounds its steps, not the whole."""
        outcome: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def attempt() -> None:
            with _nothing_logged():
                try:
                    problem = self.receiver.deliver(message)
                except Exception as error:  # noqa: BLE001 - the load is done, and the text may quote the URL
                    problem = type(error).__name__
            outcome.put(problem)

        threading.Thread(target=attempt, daemon=True).start()
        try:
            return outcome.get(timeout=self.timeout_seconds)
        except queue.Empty:
            return f"no answer within {self.timeout_seconds:g} s"


def configured_alerts() -> Alerts | None:
    """Where alerts go, checked; None where alerts are off.

    Raises:
        ConfigurationError: it is neither Slack nor a URL, or Slack's URL is missing. Never quotes either.
    """
    to = _secret("alerts_to", AlertsConfiguration(), CONFIG_SECTIONS)
    if to is None:
        return None
    if to.reveal().lower() != SLACK:
        if not _is_url(to):
            raise ConfigurationError(
                "alerts_to in [sources.cronofy] must be slack or a URL like https://host/path"
            )
        return Alerts(Receiver(to))
    hook = _secret("slack_incoming_hook", RuntimeConfiguration())
    if hook is None or not _is_url(hook):
        raise ConfigurationError(
            "alerts_to in [sources.cronofy] is slack: set slack_incoming_hook in [runtime] of"
            " .dlt/secrets.toml, or RUNTIME__SLACK_INCOMING_HOOK, to the URL of an incoming webhook"
            " (https://hooks.slack.com/…)"
        )
    return Alerts(Receiver.slack(hook))


def _secret(name: str, configuration: BaseConfiguration, sections: tuple[str, ...] = ()) -> Secret | None:
    """A configured secret; None where it is empty, as an environment variable may be."""
    try:
        secret = hidden(getattr(resolve_configuration(configuration, sections=sections), name))
    except ValueNotSecretException:
        raise ConfigurationError(
            f"{name} is a secret: it belongs into .dlt/secrets.toml or the environment, not into config.toml"
        ) from None
    # files of secrets end with a line break
    text = secret.reveal().strip() if secret is not None else ""
    return Secret(text) if text else None


def _is_url(secret: Secret) -> bool:
    import httpx

    try:
        url = httpx.URL(secret.reveal())
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def opened_outages(client: Client, run_ids: Sequence[str]) -> list[OpenedOutage]:
    """The open outages that began in these runs, oldest first.

    The view is read once and only if a change in the log could have begun an outage. It is matched here and
    not by a join, which PostgreSQL runs in nested loops over the view.
    """
    began = {_profile(row, "observed_at") for row in _rows(client, WENT_DOWN, run_ids)}
    if not began:
        return []
    opened = [
        OpenedOutage(**row | {"provider": row["provider"] or "unknown"})
        for row in _rows(client, OPEN_OUTAGES)
        if _profile(row, "first_seen_at") in began
    ]
    return sorted(opened, key=lambda outage: (outage.first_seen_at, outage.account_id, outage.profile_id))


def _finished_runs(client: Client, packages: Sequence[str]) -> set[str]:
    """The runs that packages belong to: a run whose last package was pending has sent no alert."""
    return {row["run_id"] for row in _rows(client, RUNS_OF_PACKAGES, packages)} if packages else set()


def _token_keys(client: Client, account_ids: Sequence[str]) -> dict[str, list[str]]:
    """The tokens of a few accounts, sorted."""
    keys: dict[str, set[str]] = {account_id: set() for account_id in account_ids}
    for row in _rows(client, TOKENS_OF_ACCOUNTS, sorted(keys)):
        keys[row["account_id"]].add(row["token_key"])
    return {account_id: sorted(found) for account_id, found in keys.items()}


def _rows(client: Client, sql: str, values: Sequence[str] = ()) -> list[Row]:
    """Rows of a query; each question mark is replaced by the list of values."""
    marks = ", ".join(["%s"] * len(values))
    return read(client, sql.replace("?", marks), *[*values] * sql.count("?"))


def _profile(row: Row, when: str) -> Profile:
    return row["account_id"], row["profile_type"], row["profile_id"], row[when]


def opened_message(run_id: str, opened: Sequence[OpenedOutage], token_keys: dict[str, list[str]]) -> Message:
    """What is sent, version 1: counts of all, and the first fifty by name."""
    listed = opened[:LISTED_OUTAGES]
    return {
        "version": VERSION,
        "event": "outages_opened",
        "run_id": run_id,
        "opened": len(opened),
        "already_down": sum(outage.already_down for outage in opened),
        "by_provider": dict(Counter(outage.provider for outage in opened).most_common()),
        "outages": [outage.as_dict(token_keys[outage.account_id]) for outage in listed],
        "more": len(opened) - len(listed),
    }


def slack_text(message: Message) -> str:
    """The same message in words, in Slack's markup."""
    down, opened = message["already_down"], message["opened"]
    providers = ", ".join(f"{_escaped(name)} {count}" for name, count in message["by_provider"].items())
    lines = [
        f"*{opened} outage{'' if opened == 1 else 's'} opened*: {providers}"
        + (f"; {down} already down when first seen" if down else "")
    ]
    for outage in message["outages"]:
        seen = f"{datetime.fromisoformat(outage['first_seen_at']):%Y-%m-%d %H:%M} UTC"
        since = f"down when first seen, {seen}" if outage["already_down"] else f"seen down {seen}"
        tokens = _escaped(", ".join(outage["token_keys"]))
        provider = _escaped(f"{outage['provider']} {outage['profile_type']}")
        lines.append(f"• `{_escaped(outage['account_id'])}` {provider}, {since}; token {tokens}")
    if message["more"]:
        lines.append(f"and {message['more']} more")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """A text that Slack shows as it is."""
    return html.escape(text, quote=False)


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Keep HTTP clients from writing the URL, which may carry a token, into anybody's log."""
    loggers = [logging.getLogger(name) for name in SENDERS_LOGGERS]
    # one of its own for each attempt: an abandoned one may outlast the next
    drop = logging.Filter("nothing has this name")
    for each in loggers:
        each.addFilter(drop)
    try:
        yield
    finally:
        for each in loggers:
            each.removeFilter(drop)
