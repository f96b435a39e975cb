"""The application's own token table, in SQLite and in a real PostgreSQL."""

import logging
import re
import sys
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.base import Renewal, StoreError
from dlt_cronofy.source.tokens.sql_store import SqlStore
from dlt_cronofy.source.tokens.sql_update import NotDerivedError, derive_target
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import Token, token_key
from tests.cronofy.tokens.databases import Database

SECRET = "hunter2-is-secret"
EXPIRES = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)
AT_1 = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
UPDATE = (
    "UPDATE users SET access_token = :access_token, refresh_token = :refresh_token"
    " WHERE refresh_token = :used_refresh_token"
)
QUERY = "SELECT id AS key, access_token, refresh_token, expires_at FROM users ORDER BY id"
Shown = tuple[str, str, str | None, datetime | None]


def create_users(database: Database, kind: str = "timestamp with time zone", count: int = 3) -> None:
    rows = ", ".join(f"({n}, 'at{n}', 'rt{n}', NULL)" for n in range(1, count + 1))
    database.run(
        f"CREATE TABLE users (id integer, access_token text, refresh_token text, expires_at {kind})",
        f"INSERT INTO users VALUES {rows}",
    )


def shown(tokens: list[Token]) -> list[Shown]:
    return [
        (
            each.key,
            each.access_token.reveal(),
            each.refresh_token.reveal() if each.refresh_token else None,
            each.expires_at,
        )
        for each in tokens
    ]


def renewed(token: Token, access: str = "AT", refresh: str = "RT") -> Renewal:
    return Renewal(token, Secret(access), Secret(refresh), EXPIRES)


def test_refreshed_tokens_are_read_again(database: Database) -> None:
    create_users(database)
    store = SqlStore(QUERY, database.url)
    one, two, three = store.read()
    assert store.folder is None
    assert store.why_not_saved() is None
    assert store.save([renewed(one, "A1", "R1"), renewed(three, "A3", "rt3")]) == []
    assert shown(store.read()) == [
        ("1", "A1", "R1", EXPIRES), ("2", "at2", "rt2", None), ("3", "A3", "rt3", EXPIRES),
    ]  # fmt: skip
    assert [found and shown([found])[0][1] for found in map(store.current, (one, two))] == ["A1", "at2"]
    assert store.current(replace(one, key="9")) is None
    assert store.current(replace(one, key="tok_x")) is None


def test_a_used_token_that_is_gone_is_a_conflict_and_its_row_stays(database: Database) -> None:
    create_users(database)
    store = SqlStore(QUERY, database.url)
    one, two, _ = store.read()
    database.run("UPDATE users SET access_token = 'theirs', refresh_token = 'theirs' WHERE id = 1")
    late = renewed(one)
    assert store.save([late, renewed(two, "A2", "R2")]) == [late]
    assert shown(store.read())[:2] == [("1", "theirs", "theirs", None), ("2", "A2", "R2", EXPIRES)]
    # renewals follow one another, within a batch too
    [_, now, _] = store.read()
    assert (
        store.save([renewed(now, "B", "S"), renewed(replace(now, refresh_token=Secret("S")), "C", "T")]) == []
    )
    assert shown(store.read())[1] == ("2", "C", "T", EXPIRES)


def test_every_row_of_a_token_is_changed(database: Database) -> None:
    create_users(database)
    database.run("UPDATE users SET refresh_token = 'shared'")
    store = SqlStore(QUERY, database.url)
    assert store.save([renewed(store.read()[0])]) == []
    assert {row[1:] for row in shown(store.read())} == {("AT", "RT", EXPIRES)}


def test_a_batch_is_written_whole_or_not_at_all(postgres: Database) -> None:
    create_users(postgres)
    postgres.run("ALTER TABLE users ADD CHECK (access_token <> 'hunter2-is-secret')")
    store = SqlStore(QUERY, postgres.url)
    one, two, _ = store.read()
    with pytest.raises(StoreError, match=r"tokens_query cannot be written back: IntegrityError$"):
        store.save([renewed(one), renewed(two, SECRET)])
    assert shown(store.read())[0] == ("1", "at1", "rt1", None)


