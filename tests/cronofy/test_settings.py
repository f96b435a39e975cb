"""Configuration of the source: what is accepted, and the one line that says what is not."""

import math
from datetime import timedelta
from typing import Any

import pytest

from dlt_cronofy.source.api.limits.rate_limiter import RateLimiter
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import (
    DATA_CENTERS,
    TOKEN_COLUMNS,
    CronofyConfiguration,
    PollingSettings,
    SecretText,
    check_endpoints,
)
from dlt_cronofy.source.tables import TOKEN_STATUS
from tests.cronofy.clocks import ManualClock


def configured(**values: Any) -> PollingSettings:
    configuration = CronofyConfiguration()
    configuration.update(values)
    return PollingSettings.of(configuration)


def test_the_defaults_are_below_the_limits_of_the_api() -> None:
    assert configured() == PollingSettings(
        data_center="us",
        base_url=None,
        requests_per_second=40,
        requests_per_minute=400,
        max_attempts=4,
        timeout_seconds=30,
        hold=timedelta(hours=24),
        application="default",
        token_labels=None,
        keep_polls=None,
    )


@pytest.mark.parametrize(
    ("name", "value", "attribute", "checked"),
    [
        ("data_center", "DE", "data_center", "de"),
        ("base_url", "http://127.0.0.1:8080/", "base_url", "http://127.0.0.1:8080"),
        ("base_url", "https://proxy.example.com/cronofy/", "base_url", "https://proxy.example.com/cronofy"),
        ("base_url", "", "base_url", None),
        ("requests_per_second", 0.5, "requests_per_second", 0.5),
        ("timeout", 2.5, "timeout_seconds", 2.5),
        ("hold", "7d", "hold", timedelta(days=7)),
        ("hold", "3600", "hold", timedelta(hours=1)),
        ("keep_polls", "90d", "keep_polls", timedelta(days=90)),
        ("keep_polls", "24h", "keep_polls", timedelta(days=1)),
        ("keep_polls", "", "keep_polls", None),
        ("application", " mine ", "application", "mine"),
        ("application", "", "application", "default"),
        ("application", "a\0b", "application", "a\ufffdb"),
        ("token_labels", ["customer", "Plan ", "PLAN"], "token_labels", ("customer", "plan")),
        ("token_labels", "customer, plan_2", "token_labels", ("customer", "plan_2")),
        ("token_labels", ' ["plan"]', "token_labels", ("plan",)),
        ("token_labels", ("_a", "b" * 63), "token_labels", ("_a", "b" * 63)),
        ("token_labels", [], "token_labels", ()),
        ("token_labels", "[]", "token_labels", ()),
        ("token_labels", " ", "token_labels", None),
    ],
)
def test_what_is_accepted(name: str, value: Any, attribute: str, checked: Any) -> None:
    assert getattr(configured(**{name: value}), attribute) == checked


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("data_center", "eu", "one of us, au, ca, de, sg, uk"),
        ("data_center", "", "one of us"),
        ("requests_per_second", 0, "greater than 0"),
        ("requests_per_second", -1, "greater than 0"),
        ("requests_per_minute", math.nan, "greater than 0"),
        ("max_attempts", 0, "greater than 0"),
        ("timeout", 0, "greater than 0"),
        ("hold", "0", "greater than 0"),
        ("hold", "soon", "a duration like 24h"),
        ("hold", "20000d", "a duration like 24h"),
        ("personal_data", "shred", "keep"),
        ("keep_polls", "soon", "a duration like 90d"),
        ("keep_polls", "23h", "at least 1d"),
        ("keep_polls", "0", "at least 1d"),
        ("token_labels", "[customer", "a list of column names"),
        ("token_labels", '{"a": 1}', "plain column names"),
        ("token_labels", 7, "a list of column names"),
        ("token_labels", ["customer", 7], "a list of column names"),
        ("token_labels", "customer,,plan", "plain column names"),
        ("token_labels", ["plan name"], "plain column names"),
        ("token_labels", ["7plan"], "plain column names"),
        ("token_labels", ["plän"], "plain column names"),
        ("token_labels", ["a;b"], "plain column names"),
        ("token_labels", ["a" * 64], "plain column names"),
        ("token_labels", ["_dlt_id"], "plain column names"),
        ("token_labels", ["a__b"], "plain column names"),
        ("token_labels", ["plan_"], "plain column names"),
        *(("token_labels", name, "other columns than key") for name in TOKEN_COLUMNS),
        ("token_labels", "Access_Token", "other columns than key"),
        *(
            ("token_labels", name, "other names than token_status has")
            for name in TOKEN_STATUS.schema.names
            if name not in ("customer", "data_center")
        ),
        ("base_url", "api.cronofy.com", "must look like https://"),
        ("base_url", "ftp://api.cronofy.com", "must look like https://"),
        ("base_url", "https://", "must look like https://"),
        ("base_url", "https://host/?x=1", "must look like https://"),
        ("base_url", "https://host/#x", "must look like https://"),
    ],
)
def test_what_is_not_accepted_is_named_in_one_line(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        configured(**{name: value})
    message = str(error.value)
    assert name in message
    assert "[sources.cronofy]" in message
    assert expected in message
    assert "\n" not in message


def test_without_a_name_an_application_goes_by_its_client_id() -> None:
    client = {"client_id": "client", "client_secret": SecretText()}
    client["client_secret"].parse_native_representation("hunter2")  # type: ignore[attr-defined]
    assert configured(**client).application == "client"
    assert configured(**client, application="mine").application == "mine"


def test_where_requests_are_shared_is_a_secret() -> None:
    place = SecretText()
    place.parse_native_representation("redis://:hunter2@host:6379/0")
    settings = configured(requests_shared_in=place)
    assert settings.requests_shared_in == Secret("redis://:hunter2@host:6379/0")
    assert "hunter2" not in repr(settings)
    assert configured(requests_shared_in=SecretText()).requests_shared_in is None


def test_a_password_in_the_base_url_is_refused_and_not_quoted() -> None:
    with pytest.raises(ConfigurationError, match="user name or password") as error:
        configured(base_url="https://me:hunter2@host/")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("name", ["requests_per_second", "requests_per_minute", "timeout"])
def test_infinity_is_no_limit_or_a_configuration_error(name: str) -> None:
    try:
        settings = configured(**{name: math.inf})
    except ConfigurationError:
        return
    RateLimiter(ManualClock(), settings.requests_per_second, settings.requests_per_minute)


@pytest.mark.parametrize(
    ("data_center", "host"),
    [
        ("us", "https://api.cronofy.com"),
        ("au", "https://api-au.cronofy.com"),
        ("ca", "https://api-ca.cronofy.com"),
        ("de", "https://api-de.cronofy.com"),
        ("sg", "https://api-sg.cronofy.com"),
        ("uk", "https://api-uk.cronofy.com"),
    ],
)
def test_every_data_center_has_its_host(data_center: str, host: str) -> None:
    assert PollingSettings(data_center="sg").host(data_center) == host
    assert PollingSettings(data_center=data_center).host(None) == host
    assert len(DATA_CENTERS) == 6


def test_a_base_url_replaces_every_host() -> None:
    settings = PollingSettings(base_url="http://127.0.0.1:1")
    assert {settings.host(each) for each in (*DATA_CENTERS, None)} == {"http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("names", "checked"),
    [
        (["userinfo"], ("userinfo",)),
        (["account", "userinfo"], ("userinfo", "account")),
        ([" Profiles", "ACCOUNT", "profiles"], ("account", "profiles")),
        (["userinfo", "", "account"], ("userinfo", "account")),
    ],
)
def test_endpoints_are_put_in_calling_order(names: list[str], checked: tuple[str, ...]) -> None:
    assert check_endpoints(names) == checked


@pytest.mark.parametrize(
    ("names", "named"),
    [(["calendars"], "calendars"), (["userinfo", "x", "a"], "a, x"), ([], "(none)"), ([" "], "(none)")],
)
def test_unknown_endpoints_are_named(names: list[str], named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_endpoints(names)
    assert str(error.value) == f"unknown endpoint {named}: choose from userinfo, account, profiles"


@pytest.mark.parametrize(
    ("proxy", "base_url", "problem"),
    [
        ("http://user:hunter2@proxy:3128", None, None),
        ("http://proxy:3128", "https://cronofy.example", None),
        ("http://proxy:3128", "http://127.0.0.1:8765", "needs a base_url with https"),
        ("proxy:3128", None, "must look like"),
        ("socks5://user:hunter2@proxy:1080", None, "must look like"),
        ("http://user:hunter2@proxy:port", None, "must look like"),
    ],
)
def test_a_proxy_that_could_see_a_token_is_refused(
    proxy: str, base_url: str | None, problem: str | None
) -> None:
    if problem is None:
        assert configured(proxy=proxy, base_url=base_url).proxy == Secret(proxy)
        return
    with pytest.raises(ConfigurationError, match=problem) as refused:
        configured(proxy=proxy, base_url=base_url)
    assert "hunter2" not in str(refused.value)
