"""Which store the settings mean, and the one that only hands refreshed tokens over."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import ClientCredentials, PollingSettings, checked_labels
from dlt_cronofy.source.tokens.base import Renewal, TokenStore
from dlt_cronofy.source.tokens.file_store import FileStore
from dlt_cronofy.source.tokens.given_store import GivenStore
from dlt_cronofy.source.tokens.sql_store import SqlStore
from dlt_cronofy.source.tokens.store import open_store, stored_tokens
from dlt_cronofy.source.tokens.token import StoredTokens, Token

SECRET = "hunter2-is-secret"
EXPIRES = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)


class OwnStore:
    """A store of somebody else's making."""

    name = "mine"
    folder: Path | None = None

    def read(self) -> list[Token]:
        return [Token("k", Secret("at"))]

    def why_not_saved(self) -> str | None:
        return None

    def current(self, token: Token) -> Token | None:
        return token

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        return []


SQL = {"tokens_query": "SELECT 1", "tokens_database": "sqlite://"}


@pytest.mark.parametrize(
    ("settings", "kind", "name"),
    [
        ({"tokens": ["at"]}, GivenStore, "tokens"),
        ({"tokens": '["at"]'}, GivenStore, "tokens"),
        ({"tokens": lambda: ["at"], "on_refresh": print}, GivenStore, "tokens"),
        ({"tokens_file": "t.csv"}, FileStore, "t.csv"),
        (SQL, SqlStore, "tokens_query"),
        ({"tokens": OwnStore()}, OwnStore, "mine"),
    ],
)
def test_the_settings_name_a_store(settings: dict[str, Any], kind: type, name: str) -> None:
    store: TokenStore = open_store(**settings)
    assert isinstance(store, kind)
    assert store.name == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no tokens: set tokens in .dlt/secrets.toml or tokens_file in .dlt/config.toml"),
        (
            {"tokens": [], "tokens_file": "t.csv"},
            "two token stores are set: keep either tokens or tokens_file in [sources.cronofy]",
        ),
        (
            {"tokens_file": "t.csv", **SQL},
            "keep either tokens_file or tokens_query in",
        ),
        ({"tokens": ["at"], "tokens_file": "t.csv", **SQL}, "three token stores are set"),
        ({"tokens_query": "SELECT 1"}, "tokens_query needs tokens_database"),
        ({"tokens_database": f"sqlite://:{SECRET}@"}, "tokens_database needs tokens_query"),
        ({"tokens": ["at"], "tokens_database": "sqlite://"}, "tokens_database needs tokens_query"),
        ({"tokens_file": "t.csv", "tokens_update": "UPDATE"}, "tokens_update needs tokens_query"),
        ({"tokens_file": "t.csv", "on_refresh": print}, "on_refresh goes with tokens given as a list"),
        ({**SQL, "on_refresh": print}, "on_refresh goes with tokens given as a list"),
        ({"tokens": OwnStore(), "on_refresh": print}, "on_refresh goes with tokens given as a list"),
        (
            {"tokens": ["at"], "token_labels": "key"},
            "token_labels in [sources.cronofy] must be other columns",
        ),
    ],
)
def test_settings_that_name_none_say_what_to_set(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        open_store(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (EXPIRES, EXPIRES), ("2026-01-05 06:07:08", EXPIRES), (1767593228, EXPIRES)],
)
def test_a_row_may_say_when_its_token_expires(value: Any, expected: datetime | None) -> None:
    [token] = open_store([{"access_token": "at", "expires_at": value}]).read()
    assert token.expires_at == expected


class Others(OwnStore):
    """Gives whatever it is told to."""

    def __init__(self, tokens: list[Any]) -> None:
        self.tokens = tokens

    def read(self) -> list[Token]:
        return self.tokens


SETTINGS = PollingSettings(data_center="de")
CLIENT = replace(SETTINGS, client=ClientCredentials("id", Secret(SECRET)))


def test_a_store_of_ones_own_may_return_any_list() -> None:
    tokens = [
        Token("a", Secret("at"), data_center="us", labels=(None,)), Token("b", Secret("at2"), labels=(None,)),
    ]  # fmt: skip
    assert stored_tokens(Others(tokens), SETTINGS) == [tokens[0], replace(tokens[1], data_center="de")]
    assert stored_tokens(Others([]), SETTINGS) == []


def test_what_a_store_of_ones_own_returns_is_checked() -> None:
    bad = [Token("a", Secret(f"{SECRET} x")), Token("b", Secret("at3")), Token(7, SECRET, data_center="mars")]  # type: ignore[arg-type]
    good = [Token(key, Secret(f"at-{key}")) for key in "bcde"]
    found = stored_tokens(Others([*good, *bad, Token("z", Secret(""))]), SETTINGS)
    assert [each.key for each in found] == ["b", "c", "d", "e"]
    assert [str(row) for row in found.unusable] == [
        "mine, entry 5: access_token holds characters that no token has (key 'a')",
        "mine, entry 6: its key was used before, at entry 1; keys must be unique (key 'b')",
        "mine, entry 7: unknown data_center; use one of us, au, ca, de, sg, uk (key '7')",
    ]
    assert found.not_connected == (Token("z", labels=(None,)),)
    # a store around another one hands its rows on
    assert stored_tokens(Others(found), SETTINGS).unusable == found.unusable


