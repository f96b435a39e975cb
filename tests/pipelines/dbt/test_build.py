"""dbt on DuckDB: models are our views; data tests pass on a sound warehouse and fail on a broken one."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dlt_cronofy.views import PUBLIC_VIEWS, TABLES, VIEWS
from docs.generators.dbt_package import model_name
from tests.pipelines.dbt.project import MODELS, VIEW, Project


@pytest.fixture(scope="module")
def connection(built: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect(str(built.warehouse), read_only=True)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def rows(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> tuple[list[str], Counter[Any]]:
    """Columns and rows of a view, whatever their order."""
    found = connection.execute(f"SELECT * FROM cronofy.{schema}.{name}")
    return [column[0] for column in found.description or []], Counter(found.fetchall())


def test_every_model_is_built_and_every_data_test_passes(built: Project) -> None:
    statuses = built.statuses()
    assert {name for name in statuses if name.startswith("model.")} == {
        f"model.cronofy.{model_name(view)}" for view in VIEWS
    }
    assert set(statuses.values()) == {"success", "pass"}


def test_a_model_is_a_table_where_the_project_says_so(connection: duckdb.DuckDBPyConnection) -> None:
    views = f"SELECT view_name FROM duckdb_views() WHERE schema_name = '{MODELS}'"
    assert connection.execute(views).fetchall() == [(VIEW,)]


@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_a_model_has_the_rows_of_our_own_view(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    expected = rows(connection, "cronofy", view)
    assert expected[1], "nothing to compare"
    assert rows(connection, MODELS, view) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT state FROM profile_intervals", {"connected", "disconnected", "removed", "unknown"}),
        ("SELECT profile_type FROM profile_intervals", {"calendar", "conferencing"}),
        ("SELECT end_reason FROM outages", {"relinked", "removed", "open"}),
        ("SELECT verdict FROM account_health", {"healthy", "degraded", "down", "unknown", "no_profiles"}),
        ("SELECT email IS NULL FROM needs_relink", {False}),
        ("SELECT uptime BETWEEN 0 AND 1 FROM provider_health", {True}),
    ],
)
def test_the_history_has_all_there_is_to_tell(
    connection: duckdb.DuckDBPyConnection, query: str, expected: set[Any]
) -> None:
    table = query.partition(" FROM ")[2]
    found = connection.execute(query.replace(table, f"cronofy.cronofy.{table}")).fetchall()
    assert {row[0] for row in found} == expected


@pytest.mark.long
def test_the_documentation_can_be_made_and_describes_every_column(
    built: Project, connection: duckdb.DuckDBPyConnection
) -> None:
    connection.close()  # dbt writes to the file, if only in passing
    made = built.dbt("docs generate")
    assert made.returncode == 0, made.stdout + made.stderr
    manifest, catalog = built.target("manifest.json"), built.target("catalog.json")
    found = {**manifest["nodes"], **manifest["sources"]}
    for unique_id, entry in {**catalog["nodes"], **catalog["sources"]}.items():
        described = found[unique_id]
        assert described["description"]
        if described["name"] in (*PUBLIC_VIEWS, *TABLES):
            assert set(entry["columns"]) == set(described["columns"])
            assert all(column["description"] for column in described["columns"].values())


@pytest.mark.long
def test_on_a_broken_warehouse_every_data_test_fails(built: Project, tmp_path: Path) -> None:
    broken = replace(built, warehouse=tmp_path / "cronofy.duckdb")
    shutil.copy(built.warehouse, broken.warehouse)
    with closing(duckdb.connect(str(broken.warehouse))) as connection:
        for schema, names in {"cronofy": TABLES, MODELS: PUBLIC_VIEWS}.items():
            for name in names:
                break_table(connection, schema, name)
    assert broken.dbt("test").returncode == 1
    statuses = broken.statuses()
    tests = [name for name in built.target("manifest.json")["nodes"] if name.startswith("test.")]
    assert statuses == dict.fromkeys(tests, "fail")


def break_table(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> None:
    """Put in its place a table with every row twice, one row of nonsense and one of nulls."""
    relation = f"cronofy.{schema}.{name}"
    nonsense = {"VARCHAR": "'nonsense'", "DOUBLE": "2"}
    kinds = [row[1] for row in connection.execute(f"DESCRIBE {relation}").fetchall()]
    connection.execute(f"CREATE TEMP TABLE sound AS SELECT * FROM {relation}")
    connection.execute(f"DROP {'VIEW' if schema == MODELS and name == VIEW else 'TABLE'} {relation}")
    connection.execute(
        f"""
        CREATE TABLE {relation} AS
        FROM sound
        UNION ALL FROM sound
        UNION ALL SELECT {", ".join(nonsense.get(kind, "NULL") for kind in kinds)}
        UNION ALL SELECT {", ".join("NULL" for _ in kinds)}
        """
    )
    connection.execute("DROP TABLE sound")
