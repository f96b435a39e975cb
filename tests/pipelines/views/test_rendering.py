"""The rendered text: what it may say, and that it is what it was (`UPDATE_SNAPSHOTS=1` rewrites it)."""

import logging
import os
import re
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from dlt_cronofy import views
from dlt_cronofy.views.headers import read_header
from tests.pipelines.views.warehouse import DATASET, RAW_TABLES, Warehouse, create_views, raw_schema, read

SNAPSHOTS = Path(__file__).parent / "snapshots"
DATASETS = {
    "duckdb": "cronofy",
    "postgres": "cronofy",
    "snowflake": "analytics.cronofy",
    "bigquery": "`my-project`.cronofy",
    "databricks": "main.cronofy",
    "redshift": "cronofy",
}
CLOCK = re.compile(
    r"\b(now|current_date|current_time|current_timestamp|today|getdate|sysdate|clock_timestamp)\b",
    re.IGNORECASE,
)


def rendered(view: str, dialect: str) -> str:
    return views.render(view, dialect, 86_400, DATASETS[dialect])


@pytest.mark.parametrize("dialect", DATASETS)
@pytest.mark.parametrize("view", views.VIEWS)
def test_rendered_text_parses_and_is_what_it_was(
    view: str, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        text = rendered(view, dialect)
        sqlglot.parse_one(text, dialect=dialect)
    assert caplog.text == ""
    snapshot = SNAPSHOTS / dialect / f"{view}.sql"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        snapshot.write_text(text + "\n")
    assert snapshot.read_text() == text + "\n"


def test_every_source_is_listed_and_every_snapshot_has_a_source() -> None:
    assert {path.stem for path in Path(views.__file__).parent.glob("*.sql")} == set(views.VIEWS)
    assert {path.stem for path in SNAPSHOTS.rglob("*.sql")} == set(views.VIEWS)


@pytest.mark.parametrize("view", views.VIEWS)
def test_header_gives_the_grain(view: str) -> None:
    assert views.header(view).startswith(f"{view}: one row")


@pytest.mark.parametrize("view", views.PUBLIC_VIEWS)
def test_header_names_every_column_in_order(view: str, duckdb_warehouse: Warehouse) -> None:
    columns = [row[0] for row in duckdb_warehouse.query(f"DESCRIBE {DATASET}.{view}")]
    assert list(read_header(view).columns) == columns


@pytest.mark.parametrize("view", views.VIEWS)
def test_no_view_reads_the_polls(view: str) -> None:
    query = sqlglot.parse_one(views.source(view), dialect="duckdb")
    assert "polls" not in {table.name for table in query.find_all(exp.Table)}


@pytest.mark.parametrize("view", views.VIEWS)
def test_no_view_reads_the_clock(view: str) -> None:
    code = "\n".join(line for line in views.source(view).splitlines() if not line.lstrip().startswith("--"))
    assert not CLOCK.search(code)


@pytest.mark.parametrize("view", views.VIEWS)
def test_views_come_after_what_they_read(view: str) -> None:
    query = sqlglot.parse_one(views.source(view), dialect="duckdb")
    known = {
        *views.TABLES,
        *views.VIEWS[: views.VIEWS.index(view)],
        *(cte.alias for cte in query.find_all(exp.CTE)),
    }
    assert {table.name for table in query.find_all(exp.Table)} <= known


@pytest.mark.parametrize(
    ("dialect", "dataset", "expected"),
    [
        # bare names: DuckDB binds them to the view's own schema, whatever the file is attached as
        ("duckdb", '"my data"', "FROM runs"),
        ("postgres", '"warehouse"."Cronofy"', 'FROM "warehouse"."Cronofy".runs'),
        ("bigquery", "`my-project`.`cronofy`", "FROM `my-project`.`cronofy`.runs"),
    ],
)
def test_tables_are_qualified_as_the_dataset_is_written(dialect: str, dataset: str, expected: str) -> None:
    assert expected in views.render("_as_of", dialect, 86_400, dataset)


@pytest.mark.parametrize(
    ("dialect", "hold_seconds", "expected"),
    [
        ("duckdb", 5400, "last_sample_at + INTERVAL '5400' SECOND"),
        ("postgres", 5400.0, "last_sample_at + INTERVAL '5400 SECOND'"),
        ("bigquery", 0.25, "last_sample_at + INTERVAL '250000' MICROSECOND"),
    ],
)
def test_hold_is_a_constant(dialect: str, hold_seconds: float, expected: str) -> None:
    assert expected in views.render("account_health", dialect, hold_seconds, "cronofy")


def test_hold_must_be_positive() -> None:
    with pytest.raises(ValueError, match="hold_seconds must be positive"):
        views.render("account_health", "duckdb", 0, "cronofy")


def test_creating_again_replaces(warehouse: Warehouse) -> None:
    create_views(warehouse)
    create_views(warehouse)
    assert read(warehouse, "outages", "*") == []


def drop_views(warehouse: Warehouse) -> None:
    for view in reversed(views.VIEWS):
        warehouse.execute(f"DROP VIEW {DATASET}.{view}")


def test_creating_again_replaces_a_view_with_other_columns(warehouse: Warehouse) -> None:
    drop_views(warehouse)
    warehouse.execute(f"CREATE VIEW {DATASET}._state_runs AS SELECT 1 AS something_else")
    warehouse.execute(f"CREATE VIEW {DATASET}.outages AS SELECT something_else FROM {DATASET}._state_runs")
    create_views(warehouse)
    assert read(warehouse, "outages", "*") == []


def existing_views(warehouse: Warehouse) -> set[str]:
    query = f"SELECT table_name FROM information_schema.views WHERE table_schema = '{DATASET}'"
    return {row[0] for row in warehouse.query(query)}


@pytest.mark.parametrize("columns_changed", [False, True])
def test_views_of_former_releases_go(warehouse: Warehouse, columns_changed: bool) -> None:
    drop_views(warehouse)
    below = "1 AS something"
    for view in reversed(views.FORMER_VIEWS):
        warehouse.execute(f"CREATE VIEW {DATASET}.{view} AS SELECT {below}")
        below = f"something FROM {DATASET}.{view}"
    if columns_changed:
        warehouse.execute(f"CREATE VIEW {DATASET}.outages AS SELECT {below}")
    create_views(warehouse)
    assert existing_views(warehouse) == {*views.VIEWS, views.MARKER}


def test_a_former_view_that_somebody_reads_stays(warehouse: Warehouse) -> None:
    former = views.FORMER_VIEWS[0]
    warehouse.execute(f"CREATE VIEW {DATASET}.{former} AS SELECT 1 AS something")
    warehouse.execute(f"CREATE VIEW {DATASET}.theirs AS SELECT something FROM {DATASET}.{former}")
    try:
        create_views(warehouse)
        if warehouse.dialect == "postgres":
            assert read(warehouse, "theirs", "*") == [(1,)]
        assert views.are_current(warehouse.query, warehouse.dialect, DATASET, DATASET, 86_400)
    finally:
        warehouse.execute(f"DROP VIEW {DATASET}.theirs")
        warehouse.execute(f"DROP VIEW IF EXISTS {DATASET}.{former}")


def test_a_duckdb_file_answers_under_any_name(tmp_path: Path) -> None:
    file = tmp_path / "cronofy.duckdb"
    with duckdb.connect() as connection:
        # as the load does it: the file is named like the schema in it
        connection.execute(f"ATTACH '{file}' AS made; USE made; CREATE SCHEMA cronofy; USE made.cronofy")
        for table in RAW_TABLES:
            connection.register("rows", raw_schema(table).empty_table())
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM rows")

        def execute(sql: str) -> None:
            connection.execute(sql)

        views.create_views(execute, "duckdb", '"made"."cronofy"', 86_400)
    with duckdb.connect(str(file)) as connection:
        assert connection.execute("SELECT count(*) FROM cronofy.cronofy.outages").fetchall() == [(0,)]
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{file}' AS other (READ_ONLY)")
        assert connection.execute("SELECT count(*) FROM other.cronofy.needs_relink").fetchall() == [(0,)]