WITH_EXPIRY = UPDATE.replace(" WHERE", ", expires_at = :expires_at WHERE")


@pytest.mark.parametrize(
    ("kind", "others", "given", "written"),
    [
        ("timestamp with time zone", "NULL", None, EXPIRES),
        ("timestamp with time zone", "NULL", WITH_EXPIRY, EXPIRES),
        ("timestamp", "'2020-01-01'", WITH_EXPIRY, EXPIRES.replace(tzinfo=None)),
        ("text", "'2020-01-01 00:00:00'", None, "2026-01-05 06:07:08"),
        ("bigint", "1", WITH_EXPIRY, int(EXPIRES.timestamp())),
        # the type of an empty column is looked up for an update that is derived
        ("timestamp", "NULL", None, EXPIRES.replace(tzinfo=None)),
        ("text", "NULL", None, "2026-01-05T06:07:08Z"),
        ("bigint", "NULL", None, int(EXPIRES.timestamp())),
    ],
)
def test_expiries_in_postgres_keep_their_type(
    postgres: Database, kind: str, others: str, given: str | None, written: Any
) -> None:
    """In a session that is far from UTC, as a server may be set."""
    create_users(postgres, kind)
    postgres.run(
        f"UPDATE users SET expires_at = {others} WHERE id = 3",
        "ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'",
    )
    try:
        store = SqlStore(QUERY, postgres.url, given)
        one = store.read()[0]
        assert store.why_not_saved() is None
        assert store.save([renewed(one)]) == []
        [(found,)] = postgres.rows("SELECT expires_at FROM users WHERE id = 1")
        assert found == written
        assert store.read()[0].expires_at == EXPIRES
    finally:
        postgres.run("ALTER ROLE CURRENT_USER RESET timezone")


@pytest.mark.parametrize(
    ("kind", "others", "written"),
    [
        ("text", "NULL", "2026-01-05T06:07:08Z"),
        ("datetime", "NULL", "2026-01-05T06:07:08Z"),
        ("datetime", "'2020-01-01 00:00:00'", "2026-01-05 06:07:08"),
        ("integer", "NULL", int(EXPIRES.timestamp())),
        ("real", "1.5", float(EXPIRES.timestamp())),
    ],
)
def test_expiries_in_sqlite_keep_their_form(sqlite: Database, kind: str, others: str, written: Any) -> None:
    create_users(sqlite, kind)
    sqlite.run(f"UPDATE users SET expires_at = {others or 'NULL'} WHERE id = 3")
    store = SqlStore(QUERY, sqlite.url)
    assert store.save([renewed(store.read()[0])]) == []
    assert sqlite.rows("SELECT expires_at FROM users WHERE id = 1") == [(written,)]


NAMES = ["key", "access_token", "refresh_token", "expires_at"]


