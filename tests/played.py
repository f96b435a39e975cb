"""One demo, played once for all tests that look at a month of history."""

import os
import shlex
import shutil
from pathlib import Path

import click
import duckdb
import fasteners
import pytest

from dlt_cronofy.cli.demo import demo
from dlt_cronofy.sandbox.demo import DATABASE, Demo
from dlt_cronofy.views import TABLES
from tests.docs.questions import DEMO_COMMAND
from tests.pipelines.views.warehouse import (
    DATASET,
    PostgresWarehouse,
    create_tables,
    create_views,
    fill,
    raw_schema,
)


@pytest.fixture(scope="session")
def demo_plan(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """What the command in docs/questions.md plays."""
    program, command, *arguments = shlex.split(DEMO_COMMAND)
    assert (program, command) == ("dlt-cronofy", "demo")
    parsed = click.Context(demo)
    demo.parse_args(parsed, [*arguments, "--directory", str(tmp_path_factory.mktemp("demo"))])
    return Demo(**parsed.params)


@pytest.fixture(scope="session")
def demo_file(demo_plan: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DuckDB file that the command leaves behind: played by one worker, copied by each."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    played = shared / "played"
    with fasteners.InterProcessLock(shared / "played.lock"):
        if not played.exists():
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("dlt")))
                database = demo_plan.play().database
            shutil.copytree(database.parent, shared / "playing", ignore=shutil.ignore_patterns("pipelines"))
            (shared / "playing").rename(played)
    return shutil.copytree(played, tmp_path_factory.mktemp("demo") / "copy") / DATABASE


def copy_to_postgres(demo_file: Path, postgres: PostgresWarehouse) -> None:
    """The demo's tables and the views, in the dataset of the same name on PostgreSQL."""
    create_tables(postgres)
    with duckdb.connect(str(demo_file), read_only=True) as connection:
        connection.execute(f"USE {DATASET}")
        rows = {
            table: connection.table(table).select(*raw_schema(table).names).to_arrow_table().to_pylist()
            for table in TABLES
        }
    fill(postgres, rows)
    create_views(postgres)
    for table in TABLES:
        postgres.execute(f"ANALYZE {DATASET}.{table}")
