"""Several writers of one warehouse: none loses a row of another's, and each comes to its turn."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from dlt.destinations.exceptions import DatabaseException

from dlt_cronofy.erase.relations import Relations
from dlt_cronofy.erase.removal import vacuum
from dlt_cronofy.load.maintenance import Upkeep
from dlt_cronofy.load.steps import Loading
from dlt_cronofy.rebuild import Difference
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.locks import WarehouseBusy, sole_writer, turn
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.documents import account, profile, userinfo
from tests.acceptance.place import TABLES, Place
from tests.acceptance.server import Reply, ScriptedServer, says
from tests.acceptance.world import Account, World
from tests.pipelines.conftest import Answers

from .writing import SECONDS, WAITS, Commands, Postgres, commands, postgres_for_writers

WRITERS, ROUNDS, ACCOUNTS, PACKAGE_POLLS = 4, 2, 48, 10
# the API adds a field in that round
NOVEL_ROUND = 1
LOAD = ("load", "--every", "0s", "--max-failure-ratio", "1")


class AnsweringWorld(World):
    """Never fails: after failures a load calls less, and which calls it leaves out is chance."""

    def _fate(self, endpoint: str, owner: Account) -> list[Reply]:
        return [says(deepcopy(owner.document()) if endpoint == "userinfo" else account(owner.sub))]

    def _surprise(self, owner: Account, profile_type: str) -> None:
        """The new field comes at one time only, and to all accounts."""

    def add_field(self) -> None:
        for owner in self.accounts:
            owner.novelty = 7


# of which four writers poll all, at once
SAME_ACCOUNTS = int(os.environ.get("WRITERS_ACCOUNTS", "40"))


@dataclass(frozen=True)
class Round:
    """One round: how the commands ended, and the tables of both datasets afterwards."""

    statuses: list[int]
    said: list[str]
    shared: Mapping[str, Counter[str]]
    alone: Mapping[str, Counter[str]]
    keys: Mapping[str, list[tuple[Any, ...]]]
    runs: list[str]
    differences: list[Difference]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_for_writers() as server:
        yield server


@pytest.fixture
def started() -> Iterator[Commands]:
    with commands() as processes:
        yield processes


@pytest.fixture(scope="module")
def rounds(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> list[Round]:
    """Four processes load a quarter of the tokens each into `shared`, and one all of them into `alone`."""
    world = AnsweringWorld(seed=3, accounts=ACCOUNTS, shared=False)
    keys = list(world.owners)
    played = []
    with (
        ScriptedServer(world.answer_steadily) as server,
        commands() as processes,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        alone = Place(tmp_path_factory.mktemp("alone"), server.base_url)
        alone.write_tokens(keys)
        places = [Place(tmp_path_factory.mktemp("writer"), server.base_url) for _ in range(WRITERS)]
        for number, place in enumerate(places):
            place.write_tokens(keys[number::WRITERS])
        for number in range(ROUNDS):
            if number == NOVEL_ROUND:
                world.add_field()
            world.turn()
            # all have polled, and none has loaded, when the first one begins to
            with postgres.turn_taken("shared"):
                started = [
                    postgres.start(processes, place, LOAD, "shared", PACKAGE_POLLS) for place in places
                ]
                for each in started:
                    each.wait_for(WAITS.format("shared"))
            statuses = [each.end() for each in started]
            postgres.load(alone, "alone", refresh_views=True)
            played.append(
                Round(
                    statuses,
                    [each.said for each in started],
                    shared={table: postgres.content("shared", table) for table in TABLES},
                    alone={table: postgres.content("alone", table) for table in TABLES},
                    keys={table: postgres.keys("shared", table) for table in TABLES},
                    runs=[*postgres.runs("shared")],
                    differences=[*postgres.differences("shared"), *postgres.differences("alone")],
                )
            )
    return played


@pytest.mark.long
def test_four_writers_all_end_well(rounds: list[Round]) -> None:
    for played in rounds:
        assert played.statuses == [0] * WRITERS, played.said


@pytest.mark.long
@pytest.mark.parametrize("table", TABLES)
def test_four_writers_store_what_one_stores(rounds: list[Round], table: str) -> None:
    for played in rounds:
        assert played.alone[table]
        assert played.shared[table] - played.alone[table] == Counter()
        assert played.alone[table] - played.shared[table] == Counter()


@pytest.mark.long
def test_the_world_changes_between_rounds(rounds: list[Round]) -> None:
    for before, after in pairwise(rounds):
        for table in ("userinfo", "profiles", "calendars", "profile_changes", "polls"):
            assert before.shared[table] != after.shared[table]


@pytest.mark.long
def test_four_writers_keep_the_evidence_of_all_polls(rounds: list[Round]) -> None:
    for played in rounds:
        assert played.differences == []


@pytest.mark.long
@pytest.mark.parametrize("table", TABLES)
def test_four_writers_double_no_key(rounds: list[Round], table: str) -> None:
    for played in rounds:
        assert len(set(played.keys[table])) == len(played.keys[table])


@pytest.mark.long
def test_four_writers_wrote_in_between_each_other(rounds: list[Round]) -> None:
    before = changes_of_turn = 0
    for played in rounds:
        packages = played.runs[before:]
        assert len(set(packages)) == WRITERS
        assert len(packages) >= 2 * WRITERS
        changes_of_turn += sum(one != other for one, other in pairwise(packages))
        before = len(played.runs)
    # nobody promises a fair turn: on a busy machine all packages of one may come in a row, now and then
    assert changes_of_turn > len(rounds) * (WRITERS - 1)


@pytest.mark.long
def test_four_writers_add_the_same_column(rounds: list[Round]) -> None:
    told = [sum("'tomorrow': 7" in row for row in played.shared["userinfo"]) for played in rounds]
    assert told[0] == 0
    assert all(number > ACCOUNTS - ACCOUNTS // WRITERS for number in told[NOVEL_ROUND:])


@pytest.mark.long
@pytest.mark.timeout(600 + 3 * SAME_ACCOUNTS)
def test_four_writers_of_the_same_tokens_set_no_evidence_back(
    postgres: Postgres, started: Commands, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One of them is killed, and goes on in the next round with what waits in its working directory."""
    dataset, world = "same", World(seed=7, accounts=SAME_ACCOUNTS)
    with ScriptedServer(world.answer_steadily) as server:
        places = [Place(tmp_path_factory.mktemp("same"), server.base_url) for _ in range(WRITERS)]
        for place in places:
            place.write_tokens(world.owners)
        for number in range(3):
            world.turn()
            loads = [
                postgres.start(started, place, LOAD, dataset, package_polls=SAME_ACCOUNTS // 2)
                for place in places
            ]
            if number == 1:
                loads[0].kill_in_package(2)
            statuses = [each.end(5 * SECONDS) for each in loads]
            assert statuses == [-signal.SIGKILL if number == 1 else 0, 0, 0, 0], [each.said for each in loads]
            if number != 1:
                assert postgres.differences(dataset) == []
    for table in TABLES:
        keys = postgres.keys(dataset, table)
        assert len(set(keys)) == len(keys)
    ends = f"SELECT finished_at IS NULL, stopped_by, COUNT(*) FROM {dataset}.runs GROUP BY 1, 2 ORDER BY 3"
    assert postgres.query(ends) == [(True, "killed", 1), (False, None, 11)]
    # who came to a token second in a round often had the older answer
    assert postgres.query(f"SELECT COUNT(*) > 0 FROM {dataset}.polls WHERE is_late") == [(True,)]


@pytest.mark.long
def test_views_of_four_writers_answer(rounds: list[Round], postgres: Postgres) -> None:
    for view in PUBLIC_VIEWS:
        assert postgres.query(f"SELECT COUNT(*) FROM shared.{view}")
    tokens = "SELECT COUNT(*) FROM {}.token_health"
    assert postgres.query(tokens.format("shared")) == postgres.query(tokens.format("alone"))


def test_each_working_directory_has_a_staging_dataset_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def staging(folder: str, host: str) -> str:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        pipeline = open_pipeline(
            "postgres", "shared", credentials="postgresql://a:b@c/d", pipelines_dir=tmp_path / folder
        )
        return str(pipeline.sql_client().staging_dataset_name)

    names = [staging(*where) for where in (("1", "a"), ("2", "a"), ("1", "b"), ("2", "b"))]
    assert len(set(names)) == 4
    assert all(name.startswith("shared_staging_") for name in names)
    assert staging("1", "a") == names[0]


@pytest.fixture
def one(place: Place, answers: Answers) -> Place:
    answers.by_token = {"one": userinfo("acc_1", [profile("pro_1")]), "two": userinfo("acc_2")}
    place.write_tokens(["one"])
    return place


@dataclass
class Waiting:
    """A load in a thread that another one keeps waiting."""

    postgres: Postgres
    place: Place
    pool: ThreadPoolExecutor
    caplog: pytest.LogCaptureFixture

    @contextmanager
    def load(self, dataset: str) -> Iterator[tuple[int, "Future[Any]"]]:
        """The session that has the turn, and the load that waits for it."""
        with self.caplog.at_level("INFO", "dlt_cronofy"), self.postgres.turn_taken(dataset) as session:
            load = self.pool.submit(self.postgres.load, self.place, dataset)
            deadline = time.monotonic() + SECONDS
            while not self.said(dataset):
                assert not load.done(), load.result()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield session, load

    def said(self, dataset: str) -> list[str]:
        words = WAITS.format(dataset)
        return [line for line in self.caplog.messages if line == words]


@pytest.fixture
def waiting(postgres: Postgres, one: Place, caplog: pytest.LogCaptureFixture) -> Iterator[Waiting]:
    with ThreadPoolExecutor(1) as pool:
        yield Waiting(postgres, one, pool, caplog)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("ending", ["its end", "the end of its session"])
def test_a_load_waits_for_its_turn_until(ending: str, waiting: Waiting, postgres: Postgres) -> None:
    dataset = f"waits_for_{ending.replace(' ', '_')}"
    with waiting.load(dataset) as (session, load):
        time.sleep(0.3)
        assert not load.done()
        assert len(waiting.said(dataset)) == 1
        schemas = f"SELECT nspname FROM pg_namespace WHERE nspname LIKE '{dataset}%'"
        assert postgres.query(schemas) == []
        if ending == "the end of its session":
            postgres.end_session(session)
            load.result(SECONDS)
    assert load.result(SECONDS).rows["polls"] == 2


def test_a_load_does_not_wait_for_itself_or_for_other_datasets(
    postgres: Postgres, one: Place, caplog: pytest.LogCaptureFixture
) -> None:
    ours = postgres.pipeline(one, "ours")
    with caplog.at_level("INFO", "dlt_cronofy"), postgres.turn_taken("theirs"), turn(ours):
        assert len(postgres.holders("ours")) == 1
    # a later package of the same load
    with caplog.at_level("INFO", "dlt_cronofy"), turn(ours):
        pass
    assert "waiting" not in caplog.text


def test_a_writer_that_loses_its_session_goes_on(postgres: Postgres, one: Place) -> None:
    pipeline = postgres.pipeline(one, "torn")
    with turn(pipeline):
        (session,) = postgres.holders("torn")
        postgres.end_session(session)
        with turn(pipeline):
            assert len(postgres.holders("torn")) == 1
    assert postgres.holders("torn") == []


@pytest.mark.long
def test_a_waiting_load_is_in_nobody_s_way(waiting: Waiting, postgres: Postgres) -> None:
    """It locks no table, and it keeps no deleted row from being overwritten."""
    postgres.load(waiting.place, "cleared")
    with waiting.load("cleared"), sql_client(postgres.pipeline(waiting.place, "cleared")) as client:
        client.execute_sql("SET lock_timeout = '5s'")
        client.execute_sql("DELETE FROM cleared.polls")
        assert vacuum(client, Relations(client).all) == []


def test_a_statement_timeout_does_not_end_the_waiting(postgres: Postgres, waiting: Waiting) -> None:
    """The end of the session that has the turn does."""
    hasty = replace(postgres, credentials=f"{postgres.credentials}&options=-cstatement_timeout%3D250ms")
    pipeline = hasty.pipeline(waiting.place, "hasty")

    def take_turn() -> str:
        with turn(pipeline):
            return "taken"

    with postgres.turn_taken("hasty") as session:
        taking = waiting.pool.submit(take_turn)
        time.sleep(0.6)
        assert not taking.done()
        postgres.end_session(session)
        assert taking.result(SECONDS) == "taken"


# what they say once they had their turn
TAKE_TURNS = {
    ("views",): "account_health",
    ("erase", "--account", "acc_1", "--yes"): ": 0 found",
}


class WaitedError(BaseException):
    """They would wait now."""


def wait(_: float) -> None:
    raise WaitedError


@pytest.mark.long
def test_other_commands_that_write_wait_too(
    postgres: Postgres, one: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.load(one, "of_all")

    def invoke(arguments: tuple[str, ...]) -> Result:
        whole = (*arguments, "--destination", "postgres", "--dataset", "of_all")
        return one.invoke(*whole, DESTINATION__POSTGRES__CREDENTIALS=postgres.credentials)

    with postgres.turn_taken("of_all"), monkeypatch.context() as patched:
        patched.setattr(
            "dlt_cronofy.warehouse.locks.time", SimpleNamespace(sleep=wait, monotonic=time.monotonic)
        )
        for arguments in TAKE_TURNS:
            with pytest.raises(WaitedError):
                invoke(arguments)
    for arguments, words in TAKE_TURNS.items():
        done = invoke(arguments)
        assert done.exit_code == 0, done.output
        assert words in done.output


def test_duckdb_takes_no_turn(one: Place) -> None:
    one.database.unlink()
    pipeline = open_pipeline(
        "duckdb", credentials=str(one.database), pipelines_dir=one.data_dir / "pipelines"
    )
    with turn(pipeline), turn(pipeline):
        assert not one.database.exists()


@pytest.fixture
def other(one: Place) -> Place:
    """Another folder with a working directory of its own, and another token."""
    folder = one.directory / "elsewhere"
    folder.mkdir()
    place = Place(folder, one.base_url)
    place.write_tokens(["two"])
    (folder / "linked.duckdb").symlink_to(one.database)
    return place


# commands, and the way to the file from the other folder
REFUSED = {
    "by a relative path, over a link": (LOAD, "../elsewhere/linked.duckdb"),
    "erase": (("erase", "--account", "acc_1", "--yes"), "{folder}/warehouse.duckdb"),
}


LOCK = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("refused", flush=True)
    else:
        print("got", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_of_another_process(path: Path) -> Iterator[str]:
    """Whether another process gets the lock of a file, which it keeps until the end."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def test_one_load_at_a_time_writes_to_a_duckdb_file(
    one: Place, other: Place, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = one.directory / ".warehouse.duckdb.lock"

    def meanwhile(_: int) -> None:
        with lock_of_another_process(lock) as got:
            assert got == "refused"

    assert one.load(on_plan=meanwhile).rows["polls"] == 2
    monkeypatch.chdir(other.directory)
    with lock_of_another_process(lock) as got:
        assert got == "got"
        for name, (arguments, path) in REFUSED.items():
            file = path.format(folder=one.directory)
            refused = other.invoke(*arguments, DESTINATION__DUCKDB__CREDENTIALS=file)
            assert refused.exit_code == 1, name
            (line,) = refused.stderr.splitlines()
            assert "ERROR another load is running over " in line
            assert file in line, name
    assert {request.token for request, _ in server.log} == {"one"}
    assert one.query("SELECT DISTINCT token_key FROM polls") == [("one",)]
    other.database_name = "linked.duckdb"
    assert other.load().rows["polls"] == 2
    assert one.query("SELECT token_key, COUNT(*) FROM polls GROUP BY 1 ORDER BY 1") == [
        ("one", 2),
        ("two", 2),
    ]


def test_two_files_may_be_written_at_a_time(one: Place, other: Place) -> None:
    with sole_writer(one.pipeline()), sole_writer(other.pipeline()):
        for place in (one, other):
            assert (place.directory / ".warehouse.duckdb.lock").is_file()


def test_a_killed_load_leaves_the_file_to_others(
    one: Place, other: Place, started: Commands, answers: Answers, server: ScriptedServer
) -> None:
    answers.by_token["one"] = says(userinfo("acc_1"), delay=SECONDS)
    killed = started.start(one, LOAD)
    deadline = time.monotonic() + SECONDS
    while not server.log:
        assert time.monotonic() < deadline, killed.said
        time.sleep(0.01)
    pipeline = open_pipeline("duckdb", credentials=str(one.database), pipelines_dir=other.data_dir)
    with pytest.raises(WarehouseBusy, match=str(one.database)), sole_writer(pipeline):
        pass
    killed.process.kill()
    assert killed.end() == -signal.SIGKILL
    with sole_writer(pipeline):
        pass
    one.write_tokens(["two"])
    assert one.load().rows["polls"] == 2


# what one writer's field holds first, then another's; how both stand in the warehouse
CLASHES = {
    "text after a number": (7, "text", {"tomorrow": "7", "tomorrow__v_text": "text"}),
    "a fraction after a whole number": (3, 4.5, {"tomorrow": "3", "tomorrow__v_double": "4.5"}),
}


@pytest.mark.long
@pytest.mark.parametrize("clash", CLASHES.values(), ids=[name.replace(" ", "_") for name in CLASHES])
def test_a_column_that_another_writer_added_keeps_its_type(
    clash: tuple[Any, Any, dict[str, str]], postgres: Postgres, one: Place, other: Place, answers: Answers
) -> None:
    first, second, stored = clash
    dataset = f"typed_{type(second).__name__}"
    documents = {"one": userinfo("acc_1", [profile("pro_1")]), "two": userinfo("acc_2")}
    for place in (one, other):
        postgres.load(place, dataset)
    for key, place, value in (("one", one, first), ("two", other, second)):
        answers.by_token[key] = documents[key] | {"tomorrow": value}
        assert postgres.load(place, dataset).quarantined_packages == []
    # the first one learns of the other's column
    answers.by_token["one"] = documents["one"] | {"tomorrow": first, "email": "new@example.com"}
    assert postgres.load(one, dataset).quarantined_packages == []
    found = {
        name: str(row[name])
        for (row,) in postgres.query(f"SELECT to_jsonb(t) FROM {dataset}.userinfo t")
        for name in stored
        if row[name] is not None
    }
    assert found == stored


@pytest.mark.long
@pytest.mark.parametrize("moment", [(Upkeep, "prepare"), (Loading, "load_all")], ids=["first load", "later"])
def test_a_column_that_another_writer_adds_meanwhile_keeps_its_type(
    moment: tuple[type, str],
    postgres: Postgres,
    one: Place,
    other: Place,
    answers: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both begin when neither knows of it, and the dataset is empty."""
    holder, name = moment
    dataset, work = f"meanwhile_{name}", getattr(holder, name)
    documents = {"one": (userinfo("acc_1"), True), "two": (userinfo("acc_2"), 0.5)}
    answers.by_token = {key: document | {"tomorrow": value} for key, (document, value) in documents.items()}
    others = iter([other])

    def after_another(self: Any, *arguments: Any) -> Any:
        for place in others:
            postgres.load(place, dataset)
            self.pipeline.activate()
        return work(self, *arguments)

    monkeypatch.setattr(holder, name, after_another)
    assert postgres.load(one, dataset).rows["userinfo"] == 1
    stored = f"SELECT token_key, tomorrow, tomorrow__v_bool FROM {dataset}.userinfo ORDER BY 1"
    assert postgres.query(stored) == [("one", None, True), ("two", 0.5, None)]
    assert postgres.differences(dataset) == []


def test_a_writer_is_told_that_its_turn_was_lost(postgres: Postgres, one: Place) -> None:
    with turn(postgres.pipeline(one, "lost")) as still_mine:
        still_mine()
        (session,) = postgres.holders("lost")
        postgres.end_session(session)
        with pytest.raises(DatabaseException):
            still_mine()
