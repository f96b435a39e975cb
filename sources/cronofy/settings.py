"""Constants and configuration of the source, section `sources.cronofy`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from dlt.common.configuration import configspec
from dlt.common.configuration.specs import BaseConfiguration, CredentialsConfiguration
from dlt.common.typing import SecretSentinel, TSecretStrValue

from .durations import parse_duration
from .errors import ConfigurationError
from .privacy import KEEP, PersonalData
from .secret import Secret
from .tables import TOKEN_STATUS
from .texts import clean_text

# The US host carries no suffix: there is no api-us (docs, and cronofy-node's host table).
DATA_CENTERS: dict[str, str] = {
    "us": "https://api.cronofy.com",
    "au": "https://api-au.cronofy.com",
    "ca": "https://api-ca.cronofy.com",
    "de": "https://api-de.cronofy.com",
    "sg": "https://api-sg.cronofy.com",
    "uk": "https://api-uk.cronofy.com",
}

# The identity endpoints, in the order a token's calls are made: the first answer names the account.
USERINFO, ACCOUNT, PROFILES = "userinfo", "account", "profiles"
ENDPOINTS = (USERINFO, ACCOUNT, PROFILES)
DEFAULT_ENDPOINTS = (USERINFO, ACCOUNT)

# Which endpoint fills which table, for `source.with_resources(...)`.
CONFIG_SECTIONS = ("sources", "cronofy")

# what is read of every row of a token store
TOKEN_COLUMNS = ("key", "access_token", "refresh_token", "data_center", "expires_at")
# a label is a column of `token_status` under the same name; this one is in it always
CUSTOMER = "customer"
# what every reader of URLs reads alike
PLAIN_URL = re.compile(r"https?://(127\.0\.0\.1|[a-z][a-z0-9.-]*)(:[0-9]+)?(/[a-z0-9._/-]*)?", re.IGNORECASE)
LABEL = re.compile(r"[a-z_][a-z0-9_]{0,62}")
DEFAULT_APPLICATION = "default"
# loads look at the polls of the last minute, and people at those of the last day
LEAST_KEEP_POLLS = timedelta(days=1)
# polls under way at once, slow ones included
MAX_OPEN = 512


# A list, so that `dlt init` writes no placeholder for it; secret, so that no trace keeps it.
SecretList = Annotated[list[Any], SecretSentinel]


@configspec
class SecretText(CredentialsConfiguration):
    """An optional secret that is one text.

    `dlt init` writes a placeholder for a secret that is plain text, even where it is optional, and a
    placeholder is no client secret. For credentials without required fields it writes none.
    """

    text: TSecretStrValue | None = None

    def parse_native_representation(self, native_value: Any) -> None:
        """Take the text as it is configured."""
        if not isinstance(native_value, str):
            raise TypeError("not text")
        self.text = native_value

    def to_native_representation(self) -> str:
        """Never the text itself: dlt shows native representations."""
        return repr(Secret(""))


def hidden(secret: SecretText | str | None) -> Secret | None:
    """An optional secret, however it was given, in the type that does not show it."""
    text = revealed(secret)
    return Secret(text) if text else None


def revealed(secret: SecretText | str | None) -> str | None:
    """The text of an optional secret, however it was given; None where it was not."""
    return (secret.text if isinstance(secret, SecretText) else secret) or None


@configspec
class CronofyConfiguration(BaseConfiguration):
    """What `.dlt/config.toml`, `.dlt/secrets.toml` or the environment say in section `sources.cronofy`."""

    tokens: SecretList | None = None
    """list of {key, access_token, refresh_token, data_center}, or of plain access tokens"""
    tokens_file: str | None = None
    """CSV, JSON Lines or Parquet file with those columns"""
    tokens_query: str | None = None
    """SQL query over the application's own token table, with those columns"""
    tokens_database: SecretText | None = None
    """SQLAlchemy URL of the database that `tokens_query` and `due_query` run in"""
    tokens_update: str | None = None
    """SQL statement that writes a refreshed token back, where it cannot be derived from `tokens_query`"""
    due_query: str | None = None
    """SQL in `tokens_database` that returns `key` or `account_id`, and `notified_at`: the application's log
    of Cronofy's push notifications. These tokens are due, and first, if it is younger than their last poll"""
    token_labels: str | list[str] | None = None
    """columns of the token store that are kept in `token_status`, such as `["customer", "plan"]`; nothing
    else of the store reaches the warehouse. Without it `customer`, if the store has that column"""
    application: str | None = None
    """whose tokens these are: loads of several applications into one dataset give each its own name. Without
    it `client_id`, else `default`"""
    client_id: str | None = None
    """of the Cronofy application; with `client_secret`, expired access tokens are refreshed"""
    client_secret: SecretText | None = None
    """of the Cronofy application"""
    data_center: str = "us"
    """us, au, ca, de, sg or uk; a token's own value wins"""
    base_url: str | None = None
    """overrides the data center's host (sandbox, tests)"""
    proxy: SecretText | None = None
    """URL of an HTTP proxy, such as `http://proxy:3128`. It gets CONNECT only, so it sees no token;
    `HTTPS_PROXY` is not used for Cronofy"""
    requests_per_second: float = 40.0
    """never exceeded; Cronofy's own limit is 50 for the whole application"""
    requests_per_minute: float = 400.0
    """never exceeded; Cronofy's own limit is 500 for the whole application"""
    requests_shared_in: SecretText | None = None
    """where several processes of the application draw from these limits together: a file on the machine they
    share, or the URL of Redis or PostgreSQL"""
    max_attempts: int = 4
    """tries of one request"""
    timeout: float = 30.0
    """seconds one try may take, from connecting to the last byte"""
    hold: str = "24h"
    """how long one sample of a profile is trusted"""
    keep_polls: str | None = None
    """how long rows of `polls` are kept, such as `90d`, at least one day; without it for ever"""
    personal_data: str = "keep"
    """what becomes of e-mail, name, profile_name, calendar_name and relink URL: `keep`, `hash` or `drop`"""
    personal_data_key: SecretText | None = None
    """the key that `hash` needs"""


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a Cronofy application presents to refresh its users' tokens."""

    client_id: str
    client_secret: Secret