@pytest.mark.parametrize(
    ("query", "backend", "table", "columns"),
    [
        ("SELECT id AS key, access_token, refresh_token, expires_at FROM users", "postgresql",
         "users", ("access_token", "refresh_token", "expires_at")),
        ("select * from app.tokens;", "postgresql",
         "app.tokens", ("access_token", "refresh_token", "expires_at")),
        ('''SELECT id key, "Token" ACCESS_TOKEN, rt AS "Refresh_Token", till AS expires_at
         FROM "My"."Users" AS u WHERE active AND kind = 'a:b' ORDER BY 1 LIMIT 10 -- all''', "postgresql",
         '"My"."Users"', ('"Token"', "rt", "till")),
        ("""SELECT u.id AS key, c.a AS access_token, c.r AS refresh_token, c.e AS expires_at
         FROM users u LEFT JOIN shop.credentials c ON c.user_id = u.id, regions r""", "mysql",
         "shop.credentials", ("a", "r", "e")),
        ("SELECT u.name AS key, c.* FROM users u JOIN credentials c USING (id)", "sqlite",
         "credentials", ("access_token", "refresh_token", "expires_at")),
        ("SELECT DISTINCT [a:b] AS access_token, r AS refresh_token, e AS expires_at FROM [dbo].[my t] t",
         "mssql", "[dbo].[my t]", ("[a\\:b]", "r", "e")),
        ("SELECT `key`, a AS access_token, b AS refresh_token, c AS expires_at FROM `t`", "mariadb",
         "`t`", ("a", "b", "c")),
        ("""WITH w AS (SELECT id AS key, t.Tok AS access_token, r, e AS expires_at FROM users t)
         SELECT u.*, r AS refresh_token FROM (SELECT * FROM w) u""", "sqlite", "users", ("Tok", "r", "e")),
        ("SELECT * FROM t", "a database of its own", "t", ("access_token", "refresh_token", "expires_at")),
    ],
    ids=[
        "columns", "star", "aliases", "join", "star of one", "brackets", "backticks", "CTE", "unknown",
    ],
)  # fmt: skip
def test_an_update_is_derived(query: str, backend: str, table: str, columns: tuple[str, ...]) -> None:
    access, refresh, expires = columns
    assert derive_target(query, backend, NAMES).statement == (
        f"UPDATE {table} SET {access} = :access_token, {refresh} = :refresh_token, {expires} = :expires_at"
        f" WHERE {refresh} = :used_refresh_token"
    )


def test_a_star_takes_names_as_they_are() -> None:
    statement = derive_target(
        "SELECT * FROM t", "postgresql", ["id", "Access_Token", "refresh_token"]
    ).statement
    assert statement == (
        'UPDATE t SET "Access_Token" = :access_token, refresh_token = :refresh_token'
        " WHERE refresh_token = :used_refresh_token"
    )


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM a UNION ALL SELECT * FROM b",
        "SELECT * FROM a; SELECT * FROM b",
        "SELECT max(key), access_token, refresh_token FROM a GROUP BY 2, 3",
        "TABLE users",
        "SELECT ((",
        "SELECT decrypt(a, 'k') AS access_token, refresh_token, expires_at FROM t",
        "SELECT access_token, r || '' AS refresh_token, expires_at FROM t",
        "SELECT access_token, refresh_token, now() AS expires_at FROM t",
        "SELECT * FROM (SELECT * FROM a UNION ALL SELECT * FROM b) u",
        "SELECT * FROM (SELECT key, f(a) AS access_token, refresh_token, expires_at FROM t) u",
        "SELECT u.*, v.refresh_token FROM (SELECT * FROM t) u, (SELECT * FROM t) v",
        "SELECT * FROM t CROSS JOIN LATERAL f(t.x)",
        "SELECT a.access_token, a.refresh_token, a.expires_at FROM t a, u a",
        "SELECT * FROM tokens_of(1)",
        "SELECT * FROM t AS u (access_token, refresh_token, expires_at)",
        "SELECT * FROM a, b",
        "SELECT key, access_token, refresh_token FROM a JOIN b USING (id)",
        "SELECT a.access_token, b.refresh_token, a.expires_at FROM a, b",
        "SELECT a.*, b.* FROM a, b",
        "SELECT x.access_token, x.refresh_token, x.expires_at FROM a",
        "SELECT 1 AS access_token",
        "SELECT key FROM t",
    ],
)  # fmt: skip
def test_of_a_query_that_is_not_plain_nothing_is_derived(query: str) -> None:
    with pytest.raises(NotDerivedError):
        derive_target(query, "postgresql", NAMES)


def test_without_a_column_for_refresh_tokens_nothing_is_derived() -> None:
    with pytest.raises(NotDerivedError):
        derive_target("SELECT * FROM t", "sqlite", ["access_token"])


