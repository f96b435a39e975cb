"""Indexes, statistics and labels of real warehouses; SQL for those that are out of reach."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from dlt_cronofy.rebuild import analyze, differences, heal, prepare_postgres, rebuild, recount_run
from dlt_cronofy.rebuild.replacement import parts, parts_of_runs, parts_of_time
from dlt_cronofy.rebuild.upkeep import INDEXED
from dlt_cronofy.rebuild.warehouse_sql import WarehouseSql, columns_of, tables_of
from dlt_cronofy.source.tables import TABLES
from tests.pipelines.rebuild.test_walk import HOLD, polls_per_part, rows_of
from tests.pipelines.rebuild.warehouse import EVIDENCE, Tables
from tests.pipelines.views.worlds import START, crowd

DIALECTS = ("bigquery", "databricks", "duckdb", "postgres", "redshift", "snowflake")
QUERIES = (*EVIDENCE, "evidence_ages", "horizon")
# names of table columns and of SQL
LABELS = ("plan", "order", "Group")


def indexes(tables: Tables) -> set[tuple[str, str]]:
    sql = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'evidence' AND indexname LIKE %s"
    with tables.client.execute_query(sql, "dlt_cronofy_%") as cursor:
        return {(table, definition.rpartition("(")[2].rstrip(")")) for table, definition in cursor.fetchall()}


def test_postgres_gets_its_indexes_once(postgres_tables: Tables) -> None:
    postgres_tables.create()
    postgres_tables.execute(f"DROP TABLE {postgres_tables.name('calendars')}")
    for _ in range(2):
        prepare_postgres(postgres_tables.client)
        assert indexes(postgres_tables) == set(INDEXED) - {("calendars", "token_key")}
    postgres_tables.create()


def test_postgres_learns_what_is_in_tables(postgres_tables: Tables) -> None:
    postgres_tables.create()
    postgres_tables.fill(rows_of(crowd(0)))
    analyze(postgres_tables.client, ["polls", "no_table_of_ours"])
    sql = "SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'evidence'"
    with postgres_tables.client.execute_query(sql) as cursor:
        assert cursor.fetchall() == [("polls",)]


def test_postgres_compares_no_row_with_each_while_it_works(
    postgres_tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_tables.create()
    postgres_tables.fill(rows_of(crowd(0)))
    client = postgres_tables.client
    settings: set[str] = set()
    query = WarehouseSql.query

    def setting(sql: WarehouseSql) -> str:
        return str(sql.fetch("SHOW enable_nestloop")[0][0])

    def noting(sql: WarehouseSql, name: str, *arguments: Any) -> str:
        if name in EVIDENCE:
            settings.add(setting(sql))
        return query(sql, name, *arguments)

    monkeypatch.setattr(WarehouseSql, "query", noting)
    for work in (
        lambda: rebuild(client, HOLD),
        lambda: differences(client, HOLD),
        lambda: heal(client, HOLD, ["run_001"]),
        lambda: recount_run(client, "run_001"),
    ):
        settings.clear()
        work()
        assert settings == {"off"}
        assert setting(WarehouseSql(client)) == "on"


def test_other_warehouses_need_neither(duckdb_tables: Tables) -> None:
    prepare_postgres(duckdb_tables.client)
    analyze(duckdb_tables.client, EVIDENCE)
    with duckdb_tables.client.execute_query("SELECT count(*) FROM duckdb_indexes()") as cursor:
        assert cursor.fetchall() == [(0,)]


@pytest.fixture
def labelled(tables: Tables) -> Iterator[Tables]:
    tables.create(LABELS)
    yield tables
    tables.create()


def test_labels_stay_whatever_they_are_called(labelled: Tables) -> None:
    labelled.fill(rows_of(crowd(0)))
    rebuild(labelled.client, HOLD)
    values = ", ".join(f'"{label}" = token_key || {number}' for number, label in enumerate(LABELS))
    labelled.execute(f"UPDATE {labelled.name('token_status')} SET {values}, last_outcome = 'x'")
    rebuild(labelled.client, HOLD)
    assert differences(labelled.client, HOLD) == []
    for row in labelled.rows("token_status"):
        assert [row[label] for label in LABELS] == [f"{row['token_key']}{number}" for number in range(3)]


def test_parts_are_about_as_large_as_asked_for(duckdb_tables: Tables) -> None:
    raw = rows_of(crowd(0))
    duckdb_tables.fill(raw)
    sql = WarehouseSql(duckdb_tables.client)
    with polls_per_part(100):
        for key in ("account_id", "token_key", "run_id"):
            found = list(parts(sql, key))
            counts = [
                sql.fetch(f"SELECT count(*) FROM ({sql.rows_of('polls', part)}) AS polls")[0][0]
                for part in found
            ]
            assert len(found) == len(raw["polls"]) // 100 + 1
            assert sum(counts) == len(raw["polls"])
    assert len(list(parts(sql, "token_key"))) == 1


def test_the_whole_log_is_read_once(duckdb_tables: Tables) -> None:
    """Parts of time and of runs do not overlap, and each poll is in one of them."""
    duckdb_tables.fill(rows_of(crowd(0)))
    sql = WarehouseSql(duckdb_tables.client)
    with polls_per_part(100):
        times, runs = [part for _, part in parts_of_time(sql)], list(parts_of_runs(sql))
    all_polls = sql.fetch(sql.rows_of("polls"))
    for found in (times, runs):
        polls = [row for part in found for row in sql.fetch(sql.rows_of("polls", part))]
        assert len(found) > 2
        assert Counter(polls) == Counter(all_polls)


class Elsewhere:
    """What `WarehouseSql` asks of a client whose warehouse is out of reach."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect

    @property
    def capabilities(self) -> Any:
        return SimpleNamespace(
            sqlglot_dialect=self.dialect,
            escape_identifier=lambda name: exp.column(name, quoted=True).sql(self.dialect),
        )

    def make_qualified_table_name(self, name: str) -> str:
        return exp.to_table(f"cronofy.{name}").sql(self.dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", QUERIES)
def test_queries_are_sql_of_every_dialect(name: str, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {table: {each.name: each.name for each in TABLES[table].columns} for table in TABLES}
    del stored["polls"]["is_late"], stored["profile_changes"]
    monkeypatch.setattr(WarehouseSql, "stored", stored)
    client: Any = Elsewhere(dialect)
    text = WarehouseSql(client).query(name, hold=timedelta(hours=1), horizon=START)
    assert "$" not in text
    parsed = sqlglot.parse_one(text, dialect=dialect)
    assert isinstance(parsed, exp.Query)
    assert parsed.named_selects == columns_of(name)
    assert parsed.find(exp.Placeholder, exp.Parameter) is None
    assert {call.name for call in parsed.find_all(exp.Anonymous)} <= {"TIMESTAMP_MICROS"}  # of Databricks
    assert (parsed.find(exp.Collate) is None) == (
        dialect not in ("duckdb", "postgres") or name in ("coverage", "runs", "evidence_ages", "horizon")
    )


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_names_the_tables_of_the_log_and_of_evidence_only(name: str) -> None:
    assert set(tables_of(name)) <= {"polls", "profile_changes", *EVIDENCE}


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_query_returns_columns_of_its_table(name: str) -> None:
    columns = [each.name for each in TABLES[name].columns]
    assert [each for each in columns if each in columns_of(name)] == columns_of(name)
