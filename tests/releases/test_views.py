"""Every view answers on a release's warehouse as it did with that release's own definitions.

`<version>.answers.json.gz` holds these answers. `flapping_profiles` is another question today. Conferencing
profiles were one group without a provider, and are a group by provider now.
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.views.warehouse import DuckDBWarehouse, Row, create_tables, create_views, fill

FOLDER = Path(__file__).parent
VERSIONS = sorted(path.name.removesuffix(".answers.json.gz") for path in FOLDER.glob("*.answers.json.gz"))
TABLES = ("userinfo", "account", "profiles", "profile_changes", "polls")
GROUPED_BY_PROVIDER = ("provider_daily", "provider_health", "time_to_relink")
VIEWS = (
    "profile_intervals",
    "outages",
    "needs_relink",
    "connectivity_daily",
    *GROUPED_BY_PROVIDER,
    "account_health",
    "token_health",
    "poll_coverage",
)

Rows = list[list[Any]]


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def warehouse(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBWarehouse]:
    """The release's tables, the evidence worked out from them, and today's views."""
    file = tmp_path_factory.mktemp("release") / "release.duckdb"
    with gzip.open(FOLDER / f"{version}.duckdb.gz") as packed, file.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    with closing(DuckDBWarehouse()) as warehouse:
        create_tables(warehouse)
        fill(warehouse, tables_of(file))
        create_views(warehouse)
        yield warehouse


def tables_of(file: Path) -> dict[str, list[Row]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return {
            table: connection.execute(f"SELECT * FROM cronofy.{table}").to_arrow_table().to_pylist()
            for table in TABLES
        }


@pytest.fixture(scope="module")
def answers(version: str) -> dict[str, dict[str, Any]]:
    with gzip.open(FOLDER / f"{version}.answers.json.gz") as packed:
        found: dict[str, dict[str, Any]] = json.load(packed)
    return found


def test_the_answers_are_of_the_views_compared(answers: dict[str, dict[str, Any]]) -> None:
    assert set(answers) == set(VIEWS)
    assert all(answer["rows"] for answer in answers.values())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_answers_as_the_release_did(
    warehouse: DuckDBWarehouse, answers: dict[str, dict[str, Any]], view: str
) -> None:
    columns, before = answers[view]["columns"], answers[view]["rows"]
    quoted = ", ".join(f'"{column}"' for column in columns)
    now = [[plain(value) for value in row] for row in warehouse.query(f"SELECT {quoted} FROM cronofy.{view}")]
    if view in GROUPED_BY_PROVIDER:
        service = columns.index("provider_service")
        before, now = ([row for row in rows if row[service] is not None] for rows in (before, now))
    assert len(now) == len(before)
    for mine, theirs in zip(ordered(now), ordered(before), strict=True):
        assert mine == [pytest.approx(value) if isinstance(value, float) else value for value in theirs]


def ordered(rows: Rows) -> Rows:
    """In an order that does not hang on the last digit of a number."""
    return sorted(rows, key=lambda row: repr([value for value in row if not isinstance(value, float)]))


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value
