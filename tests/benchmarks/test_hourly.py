"""The history of benchmarks/hourly.py is one that loads could have left."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import dlt
import duckdb
import pytest

from benchmarks.hourly import HOURS, live_through
from benchmarks.server import serving
from benchmarks.throughput import settings, token
from benchmarks.year import COUNTS
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild.command import check_evidence
from dlt_cronofy.source.settings import USERINFO
from dlt_cronofy.warehouse.pipeline import open_pipeline

pytestmark = pytest.mark.long

TOKENS, WEEKS = 100, 2
HOLD = timedelta(hours=24)

Place = tuple[dlt.Pipeline, Path, Callable[[], LoadResult]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A warehouse, its file, and what loads all of it."""
    folder = tmp_path_factory.mktemp("hourly")
    file = folder / "connections.duckdb"
    pipeline = open_pipeline("duckdb", credentials=str(file), pipelines_dir=folder)
    tokens = [token(number) for number in range(TOKENS)]
    with serving() as (url, _):

        def load() -> LoadResult:
            return Load(pipeline, settings(url), tokens, LoadOptions(timedelta(0), (USERINFO,))).run()

        load()
        live_through(file, TOKENS, WEEKS)
        yield pipeline, file, load


def test_the_evidence_is_what_the_polls_say(place: Place) -> None:
    assert check_evidence(place[0], HOLD) == []


def test_the_weeks_have_polls_changes_and_gaps(place: Place) -> None:
    with duckdb.connect(str(place[1]), read_only=True) as connection:
        connection.execute("USE cronofy")
        found = {name: connection.execute(query).fetchall()[0][0] for name, query in COUNTS.items()}
    assert found["polls"] == TOKENS * WEEKS * HOURS
    assert found["changes"] > 2 * TOKENS
    assert found["gaps"] > 0


def test_each_change_is_of_two_polls_that_were_read(place: Place) -> None:
    """The poll that showed it, and the newest one before it."""
    unlike = """
        SELECT changes.change_id
        FROM profile_changes AS changes INNER JOIN polls USING (token_key)
        WHERE outcome = 'ok' AND polled_at <= observed_at AND previous_poll_at IS NOT NULL
        GROUP BY ALL
        HAVING max(polled_at) <> any_value(observed_at)
            OR max(polled_at) FILTER (polled_at < observed_at) <> any_value(previous_poll_at)
    """
    with duckdb.connect(str(place[1]), read_only=True) as connection:
        connection.execute("USE cronofy")
        assert connection.execute(unlike).fetchall() == []


def test_the_next_load_finds_nothing_new(place: Place) -> None:
    assert place[2]().rows == {"polls": TOKENS}
    assert check_evidence(place[0], HOLD) == []
