"""A DBA takes a right away or adds a constraint: nothing is lost, and the line says what to run."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner, Result

from dlt_cronofy.cli.main import cli
from tests.postgres import credentials, postgres_server

from .documents import Document, account, disconnected, profile, userinfo
from .place import Place
from .server import Reply, Request, ScriptedServer, says

REPAIR = re.compile(r"; run (.+?)(?:, or .+?)?; then run again")
KEYS = ("one", "two")


@dataclass
class World:
    """Two accounts, connected or not, with more fields or not."""

    is_connected: bool = True
    more: Document | None = None

    def answer(self, request: Request) -> Reply:
        sub = f"acc_{request.token}"
        if request.endpoint == "account":
            return says(account(sub))
        shown = profile("pro_1")
        return says(userinfo(sub, [shown if self.is_connected else disconnected(shown)]) | (self.more or {}))


@dataclass
class Stage:
    """A loader without any right but those it was given, and the DBA."""

    place: Place
    server: ScriptedServer
    world: World
    dba: Any
    environment: dict[str, str]

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        for statement in statements:
            self.dba.execute(statement)
        return list(self.dba.fetchall()) if self.dba.description else []

    def load(self, *arguments: str) -> Result:
        command = ("load", "--every", "0s", "--destination", "postgres", *arguments)
        return CliRunner().invoke(cli, command, env=self.environment, catch_exceptions=False)

    def check(self) -> Result:
        """`check`, which asks for rights and writes nothing."""
        command = ("check", "--destination", "postgres")
        return CliRunner().invoke(cli, command, env=self.environment, catch_exceptions=False)

    def polls_answered(self) -> int:
        return len(self.server.log)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as uri:
        yield uri


@pytest.fixture
def stage(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Tables that belong to the DBA, and a loader to whom all was granted that a load needs."""
    monkeypatch.chdir(tmp_path)
    world = World()
    connection = psycopg2.connect(postgres)
    connection.autocommit = True
    with ScriptedServer(world.answer) as server, connection.cursor() as dba:
        place = Place(tmp_path, server.base_url)
        place.write_tokens(KEYS)
        environment = place.environment(
            DESTINATION__POSTGRES__CREDENTIALS=credentials(postgres).replace("postgres:x@", "loader:x@"),
            LOAD__RAISE_ON_MAX_RETRIES="1",
        )
        found = Stage(place, server, world, dba, environment)
        dba.execute("CREATE ROLE loader LOGIN PASSWORD 'x'; CREATE ROLE dba")
        dba.execute("GRANT CREATE ON DATABASE postgres TO loader")
        yield found
        dba.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cronofy%'")
        for (schema,) in dba.fetchall():
            dba.execute(f'DROP SCHEMA "{schema}" CASCADE')
        dba.execute("DROP FUNCTION IF EXISTS refuse(); DROP OWNED BY loader, dba; DROP ROLE loader, dba")
    connection.close()


def hand_over(stage: Stage) -> None:
    """Make the tables the DBA's, who grants all rights on them."""
    for (table,) in stage.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'cronofy'"):
        stage.execute(
            f'ALTER TABLE cronofy."{table}" OWNER TO dba', f'GRANT ALL ON cronofy."{table}" TO loader'
        )


