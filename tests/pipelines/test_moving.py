"""`move`: the whole history in another warehouse, where loads go on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dlt
import pytest
from click.testing import Result

from dlt_cronofy.moving import Copy
from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.warehouse.dataset import query_rows, refresh_views, sql_client
from tests.acceptance.place import KilledError, killed
from tests.postgres import credentials, postgres_database

from .loads import HOLD, OTHERS, PERSONS, Loads


@pytest.fixture
def postgres() -> Iterator[str]:
    with postgres_database() as uri:
        yield credentials(uri)


def rows(loads: Loads, warehouse: str) -> dict[str, list[str]]:
    """All that a warehouse holds, in an order that depends on the rows alone; dlt's own ids aside."""
    found = {}
    with sql_client(loads.pipeline(warehouse)) as client:
        for name in (*TABLES, "_dlt_loads"):
            table = query_rows(client, f"SELECT * FROM {client.make_qualified_table_name(name)}")
            found[name] = sorted(repr(sorted(row.items())) for row in table)
    return found


Move = Callable[..., Result]


@pytest.fixture
def move(loads: Loads, postgres: str) -> Move:
    """The command, from a DuckDB file or PostgreSQL."""

    def run(*arguments: str, file: str = "history", status: int = 0) -> Result:
        environment = {
            "DESTINATION__DUCKDB__CREDENTIALS": loads.file(file),
            "DESTINATION__POSTGRES__CREDENTIALS": postgres,
        }
        done = loads.place.invoke("move", *arguments, **environment)
        assert done.exit_code == status, done.output
        return done

    return run


@pytest.mark.long
def test_a_copy_that_broke_off_is_finished_and_loads_go_on_there(
    loads: Loads, postgres: str, move: Move
) -> None:
    history = loads.file("history")
    assert "holds no data yet" in move("--to", "postgres", status=2).stderr
    loads.load(history, hours_ago=9)
    loads.load(history, up=False, hours_ago=8)
    refresh_views(loads.pipeline(history), HOLD.total_seconds())
    assert "the history is there already" in move("--to", "duckdb", status=2).stderr
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Copy, "_copy_tables", killed)
        with pytest.raises(KilledError):
            move("--to", "postgres")
    done = move("--to", "postgres")
    assert done.stderr == ""
    assert "Copied " in done.stdout
    assert "polls" not in done.stdout, "they were copied before the kill"
    assert "rebuild --check there: no difference" in done.stdout
    assert 'destination_type = "postgres"' in done.stdout
    assert rows(loads, postgres) == rows(loads, history)
    # and on, before any load ran there
    assert "no difference" in move("--destination", "postgres", "--to", "duckdb", file="onward").stdout
    assert rows(loads, loads.file("onward")) == rows(loads, history)
    dataset = dlt.dataset(dlt.destinations.postgres(postgres), "cronofy")
    assert dataset.outages.select("provider", "seconds").arrow().num_rows == 2

    polls = loads.polls(postgres)
    loads.load(postgres, hours_ago=6)
    assert loads.polls(postgres) == polls + 2
    assert loads.kinds(postgres) == ["first_seen", "disconnected", "connected"]
    assert loads.differences(postgres) == []
    again = move("--to", "postgres").stdout
    assert again.startswith("Nothing to copy: postgres, dataset cronofy has all ")


@pytest.mark.long
def test_what_is_missing_is_added_and_another_history_is_refused(
    loads: Loads, postgres: str, move: Move
) -> None:
    history = loads.file("history")
    loads.load(history, hours_ago=9)
    move("--to", "postgres")
    assert move("--to", "postgres").stdout.startswith("Nothing to copy")
    loads.load(history, up=False, hours_ago=7, tokens_of=(PERSONS,))
    assert "polls 1" in move("--to", "postgres").stdout
    assert rows(loads, postgres) == rows(loads, history)
    loads.load(postgres, hours_ago=6)
    loads.load(history, hours_ago=5)
    loads.load(loads.file("other"), hours_ago=5)
    for file in ("history", "other"):
        refused = move("--to", "postgres", file=file, status=2)
        assert "holds another history" in refused.stderr
        assert refused.stderr.count("\n") == 1
    # and back, into a file that is not there yet
    back = loads.file("back")
    assert "no difference" in move("--destination", "postgres", "--to", "duckdb", file="back").stdout
    assert rows(loads, back) == rows(loads, postgres)
    loads.load(back, up=False, hours_ago=4)
    assert loads.kinds(back)[-1] == "disconnected"
    assert loads.differences(back) == []


def test_what_a_killed_load_left_is_finished_before_it_moves(loads: Loads, tmp_path: Path) -> None:
    history = loads.file("history")
    loads.leave_pending(history, tokens_of=(PERSONS, OTHERS))
    done = loads.place.invoke(
        "move",
        "--to",
        "elsewhere",
        DESTINATION__DUCKDB__CREDENTIALS=history,
        DESTINATION__ELSEWHERE__DESTINATION_TYPE="duckdb",
        DESTINATION__ELSEWHERE__CREDENTIALS=str(tmp_path / "elsewhere.duckdb"),
        PIPELINES_DIR="",
    )
    assert done.exit_code == 2
    assert "run dlt-cronofy load once, then move" in done.stderr
