"""A DuckDB file replaced by a copy without some rows: all else survives, and a failure changes nothing."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from dlt.destinations.exceptions import DatabaseTransientException

from dlt_cronofy.warehouse import duckdb_copy
from dlt_cronofy.warehouse.duckdb_copy import CannotCopyError, rewrite_without
from dlt_cronofy.warehouse.duckdb_file import PRAGMAS, SETTINGS, copy_of, log_of, tidy

HERS, OTHERS = 100, 300
DOOMED = {("cronofy", "polls"): ("account_id = ?", ["acc_canary"])}
CONTENT = f"""
CREATE SCHEMA cronofy;
CREATE TABLE cronofy.polls AS
    SELECT 'acc_canary' AS account_id, range AS n FROM range({HERS})
    UNION ALL SELECT nullif('acc_' || range, 'acc_0'), range FROM range({OTHERS});
CREATE SCHEMA crm;
CREATE TYPE crm.mood AS ENUM ('calm', 'busy');
CREATE SEQUENCE crm.numbers;
CREATE TABLE crm.people (
    id INTEGER PRIMARY KEY DEFAULT nextval('crm.numbers'), mood crm.mood,
    doubled INTEGER GENERATED ALWAYS AS (id * 2), known VARCHAR DEFAULT 'since "then"'
);
CREATE TABLE crm.notes (person INTEGER REFERENCES crm.people (id), text VARCHAR UNIQUE, tags VARCHAR[]);
CREATE TABLE crm.answers (note VARCHAR REFERENCES crm.notes (text), person INTEGER REFERENCES crm.people);
INSERT INTO crm.people (mood) VALUES ('calm'), (NULL), ('busy');
INSERT INTO crm.notes VALUES (1, 'first', ['a', 'b']), (3, 'third', NULL);
INSERT INTO crm.answers VALUES ('first', 2);
CREATE INDEX notes_by_person ON crm.notes (person);
CREATE MACRO crm.twice(x) AS x * 2;
COMMENT ON TABLE crm.notes IS 'what we know';
COMMENT ON COLUMN crm.notes.text IS 'what was said';
CREATE VIEW crm.overview AS
    SELECT p.id, count(*) AS polls FROM crm.people p, warehouse.cronofy.polls GROUP BY ALL;
CREATE TABLE main.plain AS SELECT 42 AS answer;
CREATE VIEW main.accounts AS SELECT DISTINCT account_id FROM cronofy.polls;
"""
SURVIVE = (
    "SELECT * FROM crm.people",
    "SELECT * FROM crm.notes",
    "SELECT * FROM crm.answers",
    "SELECT * FROM main.plain",
    "SELECT crm.twice(21)",
    "SELECT table_name, comment FROM duckdb_tables()",
    "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal",
    "SELECT type, name, sql FROM sqlite_master",
    "SELECT * FROM cronofy.polls WHERE account_id IS DISTINCT FROM 'acc_canary'",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("template") / "warehouse.duckdb"
    execute(path, CONTENT)
    return path.read_bytes()


@pytest.fixture
def file(template: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(template)
    return path


def execute(file: Path, sql: str) -> None:
    with closing(duckdb.connect(str(file))) as connection:
        connection.execute(sql)


def query(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return sorted(connection.execute(sql).fetchall(), key=repr)


def polls(file: Path) -> int:
    return int(query(file, "SELECT count(*) FROM cronofy.polls")[0][0])


@contextmanager
def held(file: Path, mode: str) -> Iterator[None]:
    """The file open in another process."""
    hold = (
        "import duckdb, sys; held = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'r');"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(file), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.kill()


def test_the_rows_are_gone_without_a_byte_and_all_else_survives(file: Path) -> None:
    before = {sql: query(file, sql) for sql in SURVIVE}
    assert b"acc_canary" in file.read_bytes()
    file.chmod(0o640)
    rewrite_without(file, DOOMED)
    assert {sql: query(file, sql) for sql in SURVIVE} == before
    assert (polls(file), query(file, "FROM crm.overview")) == (OTHERS, [(n, OTHERS) for n in (1, 2, 3)])
    assert ("acc_canary",) not in query(file, "FROM main.accounts")
    assert b"acc_canary" not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(file.parent.iterdir()) == [file]
    # what makes new rows works on
    execute(file, "INSERT INTO crm.people (mood) VALUES ('calm')")
    assert query(file, "SELECT id, doubled FROM crm.people WHERE id > 3") == [(4, 8)]
    with pytest.raises(duckdb.ConstraintException):
        execute(file, "INSERT INTO crm.notes VALUES (9, 'nobody', NULL)")


def test_what_is_only_in_the_log_is_copied_too(file: Path) -> None:
    with closing(duckdb.connect(str(file), config=dict(SETTINGS))) as connection:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("INSERT INTO cronofy.polls VALUES ('acc_canary', 1), ('acc_late', 1)")
    assert log_of(file).exists()
    rewrite_without(file, DOOMED)
    assert (polls(file), list(file.parent.iterdir())) == (OTHERS + 1, [file])
    assert b"acc_canary" not in file.read_bytes()


def test_a_link_stays_one(file: Path) -> None:
    link = file.with_name("link.duckdb")
    link.symlink_to(file)
    rewrite_without(link, DOOMED)
    assert (link.is_symlink(), polls(file)) == (True, OTHERS)


def refers_to_itself(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    execute(file, "CREATE TABLE main.tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES main.tree)")
    execute(file, "INSERT INTO main.tree VALUES (1, NULL)")
    execute(file, "INSERT INTO main.tree VALUES (2, 1)")
    return "ConstraintException"


def is_mounted(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(duckdb_copy, "is_mount", lambda path: path == file)
    return "mount"


def loses_comments(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a release of DuckDB might."""
    monkeypatch.setitem(duckdb_copy.CONTENTS, "tables", "table_name, database_name")
    return "tables"


