"""Packages of a killed load are loaded into the warehouse they were polled for, and into no other."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
import psycopg2  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from pipelines.erase import Erase, Erased, Findings
from pipelines.load import Load, LoadOptions, LoadResult
from pipelines.person import Person, Traces
from pipelines.warehouse import open_pipeline
from pipelines.working_folders import LOCK, OWNER, WorkingFolder
from sources.cronofy.settings import PollingSettings
from sources.cronofy.tokens import read_tokens
from tests.acceptance.documents import disconnected, profile, userinfo
from tests.acceptance.place import Place

from .conftest import Answers
from .test_pending import KilledError, killed
from .writing import Postgres, postgres_for_writers

LEFT = "package(s) in {} are not loaded: "
PERSON, PERSONS, OTHERS = "acc_one", "token-of-one", "token-of-two"
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, 2); print(flush=True); sys.stdin.read()"


@contextmanager
def in_use(folder: WorkingFolder) -> Iterator[None]:
    """As by a load in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.place / LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        yield
        holder.kill()


@dataclass
class Loads:
    """Loads of one user on one machine, into any warehouse and from any working folder."""

    place: Place
    answers: Answers

    @property
    def root(self) -> Path:
        """dlt's own folder for working files."""
        return self.place.data_dir / "pipelines"

    def file(self, name: str) -> str:
        """A DuckDB file of this place."""
        return str(self.place.directory / f"{name}.duckdb")

    def pipeline(self, warehouse: str) -> dlt.Pipeline:
        """As a command opens it: the working folder is the target's, or the configured one."""
        kind = "postgres" if warehouse.startswith("postgresql:") else "duckdb"
        return open_pipeline(kind, credentials=warehouse)

    def folder(self, warehouse: str) -> WorkingFolder:
        """Where loads into that warehouse work at present."""
        return WorkingFolder(Path(self.pipeline(warehouse).pipelines_dir))

    def load(
        self,
        warehouse: str,
        *,
        up: bool = True,
        hours_ago: float = 0,
        tokens_of: Sequence[str] = (PERSONS, OTHERS),
    ) -> LoadResult:
        """One load of everybody."""
        for token in (PERSONS, OTHERS):
            work = profile("pro_1")
            account = f"acc_{token.rpartition('-')[2]}"
            self.answers.by_token[token] = userinfo(account, [work if up else disconnected(work)])
        self.place.clock.offset = timedelta(hours=-hours_ago)
        self.place.write_tokens(tokens_of)
        settings = PollingSettings(
            base_url=self.place.base_url, requests_per_second=1e6, requests_per_minute=1e6, max_attempts=1
        )
        tokens = read_tokens(tokens_file=str(self.place.tokens_file))
        options = LoadOptions(every=timedelta(0), refresh_views=False)
        return Load(self.pipeline(warehouse), settings, tokens, options, self.place.clock).run()

    def leave_pending(self, warehouse: str, *, first: bool = True) -> WorkingFolder:
        """A load, and one that sees everybody disconnected and is killed before that is loaded."""
        if first:
            self.load(warehouse, hours_ago=3)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(dlt.Pipeline, "load", killed)
            with pytest.raises(KilledError):
                self.load(warehouse, up=False, hours_ago=2)
        folder = self.folder(warehouse)
        assert len(folder.pending()) == 2
        return folder

    def polls(self, warehouse: str) -> int:
        """How many polls are in a warehouse."""
        return int(self._ask(warehouse, "SELECT COUNT(*) FROM cronofy.polls")[0][0])

    def kinds(self, warehouse: str) -> list[str]:
        """What happened to the first account's profile, by the warehouse."""
        rows = self._ask(
            warehouse,
            f"SELECT kind FROM cronofy.profile_changes WHERE account_id = '{PERSON}' ORDER BY observed_at",
        )
        return [kind for (kind,) in rows]

    def _ask(self, warehouse: str, sql: str) -> list[tuple[Any, ...]]:
        if not warehouse.startswith("postgresql:"):
            with duckdb.connect(warehouse, read_only=True) as connection:
                return connection.execute(sql).fetchall()
        with closing(psycopg2.connect(warehouse)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

    def erase(self, warehouse: str, status: int) -> dict[str, Any]:
        """The command, for the first account."""
        arguments = ("erase", "--account", PERSON, "--yes", "--json")
        environment = {
            "DESTINATION__DUCKDB__CREDENTIALS": warehouse,
            "SOURCES__CRONOFY__TOKENS_FILE": str(self.place.tokens_file),
        }
        done = CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)
        assert done.exit_code == status, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture
