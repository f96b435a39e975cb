"""Support: in DuckDB and PostgreSQL, digests whose rows are not there are found, and no others."""

from collections.abc import Callable
from functools import cache
from typing import Any

import dlt
import pytest
import sqlglot

from dlt_cronofy.source.history.digest_support import COUNTED, unsupported_queries
from dlt_cronofy.source.history.digests import KnownAnswer, Listed
from dlt_cronofy.source.history.state import SqlWarehouseState
from tests.cronofy.bodies import minute

Row = dict[str, Any]
Change = Callable[[dict[str, list[Row]]], None]

UP, DOWN, REMOVED = "connected", "disconnected", "removed"
USERINFO = {"userinfo": (1,), "profiles": (2, 1, 1, 0), "calendars": (2,), "profile_changes": (2, 1, 1, 0)}
PROFILES = {name: USERINFO[name] for name in ("profiles", "profile_changes")}
SERVICE = {"userinfo": (1,), "profiles": (0,) * 4, "calendars": (0,), "profile_changes": (0,) * 4}


def known(**held: tuple[int, ...]) -> str:
    return str(KnownAnswer("0123abcd", Listed(2, 1, 1, 0), held))


def status(key: str, account_id: str | None, **digests: str) -> Row:
    return (
        {"token_key": key, "account_id": account_id, "endpoint": "userinfo"}
        | dict.fromkeys(("userinfo_digest", "account_digest", "profiles_digest"))
        | {f"{name}_digest": text for name, text in digests.items()}
    )


def profile(key: str, profile_id: str, state: str, kind: str = "calendar") -> Row:
    return {"token_key": key, "profile_type": kind, "profile_id": profile_id, "state": state}


def change(profile_id: str, state: str, at: float, kind: str = "calendar") -> Row:
    key = {"account_id": "acc_1", "profile_type": kind, "profile_id": profile_id}
    return key | {"state": state, "observed_at": minute(at), "change_id": f"{profile_id}-{at}-{state}"}


def rows() -> dict[str, list[Row]]:
    """Two tokens of one account, a service account, a token whose digests were forgotten, and a new one."""
    listed = [("pro_1", UP, "calendar"), ("pro_2", DOWN, "calendar"), ("pro_z", UP, "conferencing")]
    gone = ("pro_0", REMOVED, "calendar")
    return {
        "token_status": [
            status("k1", "acc_1", userinfo=known(**USERINFO), account=known(account=(1,))),
            status("k2", "acc_1", userinfo=known(**USERINFO), profiles=known(**PROFILES)),
            status("ser", "ser_1", userinfo=known(**SERVICE)),
            status("forgotten", "acc_1"),
            status("new", None),
        ],
        "userinfo": [{"token_key": key} for key in ("k1", "k2", "ser", "forgotten")],
        "account": [{"token_key": "k1"}],
        "profiles": [profile(key, *each) for key in ("k1", "k2") for each in (*listed, gone)],
        "calendars": [
            {"token_key": key, "calendar_id": f"cal_{n}", "removed_at": minute(1) if n == 2 else None}
            for key in ("k1", "k2")
            for n in range(3)
        ],
        "profile_changes": [
            change("pro_1", DOWN, 1), change("pro_1", UP, 2), change("pro_2", UP, 1),
            change("pro_2", DOWN, 3), change("pro_z", UP, 1, "conferencing"), change("pro_0", UP, 1),
            change("pro_0", REMOVED, 2),
            # of two changes at one instant disconnected wins
            change("pro_2", UP, 3),
        ],
    }  # fmt: skip


def without(table: str, **values: Any) -> Change:
    """Take the rows with these values out of a table; all of them, where there are no values."""

    def take(tables: dict[str, list[Row]]) -> None:
        tables[table] = [
            row for row in tables[table] if any(row[name] != value for name, value in values.items())
        ]

    return take


def updated(table: str, row: int, **values: Any) -> Change:
    """Change one row of a table."""
    return lambda tables: tables[table][row].update(values)


ALL = set(COUNTED)
BOTH = {"k1", "k2"}