def test_what_cannot_be_derived_is_asked_for(database: Database) -> None:
    create_users(database)
    query = "SELECT id AS key, access_token || '' AS access_token, refresh_token FROM users"
    store = SqlStore(query, database.url)
    token = store.read()[0]
    why = store.why_not_saved()
    assert why is not None
    assert "it does not show which columns of which table tokens come from; set tokens_update" in why
    with pytest.raises(StoreError, match="set tokens_update"):
        store.save([renewed(token)])
    store = SqlStore(query, database.url, UPDATE + ";")
    assert store.why_not_saved() is None
    assert store.save([renewed(token), renewed(token)]) == [renewed(token)]
    found = store.current(token)
    assert found is not None
    assert shown([found]) == [("1", "AT", "RT", None)]


GUARDED = "UPDATE t SET a = :access_token, r = :refresh_token WHERE r = :used_refresh_token"


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (
            "UPDATE t SET a = :access_token, r = :refresh_token",
            ":used_refresh_token",
        ),
        ("UPDATE t SET a = 1 WHERE r = :used_refresh_token", "must set :access_token and :refresh_token"),
        (GUARDED + " AND kind = :kind", "any other colon is written"),
    ],
)
def test_an_update_must_guard_on_the_used_token(sqlite: Database, update: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        SqlStore(QUERY, sqlite.url, update)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "update",
    [GUARDED + " AND '10:30' <> '\\:kind' AND x::text = ''", GUARDED + " AND id = :key AND e < :expires_at"],
)
def test_an_update_may_have_other_colons(sqlite: Database, update: str) -> None:
    SqlStore(QUERY, sqlite.url, update)


def test_queries_reach_the_database_as_they_are(postgres: Database) -> None:
    """Colons, percent signs, comments and semicolons mean what they mean there."""
    create_users(postgres)
    query = """SELECT id::text || ':id' AS "Key", ACCESS_TOKEN, refresh_token, '%s' AS note
        FROM users WHERE access_token ILIKE 'at%' AND id % 2 = 1 AND ':x' <> '\\:y' -- odd ones:all ; """
    store = SqlStore(query + "\n;", postgres.url)
    tokens = store.read()
    assert [each.key for each in tokens] == ["1:id", "3:id"]
    assert store.why_not_saved() is None
    assert store.save([renewed(tokens[1])]) == []
    # also for a store that has read nothing yet
    found = SqlStore(query, postgres.url).current(tokens[1])
    assert found is not None
    assert shown([found]) == [("3:id", "AT", "RT", None)]


def test_without_a_key_tokens_go_by_their_refresh_tokens(sqlite: Database) -> None:
    create_users(sqlite)
    store = SqlStore("SELECT access_token, refresh_token FROM users", sqlite.url)
    token = store.read()[0]
    assert token.key == token_key("at1", "rt1")
    assert store.current(token) is None
    assert store.save([renewed(token)]) == []
    assert store.read()[0].key == token_key("AT", "RT")


def test_keys_may_be_uuids(postgres: Database) -> None:
    postgres.run(
        "CREATE TABLE users (key uuid, access_token text, refresh_token text)",
        "INSERT INTO users VALUES ('12345678-1234-5678-1234-567812345678', 'at', 'rt')",
    )
    store = SqlStore("SELECT * FROM users", postgres.url, UPDATE + " AND key = :key")
    [token] = store.read()
    assert token.key == "12345678-1234-5678-1234-567812345678"
    assert store.why_not_saved() is None
    assert store.current(token) == token
    assert store.save([renewed(token)]) == []


def test_a_reader_may_not_write(postgres: Database) -> None:
    create_users(postgres)
    postgres.run(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN PASSWORD 'hunter2'",
        "GRANT USAGE ON SCHEMA public TO reader",
        "GRANT SELECT ON users TO reader",
    )
    store = SqlStore(QUERY, postgres.url.replace("postgres:@", "reader:hunter2@"))
    token = store.read()[0]
    why = store.why_not_saved()
    assert why is not None
    assert why.startswith(
        "tokens_query cannot be written back: ProgrammingError (permission denied for table"
    )
    grant = re.search("GRANT .* TO reader", why)
    assert grant is not None
    with pytest.raises(StoreError, match="permission denied for table users"):
        store.save([renewed(token)])
    postgres.run(grant[0])
    assert store.why_not_saved() is None
    postgres.run("DROP OWNED BY reader", "DROP ROLE reader")


