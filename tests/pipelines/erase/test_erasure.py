"""Erasing one person: nothing of them is left in any table or file, and nobody else loses anything."""

import gzip
import json
import shutil
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
import psycopg2  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from dlt_cronofy.cli.main import cli
from dlt_cronofy.erase.erasure import Erase
from dlt_cronofy.erase.person import ACCOUNT_ID, TOKEN_KEY, Pair, Person, person_of, traces_of
from dlt_cronofy.erase.relations import Relations
from dlt_cronofy.erase.removal import vacuum
from dlt_cronofy.erase.summary import stored_tokens
from dlt_cronofy.load.steps import Loading
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse import duckdb_file
from tests.acceptance.documents import Document, calendar, disconnected, profile, userinfo
from tests.acceptance.place import KilledError, Place, TestClock, killed
from tests.acceptance.server import Reply, ScriptedServer
from tests.pipelines.conftest import Answers
from tests.postgres import credentials, postgres_database
from tests.prepared import prepare

# every value that is hers and nobody else's says so
CANARY = b"canary"
ACCOUNT, TOKEN, EMAIL = "acc_canary_5ba21743", "token-canary-1", "canary.person@example.org"
OTHERS = [f"other-token-{number}" for number in range(5)]
# a token that could not be read at first, two tokens of one account, and one that changed hands
LATE, PAIR, WANDERER = "token-canary-late", ("pair-token-a", "pair-token-b"), "wanderer-token"
FROM, TO = "acc_before_wandering", "acc_after_wandering"


CONTENT = ("userinfo", "account", "profiles", "calendars", "profile_changes", "polls")
# what a view says of one account or token; the others say something of everybody together
VIEWS_OF_ONE = {
    "profile_intervals": "account_id",
    "outages": "account_id",
    "needs_relink": "account_id",
    "connectivity_daily": "account_id",
    "account_health": "account_id",
    "flapping_profiles": "account_id",
    "token_health": "token_key",
}


def her_document(*, up: bool) -> Document:
    calendars = [
        calendar("cal_canary_1", 'Canary "Hobby" – Übung'),
        calendar("cal_canary_2", "Home"),
        calendar("cal_canary_3", "Shared team calendar"),
    ]
    work = profile("pro_canary_1", name=EMAIL, calendars=calendars)
    call = profile("pro_canary_2", name="Canary Calls", service="zoom")
    document = userinfo(ACCOUNT, [work if up else disconnected(work)], [call], email=EMAIL)
    return document | {"name": "Canary Person", "nickname": "Canary bird", "favorites": ["canary yellow"]}


def their_document(key: str, *, up: bool = True) -> Document:
    calendars = [calendar(f"cal_{key}", "Shared team calendar"), calendar(f"cal_{key}_2", f"{key}'s days")]
    work = profile(f"pro_{key}", name=f"{key}@example.com", calendars=calendars)
    return userinfo(f"acc_{key}", [work if up else disconnected(work)], email=f"{key}@example.com")


def set_answers(answers: Answers, *, up: bool, turn: int = 0) -> None:
    answers.by_token = {
        key: their_document(key, up=number % 2 == turn % 2) for number, key in enumerate(OTHERS)
    }
    pair = their_document("the_pair", up=up)
    wanderer = their_document("wanderer") | {"sub": TO if turn else FROM}
    answers.by_token |= {TOKEN: her_document(up=up), PAIR[0]: pair, PAIR[1]: pair, WANDERER: wanderer}
    answers.by_token[LATE] = Reply(401) if turn == 0 else her_document(up=up)


KEYS = (TOKEN, LATE, *PAIR, WANDERER, *OTHERS)


@pytest.fixture(scope="module")
def module_server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Answers()) as server:
        yield server


