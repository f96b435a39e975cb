"""Alerts: after a load, one message of what is news. Off unless `alerts_to` is set."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dlt
from dlt.common.configuration import configspec
from dlt.common.configuration.exceptions import ValueNotSecretException
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration, RuntimeConfiguration
from dlt.destinations.exceptions import DatabaseException

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import CONFIG_SECTIONS, SecretText, hidden
from dlt_cronofy.warehouse.dataset import sql_client

from .messages import IDS, PEOPLE, Message, escaped, news_message, news_text, text_message
from .news import News, find_news

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("dlt_cronofy")

SLACK = "slack"
ATTEMPTS, TIMEOUT_SECONDS = 3, 10.0
# before the second attempt; twice that before the third
PAUSE_SECONDS = 1.0
TEST = "A test message of dlt-cronofy: alerts arrive here."

# these would write the URL into their log, or a line of their own for each attempt
SENDERS_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11")


@configspec
class AlertsConfiguration(BaseConfiguration):
    """What section `sources.cronofy` says of alerts; apart from the source's own, which sends none."""

    alerts_to: SecretText | None = None
    """where to send what is news after a load: `slack`, or the URL of a webhook; off if not set"""

    alerts_show: str = IDS
    """how alerts name people: `ids` (of accounts and tokens), `names` or `emails`, both with the customer"""


def _new_client() -> "httpx.Client":
    import httpx

    from dlt_cronofy.source.api.transport import USER_AGENT, verifying_context

    return httpx.Client(
        timeout=TIMEOUT_SECONDS, verify=verifying_context(), headers={"User-Agent": USER_AGENT}
    )


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts go: any server that takes a POST with JSON.

    Attributes:
        name: for people; never the URL.
        is_slack: an incoming webhook of Slack's, which gets the message in words.
    """

    url: Secret
    name: str = "the webhook in alerts_to"
    is_slack: bool = False
    new_client: "Callable[[], httpx.Client]" = _new_client

    @classmethod
    def slack(cls, hook: Secret) -> "Receiver":
        """An incoming webhook of Slack's."""
        return cls(hook, "Slack", is_slack=True)

    def body(self, news: News, show: str) -> Message:
        """What it is sent of news."""
        if self.is_slack:
            return {"text": news_text(news, show, escaped), "mrkdwn": True}
        return news_message(news, show)

    def test_body(self) -> Message:
        """What it is sent to try it."""
        return {"text": TEST} if self.is_slack else text_message("test", TEST)

    def deliver(self, body: Message) -> str | None:
        """Send a body once; returns what went wrong, without the URL.

        A redirect is no delivery: who follows it sends it anywhere.
        """
        with (
            self.new_client() as client,
            # the body of the response is not read
            client.stream("POST", self.url.reveal(), json=body) as response,
        ):
            return None if response.is_success else f"HTTP status {response.status_code}"


@dataclass(frozen=True, slots=True)
class Alerts:
    """Sends what is news to a receiver; everything that waits is injected.

    Attributes:
        show: how people are named: `ids`, `names` or `emails`.
    """

    receiver: Receiver
    show: str = IDS
    sleep: Callable[[float], None] = time.sleep
    timeout_seconds: float = TIMEOUT_SECONDS

    def send_news(self, pipeline: dlt.Pipeline, run_id: str, others: Collection[str] = ()) -> int:
        """Send one message of what this run has found, and others that it reports on.

        Runs directly before them that did not finish are reported on as well. Never fails.

        Returns:
            How many pieces of news the receiver got, 1 for the first look; 0 where there were none and where
            it could not be reached.
        """
        try:
            news = news_of(pipeline, [run_id, *sorted({*others} - {run_id})])
        except DatabaseException as error:
            logger.warning("no alert is sent; what is news cannot be read: %s", type(error).__name__)
            return 0
        if news is None:
            return 0
        number = 1 if news.first_look else len(news.items)
        problem = self._deliver(self.receiver.body(news, self.show))
        if problem is not None:
            logger.warning(
                "%s got no alert (news: %d), after %d tries: %s; dlt-cronofy alerts shows it",
                *(self.receiver.name, number, ATTEMPTS, problem),
            )
            return 0
        logger.info("%s got an alert (news: %d)", self.receiver.name, number)
        return number

    def send_test(self) -> str | None:
        """Send a message to try the receiver; returns what went wrong at last, None where nothing did."""
        return self._deliver(self.receiver.test_body())

    def _deliver(self, message: Message) -> str | None:
        """What went wrong at last, None where nothing did."""
        problem = self._attempt(message)
        for waited in range(ATTEMPTS - 1):
            if problem is None:
                break
            self.sleep(PAUSE_SECONDS * 2**waited)
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
        ConfigurationError: it is neither Slack nor a URL, or Slack's URL is missing; never quotes either. Or
            there is no such `alerts_show`.
    """
    to, show = _secret("alerts_to", AlertsConfiguration(), CONFIG_SECTIONS), configured_show()
    if to is None:
        return None
    if to.reveal().lower() != SLACK:
        if not _is_url(to):
            raise ConfigurationError(
                "alerts_to in [sources.cronofy] must be slack or a URL like https://host/path"
            )
        return Alerts(Receiver(to), show)
    hook = _secret("slack_incoming_hook", RuntimeConfiguration())
    if hook is None or not _is_url(hook):
        raise ConfigurationError(
            "alerts_to in [sources.cronofy] is slack: set slack_incoming_hook in [runtime] of"
            " .dlt/secrets.toml, or RUNTIME__SLACK_INCOMING_HOOK, to the URL of an incoming webhook"
            " (https://hooks.slack.com/…)"
        )
    return Alerts(Receiver.slack(hook), show)


def configured_show() -> str:
    """How alerts name people.

    Raises:
        ConfigurationError: there is no such way.
    """
    try:
        show = resolve_configuration(AlertsConfiguration(), sections=CONFIG_SECTIONS).alerts_show
    except ValueNotSecretException:
        raise _misplaced("alerts_to") from None
    if show not in PEOPLE:
        raise ConfigurationError(f"alerts_show in [sources.cronofy] must be one of {', '.join(PEOPLE)}")
    return show


def _misplaced(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is a secret: it belongs into .dlt/secrets.toml or the environment, not into config.toml"
    )


def _secret(name: str, configuration: BaseConfiguration, sections: tuple[str, ...] = ()) -> Secret | None:
    """A configured secret; None where it is empty, as an environment variable may be."""
    try:
        secret = hidden(getattr(resolve_configuration(configuration, sections=sections), name))
    except ValueNotSecretException:
        raise _misplaced(name) from None
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


def news_of(pipeline: dlt.Pipeline, run_ids: Sequence[str]) -> News | None:
    """What these runs have found, by the warehouse; None where that is nothing."""
    with sql_client(pipeline) as client:
        return find_news(client, run_ids)


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