def test_trying_changes_nothing(database: Database) -> None:
    create_users(database)
    before = database.rows("SELECT * FROM users ORDER BY id")
    update = UPDATE.replace("WHERE refresh_token =", "WHERE '' <>")
    assert SqlStore(QUERY, database.url).why_not_saved() is None
    assert SqlStore(QUERY, database.url, UPDATE).why_not_saved() is None
    assert "changes rows of other tokens too" in str(SqlStore(QUERY, database.url, update).why_not_saved())
    assert database.rows("SELECT * FROM users ORDER BY id") == before


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (SECRET, "tokens_database in [sources.cronofy] must be a SQLAlchemy URL"),
        (f"nosuch://u:{SECRET}@host/db", "names a database that SQLAlchemy does not know"),
        (
            f"mysql+pymysql://u:{SECRET}@host/db",
            "needs a driver that is not installed: pymysql; install pymysql",
        ),
        (f"postgresql://u:not@{SECRET}@host/db", "write an @ in the password as %40"),
        (f"postgres://u:{SECRET}@host:port/db", "must be a SQLAlchemy URL"),
    ],
)
def test_a_url_that_is_none(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        SqlStore(QUERY, url)
    assert message in str(error.value)
    assert SECRET not in str(error.value)


def test_sqlalchemy_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlt_cronofy.source.tokens.sql_store", None)
    with pytest.raises(ConfigurationError, match="install the extra sql of dlt-cronofy, or sqlalchemy,"):
        open_store(tokens_query=QUERY, tokens_database="sqlite://")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nobody", "tokens_query failed: OperationalError (no such table: nobody)"),
        ("SELEC", 'tokens_query failed: OperationalError (near "SELEC": syntax error)'),
        ("SELECT id AS key FROM users", "tokens_query: no column access_token"),
        ("DELETE FROM users", "tokens_query: no column access_token"),
        ("SELECT *, 1 AS ACCESS_TOKEN FROM users", "tokens_query: several columns access_token"),
        ("SELECT * FROM users WHERE id > 5", "tokens_query: holds no tokens"),
        ("SELECT 1 AS access_token", "tokens_query, row 1: access_token is not text"),
        (
            "SELECT 'k' AS key, access_token FROM users",
            "tokens_query, row 2: its key was used before, at row 1",
        ),
        (
            f"SELECT access_token, '{SECRET}' AS expires_at FROM users",
            "tokens_query, row 1: expires_at is no point",
        ),
        (
            f"SELECT CAST(x'ff' || '{SECRET}' AS text) AS access_token",
            "tokens_query, row 1: access_token is not text",
        ),
    ],
)
def test_a_query_that_fails(sqlite: Database, query: str, message: str) -> None:
    create_users(sqlite)
    with pytest.raises(ConfigurationError) as error:
        SqlStore(query, sqlite.url).read()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)
    assert len(sqlite.rows("SELECT * FROM users")) == 3


def test_text_that_is_none_costs_its_row_only(sqlite: Database) -> None:
    create_users(sqlite)
    sqlite.run(f"UPDATE users SET access_token = CAST(x'ff' || '{SECRET}' AS text) WHERE id = 1")
    store = SqlStore(QUERY, sqlite.url)
    found = store.read()
    assert [each.key for each in found] == ["2", "3"]
    assert list(map(str, found.unusable)) == ["tokens_query, row 1: access_token is not text (key '1')"]
    assert store.current(found[0]) == found[0]


BAD_USERS = """
    CREATE TABLE users (id numeric(10, 2), access_token text, refresh_token text, expires_at bigint);
    INSERT INTO users VALUES
        (1, 'at1', 'rt1', 1767593228000), (2, NULL, NULL, NULL), (3, 'a t', 'rt3', NULL),
        (4, NULL, 'rt4', 1), (5, 'at5', 'rt5', NULL), (NULL, NULL, NULL, NULL),
        (5, 'later', 'later', NULL), (7.5, 'at7', NULL, NULL), (8, 'at8', NULL, NULL)
"""


