"""The trial of an update: what would refuse new tokens is found out on a real row, which stays as it was."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens import sql_store, sql_trial
from dlt_cronofy.source.tokens.base import Renewal, StoreError
from dlt_cronofy.source.tokens.placeholders import lookalike, trial_renewals
from dlt_cronofy.source.tokens.sql_store import SqlStore
from dlt_cronofy.source.tokens.token import Token
from tests.cronofy.tokens.databases import Database

EXPIRES = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)
QUERY = "SELECT id AS key, access_token, refresh_token, expires_at FROM users ORDER BY id"
UPDATE = (
    "UPDATE users SET access_token = :access_token, refresh_token = :refresh_token,"
    " expires_at = :expires_at WHERE refresh_token = :used_refresh_token"
)
TRIGGER = """CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
    CREATE {kind} TRIGGER t {when} UPDATE ON users {options} FOR EACH ROW EXECUTE FUNCTION act()"""
NEVER = f"tokens_query cannot be written back: {sql_trial.CHANGES_NOTHING}"
OTHERWISE = f"tokens_query cannot be written back: {sql_trial.KEEPS_SOMETHING_ELSE}"


@dataclass(frozen=True)
class Case:
    """A table of tokens, and what is in the way of new ones.

    Attributes:
        columns: types of access_token, refresh_token and expires_at.
        then: what is done to the table.
        why: what the trial says; None where nothing is in the way.
    """

    columns: tuple[str, str, str] = ("text", "text", "timestamp with time zone")
    then: tuple[str, ...] = ()
    why: str | None = None
    query: str = QUERY
    update: str | None = None
    expiry: str = "NULL"
    user: str = "postgres"


def trigger(body: str, when: str = "BEFORE", kind: str = "", options: str = "") -> tuple[str, ...]:
    return (TRIGGER.format(body=body, when=when, kind=kind, options=options),)


LOADER = (
    "DROP ROLE IF EXISTS loader",
    "CREATE ROLE loader LOGIN",
    "GRANT USAGE ON SCHEMA public TO loader",
    "GRANT SELECT ON users TO loader",
)
UNWRITABLE = "tokens_query cannot be written back: "
DENIED = (
    UNWRITABLE + "ProgrammingError (permission denied for table users); run GRANT UPDATE (access_token,"
    " refresh_token, expires_at) ON users TO loader, or set tokens_update, or leave client_id out"
)
POSTGRES = {
    "plain": Case(),
    "as long as they are": Case(("varchar(35)", "char(36)", "timestamptz")),
    "unique": Case(
        then=("CREATE UNIQUE INDEX a ON users (access_token)", "ALTER TABLE users ADD UNIQUE (refresh_token)")
    ),
    "rules for what a token looks like": Case(
        then=(
            "ALTER TABLE users ADD CHECK (access_token ~ '^at_[0-9a-f]{32}$')",
            "ALTER TABLE users ADD CHECK (refresh_token ~ '^rt1\\.[0-9a-f]{32}$')",
        )
    ),
    "expiry as a date": Case(("text", "text", "date"), expiry="'2020-01-01'"),
    "expiry as a date without a value": Case(("text", "text", "date"), update=UPDATE),
    "expiry in milliseconds": Case(("text", "text", "bigint"), expiry="1700000000000"),
    "expiry in a local session": Case(
        ("text", "text", "timestamp"),
        update=UPDATE,
        then=("ALTER ROLE postgres SET timezone = 'Asia/Tokyo'",),
    ),
    "expiry as text without a value": Case(("text", "text", "varchar(30)"), update=UPDATE),
    "expiry as a number without a value": Case(("text", "text", "numeric"), update=UPDATE),
    "expiry as a real number": Case(("text", "text", "real"), expiry="1.5"),
    "expired tokens only": Case(
        expiry="'2020-01-01'", query=QUERY.replace("ORDER", "WHERE expires_at < now() ORDER")
    ),
    "no key": Case(query="SELECT access_token, refresh_token FROM users"),
    "a view that can be written": Case(
        then=("CREATE VIEW v AS SELECT * FROM users WHERE id < 9",), query=QUERY.replace("users", "v")
    ),
    "encrypted": Case(
        then=(
            "CREATE FUNCTION seal(t text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT reverse(t)'",
            "UPDATE users SET access_token = seal(access_token), refresh_token = seal(refresh_token)",
        ),
        query="SELECT id AS key, seal(access_token) AS access_token, seal(refresh_token) AS refresh_token"
        " FROM users",
        update="UPDATE users SET access_token = seal(:access_token), refresh_token = seal(:refresh_token)"
        " WHERE refresh_token = seal(:used_refresh_token)",
    ),
    "nothing to refresh": Case(then=("UPDATE users SET refresh_token = NULL",)),
    # and what is in the way
    "a rule that holds for new values only": Case(
        ("varchar(35)", "varchar(40)", "timestamptz"),
        then=("ALTER TABLE users ADD CHECK (id > 1 OR length(refresh_token) <= 12) NOT VALID",),
        why=UNWRITABLE
        + 'IntegrityError (new row for relation "users" violates check constraint "users_check")',
    ),
    "a trigger that raises": Case(
        then=trigger("RAISE EXCEPTION 'not you'; RETURN NEW;"), why=UNWRITABLE + "{kind} (not you)"
    ),
    "a trigger that raises at the end": Case(
        then=trigger(
            "RAISE EXCEPTION 'not you'; RETURN NEW;", "AFTER", "CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED"
        ),
        why=UNWRITABLE + "{kind} (not you)",
    ),
    "a trigger that keeps the old row": Case(then=trigger("RETURN OLD;"), why=NEVER),
    "a trigger that skips the row": Case(then=trigger("RETURN NULL;"), why=NEVER),
    "a trigger that cuts tokens off": Case(
        then=trigger("NEW.refresh_token := left(NEW.refresh_token, 20); RETURN NEW;"), why=OTHERWISE
    ),
    "the same without a key": Case(
        then=trigger("NEW.refresh_token := left(NEW.refresh_token, 20); RETURN NEW;"),
        query="SELECT access_token, refresh_token FROM users",
        why=OTHERWISE,
    ),
    "a trigger that keeps the old access token": Case(
        then=trigger("NEW.access_token := OLD.access_token; RETURN NEW;"), why=OTHERWISE
    ),
    "a rule": Case(then=("CREATE RULE r AS ON UPDATE TO users DO INSTEAD NOTHING",), why=NEVER),
    "a materialized view": Case(
        then=("CREATE MATERIALIZED VIEW m AS SELECT * FROM users",),
        query=QUERY.replace("users", "m"),
        update=UPDATE,
        why=NEVER.replace("tokens_query cannot", "tokens_update cannot"),
    ),
    "rights to read only": Case(
        then=LOADER, user="loader", why=DENIED
    ),
    "rights to one column only": Case(
        then=(*LOADER, "GRANT UPDATE (access_token, expires_at) ON users TO loader"),
        user="loader",
        why=DENIED,
    ),
    "a policy that hides rows": Case(
        then=(
            *LOADER,
            "GRANT UPDATE ON users TO loader",
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY r ON users FOR SELECT USING (true)",
            "CREATE POLICY w ON users FOR UPDATE USING (id = 99)",
        ),
        user="loader",
        why=NEVER,
    ),
    "a policy for what is written": Case(
        then=(
            *LOADER,
            "GRANT UPDATE ON users TO loader",
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY r ON users FOR SELECT USING (true)",
            "CREATE POLICY w ON users FOR UPDATE USING (true) WITH CHECK (expires_at IS NULL)",
        ),
        user="loader",
        why=UNWRITABLE + 'ProgrammingError (new row violates row-level security policy for table "users")',
    ),
    "a session that may only read": Case(
        then=(
            *LOADER,
            "GRANT UPDATE ON users TO loader",
            "ALTER ROLE loader SET default_transaction_read_only = on",
        ),
        user="loader",
        why=UNWRITABLE + "{kind} (cannot execute UPDATE in a read-only transaction)",
    ),
    "a column that is generated": Case(
        then=("ALTER TABLE users ADD till timestamptz GENERATED ALWAYS AS (expires_at) STORED",),
        query=QUERY.replace("expires_at", "till AS expires_at"),
        why=UNWRITABLE + '{kind} (column "till" can only be updated to DEFAULT)',
    ),
    "an expiry that is too short": Case(
        ("text", "text", "varchar(10)"),
        expiry="'2020-01-01'",
        why=UNWRITABLE + "DataError (value too long for type character varying(10))",
    ),
    "an update of all rows": Case(
        update=UPDATE.replace("WHERE refresh_token =", "WHERE '' <>"),
        why=f"tokens_update cannot be written back: {sql_trial.CHANGES_OTHERS}",
    ),
    "an update of another table": Case(
        then=("CREATE TABLE copies AS SELECT * FROM users",),
        update=UPDATE.replace("users", "copies"),
        why=NEVER.replace("tokens_query cannot", "tokens_update cannot"),
    ),
}  # fmt: skip

SQLITE = {
    "plain": Case(("text", "text", "text")),
    "strict": Case(("text", "text", "integer")),
    "an update that is given": Case(
        ("text", "text", "integer CHECK (typeof(expires_at) <> 'text')"), update=UPDATE
    ),
    "rules": Case(
        ("text CHECK (length(access_token) = 35)", "text CHECK (refresh_token GLOB 'rt1.*')", "text")
    ),
    "a trigger that raises": Case(
        ("text", "text", "text"),
        then=("CREATE TRIGGER t BEFORE UPDATE ON users BEGIN SELECT RAISE(ABORT, 'not you'); END",),
        why=UNWRITABLE + "IntegrityError (not you)",
    ),
    "a trigger that skips the row": Case(
        ("text", "text", "text"),
        then=("CREATE TRIGGER t BEFORE UPDATE ON users BEGIN SELECT RAISE(IGNORE); END",),
        why=NEVER,
    ),
    "a trigger that puts the old one back": Case(
        ("text", "text", "text"),
        then=(
            """CREATE TRIGGER t AFTER UPDATE ON users BEGIN
            UPDATE users SET refresh_token = OLD.refresh_token WHERE id = NEW.id; END""",
        ),
        why=NEVER,
    ),
    "a rule for the expiry": Case(
        ("text", "text", "text CHECK (expires_at IS NULL)"),
        why=UNWRITABLE + "IntegrityError (CHECK constraint failed: expires_at IS NULL)",
    ),
}  # fmt: skip


def hexadecimal(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


def fill(database: Database, case: Case) -> None:
    access, refresh, expires = case.columns
    rows = ", ".join(
        f"({n}, 'at_{hexadecimal(n)}', 'rt1.{hexadecimal(-n)}', {case.expiry})" for n in range(1, 4)
    )
    database.run(
        f"""CREATE TABLE users
        (id integer, access_token {access}, refresh_token {refresh}, expires_at {expires})""",
        f"INSERT INTO users VALUES {rows}",
    )
    database.run(*case.then)


def renewed(token: Token) -> Renewal:
    access = Secret(lookalike(token.access_token.reveal()))
    assert token.refresh_token is not None
    return Renewal(token, access, Secret(lookalike(token.refresh_token.reveal())), EXPIRES)


def check(database: Database, case: Case, url: str) -> None:
    """The trial says what is in the way and changes nothing; and it is right about that."""
    everything = "SELECT * FROM users ORDER BY id"
    before = database.rows(everything)
    store = SqlStore(case.query, url, case.update)
    tokens = store.read()
    why = store.why_not_saved()
    assert database.rows(everything) == before
    if case.why is not None:
        assert why is not None
        words = case.why.split("{kind}")
        assert why.startswith(words[0])
        assert why.endswith(words[-1])
        return
    assert why is None
    if tokens[0].refresh_token is not None:
        renewals = [renewed(token) for token in tokens[:2]]
        assert store.save(renewals) == []
        kept = {(each.access_token, each.refresh_token): each for each in store_of(case, url).read()}
        assert {(each.access_token, each.refresh_token) for each in renewals} <= kept.keys()
        expiries = [kept[each.access_token, each.refresh_token].expires_at for each in renewals]
        assert all(each is None or abs(each - EXPIRES) <= timedelta(days=1) for each in expiries)


def store_of(case: Case, url: str) -> SqlStore:
    """To read all rows with, also those that the query leaves out by now."""
    return SqlStore(case.query.replace("WHERE expires_at < now() ", ""), url)


@pytest.fixture
def server(postgres: Database) -> Iterator[Database]:
    yield postgres
    postgres.run("ALTER ROLE postgres RESET timezone", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


@pytest.mark.parametrize("name", POSTGRES)
def test_in_postgres(server: Database, name: str) -> None:
    case = POSTGRES[name]
    fill(server, case)
    check(server, case, server.url.replace("postgres:@", f"{case.user}:@"))


@pytest.mark.parametrize("name", SQLITE)
def test_in_sqlite(sqlite: Database, name: str) -> None:
    case = SQLITE[name]
    fill(sqlite, case)
    check(sqlite, case, sqlite.url)


@contextmanager
def locked(database: Database, statement: str) -> Iterator[None]:
    """Somebody else's transaction, which does not end."""
    engine = create_engine(database.url)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
        yield
        connection.rollback()
    engine.dispose()