@pytest.fixture(scope="module")
def loaded(module_server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three loads; the last one is without her and her like, so that erasing moves no clock."""
    place = Place(tmp_path_factory.mktemp("loaded"), module_server.base_url)
    prepare(place.database)
    answers = module_server.script
    assert isinstance(answers, Answers)
    place.write_tokens(KEYS)
    for turn in range(2):
        set_answers(answers, up=turn == 0, turn=turn)
        place.clock.offset = timedelta(days=turn - 4)
        place.load(refresh_views=turn == 1)
    place.write_tokens(OTHERS)
    place.clock.offset = timedelta(0)
    place.load()
    return place


@pytest.fixture
def place(loaded: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of that place."""
    shutil.copytree(loaded.directory, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return Place(tmp_path, loaded.base_url, TestClock())


def erase(place: Place, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        cli,
        ["erase", "--yes", *arguments],
        env=place.environment(**environment),
        catch_exceptions=False,
    )


def erased(place: Place, *arguments: str, status: int = 0, **environment: str) -> dict[str, Any]:
    result = erase(place, "--json", *arguments, **environment)
    assert result.exit_code == status, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def traces(directory: Path, allowed: tuple[str, ...] = ("tokens.csv",)) -> list[str]:
    """Files below the directory that hold a canary, read by nobody's code but this."""
    return [
        str(path.relative_to(directory))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in allowed and CANARY in contents(path).lower()
    ]


def contents(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".parquet" and raw[-4:] == b"PAR1":
        return raw + repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
    if path.suffix == ".duckdb":
        return raw + b"".join(stored(path))
    # a gzip file that was cut off too
    return zlib.decompressobj(31).decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def stored(database: Path) -> Iterator[bytes]:
    """Every row of every table."""
    with closing(duckdb.connect(str(database), read_only=True)) as connection:
        for (name,) in connection.execute(
            "SELECT '\"' || schema_name || '\".\"' || table_name || '\"' FROM duckdb_tables()"
        ).fetchall():
            yield repr(connection.execute(f"SELECT * FROM {name}").fetchall()).encode()


def execute(database: Path, sql: str) -> None:
    with closing(duckdb.connect(str(database))) as connection:
        connection.execute(sql)


def everybody_else(place: Place) -> dict[str, list[str]]:
    """The rows and the view rows of all others."""
    found = {
        table: sorted(repr(row) for row in place.rows(table) if b"canary" not in repr(row).lower().encode())
        for table in CONTENT
    }
    for view, key in VIEWS_OF_ONE.items():
        found[view] = sorted(repr(row) for row in place.rows(view) if "canary" not in row[key])
    return found


def test_a_person_is_gone_and_nobody_else_loses_anything(place: Place) -> None:
    assert "warehouse.duckdb" in traces(place.directory)
    before = everybody_else(place)
    assert all(before[name] for name in before if name != "flapping_profiles")
    hers = {
        table: sum(
            row["account_id"] == ACCOUNT or row.get("token_key") in (TOKEN, LATE) for row in place.rows(table)
        )
        for table in (*CONTENT, "coverage", "token_status")
    }
    # polls of the late token that failed when nobody knew whose it was
    assert any(row["account_id"] is None and row["token_key"] == LATE for row in place.rows("polls"))
    place.database.chmod(0o640)

    result = erase(place, "--account", EMAIL.upper())
    assert result.exit_code == 0, result.output
    assert traces(place.directory) == []
    assert everybody_else(place) == before
    assert stat.S_IMODE(place.database.stat().st_mode) == 0o640
    assert [path.name for path in place.directory.glob("warehouse*")] == ["warehouse.duckdb"]
    for view in PUBLIC_VIEWS:
        place.rows(view)

    assert f"Erased account {ACCOUNT} from warehouse.duckdb, dataset cronofy" in result.stdout
    assert " · ".join(f"{table} {count}" for table, count in sorted(hers.items())) in result.stdout
    assert "rewritten warehouse.duckdb" in result.stdout
    (rows,) = place.query("SELECT SUM(estimated_size) FROM duckdb_tables()")[0]
    assert f"and {rows:,} rows for " in result.stdout
    assert " values: 0 found" in result.stdout
    assert "shared with others, not searched: 1 value (calendar_name 1)" in result.stdout
    assert "too short to tell, not searched: 1 value" in result.stdout
    said = (result.stdout + result.stderr).replace(ACCOUNT, "")
    assert "canary" not in said.lower(), said


@pytest.mark.long
def test_text_of_rows_that_somebody_deleted_goes_and_somebody_unknown_changes_nothing(place: Place) -> None:
    """DuckDB keeps the text of deleted rows in free blocks of its file."""
    for table in (*CONTENT, "coverage"):
        execute(place.database, f"DELETE FROM cronofy.{table} WHERE account_id = '{ACCOUNT}'")
    for table in (*CONTENT, "token_status"):
        execute(place.database, f"DELETE FROM cronofy.{table} WHERE token_key LIKE '%canary%'")
    assert ACCOUNT.encode() in place.database.read_bytes()
    for arguments in (("--account", ACCOUNT), ("--account", EMAIL), ("--token", "nobodys-token")):
        result = erase(place, *arguments)
        assert result.exit_code == 1
        assert f"{arguments[0][2:]} {arguments[1]} is in no table" in result.stderr
        assert "0 found" in result.stdout
        if ACCOUNT in arguments:
            assert traces(place.directory) == []
            before = place.database.read_bytes()
    assert place.database.read_bytes() == before


def test_killed_between_the_rows_and_the_evidence_it_is_repeated(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Erase, "_rebuild", killed)
        with pytest.raises(KilledError):
            erase(place, "--account", ACCOUNT)
    assert place.differences()
    assert "is in no table" in erase(place, "--account", ACCOUNT).stderr
    assert place.differences() == []


@pytest.mark.long
def test_only_this_account_of_a_token_that_changed_hands(place: Place) -> None:
    execute(
        place.database,
        "INSERT INTO cronofy.polls (poll_id, run_id, token_key, endpoint, outcome, _dlt_load_id)"
        f" VALUES ('failed', 'run', '{WANDERER}', 'userinfo', 'timeout', '1')",
    )
    before = {table: place.rows(table) for table in CONTENT}
    answer = erased(place, "--account", FROM)
    # current state says whose the token is now; history says whose it was
    assert set(answer["rows"]) == {"polls", "profile_changes", "coverage"}
    for table in CONTENT:
        assert place.rows(table) == [row for row in before[table] if row["account_id"] != FROM]
    polls = [row for row in place.rows("polls") if row["token_key"] == WANDERER]
    assert {row["account_id"] for row in polls} == {TO, None}
    assert answer["in_token_store"] == []


@pytest.mark.long
def test_a_token_with_its_account(place: Place) -> None:
    place.write_tokens(KEYS)
    answer = erased(place, "--token", WANDERER)
    for table in CONTENT:
        assert not [row for row in place.rows(table) if row["account_id"] in (FROM, TO)]
    assert answer["in_token_store"] == [WANDERER]
    assert answer["shared_accounts"] == 0


@pytest.mark.long
def test_a_token_whose_account_has_another_one(place: Place) -> None:
    first = {table: [r for r in place.rows(table) if r["token_key"] == PAIR[0]] for table in CONTENT}
    other = {table: [r for r in place.rows(table) if r["token_key"] == PAIR[1]] for table in CONTENT}
    answer = erased(place, "--token", PAIR[0])
    assert answer["rows"] == {table: len(rows) for table, rows in first.items() if rows} | {"token_status": 1}
    for table in CONTENT:
        assert [row for row in place.rows(table) if "pair" in row["token_key"]] == other[table]
    assert answer["shared_accounts"] == 1
    # the other token brings nothing of the first one back
    erased(place, "--account", "acc_the_pair")
    assert not [row for table in CONTENT for row in place.rows(table) if "pair" in row["token_key"]]


@pytest.mark.long
def test_tables_that_others_put_beside_ours(place: Place) -> None:
    """They are covered by the columns they have; what is found in the user's own schemas is named."""
    execute(
        place.database,
        f"""
        CREATE TABLE cronofy.tiers (account_id VARCHAR, tier VARCHAR);
        INSERT INTO cronofy.tiers VALUES ('{ACCOUNT}', 'gold canary'), ('x', 'lead');
        CREATE TABLE cronofy.owners (token_key VARCHAR, owner VARCHAR);
        INSERT INTO cronofy.owners VALUES ('{LATE}', 'canary'), ('x', 'y');
        CREATE TABLE cronofy.numbers AS SELECT 1 AS account_id;
        CREATE SCHEMA cronofy_staging_0badcafe;
        CREATE TABLE cronofy_staging_0badcafe.polls AS SELECT * FROM cronofy.polls;
        CREATE SCHEMA crm;
        CREATE TABLE crm.mails AS SELECT '<{EMAIL}>' AS sender, ['{EMAIL}'] AS receivers, 1 AS number;
        """,
    )
    result = erase(place, "--account", ACCOUNT)
    assert result.exit_code == 1
    assert " · tiers 1" in result.stdout
    assert " · owners 1 · " in result.stdout
    assert [line for line in result.stdout.splitlines() if "FOUND" in line] == [
        "FOUND in   crm.mails (1 row)",
        "FOUND in   warehouse.duckdb",
    ]
    assert "something is left" in result.stderr
    assert EMAIL not in result.output
    execute(place.database, "DROP TABLE crm.mails")
    assert [row for rows in stored(place.database) for row in [rows] if CANARY in row.lower()] == []
    # somebody else may be loading through it right now
    assert place.query("SELECT COUNT(*) FROM cronofy_staging_0badcafe.polls") == [(place.counts()["polls"],)]


@pytest.mark.long
def test_a_file_that_cannot_be_copied(place: Place) -> None:
    """A table that refers to itself cannot be filled in one go, so the file stays and its rows go."""
    execute(
        place.database, "CREATE TABLE main.tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES main.tree)"
    )
    execute(place.database, "INSERT INTO main.tree VALUES (1, NULL)")
    execute(place.database, "INSERT INTO main.tree VALUES (2, 1)")
    answer = erased(place, "--account", ACCOUNT, status=1)
    assert "free blocks" in answer["problems"][0]
    assert not [row for table in CONTENT for row in place.rows(table) if row["account_id"] == ACCOUNT]
    assert place.query("SELECT COUNT(*) FROM main.tree") == [(2,)]
    assert [path.name for path in place.directory.glob("warehouse*")] == ["warehouse.duckdb"]


@pytest.fixture
def answers(module_server: ScriptedServer) -> Answers:
    assert isinstance(module_server.script, Answers)
    set_answers(module_server.script, up=True, turn=3)
    return module_server.script


def leave_pending(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A load that was killed between normalizing and loading."""
    with monkeypatch.context() as patched:
        patched.setattr(Loading, "_load_package", killed_after_normalizing)
        with pytest.raises(KilledError):
            place.load()
    packages = sorted((place.working_dir / "load" / "normalized").glob("*"))
    assert packages
    return packages


def killed_after_normalizing(loading: Loading) -> None:
    loading.pipeline.normalize()
    raise KilledError


def test_what_is_pending_is_loaded_and_then_erased_and_the_quarantine_is_cleaned(
    place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_tokens([TOKEN, *OTHERS])
    package = leave_pending(place, monkeypatch)[-1]
    newest = max(row["run_id"] for row in place.rows("polls"))
    quarantine = place.working_dir / "quarantine" / "1700000000.1"
    shutil.copytree(package.parent, quarantine.parent)
    files = {
        quarantine / "polls.1.jsonl": f'{{"account_id": "{ACCOUNT}"}}'.encode(),
        quarantine / "polls.2.insert_values.gz": gzip.compress(f"('x','{TOKEN}')".encode()),
        quarantine / "polls.3.csv.gz": gzip.compress(TOKEN.encode())[:-9],
        quarantine / "polls.4.parquet": b"PAR1 nonsense PAR?",
        place.working_dir / "load" / "loaded" / "1700000000.2" / "polls.parquet": EMAIL.encode(),
        place.working_dir / "load" / "new" / "1700000000.3" / "polls.parquet": EMAIL.encode(),
        place.working_dir / "normalize" / "a1b2c3" / "1700000000.4" / "polls.jsonl": EMAIL.encode(),
        place.working_dir / "trace.pickle": b"\x80\x04" + EMAIL.encode(),
        place.working_dir.parent / "cronofy-refreshing-12ab.jsonl": json.dumps({"token_key": TOKEN}).encode(),
    }
    kept = quarantine / "polls.5.jsonl"
    for path, content in {**files, kept: b'{"account_id": "acc_x"}'}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    parquet = [path for path in quarantine.parent.rglob("polls.*.parquet") if path not in files]
    rows = sum(pq.read_metadata(path).num_rows for path in parquet)
    assert len(traces(place.data_dir)) >= len(files) - 1

    answer = erased(place, "--account", ACCOUNT)
    assert traces(place.directory) == []
    assert answer["problems"] == []
    assert kept.is_file()
    assert sum(pq.read_metadata(path).num_rows for path in parquet) == rows - 2
    assert answer["packages_deleted"] >= 3
    assert answer["staging_rows"] > 0
    # what the others had waiting is loaded
    assert {row["token_key"] for row in place.rows("polls") if row["run_id"] > newest} == {*OTHERS}
    assert sorted(Path(name).name for name in answer["files_deleted"]) == [
        *("polls.1.jsonl", "polls.2.insert_values.gz", "polls.3.csv.gz", "polls.4.parquet", "trace.pickle"),
    ]


@pytest.mark.long
def test_the_person_stays_away_unless_the_store_keeps_the_token(place: Place, answers: Answers) -> None:
    place.write_tokens([TOKEN, LATE, *OTHERS])
    answer = erased(place, "--account", ACCOUNT)
    assert answer["in_token_store"] == [TOKEN, LATE]
    place.write_tokens(OTHERS)
    place.load(refresh_views=True)
    assert traces(place.directory) == []
    place.write_tokens([TOKEN, *OTHERS])
    place.load(refresh_views=True)
    kinds = place.query(f"SELECT DISTINCT kind FROM profile_changes WHERE account_id = '{ACCOUNT}'")
    assert kinds == [("first_seen",)]


def test_keys_that_are_addresses_are_not_shown() -> None:
    assert stored_tokens(["a"]) == "token a"
    assert stored_tokens(["a", "b", EMAIL]) == "tokens a, b and 1 token whose key is an e-mail address"
    assert stored_tokens([EMAIL]) == "1 token whose key is an e-mail address"


def person(accounts: str, tokens: str, shared_accounts: str = "") -> Person:
    """A letter is a key."""
    return Person(frozenset(accounts), frozenset(tokens), frozenset(shared_accounts))


# who is asked for, what rows say of accounts and tokens, and whose rows go
SELECTIONS: dict[str, tuple[str, set[Pair], Person]] = {
    "an account": (ACCOUNT_ID, {("a", "k"), (None, "k"), ("a", "j")}, person("a", "kj")),
    "an account without a token": (ACCOUNT_ID, {("a", None)}, person("a", "")),
    "an account nobody knows": (ACCOUNT_ID, set(), person("a", "")),
    "a token that changed hands": (ACCOUNT_ID, {("a", "k"), ("b", "k"), (None, "k")}, person("a", "")),
    "one of two that changed hands": (ACCOUNT_ID, {("a", "k"), ("a", "j"), ("b", "j")}, person("a", "k")),
    "a token": (TOKEN_KEY, {("a", "k"), (None, "k")}, person("a", "k")),
    "a token of two accounts": (TOKEN_KEY, {("a", "k"), ("b", "k")}, person("ab", "k")),
    "one of two tokens": (TOKEN_KEY, {("a", "k"), ("a", "j")}, person("", "k", "a")),
    "a token nobody could read": (TOKEN_KEY, {(None, "k"), (None, "j")}, person("", "k")),
}


@pytest.mark.parametrize("case", SELECTIONS)
def test_whose_rows_go(case: str) -> None:
    column, pairs, expected = SELECTIONS[case]
    assert person_of(column, "a" if column == ACCOUNT_ID else "k", pairs) == expected


def test_what_is_searched_for() -> None:
    values = {"a@b.cd": "email", "Home": "calendar_name", "Team calendar": "calendar_name", 'Ü "x"': "name"}
    found = traces_of(values, {"Team calendar"})
    assert found.values == {"a@b.cd", 'Ü "x"'}
    assert found.left_out == {"calendar_name": 1, "too short": 1}
    assert {"a@b.cd", "a%40b.cd", 'Ü "x"', 'Ü \\"x\\"', '\\u00dc \\"x\\"'} <= set(found.texts())


# options, and what the last line on stderr must say
BAD_USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "nobody": (("--yes",), "--account ID or --token KEY"),
    "both": (("--yes", "--account", "a", "--token", "b"), "--account ID or --token KEY"),
    "an empty one": (("--yes", "--account", ""), "--account ID or --token KEY"),
    "nobody to ask": (("--account", ACCOUNT), "add --yes"),
}


@pytest.mark.parametrize("case", BAD_USAGE)
def test_bad_usage_is_2_and_changes_nothing(case: str, place: Place) -> None:
    arguments, expected = BAD_USAGE[case]
    before = place.database.read_bytes()
    result = CliRunner().invoke(cli, ["erase", *arguments], env=place.environment(), catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr.strip().splitlines()[-1]
    assert place.database.read_bytes() == before


def test_nothing_loaded_yet_is_2(place: Place) -> None:
    place.database.unlink()
    result = erase(place, "--account", ACCOUNT)
    assert result.exit_code == 2
    assert "holds no data yet" in result.stderr
    assert not place.database.exists()


HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@contextmanager
def written_to(file: Path) -> Iterator[None]:
    """The file open in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()


def test_a_file_that_another_process_writes_to(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_file, "READ_WAIT_SECONDS", 0.2)
    with written_to(place.database):
        before = {path: path.read_bytes() for path in place.directory.rglob("*") if path.is_file()}
        result = erase(place, "--account", ACCOUNT)
    assert result.exit_code == 1
    assert "is open in another process (PID " in result.stderr
    after = {path: path.read_bytes() for path in place.directory.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.suffix != ".lock"} == {
        path: data for path, data in before.items() if path.suffix != ".lock"
    }


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_database() as uri:
        yield credentials(uri)


def test_postgres(
    postgres: str,
    answers: Answers,
    module_server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, module_server.base_url)
    place.write_tokens(KEYS)

    def command(*arguments: str) -> Result:
        environment = place.environment(DESTINATION__POSTGRES__CREDENTIALS=postgres)
        whole = [*arguments, "--destination", "postgres"]
        return CliRunner().invoke(cli, whole, env=environment, catch_exceptions=False)

    set_answers(answers, up=False, turn=1)
    done = command("load", "--every", "0s")
    assert done.exit_code == 0, done.output
    with closing(psycopg2.connect(postgres)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE cronofy.tiers AS SELECT '{ACCOUNT}' AS account_id UNION SELECT 'x'")

        def content() -> dict[str, list[str]]:
            found = {}
            for relation in (*CONTENT, *VIEWS_OF_ONE):
                cursor.execute(f"SELECT to_jsonb(t) FROM cronofy.{relation} t")
                rows = [json.dumps(row) for (row,) in cursor.fetchall()]
                found[relation] = sorted(row for row in rows if "canary" not in row.lower())
            return found

        before = content()
        nodes = "SELECT relname, relfilenode FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'"
        cursor.execute(nodes, ([*CONTENT],))
        old_nodes = set(cursor.fetchall())
        done = command("erase", "--account", ACCOUNT, "--yes", "--json")
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        assert set(answer["rows"]) == {*CONTENT, "coverage", "token_status", "tiers"}
        assert "write-ahead log" in answer["notes"][0]
        after = content()
        # erasing moves the end of what is known, where she was polled last
        assert {name: after[name] for name in CONTENT} == {name: before[name] for name in CONTENT}
        assert {name: len(after[name]) for name in after} == {name: len(before[name]) for name in before}
        cursor.execute(nodes, ([*CONTENT],))
        assert not old_nodes & set(cursor.fetchall())
        cursor.execute("SELECT schemaname, relname FROM pg_stat_user_tables")
        for schema, table in cursor.fetchall():
            cursor.execute(
                f'SELECT COUNT(*) FROM "{schema}"."{table}" t WHERE t::text ILIKE %s', ("%canary%",)
            )
            assert cursor.fetchone() == (0,), (schema, table)
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stats WHERE schemaname = 'cronofy' AND most_common_vals::text ILIKE %s",
            ("%canary%",),
        )
        assert cursor.fetchone() == (0,)
    assert traces(tmp_path) == []
    assert command("load", "--every", "0s", "--max-requests", "1").exit_code == 0


def test_postgres_says_what_it_did_not_write_anew(postgres: str, tmp_path: Path) -> None:
    target = dlt.destinations.postgres(postgres)
    pipeline = dlt.pipeline("p", destination=target, dataset_name="beside", pipelines_dir=str(tmp_path))
    with closing(psycopg2.connect(postgres)) as owner, closing(psycopg2.connect(postgres)) as reader:
        owner.autocommit = True
        cursor = owner.cursor()
        cursor.execute("CREATE SCHEMA beside; CREATE TABLE beside.polls AS SELECT '1' AS token_key")
        reader.set_session(isolation_level="REPEATABLE READ")
        reader.cursor().execute("SELECT 1 FROM pg_class")
        cursor.execute("DELETE FROM beside.polls")
        with pipeline.sql_client() as client:
            relations = Relations(client).all
            assert ["open transaction" in problem for problem in vacuum(client, relations)] == [True]
            reader.rollback()
            assert vacuum(client, relations) == []
            cursor.execute("CREATE ROLE somebody; GRANT ALL ON SCHEMA beside TO somebody")
            client.execute_sql("SET ROLE somebody")
            assert ["needs its owner" in problem for problem in vacuum(client, relations)] == [True]


def test_a_postgres_out_of_reach_is_one_line(place: Place) -> None:
    result = erase(
        place,
        *("--account", ACCOUNT, "--destination", "postgres"),
        DESTINATION__POSTGRES__CREDENTIALS="postgresql://user:hidden@localhost:1/nothing",
    )
    assert result.exit_code == 1
    assert "Connection refused" in result.stderr
    assert "hidden" not in result.output