# what becomes of the rows, which tables are wanted, whose digests are not supported
CASES: dict[str, tuple[Change, set[str], set[str]]] = {
    "all is there": (lambda _: None, ALL, set()),
    "nothing is wanted": (without("userinfo"), set(), set()),
    "userinfo of one": (without("userinfo", token_key="k1"), ALL, {"k1"}),
    "userinfo of a service account": (without("userinfo", token_key="ser"), ALL, {"ser"}),
    "userinfo of a token whose digest is forgotten": (without("userinfo", token_key="forgotten"), ALL, set()),
    "account": (without("account", token_key="k1"), ALL, {"k1"}),
    "account that is not wanted": (without("account", token_key="k1"), ALL - {"account"}, set()),
    "profiles of one": (without("profiles", token_key="k2"), ALL, {"k2"}),
    "one profile": (without("profiles", token_key="k1", profile_id="pro_1"), ALL, {"k1"}),
    "a removed profile": (without("profiles", token_key="k1", profile_id="pro_0"), ALL, set()),
    "the state of a profile": (updated("profiles", 0, state=DOWN), ALL, {"k1"}),
    "a calendar": (without("calendars", token_key="k2", calendar_id="cal_1"), ALL, {"k2"}),
    "a removed calendar": (without("calendars", token_key="k2", calendar_id="cal_2"), ALL, set()),
    "the log of an account": (without("profile_changes", account_id="acc_1"), ALL, BOTH),
    "the newest change": (without("profile_changes", profile_id="pro_2", state=DOWN), ALL, BOTH),
    "an older change": (without("profile_changes", profile_id="pro_1", state=DOWN), ALL, set()),
    "a log that is not wanted": (without("profile_changes"), ALL - {"profile_changes"}, set()),
    "another account": (updated("token_status", 0, account_id="acc_2"), ALL, {"k1"}),
    "a table that was not loaded": (
        updated("token_status", 1, userinfo_digest=known(userinfo=(1,)), profiles_digest=None), ALL, {"k2"},
    ),
    "one that was not loaded and is not wanted": (
        updated("token_status", 1, userinfo_digest=known(userinfo=(1,)), profiles_digest=None),
        {"userinfo"},
        set(),
    ),
}  # fmt: skip


TYPES = {"removed_at": "timestamp", "observed_at": "timestamp"}


def load(pipeline: dlt.Pipeline, worlds: dict[str, dict[str, list[Row]]]) -> None:
    """Several worlds in one warehouse; the keys of each have its name before them."""
    resources = []
    for table, columns in rows().items():
        found = [row | named(world, row) for world, tables in worlds.items() for row in tables[table]]
        hints: Any = {name: {"data_type": TYPES.get(name, "text")} for name in columns[0]}
        resources.append(dlt.resource(found, name=table, columns=hints))
    pipeline.run(resources)


def named(world: str, row: Row) -> Row:
    keys = {name: row.get(name) for name in ("token_key", "account_id", "change_id")}
    return {name: f"{world}/{value}" for name, value in keys.items() if value is not None}


@pytest.mark.sampled(1)
def test_digests_without_the_rows_they_speak_for_are_found(pipeline: dlt.Pipeline) -> None:
    worlds = {name: rows() for name in CASES}
    for name, (change_rows, _, _) in CASES.items():
        change_rows(worlds[name])
    load(pipeline, worlds)
    unsupported = cache(SqlWarehouseState(pipeline, "cronofy").unsupported_digests)
    for name, (_, wanted, expected) in CASES.items():
        found = {
            key.removeprefix(f"{name}/")
            for key in unsupported(frozenset(wanted))
            if key.startswith(f"{name}/")
        }
        assert (name, found) == (name, expected)


@pytest.mark.sampled(1)
def test_a_table_that_is_not_there_supports_no_digest(pipeline: dlt.Pipeline) -> None:
    load(pipeline, {"w": rows()})
    state = SqlWarehouseState(pipeline, "cronofy")
    for table in COUNTED:
        with pipeline.sql_client() as client:
            client.execute_sql(f"DROP TABLE {client.make_qualified_table_name(table)}")
        assert state.unsupported_digests(ALL) == {"w/k1", "w/k2", "w/ser"}
        assert state.unsupported_digests({table}) == {"w/k1", "w/k2", "w/ser"}
    assert state.unsupported_digests(set()) == set()


@pytest.mark.parametrize("dialect", ["snowflake", "bigquery", "redshift", "databricks"])
@pytest.mark.parametrize("missing", [(), ("profiles",)], ids=["all there", "one missing"])
def test_other_warehouses_understand_the_question(dialect: str, missing: tuple[str, ...]) -> None:
    named = {name: name for name in ("table", *COUNTED)}
    queries = list(unsupported_queries(COUNTED, missing))
    assert len(queries) == (1 if missing else len(COUNTED))
    for query in queries:
        (translated,) = sqlglot.transpile(query.format(**named), read="duckdb", write=dialect)
        parsed = sqlglot.parse_one(translated, read=dialect)
        assert parsed == sqlglot.parse_one(parsed.sql(dialect), read=dialect)
        assert (" LIKE " in translated) is (not missing)
