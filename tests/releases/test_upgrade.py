"""A warehouse made by a release: the present code goes on with it, as if it had made it itself.

`<version>.duckdb.gz` holds loads of the sandbox's world of 30 accounts (seed 5) over four weeks, and
`<version>.views.json.gz` what the views of that release (of 0.2.0 for both) said of it. They are never made
again: they are what users of that release have.
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.sandbox import MovableClock, SandboxServer, build_world, history, population, serve
from dlt_cronofy.sandbox.demo import DemoClock
from dlt_cronofy.sandbox.records import Track
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tables import CONTENT, POLLS
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.place import Place, Row

FOLDER = Path(__file__).parent
# the newest first, which is for every day
VERSIONS = sorted((path.name.removesuffix(".duckdb.gz") for path in FOLDER.glob("*.duckdb.gz")), reverse=True)
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
# when the last load of the release was, and one of ours
BY_PROVIDER = ("provider_daily", "provider_health", "time_to_relink")
LAST, NOW = START + timedelta(hours=700), START + timedelta(hours=701)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    # as the sandboxes of the releases drew it
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(population.Population, "_afflict", lambda _, account, *__: account)
        patched.setattr(population.Population, "_draw_customer_waves", lambda _: [])
        patched.setattr(population, "VOLATILE_LINKS_SHARE", 0)
        patched.setattr(history, "_draw_protocols", lambda *_: Track.of([(START, None)]))
        world = build_world(accounts=30, seed=5, start=START, days=31)
    with serve(world, clock=MovableClock(LAST)) as server:
        yield server


@pytest.fixture(params=VERSIONS)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(release: str, sandbox: SandboxServer, tmp_path: Path) -> Place:
    """The warehouse of a release and the tokens it was loaded with; its working directory is gone."""
    place = Place(tmp_path, sandbox.base_url)
    with gzip.open(FOLDER / f"{release}.duckdb.gz") as packed, place.database.open("wb") as file:
        shutil.copyfileobj(packed, file)
    sandbox.world.write_tokens(place.tokens_file)
    return place


def load(place: Place, at: datetime) -> LoadResult:
    settings = PollingSettings(base_url=place.base_url, requests_per_second=1e6, requests_per_minute=1e6)
    pipeline = open_pipeline(
        "duckdb", credentials=str(place.database), pipelines_dir=place.data_dir / "pipelines"
    )
    tokens = open_store(tokens_file=str(place.tokens_file)).read()
    options = LoadOptions(every=timedelta(minutes=30))
    return Load(pipeline, settings, tokens, options, DemoClock(MovableClock(at))).run()


@pytest.mark.long
def test_its_tables_and_rows_are_all_there_after_loads_and_nothing_is_polled_again_too_soon(
    place: Place,
) -> None:
    before = {table.name: place.rows(table.name) for table in (*CONTENT, POLLS)}
    assert all(before.values())
    assert load(place, LAST + timedelta(minutes=10)).due <= 2  # only what failed
    result = load(place, NOW)
    assert result.outcomes["ok"] >= 28  # 2 tokens are of accounts that are read with another one
    assert result.changes == {}  # nobody's profile changed because of us
    assert set(result.rows) == {"polls"}
    for table, rows in before.items():
        kept = place.rows(table)
        columns = rows[0].keys()
        assert columns <= kept[0].keys(), "a column of a release is never dropped"
        told = sorted(repr({name: row[name] for name in columns}) for row in kept)
        assert set(map(repr, rows)) <= set(told)


@pytest.mark.long
def test_its_views_say_the_same_and_commands_work(place: Place, release: str) -> None:
    """Row for row what the release itself said, but for what has a name of its own now."""
    said = json.loads(gzip.decompress((FOLDER / f"{release}.views.json.gz").read_bytes()))
    warehouse = {"DESTINATION__DUCKDB__CREDENTIALS": str(place.database)}
    done = place.invoke("views", **warehouse)
    assert set(done.stdout.split()) == set(PUBLIC_VIEWS)
    assert "once" in done.stderr
    checked = place.invoke("rebuild", "--check", **warehouse)
    assert (checked.exit_code, checked.stdout.strip()) == (0, "no difference")
    for view in said.keys() - {"flapping_profiles"}:
        columns = sorted(said[view][0])
        assert shown(place, view, columns) == sorted(
            (as_text(as_named_now(view, row), columns) for row in said[view] if is_comparable(view, row)),
            key=repr,
        )
    status = place.invoke("status", "--json", **warehouse)
    assert status.exit_code == 0, status.stderr
    assert json.loads(status.stdout)["tokens"] == 33
    for view in PUBLIC_VIEWS:
        assert place.query(f"SELECT COUNT(*) FROM {view}")


def shown(place: Place, view: str, columns: list[str]) -> list[list[str]]:
    """The rows of a view as text, in an order that depends on them alone."""
    with closing(duckdb.connect(str(place.database), read_only=True)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = ", ".join(f'"{column}"' for column in columns)
        cursor = connection.execute(f"SELECT {names} FROM cronofy.{view}")
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return sorted((as_text(row, columns) for row in rows if is_comparable(view, row)), key=repr)


def as_text(row: Row, columns: list[str]) -> list[str]:
    """Values as JSON has them, numbers as far as doubles agree on them."""
    return [f"{row[name]:.7g}" if isinstance(row[name], float) else str(row[name]) for name in columns]


def as_named_now(view: str, row: Row) -> Row:
    """A service account has a verdict of its own now."""
    is_service_account = view == "account_health" and str(row["account_id"]).startswith("ser_")
    return row | {"verdict": "service_account"} if is_service_account else row


def is_comparable(view: str, row: Row) -> bool:
    """Whether both releases have that row: one provider_service was null for all conferencing providers."""
    return view not in BY_PROVIDER or row["provider_service"] is not None