def test_a_lock_is_waited_for_and_then_said(server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(server, Case())
    monkeypatch.setattr(sql_store, "LOCK_SECONDS", 0.1)
    store = SqlStore(QUERY, server.url)
    [first, *_] = store.read()
    with locked(server, "UPDATE users SET id = id"):
        why = store.why_not_saved()
        with pytest.raises(StoreError, match="canceling statement due to lock timeout"):
            store.save([renewed(first)])
    assert str(why).endswith("(canceling statement due to lock timeout)")
    assert store.why_not_saved() is None


def test_where_nothing_is_taken_back_no_refresh_token_is_touched(sqlite: Database) -> None:
    """The access token is tried, and put back; all that saw it is a trigger."""
    fill(sqlite, Case(("text", "text", "text"), expiry="'2020-01-01 00:00:00'"))
    sqlite.run(
        "CREATE TABLE seen (access_token text, refresh_token text)",
        "CREATE TRIGGER t AFTER UPDATE ON users BEGIN"
        " INSERT INTO seen VALUES (NEW.access_token, NEW.refresh_token); END",
    )
    before = sqlite.rows("SELECT * FROM users ORDER BY id")
    store = SqlStore(QUERY, sqlite.url)
    store.read()
    store._engine = create_engine(sqlite.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    assert store.why_not_saved() is None
    assert sqlite.rows("SELECT * FROM users ORDER BY id") == before
    seen = sqlite.rows("SELECT * FROM seen")
    assert [access == before[0][1] for access, _ in seen] == [False, True]
    assert {refresh for _, refresh in seen} == {before[0][2]}


def test_a_row_that_the_application_changes_meanwhile_is_no_obstacle(
    server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server, Case())
    read, found = sql_trial.SqlTrial.read_before, 0

    def late(trial: sql_trial.SqlTrial) -> Any:
        nonlocal found
        rows = read(trial)
        found += 1
        if found == 1:
            server.run("UPDATE users SET refresh_token = 'theirs-' || id")
        return rows

    monkeypatch.setattr(sql_trial.SqlTrial, "read_before", late)
    assert SqlStore(QUERY, server.url).why_not_saved() is None
    assert found == 2


@pytest.mark.parametrize(
    "body",
    [
        "IF NEW.id = 2 THEN RETURN OLD; END IF; RETURN NEW;",
        "IF NEW.id = 2 THEN NEW.refresh_token := left(NEW.refresh_token, 20); END IF; RETURN NEW;",
    ],
)
def test_one_row_that_is_silently_refused_is_noticed_when_it_is_written(server: Database, body: str) -> None:
    fill(server, Case())
    server.run(*trigger(body))
    store = SqlStore(QUERY, server.url)
    first, second, _ = store.read()
    assert store.why_not_saved() is None
    assert store.save([renewed(first)]) == []
    with pytest.raises(StoreError, match="what tokens_query reads after the update is not what was written"):
        store.save([renewed(second)])


@pytest.mark.parametrize("length", [0, 1, 7, 19])
def test_what_stands_in_for_a_short_token_is_as_long(length: int) -> None:
    assert re.fullmatch(r"[0-9a-f]*", found := lookalike("t" * length))
    assert len(found) == length


def test_no_placeholder_is_used_twice() -> None:
    tokens = [Token(str(number), Secret("at"), Secret("rt" * number)) for number in (1, 100)]
    one, other = trial_renewals(tokens)
    texts = [each.reveal() for each in (one.refresh_token, other.refresh_token)]
    assert [len(each) for each in texts] == [200, 200]
    assert len({one.access_token, other.access_token, *texts}) == 4
    assert all(each.startswith("no-token-") for each in (*texts, one.access_token.reveal()))


@pytest.mark.parametrize(
    ("token", "pattern"),
    [
        ("0123456789abcdef0123456789abcdef", r"[0-9]{10}[a-f]{6}[0-9]{10}[a-f]{6}"),
        ("0123456789ABCDEF0123", r"[0-9]{10}[A-F]{6}[0-9]{4}"),
        ("sk-live_Zz9é~live_Zz9é~", r"sk-[a-z]{4}_[A-Z][a-z][0-9]é~[a-z]{4}_[A-Z][a-z][0-9]é~"),
    ],
)
def test_a_lookalike_has_the_pattern_of_a_token(token: str, pattern: str) -> None:
    assert re.fullmatch(pattern, lookalike(token))
    assert lookalike(token) != token