def loads(place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Loads:
    monkeypatch.delenv("PIPELINES_DIR", raising=False)
    return Loads(place, answers)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_for_writers() as server:
        yield server


@pytest.mark.parametrize("configured", [False, True], ids=["own folders", "one configured folder"])
def test_packages_never_cross_two_files(
    configured: bool, loads: Loads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if configured:
        monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "configured"))
    _never_cross(loads, loads.file("prod"), loads.file("test"))
    assert "are not loaded" not in caplog.text


def test_packages_never_cross_two_databases(
    loads: Loads, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "configured"))
    with closing(psycopg2.connect(postgres.credentials)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE test")
    test = postgres.credentials.replace("/postgres?", "/test?")
    _never_cross(loads, postgres.credentials, test)


def _never_cross(loads: Loads, prod: str, test: str) -> None:
    """Prod is killed, test is loaded from the same place, and prod goes on."""
    left = loads.leave_pending(prod)
    packages = left.pending()
    result = loads.load(test, hours_ago=1)
    assert (result.finished_packages, loads.polls(test), loads.kinds(test)) == ([], 4, ["first_seen"])
    assert left.pending() == packages
    again = loads.load(prod)
    assert len(again.finished_packages) == 2
    assert (again.quarantined_packages, left.pending()) == ([], [])
    assert loads.kinds(prod) == ["first_seen", "disconnected", "connected"]
    loads.load(test, up=False)
    assert loads.kinds(test) == ["first_seen", "disconnected"]


def test_what_waits_under_another_configuration_is_finished(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "earlier"))
    left = loads.leave_pending(loads.file("prod"))
    monkeypatch.delenv("PIPELINES_DIR")
    result = loads.load(loads.file("prod"))
    assert len(result.finished_packages) == 2
    assert left.pending() == []
    assert loads.kinds(loads.file("prod")) == ["first_seen", "disconnected", "connected"]


def older_release(loads: Loads, folder: WorkingFolder) -> WorkingFolder:
    """The folder as 0.2 named it, after the folder one stood in; nothing in it says whose it is."""
    (folder.place / OWNER).unlink()
    return WorkingFolder(Path(shutil.move(folder.place, loads.root / "cronofy-0a1b2c3d")))