def test_a_bad_row_costs_that_row_only(database: Database) -> None:
    """And keys may be NUMERIC, times milliseconds."""
    database.run(*BAD_USERS.split(";"))
    store = SqlStore(QUERY.removesuffix(" ORDER BY id"), database.url)
    found = store.read()
    assert shown(found[:3]) == [
        ("1", "at1", "rt1", EXPIRES), ("4", "", "rt4", AT_1), ("5", "at5", "rt5", None),
    ]  # fmt: skip
    assert [each.key for each in found.not_connected] == ["2"]
    reasons = [(row.place, row.key, row.reason.split()[0]) for row in found.unusable]
    assert reasons == [
        ("tokens_query, row 3", "3", "access_token"),
        ("tokens_query, row 6", None, "access_token"),
        ("tokens_query, row 7", "5", "its"),
        ("tokens_query, row 8", None, "key"),
    ]
    one, four, five, _ = found
    assert store.why_not_saved() is None
    assert store.save([renewed(one, "A", "R"), renewed(four, "B", "S")]) == []
    assert sorted(shown(store.read()))[:2] == [("1", "A", "R", EXPIRES), ("4", "B", "S", EXPIRES)]
    assert store.current(one) == replace(
        one, access_token=Secret("A"), refresh_token=Secret("R"), expires_at=EXPIRES
    )
    # of two rows with its key the one that it was read from
    assert store.current(five) == five
    # in milliseconds, as it was
    assert database.rows("SELECT expires_at FROM users WHERE id = 4") == [(1767593228000,)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("kind", ["timestamp with time zone", "timestamp", "date"])
def test_times_that_python_has_not_cost_their_rows_only(postgres: Database, kind: str, driver: str) -> None:
    create_users(postgres, kind, count=5)
    for number, value in enumerate(("20000-01-01", "0044-03-15 BC", "infinity", "2026-01-05"), start=1):
        postgres.run(f"UPDATE users SET expires_at = '{value}' WHERE id = {number}")
    store = SqlStore(
        QUERY, make_url(postgres.url).set(drivername=f"postgresql+{driver}").render_as_string(False)
    )
    found = store.read()
    assert [each.key for each in found] == ["3", "4", "5"]
    assert [(row.key, row.reason.split()[0]) for row in found.unusable] == [
        ("1", "expires_at"), ("2", "expires_at"),
    ]  # fmt: skip
    assert store.save([renewed(found[2])]) == []
    assert store.read()[2].expires_at == (datetime(2026, 1, 6, tzinfo=UTC) if kind == "date" else EXPIRES)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    store = SqlStore(QUERY, f"sqlite:///{tmp_path}/none.db")
    token = Token("k", Secret("at"), Secret("rt"))
    with pytest.raises(ConfigurationError, match=r"none\.db does not exist"):
        store.read()
    with pytest.raises(StoreError, match=r"none\.db does not exist"):
        store.save([renewed(token)])
    assert "none.db does not exist" in str(store.why_not_saved())
    assert store.current(token) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match="tokens_query failed: OperationalError") as error:
        SqlStore(QUERY, f"postgresql://user:{SECRET}@localhost:1/db").read()
    assert SECRET not in str(error.value)


