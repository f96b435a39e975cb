"""Packages that were to be loaded before newer ones: their polls are logged and tell nothing."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.destinations.job_client_impl import SqlLoadJob
from dlt.load.load import Load as DltLoad

from dlt_cronofy.load import steps
from tests.acceptance.place import KilledError, killed
from tests.pipelines.loads import OTHERS, PERSONS, Loads
from tests.pipelines.warehouse.writing import Postgres, postgres_for_writers

Patched = pytest.MonkeyPatch
EVIDENCE = {"polls", "token_status", "coverage", "runs"}
FIRST_SEEN, DISCONNECTED = ["first_seen"], ["first_seen", "disconnected", "connected"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_for_writers() as server:
        yield server


def _at_call(nth: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose nth call is never made: the process ends."""
    calls = iter(range(1, nth + 1))

    def called(*arguments: Any, **named: Any) -> Any:
        if next(calls) == nth:
            raise KilledError
        return function(*arguments, **named)

    return called


def normalized(patched: Patched) -> None:
    patched.setattr(dlt.Pipeline, "load", killed)


def extracted(patched: Patched) -> None:
    patched.setattr(dlt.Pipeline, "normalize", killed)


def content_alone_extracted(patched: Patched) -> None:
    patched.setattr(steps, "extract", _at_call(2, steps.extract))


def content_loaded(patched: Patched) -> None:
    patched.setattr(DltLoad, "load_single_package", _at_call(2, DltLoad.load_single_package))


def all_merged(patched: Patched) -> None:
    patched.setattr(DltLoad, "complete_package", _at_call(2, DltLoad.complete_package))


# where the kill comes; how many polls are late then, and what the first account's history says
KILLS = [
    (normalized, 2, FIRST_SEEN),
    (extracted, 2, FIRST_SEEN),
    (content_alone_extracted, 0, FIRST_SEEN),
    (content_loaded, 2, DISCONNECTED),
    (all_merged, 0, DISCONNECTED),
]


CASES = [
    *(("duckdb", "its own load", *kill) for kill in KILLS),
    # the packages are of another format there
    *(("postgres", "its own load", *kill) for kill in KILLS[:2]),
    ("duckdb", "a load elsewhere", *KILLS[0]),
    ("postgres", "a load elsewhere", *KILLS[0]),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "finished_by", "kill", "late", "history"),
    CASES,
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
def test_overtaken_packages_set_nothing_back(
    loads: Loads,
    request: pytest.FixtureRequest,
    kind: str,
    finished_by: str,
    kill: Callable[[Patched], None],
    late: int,
    history: list[str],
    monkeypatch: Patched,
    tmp_path: Path,
) -> None:
    """Everybody was disconnected when the killed load looked, and is connected in what overtook it."""
    if kind == "duckdb":
        warehouse = loads.file("prod")
    else:
        # no server is started for the cases without
        warehouse = request.getfixturevalue("postgres").database(tmp_path.name)
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path / "earlier"))
    left = loads.leave_pending(warehouse, kill=kill)
    with monkeypatch.context() as another_machine:
        another_machine.delenv("PIPELINES_DIR")
        another_machine.setenv("DLT_DATA_DIR", str(tmp_path / "another"))
        assert loads.load(warehouse, hours_ago=1).finished_packages == []
    assert left.pending()
    if finished_by != "its own load":
        monkeypatch.delenv("PIPELINES_DIR")
    result = loads.load(warehouse, hours_ago=0.5)
    assert result.finished_packages
    assert (result.quarantined_packages, left.pending()) == ([], [])
    assert loads.ask(warehouse, "SELECT COUNT(*) FROM cronofy.polls WHERE is_late") == [(late,)]
    assert loads.kinds(warehouse) == history
    states = loads.ask(warehouse, "SELECT DISTINCT state FROM cronofy.profiles")
    assert states == [("connected",)]
    assert loads.differences(warehouse) == []
    # and nobody takes it for well known
    loads.load(warehouse, up=False)
    assert loads.kinds(warehouse) == [*history, "disconnected"]
    assert loads.differences(warehouse) == []


@pytest.mark.long
def test_packages_that_others_did_not_overtake_are_loaded(
    loads: Loads, monkeypatch: Patched, tmp_path: Path
) -> None:
    """Newer polls of other tokens were loaded meanwhile."""
    warehouse = loads.file("prod")
    loads.load(warehouse, hours_ago=3, tokens_of=[PERSONS])
    loads.leave_pending(warehouse, first=False, tokens_of=[PERSONS])
    with monkeypatch.context() as another_machine:
        another_machine.setenv("DLT_DATA_DIR", str(tmp_path / "another"))
        loads.load(warehouse, hours_ago=1, tokens_of=[OTHERS])
    loads.load(warehouse, up=True)
    assert loads.ask(warehouse, "SELECT COUNT(*) FROM cronofy.polls WHERE is_late") == [(0,)]
    assert loads.kinds(warehouse) == DISCONNECTED
    assert loads.differences(warehouse) == []


@pytest.mark.long
@pytest.mark.parametrize("heals_first", [False, True], ids=["", "another load has healed it"])
def test_what_is_killed_while_packages_are_finished_is_healed(
    loads: Loads, heals_first: bool, monkeypatch: Patched, tmp_path: Path
) -> None:
    """The working directory is lost then, when half of the evidence has arrived."""
    warehouse = loads.file("prod")
    left = loads.leave_pending(warehouse)
    if heals_first:
        with monkeypatch.context() as another_machine:
            another_machine.setenv("DLT_DATA_DIR", str(tmp_path / "another"))
            loads.load(warehouse, hours_ago=1.5, tokens_of=["token-of-three"])
        ends = "SELECT finished_at IS NULL, stopped_by FROM cronofy.runs ORDER BY run_id"
        assert loads.ask(warehouse, ends) == [(False, None), (True, "killed"), (False, None)]
    merged: list[str] = []

    def merge(job: SqlLoadJob) -> None:
        run(job)
        merged.append(job.job_file_info().table_name)

    def follow_up(*arguments: Any) -> Any:
        if EVIDENCE & set(merged):
            raise KilledError
        return create_followup_jobs(*arguments)

    run, create_followup_jobs = SqlLoadJob.run, DltLoad.create_followup_jobs
    with monkeypatch.context() as patched:
        patched.setattr(SqlLoadJob, "run", merge)
        patched.setattr(DltLoad, "create_followup_jobs", follow_up)
        patched.setenv("LOAD__WORKERS", "1")
        with pytest.raises(KilledError):
            loads.load(warehouse, hours_ago=1)
    assert loads.differences(warehouse)
    shutil.rmtree(left.working_dir)
    loads.load(warehouse, hours_ago=0.5)
    assert loads.differences(warehouse) == []


@pytest.mark.long
def test_what_a_store_said_before_a_kill_sets_nothing_back(
    loads: Loads, monkeypatch: Patched, tmp_path: Path
) -> None:
    """Rows of `token_status` wait to be loaded, and the polls of the same tokens go on meanwhile."""
    warehouse = loads.file("prod")
    loads.load(warehouse, hours_ago=3, tokens_of=[OTHERS])
    left = loads.leave_pending(warehouse, first=False, kill=extracted)
    with monkeypatch.context() as another_machine:
        another_machine.setenv("DLT_DATA_DIR", str(tmp_path / "another"))
        loads.load(warehouse, hours_ago=1)
    assert left.pending()
    loads.load(warehouse, hours_ago=0.5)
    assert loads.differences(warehouse) == []
