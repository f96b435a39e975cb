"""Peer: a tap made with Meltano's Singer SDK, one partition a token; target-duckdb writes what it says.

`python tap_cronofy.py --config FILE`
"""

import csv
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from singer_sdk import RESTStream, Tap  # type: ignore[import-not-found]
from singer_sdk import typing as th

TEXT = th.StringType()


class CronofyStream(RESTStream[None]):  # type: ignore[misc]
    """One endpoint, asked once for each token."""

    primary_keys: ClassVar[list[str]] = ["key"]
    # one bookmark for all partitions: otherwise the state has an entry for each token
    state_partitioning_keys: ClassVar[list[str]] = []

    @property
    def url_base(self) -> str:
        return str(self.config["base_url"])

    @cached_property
    def access_tokens(self) -> dict[str, str]:
        with Path(self.config["tokens_file"]).open(newline="") as file:
            return {row["key"]: row["access_token"] for row in csv.DictReader(file)}

    @property
    def partitions(self) -> list[dict[str, str]]:
        return [{"key": key} for key in self.access_tokens]

    def get_http_request(self, *, page: Any) -> Any:
        request = super().get_http_request(page=page)
        access_token = self.access_tokens[page.stream_context["key"]]
        request.headers = {**request.headers, "Authorization": f"Bearer {access_token}"}
        return request

    def post_process(self, row: dict[str, Any], context: Any = None) -> dict[str, Any]:
        return row | {"key": context["key"]}


class Userinfo(CronofyStream):
    """GET /v1/userinfo."""

    name = "userinfo"
    path = "/v1/userinfo"
    records_jsonpath = "$"
    schema = th.PropertiesList(
        th.Property("key", TEXT, required=True),
        *(th.Property(name, TEXT) for name in ("sub", "email", "name", "zoneinfo", "cronofy.type")),
        th.Property("cronofy.data", th.ObjectType(additional_properties=True)),
    ).to_dict()


class Account(CronofyStream):
    """GET /v1/account."""

    name = "account"
    path = "/v1/account"
    records_jsonpath = "$.account"
    schema = th.PropertiesList(
        th.Property("key", TEXT, required=True),
        *(th.Property(name, TEXT) for name in ("account_id", "email", "name", "scope", "default_tzid")),
    ).to_dict()


class Profiles(CronofyStream):
    """GET /v1/profiles."""

    name = "profiles"
    path = "/v1/profiles"
    records_jsonpath = "$.profiles[*]"
    primary_keys: ClassVar[list[str]] = ["key", "profile_id"]
    schema = th.PropertiesList(
        th.Property("key", TEXT, required=True),
        th.Property("profile_id", TEXT, required=True),
        *(th.Property(name, TEXT) for name in ("profile_name", "provider_name", "provider_service")),
        th.Property("profile_connected", th.BooleanType()),
        th.Property("profile_initial_sync_required", th.BooleanType()),
        th.Property("profile_relink_url", TEXT),
    ).to_dict()


class TapCronofy(Tap):  # type: ignore[misc]
    """Reads Cronofy's identity endpoints."""

    name = "tap-cronofy"
    config_jsonschema = th.PropertiesList(
        th.Property("base_url", TEXT, required=True),
        th.Property("tokens_file", TEXT, required=True),
    ).to_dict()

    def discover_streams(self) -> Iterable[CronofyStream]:
        return [Userinfo(self), Account(self), Profiles(self)]


if __name__ == "__main__":
    TapCronofy.cli()
