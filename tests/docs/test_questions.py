"""What the documents say of the demo: each query is run and prints what is shown (`UPDATE_DOCS=1` writes)."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.sandbox import build_world
from dlt_cronofy.sandbox.demo import START, Demo
from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.views.headers import read_header
from docs.generators.dictionary import duckdb_type, table_columns
from tests.docs.questions import DOCUMENT, QUESTIONS, Question, printed, rewrite, trimmed
from tests.pipelines.views.warehouse import DATASET, PostgresWarehouse
from tests.played import copy_to_postgres

# the first test plays the demo, which takes long on a busy machine
pytestmark = pytest.mark.timeout(300)
each_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    cursor = connection.execute(sql)
    assert cursor.description
    return printed([column[0] for column in cursor.description], cursor.fetchall())


def columns_in_warehouse(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {name}").fetchall()}


@pytest.fixture(scope="module")
def postgres(postgres_uri: str, demo_file: Path) -> Iterator[PostgresWarehouse]:
    """The demo's tables on PostgreSQL."""
    warehouse = PostgresWarehouse(postgres_uri)
    copy_to_postgres(demo_file, warehouse)
    warehouse.execute(f"SET search_path = {DATASET}")
    yield warehouse
    warehouse.close()


def test_nothing_happens_while_a_load_runs(demo_plan: Demo) -> None:
    """So each load sees the same on a slow machine as on a fast one, and the answers are always the same."""
    world = build_world(
        accounts=demo_plan.accounts, seed=demo_plan.seed, start=START, days=demo_plan.days + 1
    )
    events = [
        at for account in world.accounts for profile in account.profiles for at in profile.history.times[1:]
    ]
    events += [token.revoked_at for token in world.tokens if token.revoked_at]
    assert len(events) > 100
    for load_at in demo_plan._schedule():
        assert not [at for at in events if load_at <= at < load_at + timedelta(minutes=1)]


def test_every_section_is_a_question() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(QUESTIONS) == 20 == text.count("\n## ") == text.count("```sql") == text.count("```text")
    assert [question.title.split(".")[0] for question in QUESTIONS] == [str(n) for n in range(1, 21)]


@pytest.mark.parametrize("question", QUESTIONS[:15], ids=lambda question: question.title)
def test_the_first_fifteen_take_one_line(question: Question) -> None:
    assert question.sql.count("\n") == 1


@each_question
def test_says_how_to_read_the_answer(question: Question) -> None:
    assert 1 <= question.reading.count(".") <= 8


@each_question
def test_prints_what_is_shown(question: Question, connection: duckdb.DuckDBPyConnection) -> None:
    answer = ask(connection, question.sql)
    assert answer != "no rows\n"
    if os.environ.get("UPDATE_DOCS"):
        rewrite(question, answer)
    else:
        assert answer == question.answer


@pytest.mark.sampled(6)
@each_question
def test_prints_the_same_on_postgres(
    question: Question, connection: duckdb.DuckDBPyConnection, postgres: PostgresWarehouse
) -> None:
    answer = ask(connection, question.sql)
    columns = answer.splitlines()[0].split()
    assert printed(columns, postgres.query(question.sql)) == answer


def test_the_command_line_prints_it_so(
    demo_file: Path,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = ask(connection, QUESTIONS[0].sql)
    connection.close()  # dlt opens the file for writing
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(demo_file))
    shown = CliRunner().invoke(
        cli, ["query", QUESTIONS[0].sql], catch_exceptions=False, env={"COLUMNS": "120"}
    )
    assert trimmed(shown.stdout) == answer


@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_every_view_has_rows_on_the_demo(view: str, connection: duckdb.DuckDBPyConnection) -> None:
    # one load a day sees no profile break three times in a month
    assert (connection.table(view).fetchone() is None) == (view == "flapping_profiles")


# of the dictionary; here, because one file plays one demo


@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_headers_name_the_columns_that_the_views_have(
    view: str, connection: duckdb.DuckDBPyConnection
) -> None:
    assert list(read_header(view).columns) == list(columns_in_warehouse(connection, view))


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_columns_of_their_schemas(name: str, connection: duckdb.DuckDBPyConnection) -> None:
    described = {column.name: duckdb_type(column) for column in table_columns(TABLES[name])}
    loaded = columns_in_warehouse(connection, name)
    # fields that no schema names get columns of their own
    assert described == {column: kind for column, kind in loaded.items() if column in described}


@pytest.mark.parametrize("name", TABLES)
def test_columns_that_may_not_be_null_are_the_warehouse_s(
    name: str, connection: duckdb.DuckDBPyConnection
) -> None:
    rows = connection.execute(f"DESCRIBE {name}").fetchall()
    required = {row[0] for row in rows if row[2] == "NO"}
    assert required == {field.name for field in TABLES[name].schema if not field.nullable} | {"_dlt_load_id"}
