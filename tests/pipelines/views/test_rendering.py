"""The rendered text: what it may say, and that every dialect has its own words for it."""

import logging
import re
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

from dlt_cronofy import views
from dlt_cronofy.source.records import OUTCOMES
from dlt_cronofy.views.headers import read_header, source
from tests.pipelines.views.warehouse import DATASET, RAW_TABLES, Warehouse, create_views, raw_schema, read

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
# words that sqlglot knows other ones for; the warehouses know both
SYNONYMS = {"bigint", "precision", "string_agg", "unix_date"}
# functions of Snowflake and of Databricks
UNKNOWN_TO_SQLGLOT = {"TO_TIMESTAMP_TZ", "TIMESTAMP_SECONDS", "TIMESTAMP_MICROS"}


def rendered(view: str, dialect: str) -> str:
    return views.render(view, dialect, 86_400, DATASETS[dialect])


@pytest.mark.parametrize("dialect", DATASETS)
def test_sqlglot_understands_every_view_in_every_dialect(
    dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It writes the same words, finds every table and column, and the columns that the header names."""
    # in DuckDB names are bare: it binds them to the view's own schema, whatever the file is attached as
    dataset = None if dialect == "duckdb" else exp.to_table(DATASETS[dialect], dialect=dialect)
    columns = {table: raw_schema(table).names for table in views.TABLES}
    with caplog.at_level(logging.WARNING):
        for view in views.VIEWS:
            text = rendered(view, dialect)
            tree = sqlglot.parse_one(text, dialect=dialect)
            assert words(text) - words(tree.sql(dialect, comments=False)) <= SYNONYMS, view
            assert {call.name for call in tree.find_all(exp.Anonymous)} <= UNKNOWN_TO_SQLGLOT
            for table in tables_read(tree):
                assert table.name in columns, "a view comes after what it reads"
                assert (table.args.get("db"), table.args.get("catalog")) == place(dataset)
                table.set("db", None)
                table.set("catalog", None)
            schema: dict[str, object] = {
                name: dict.fromkeys(names, "unknown") for name, names in columns.items()
            }
            # a column that no table has is an error
            qualified = qualify(tree, dialect=dialect, schema=schema)
            assert isinstance(qualified, exp.Query)
            columns[view] = [name.lower() for name in qualified.named_selects]
            assert view not in views.PUBLIC_VIEWS or columns[view] == list(read_header(view).columns)
    assert caplog.text == ""


def place(dataset: exp.Table | None) -> tuple[exp.Expr | None, exp.Expr | None]:
    """Schema and catalog."""
    return (dataset.this, dataset.args.get("db")) if dataset else (None, None)


def words(sql: str) -> set[str]:
    return set(re.findall(r"[a-z_]+", re.sub("--.*", "", sql).lower()))


def tables_read(tree: exp.Expr) -> list[exp.Table]:
    ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
    return [table for table in tree.find_all(exp.Table) if table.name not in ctes]


def test_the_log_of_polls_says_what_every_outcome_means() -> None:
    cases = re.findall(r"WHEN '(\w+)' THEN '([^']*)'", source("poll_log"))
    assert cases == [(outcome.value, facts.meaning.replace("`", "")) for outcome, facts in OUTCOMES.items()]


def test_every_source_is_listed() -> None:
    assert {path.stem for path in Path(views.__file__).parent.glob("*.sql")} == set(views.VIEWS)


@pytest.mark.parametrize("view", views.VIEWS)
def test_header_gives_the_grain(view: str) -> None:
    assert views.header(view).startswith(f"{view}: one row")


@pytest.mark.parametrize("view", views.VIEWS)
def test_no_view_reads_the_clock(view: str) -> None:
    assert not CLOCK.search(re.sub("--.*", "", views.source(view)))


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
        ("duckdb", 5400, "last_sample_at + INTERVAL '5400 second'"),
        ("postgres", 5400.0, "last_sample_at + INTERVAL '5400 second'"),
        ("bigquery", 0.25, "last_sample_at + INTERVAL 250000 microsecond"),
    ],
)
def test_hold_is_a_constant(dialect: str, hold_seconds: float, expected: str) -> None:
    assert expected in views.render("account_health", dialect, hold_seconds, "cronofy")


def test_hold_must_be_positive() -> None:
    with pytest.raises(ValueError, match="hold_seconds must be positive"):
        views.render("account_health", "duckdb", 0, "cronofy")


def test_a_query_is_translated_with_its_tables_and_texts() -> None:
    query = "SELECT day FROM poll_coverage AS p WHERE grain = 'it''s'"
    expected = r"SELECT day FROM `my-project`.cronofy.poll_coverage AS p WHERE grain = 'it\'s'"
    assert views.translate_query(query, "bigquery", DATASETS["bigquery"]) == expected
    assert "FROM poll_coverage AS p" in views.translate_query(query, "duckdb", '"some"."where"')


def test_a_view_over_a_part_of_what_it_reads() -> None:
    query = views.restricted("time_to_relink", "outages", "seconds > 1")
    assert "FROM (SELECT * FROM outages WHERE seconds > 1) AS outages\n" in query
    with pytest.raises(ValueError, match="time_to_relink does not read runs"):
        views.restricted("time_to_relink", "runs", "1 = 1")


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