def test_nothing_shows_a_token(
    database: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not with SQLAlchemy's loggers at DEBUG either, where it would log rows."""
    for name in ("sqlalchemy", "sqlalchemy.engine", "sqlalchemy.engine.Engine", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, name)
    create_users(database)
    database.run(f"UPDATE users SET access_token = '{SECRET}-1', refresh_token = '{SECRET}-2' WHERE id = 1")
    caplog.clear()  # what the application itself logs
    store = SqlStore(QUERY, database.url)
    token = store.read()[0]
    store.why_not_saved()
    store.save([renewed(token, f"{SECRET}-3", f"{SECRET}-4")])
    found = store.current(token)
    assert found is not None
    words = [repr(store), repr(store.__dict__), repr(found)]
    for update in ("UPDATE nobody", "UPDATE users", f"UPDATE '{SECRET}'"):
        statement = f"{update} SET access_token = :access_token, a = :refresh_token OR :used_refresh_token"
        with pytest.raises(StoreError) as error:
            SqlStore(QUERY, database.url, statement).save([renewed(found, f"{SECRET}-5", SECRET)])
        words.append(str(error.value))
    assert SECRET not in caplog.text + "".join(words) + "".join(capfd.readouterr())


def test_rows_are_streamed(sqlite: Database) -> None:
    """While a table is read, little more is held than its tokens; the other columns never."""
    sqlite.run(
        """CREATE TABLE users AS
        WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 12000)
        SELECT id, 'access-' || id AS access_token, 'refresh-' || id AS refresh_token,
            printf('%.600c', 'x') AS note
        FROM n"""
    )
    store = SqlStore("SELECT * FROM users", sqlite.url)
    tracemalloc.start()
    try:
        tokens = store.read()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(tokens) == 12_000
    # the notes alone are 7 MB; FETCHED_ROWS of them, and an index of the keys, are less than half of that
    assert peak - held < 12_000 * 600 / 2
    assert held < 12_000 * 750


CUSTOMERS = """
    CREATE TABLE customers (customer_id integer, "Customer" text, since date, paying boolean);
    INSERT INTO customers VALUES (1, 'Ada & Co', '2026-01-05', true), (2, ' ', NULL, NULL);
    CREATE TABLE users (id integer, access_token text, refresh_token text, customer_id integer);
    INSERT INTO users VALUES
        (1, 'at1', 'rt1', 1), (2, 'at2', 'rt2', 2), (3, 'at3', 'rt3', NULL), (4, NULL, NULL, 1)
"""
JOINED = (
    "SELECT u.id AS key, u.access_token, u.refresh_token, u.customer_id AS number,"
    ' c."Customer", c.since, c.paying'
    " FROM users u LEFT JOIN customers c ON c.customer_id = u.customer_id ORDER BY u.id"
)


def test_further_columns_are_labels_and_leave_the_update_as_it_was(database: Database) -> None:
    database.run(*CUSTOMERS.split(";"))
    store = SqlStore(JOINED, database.url, labels=("number", "customer", "since"))
    found = store.read()
    assert found.label_names == ("number", "customer", "since")
    assert [each.labels for each in found] == [
        ("1", "Ada & Co", "2026-01-05"), ("2", None, None), (None, None, None),
    ]  # fmt: skip
    assert found.not_connected == (Token("4", labels=("1", "Ada & Co", "2026-01-05")),)
    assert store.why_not_saved() is None
    assert store.save([renewed(found[0])]) == []
    assert store.current(found[0]) == replace(found[0], access_token=Secret("AT"), refresh_token=Secret("RT"))


def test_without_the_setting_customer_is_the_label(postgres: Database) -> None:
    postgres.run(*CUSTOMERS.split(";"))
    found = SqlStore(JOINED, postgres.url).read()
    assert (found.label_names, found[0].labels) == (("customer",), ("Ada & Co",))
    [paid, *_] = SqlStore(JOINED, postgres.url, labels=("paying",)).read()
    assert paid.labels == ("true",)


def test_of_several_columns_of_one_name_none_is_a_label(sqlite: Database) -> None:
    create_users(sqlite)
    query = "SELECT access_token, refresh_token, 1 AS customer, 2 AS Customer FROM users"
    found = SqlStore(query, sqlite.url).read()
    assert (found.missing_labels, found[0].labels) == (("customer",), (None,))
    with pytest.raises(ConfigurationError, match="tokens_query: several columns customer; name the ones"):
        SqlStore(query, sqlite.url, labels=("customer",)).read()