@dataclass(frozen=True, slots=True)
class PollingSettings:
    """How to poll, checked. Times in seconds.

    Attributes:
        application: whose tokens these are.
        token_labels: in lower case; None for `customer`, if the store has it.
        keep_polls: how long rows of `polls` are kept; None for ever.
        due_query: SQL that returns whose notifications arrived when, in `tokens_database`.
        max_open: polls under way at once. Not configured; a simulation may want one after the other.
    """

    data_center: str = "us"
    base_url: str | None = None
    requests_per_second: float = 40.0
    requests_per_minute: float = 400.0
    max_attempts: int = 4
    timeout_seconds: float = 30.0
    hold: timedelta = timedelta(hours=24)
    client: ClientCredentials | None = None
    personal_data: PersonalData = KEEP
    requests_shared_in: Secret | None = None
    proxy: Secret | None = None
    application: str = DEFAULT_APPLICATION
    token_labels: tuple[str, ...] | None = None
    keep_polls: timedelta | None = None
    due_query: str | None = None
    tokens_database: Secret | None = None
    max_open: int = MAX_OPEN

    @classmethod
    def of(cls, configuration: CronofyConfiguration) -> "PollingSettings":
        """Check a resolved configuration.

        Raises:
            ConfigurationError: a value is out of its range.
        """
        settings = cls(
            data_center=str(configuration.data_center).lower(),
            base_url=_checked_url(configuration.base_url),
            requests_per_second=configuration.requests_per_second,
            requests_per_minute=configuration.requests_per_minute,
            max_attempts=configuration.max_attempts,
            timeout_seconds=configuration.timeout,
            hold=_checked_duration(
                "hold", configuration.hold, "24h", timedelta(microseconds=1), "greater than 0"
            ),
            client=_checked_client(configuration.client_id, hidden(configuration.client_secret)),
            personal_data=PersonalData.of(
                configuration.personal_data, hidden(configuration.personal_data_key)
            ),
            requests_shared_in=hidden(configuration.requests_shared_in),
            proxy=_checked_proxy(hidden(configuration.proxy)),
            application=_checked_application(configuration.application, configuration.client_id),
            token_labels=checked_labels(configuration.token_labels),
            keep_polls=_checked_duration(
                "keep_polls", configuration.keep_polls, "90d", LEAST_KEEP_POLLS, "at least 1d"
            )
            if configuration.keep_polls
            else None,
            due_query=configuration.due_query or None,
            tokens_database=hidden(configuration.tokens_database),
        )
        if settings.data_center not in DATA_CENTERS:
            raise _bad("data_center", f"one of {', '.join(DATA_CENTERS)}", configuration.data_center)
        if settings.proxy is not None and (settings.base_url or "https").startswith("http:"):
            raise ConfigurationError(
                "proxy in [sources.cronofy] needs a base_url with https: it would see tokens"
            )
        for name in ("requests_per_second", "requests_per_minute", "max_attempts", "timeout"):
            value = getattr(configuration, name)
            if not value > 0:
                raise _bad(name, "greater than 0", value)
        return settings

    def host(self, data_center: str | None) -> str:
        """The base URL a token of that data center goes to, and no other."""
        return self.base_url or DATA_CENTERS[data_center or self.data_center]