@pytest.mark.parametrize("obstacle", [refers_to_itself, is_mounted, loses_comments])
def test_what_cannot_be_copied_is_named_and_the_file_is_untouched(
    obstacle: Callable[[Path, pytest.MonkeyPatch], str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = obstacle(file, monkeypatch)
    before = file.read_bytes()
    with pytest.raises(CannotCopyError, match=expected):
        rewrite_without(file, DOOMED)
    assert (file.read_bytes(), list(file.parent.iterdir())) == (before, [file])


def test_readers_do_not_matter_and_writers_do(file: Path) -> None:
    before = file.read_bytes()
    with held(file, "w"), pytest.raises(DatabaseTransientException):
        rewrite_without(file, DOOMED)
    assert file.read_bytes() == before
    with held(file, "r"):
        rewrite_without(file, DOOMED)
    assert polls(file) == OTHERS


REWRITE = (
    "import sys; from pathlib import Path; from dlt_cronofy.warehouse.duckdb_copy import rewrite_without;"
    "print('ready', flush=True); sys.stdin.readline();"
    f"rewrite_without(Path(sys.argv[1]), {DOOMED!r})"
)


def in_the_middle(file: Path, inode: int) -> bool:
    return copy_of(file).exists()


def copying(file: Path, inode: int) -> bool:
    return copy_of(file).exists() and copy_of(file).stat().st_size > 1_000_000


def replaced(file: Path, inode: int) -> bool:
    return file.stat().st_ino != inode


@pytest.mark.sampled(1)
@pytest.mark.parametrize("instant", [in_the_middle, copying, replaced])
def test_a_kill_leaves_the_old_or_the_new_file(instant: Callable[[Path, int], bool], file: Path) -> None:
    execute(file, "CREATE TABLE main.bulk AS SELECT md5(i::VARCHAR) AS text FROM range(100000) r(i)")
    old = file.stat().st_ino
    kill_rewriting(file, instant)
    is_new = file.stat().st_ino != old
    assert is_new or instant is not replaced
    assert not log_of(file).exists()
    assert polls(file) == OTHERS + (0 if is_new else HERS)
    assert query(file, "SELECT count(DISTINCT text) FROM main.bulk") == [(100000,)]
    tidy(file)
    assert list(file.parent.iterdir()) == [file]
    rewrite_without(file, DOOMED)
    assert b"acc_canary" not in file.read_bytes()


def kill_rewriting(file: Path, instant: Callable[[Path, int], bool]) -> None:
    inode = file.stat().st_ino
    with subprocess.Popen(
        [sys.executable, "-c", REWRITE, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not instant(file, inode):
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(Random(instant.__name__).uniform(0, 0.005))
        process.kill()
    assert process.returncode in (-signal.SIGKILL, 0)