def test_a_refresh_token_alone_is_enough_where_it_can_be_used() -> None:
    store = open_store([{"key": "a", "access_token": "at"}, {"key": "b", "refresh_token": "rt"}])
    assert [each.key for each in stored_tokens(store, CLIENT)] == ["a", "b"]
    found = stored_tokens(store, SETTINGS)
    assert [each.key for each in found] == ["a"]
    assert [row.place for row in found.unusable] == ["tokens, entry 2"]


CUSTOMER_ROWS = [
    {"key": "a", "access_token": "at", "plan": "gold", "Customer": "Ada", "email": SECRET},
    {"key": "b", "access_token": "at2"},
    {"key": "c", "plan": "free"},
]
# what the setting says, then names, labels of the tokens, and those of who has not connected
LABELS: list[tuple[str | None, tuple[str, ...], list[tuple[str | None, ...]], tuple[str | None, ...]]] = [
    (None, ("customer",), [("Ada",), (None,)], (None,)),
    ("plan,customer", ("plan", "customer"), [("gold", "Ada"), (None, None)], ("free", None)),
    ("PLAN", ("plan",), [("gold",), (None,)], ("free",)),
    ("[]", (), [(), ()], ()),
]


def write_rows(folder: Path, suffix: str) -> str:
    """The rows as a file; one that cannot leave columns out has them in all rows."""
    path = folder / f"tokens{suffix}"
    names = list(CUSTOMER_ROWS[0])
    columns = {name: [row.get(name) for row in CUSTOMER_ROWS] for name in names}
    if suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in CUSTOMER_ROWS))
    elif suffix == ".csv":
        lines = [names, *(list(row) for row in zip(*columns.values(), strict=True))]
        path.write_text("".join(",".join(cell or "" for cell in line) + "\n" for line in lines))
    else:
        pq.write_table(pa.table(columns), path)
    return str(path)


def labelled_store(kind: str, folder: Path, database: str, labels: str | None) -> TokenStore:
    if kind.startswith("."):
        return open_store(tokens_file=write_rows(folder, kind), token_labels=labels)
    if kind == "table":
        frame = pd.DataFrame(CUSTOMER_ROWS)
        with closing(sqlite3.connect(folder / "app.db")) as connection:
            frame.to_sql("users", connection, index=False)
        query = "SELECT * FROM users ORDER BY key"
        return open_store(tokens_query=query, tokens_database=database, token_labels=labels)
    given: dict[str, Any] = {
        "list": CUSTOMER_ROWS,
        "JSON": json.dumps(CUSTOMER_ROWS),
        "callable": lambda: iter(CUSTOMER_ROWS),
        "a store of one's own": Others(CUSTOMER_ROWS),
    }
    return open_store(given[kind], token_labels=labels)


KINDS = ["list", "JSON", "callable", "a store of one's own", ".csv", ".jsonl", ".parquet", "table"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("labels", "names", "of_tokens", "of_others"), LABELS)
def test_every_store_delivers_labels(
    kind: str,
    labels: str | None,
    names: tuple[str, ...],
    of_tokens: list[tuple[str | None, ...]],
    of_others: tuple[str | None, ...],
    tmp_path: Path,
) -> None:
    store = labelled_store(kind, tmp_path, f"sqlite:///{tmp_path}/app.db", labels)
    settings = replace(SETTINGS, token_labels=checked_labels(labels))
    found = stored_tokens(store, settings)
    assert found.label_names == names
    assert [each.labels for each in found] == of_tokens
    assert found.not_connected == (Token("c", labels=of_others),)
    # what refuses to be polled, and what is polled, hands them on
    assert [each.labels for each in stored_tokens(Others(found), settings)] == of_tokens


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_no_row_has_is_named(kind: str, tmp_path: Path) -> None:
    store = labelled_store(kind, tmp_path, f"sqlite:///{tmp_path}/app.db", "plan,region")
    assert len(store.read()) in (2, 3)  # the store can be read all the same, to write it or to erase
    with pytest.raises(ConfigurationError) as error:
        stored_tokens(store, replace(SETTINGS, token_labels=("plan", "region")))
    assert str(error.value) == f"token_labels: {store.name} has no column region"


def test_a_store_of_ones_own_may_label_its_tokens() -> None:
    settings = replace(SETTINGS, token_labels=("customer", "plan"))
    good = Token("a", Secret("at"), labels=("Ada", ""))
    # one label for two names is nobody's
    found = stored_tokens(Others([good, Token("b", Secret("at2"), labels=("Eve",))]), settings)
    assert [each.labels for each in found] == [("Ada", None), (None, None)]
    named = StoredTokens([good, Token("b", Secret("at2"))], label_names=("plan", "customer"))
    found = stored_tokens(Others(named), settings)
    assert (found.label_names, [each.labels for each in found]) == (
        ("customer", "plan"),
        [("", "Ada"), (None, None)],
    )
    with pytest.raises(ConfigurationError, match="token_labels: mine has no column customer"):
        stored_tokens(Others([Token("a", Secret("at"))]), settings)


def test_labels_stay_with_their_tokens_and_are_not_shown() -> None:
    store = open_store([CUSTOMER_ROWS[0], {"key": "b", "refresh_token": "rt", "customer": "Bob"}])
    found = stored_tokens(store, CLIENT)
    assert [each.labels for each in found] == [("Ada",), ("Bob",)]
    [token] = stored_tokens(store, SETTINGS)  # the other one is to be refreshed first
    assert token.labels == ("Ada",)
    assert "Ada" not in repr(found)
    assert "Bob" not in repr(Token("b", labels=("Bob",)))