FAULTS = {
    "INSERT": (["REVOKE INSERT ON cronofy.polls FROM loader"], "GRANT INSERT ON cronofy.polls TO loader"),
    "DELETE": (
        ["REVOKE DELETE ON cronofy.profiles FROM loader"],
        "GRANT DELETE ON cronofy.profiles TO loader",
    ),
    "SELECT": (
        ["REVOKE SELECT ON cronofy.userinfo FROM loader"],
        "GRANT SELECT ON cronofy.userinfo TO loader",
    ),
    "dlt's own table": (
        ["REVOKE INSERT ON cronofy._dlt_loads FROM loader"],
        "GRANT INSERT ON cronofy._dlt_loads TO loader",
    ),
    "a new column": ([], "ALTER TABLE cronofy.userinfo OWNER TO loader"),
    "USAGE": (
        ["ALTER SCHEMA cronofy OWNER TO dba", "GRANT CREATE ON SCHEMA cronofy TO loader"],
        "GRANT USAGE ON SCHEMA cronofy TO loader",
    ),
    "a check": (
        ["ALTER TABLE cronofy.polls ADD CONSTRAINT ours CHECK (run_id IS NULL) NOT VALID"],
        "ALTER TABLE cronofy.polls DROP CONSTRAINT ours",
    ),
    "a column that must not be null": (
        [
            "ALTER TABLE cronofy.polls ADD COLUMN team text NOT NULL DEFAULT 'ours'",
            "ALTER TABLE cronofy.polls ALTER COLUMN team DROP DEFAULT",
        ],
        "ALTER TABLE cronofy.polls ALTER COLUMN team DROP NOT NULL",
    ),
    "a trigger": (
        [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'frozen'; END$$",
            "CREATE TRIGGER guard BEFORE INSERT ON cronofy.polls FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
        "ALTER TABLE cronofy.polls DISABLE TRIGGER USER",
    ),
    "row-level security": (
        ["ALTER TABLE cronofy.polls ENABLE ROW LEVEL SECURITY"],
        "ALTER TABLE cronofy.polls DISABLE ROW LEVEL SECURITY",
    ),
    "read only": (
        ["ALTER ROLE loader SET default_transaction_read_only = on"],
        "ALTER ROLE loader SET default_transaction_read_only = off",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(("fault", "repair"), FAULTS.values(), ids=FAULTS)
def test_what_a_dba_can_repair_is_kept_until_then(stage: Stage, fault: Sequence[str], repair: str) -> None:
    assert stage.load().exit_code == 0
    hand_over(stage)
    stage.execute(*fault)
    stage.world.is_connected = False
    if not fault:
        stage.world.more = {"tomorrow": 7}
    for _ in range(2):
        refused = stage.load()
        assert (refused.exit_code, refused.stdout) == (1, "")
        (error,) = [line for line in refused.stderr.splitlines() if " ERROR " in line]
        assert [found[1] for found in REPAIR.finditer(error)] == [repair], error
    answered = stage.polls_answered()
    # the second one polls nothing while something is pending; who sees no polls asks for the account again
    assert answered in (4, 6, 8)
    stage.execute(repair)
    loaded = stage.load()
    assert loaded.exit_code == 0, loaded.stderr
    assert "quarantine" not in loaded.stdout + loaded.stderr
    assert stage.execute("SELECT COUNT(*), COUNT(DISTINCT poll_id) FROM cronofy.polls") == [
        (answered + 2,) * 2
    ]
    changes = (
        "SELECT token_key, kind FROM cronofy.profile_changes WHERE kind <> 'first_seen' ORDER BY token_key"
    )
    assert stage.execute(changes) == [(key, "disconnected") for key in KEYS]
    if not fault:
        assert stage.execute("SELECT tomorrow FROM cronofy.userinfo") == [(7,), (7,)]


def test_check_finds_rights_that_are_missing_before_a_load_does(stage: Stage) -> None:
    no_schema = "GRANT CREATE ON DATABASE postgres TO loader"
    stage.execute(no_schema.replace("GRANT", "REVOKE").replace("TO", "FROM"))
    found = stage.check()
    assert (found.exit_code, no_schema in found.stdout) == (1, True)
    stage.execute(no_schema)
    assert stage.check().exit_code == 0
    assert stage.load().exit_code == 0
    hand_over(stage)
    for name in ("SELECT", "INSERT", "DELETE", "dlt's own table", "USAGE", "read only"):
        fault, repair = FAULTS[name]
        assert stage.check().exit_code == 0, name
        stage.execute(*fault)
        found = stage.check()
        assert (found.exit_code, found.stdout.splitlines()[-1]) == (1, f"  {repair}")
        stage.execute(repair)


@pytest.mark.long
def test_a_first_load_that_may_create_no_schema(stage: Stage) -> None:
    stage.execute("REVOKE CREATE ON DATABASE postgres FROM loader")
    refused = stage.load()
    assert refused.exit_code == 1
    found = REPAIR.search(refused.stderr)
    assert found is not None, refused.stderr
    stage.execute(found[1])
    assert stage.load().exit_code == 0
    assert stage.execute("SELECT COUNT(*) FROM cronofy.polls") == [(stage.polls_answered(),)]


@pytest.mark.long
def test_a_column_of_somebody_elses_takes_its_default(stage: Stage) -> None:
    assert stage.load().exit_code == 0
    stage.execute("ALTER TABLE cronofy.polls ADD COLUMN team text NOT NULL DEFAULT 'ours'")
    loaded = stage.load()
    assert loaded.exit_code == 0, loaded.stderr
    assert stage.execute("SELECT team, COUNT(*) FROM cronofy.polls GROUP BY team") == [("ours", 6)]


@pytest.mark.long
def test_a_query_names_the_right_that_is_missing(stage: Stage) -> None:
    assert stage.load().exit_code == 0
    hand_over(stage)
    stage.execute("REVOKE SELECT ON cronofy.polls FROM loader")
    arguments = ("query", "SELECT * FROM cronofy.polls", "--destination", "postgres")
    refused = CliRunner().invoke(cli, arguments, env=stage.environment, catch_exceptions=False)
    assert refused.exit_code == 1
    assert "run GRANT SELECT ON cronofy.polls TO loader; then run again" in refused.stderr