def _bad(name: str, expected: str, value: Any) -> ConfigurationError:
    return ConfigurationError(f"{name} in [sources.cronofy] must be {expected}, not {value!r}")


def _checked_client(client_id: str | None, client_secret: Secret | None) -> ClientCredentials | None:
    if not client_id and not client_secret:
        return None
    if not client_id or not client_secret:
        missing = "client_secret" if client_id else "client_id"
        raise ConfigurationError(f"{missing} in [sources.cronofy] is missing: refreshing needs both")
    return ClientCredentials(client_id, client_secret)


def _checked_duration(name: str, text: str, example: str, least: timedelta, expected: str) -> timedelta:
    try:
        duration = parse_duration(text)
    except ValueError:
        raise _bad(name, f"a duration like {example}", text) from None
    if duration < least:
        raise _bad(name, expected, text)
    return duration


def _checked_application(*names: str | None) -> str:
    """The first name that is set."""
    return next((clean_text(name.strip()) for name in names if name and name.strip()), DEFAULT_APPLICATION)


def checked_labels(labels: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The setting `token_labels` as names in lower case, each once; None where it is not set.

    Args:
        labels: a list, or text: names with commas between them, or a list as JSON has it.

    Raises:
        ConfigurationError: it is none of that, or a name cannot be that of a label.
    """
    if labels is None or (isinstance(labels, str) and not labels.strip()):
        return None
    names: Any = labels
    if isinstance(labels, str):
        try:
            names = json.loads(labels) if labels.lstrip().startswith("[") else labels.split(",")
        except ValueError:
            names = None
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise _bad("token_labels", "a list of column names", labels)
    lower = dict.fromkeys(name.strip().lower() for name in names)
    for name in lower:
        _check_label(name)
    return tuple(lower)


def _check_label(name: str) -> None:
    # dlt has another name in the warehouse for one with such underscores
    is_renamed = "__" in name or name.endswith("_")
    if not LABEL.fullmatch(name) or is_renamed or name.startswith("_dlt"):
        raise _bad("token_labels", "plain column names: letters, digits and single underscores", name)
    if name in TOKEN_COLUMNS:
        raise _bad("token_labels", f"other columns than {', '.join(TOKEN_COLUMNS)}", name)
    if name != CUSTOMER and name in TOKEN_STATUS.names:
        raise _bad("token_labels", "other names than token_status has for columns of its own", name)


def _checked_url(url: str | None) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        host = _host(url).rstrip(".")
        usable = parts.scheme in ("http", "https") and host and parts.port != 0
    except ValueError:  # an IPv6 address, a port or a host name that is none
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ConfigurationError("base_url in [sources.cronofy] must look like https://host[:port][/path]")
    if parts.username or parts.password:
        raise ConfigurationError("base_url in [sources.cronofy] must not hold a user name or password")
    if parts.scheme == "http" and f".{host}".endswith(".cronofy.com"):
        raise ConfigurationError("base_url in [sources.cronofy] must be https for a host of Cronofy's")
    return url.rstrip("/")


def _host(url: str) -> str:
    """The host as the HTTP client will read it, in lower case and ASCII; ValueError where it is none."""
    if PLAIN_URL.fullmatch(url):
        return urlsplit(url).hostname or ""
    # takes a tenth of a second
    import httpx

    try:
        return httpx.URL(url).raw_host.decode("ascii")
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from None


def _checked_proxy(proxy: Secret | None) -> Secret | None:
    if proxy is None:
        return None
    try:
        parts = urlsplit(proxy.reveal().strip())
        is_usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.path.strip("/"):
        # not shown: it may hold a password
        raise ConfigurationError("proxy in [sources.cronofy] must look like http://[user:password@]host:port")
    return Secret(proxy.reveal().strip())


def check_endpoints(endpoints: Sequence[str]) -> tuple[str, ...]:
    """Known endpoints in calling order, without repeats.

    Raises:
        ConfigurationError: an unknown name, or none.
    """
    names = {name.strip().lower() for name in endpoints if name.strip()}
    unknown = sorted(names - set(ENDPOINTS))
    if unknown or not names:
        raise ConfigurationError(
            f"unknown endpoint {', '.join(unknown) or '(none)'}: choose from {', '.join(ENDPOINTS)}"
        )
    return tuple(name for name in ENDPOINTS if name in names)
