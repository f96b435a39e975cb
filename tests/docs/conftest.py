"""One demo, played once: the data of every answer in docs/questions.md."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import duckdb
import fasteners
import pytest

from pipelines.cli import demo
from pipelines.demo import DATABASE, Demo
from tests.docs.questions import DEMO_COMMAND
from tests.views.conftest import postgres_uri

__all__ = ["connection", "demo_file", "demo_plan", "postgres_uri"]


@pytest.fixture(scope="session")
def demo_plan(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """What the command in the document plays."""
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


@pytest.fixture
def connection(demo_file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The demo's data, in a session that does not think in UTC."""
    with closing(duckdb.connect(str(demo_file), read_only=True)) as connection:
        connection.execute("USE cronofy.cronofy")
        connection.execute("SET TimeZone = 'America/St_Johns'")
        yield connection