def test_what_an_older_release_left_is_finished_where_its_loads_went(
    loads: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    loads.load(loads.file("prod"), hours_ago=4)
    left = older_release(loads, loads.leave_pending(loads.file("prod"), first=False))
    loads.load(loads.file("test"))
    assert LEFT.format(left.working_dir) + "it is not known which warehouse they are for" in caplog.text
    assert len(left.pending()) == 2
    caplog.clear()
    result = loads.load(loads.file("prod"))
    assert len(result.finished_packages) == 2
    assert "are not loaded" not in caplog.text
    assert loads.kinds(loads.file("prod")) == ["first_seen", "disconnected", "connected"]


def test_what_comes_too_late_is_named_and_left(loads: Loads, caplog: pytest.LogCaptureFixture) -> None:
    """It may be older than what is known by now, or another application's: only its own load can tell."""
    left = loads.leave_pending(loads.file("prod"))
    aside = shutil.move(left.place, loads.place.directory / "aside")
    loads.load(loads.file("prod"), hours_ago=1)
    late = WorkingFolder(Path(shutil.move(aside, loads.root / "cronofy-2a1b2c3d")))
    result = loads.load(loads.file("prod"))
    assert (result.finished_packages, result.quarantined_packages) == ([], [])
    assert "newer polls were loaded meanwhile" in caplog.text
    assert len(late.pending()) == 2
    assert loads.kinds(loads.file("prod")) == ["first_seen"]
    assert loads.polls(loads.file("prod")) == 4 + 2 + 2


def test_what_cannot_be_finished_is_named(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays, and the load goes on."""
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "earlier"))
    left = loads.leave_pending(loads.file("prod"))
    monkeypatch.delenv("PIPELINES_DIR")

    def load(warehouse: str, why: str) -> None:
        caplog.clear()
        result = loads.load(warehouse)
        assert (result.finished_packages, result.quarantined_packages) == ([], [])
        assert why in caplog.text
        assert str(left.working_dir) in caplog.text
        assert len(left.pending()) == 2

    with in_use(left):
        load(loads.file("prod"), "a load is running there")
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.elsewhere.sole_user", read_only)
        load(loads.file("prod"), "Read-only file system")
    (left.place / LOCK).unlink()
    load(loads.file("prod"), "another program made them")
    load(shutil.move(loads.file("prod"), loads.file("moved")), "and that file is not there")
    assert loads.polls(loads.file("moved")) == 4 + 4 * 2


def read_only(_: WorkingFolder) -> Any:
    raise OSError(30, "Read-only file system")


def test_an_erased_person_stays_away_wherever_one_stood(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from packages, a quarantine or notes in other folders, and not from what shards left."""
    warehouse = loads.file("prod")
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "earlier"))
    left = loads.leave_pending(warehouse)
    monkeypatch.delenv("PIPELINES_DIR")
    shards = loads.root / "cronofy-0a1b2c3d" / "shards"
    shutil.copytree(left.place, shards)
    other = loads.root / "cronofy-1a1b2c3d"
    shutil.copytree(left.working_dir / "load/normalized", other / "cronofy" / "quarantine")
    (other / LOCK).touch()
    (other / "cronofy-refreshing-12ab.jsonl").write_text(json.dumps({"token_key": PERSONS}))
    answer = loads.erase(warehouse, 0)
    assert (answer["found"], answer["problems"]) == ([], [])
    assert answer["packages_deleted"] >= 2
    assert left.pending() == []
    assert not (shards / "cronofy").exists()
    assert (other / "cronofy-refreshing-12ab.jsonl").read_text() == ""
    for folder in (warehouse, left.place, other):
        assert PERSON not in str(contents(Path(folder)))
    # a later load from there, of a store that has no token of theirs
    monkeypatch.setenv("PIPELINES_DIR", str(left.place))
    loads.load(warehouse, tokens_of=[OTHERS])
    assert (loads.kinds(warehouse), loads.polls(warehouse)) == ([], 4)


def contents(path: Path) -> list[Any]:
    """What is in a DuckDB file, or in the Parquet files of a folder."""
    if path.is_file():
        return [path.read_bytes()]
    return [pq.read_table(each, partitioning=None).to_pylist() for each in path.rglob("*.parquet")]


def test_an_erasure_says_what_it_did_not_reach(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    prod, test = loads.file("prod"), loads.file("test")
    left = loads.leave_pending(prod)
    loads.load(test)

    def erase(said: str) -> None:
        (problem,) = loads.erase(test, 1)["problems"]
        assert said in problem
        assert str(left.place) in problem
        assert PERSON not in problem

    with in_use(left):
        erase("a load is running over ")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", unlisted(left.place))
        erase("cannot be read; packages may wait there")
    (left.place / LOCK).unlink()
    erase("another program made it: delete ")
    (left.place / LOCK).touch()
    own = shutil.copytree(left.working_dir, loads.root / "a_program_of_ours")
    assert f"another program made it: delete {own}" in loads.erase(test, 1)["problems"][-1]
    shutil.rmtree(own)
    erase(f"they are for {prod}, dataset cronofy; run ")
    named_otherwise = shutil.copytree(left.place, loads.place.directory / "copy")
    assert len(left.pending()) == 2
    # there too, and then it is done
    loads.erase(prod, 0)
    loads.load(test)
    loads.erase(test, 0)
    left = older_release(loads, WorkingFolder(named_otherwise))
    erase("it is not known for which warehouse: delete that folder")


def unlisted(folder: Path) -> Callable[[Path], Iterator[Path]]:
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return iter(listed(path))

    return iterdir


def test_ducklake_keeps_what_was_deleted(loads: Loads) -> None:
    findings = Findings(Person(*[frozenset[str]()] * 4), Traces(), {}, {})
    result = Erased(PERSON, None)
    Erase(open_pipeline("ducklake"), PERSON)._clear_up(findings, result)
    (problem,) = result.problems
    assert "ducklake_expire_snapshots" in problem
    assert not result.is_complete
