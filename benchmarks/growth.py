"""What the warehouse grows by: bytes a row after a simulated year, and by a load that finds nothing new.

A real load of a few tokens makes the tables in a DuckDB file and in a real PostgreSQL. Change capture then
makes the rows of a year of daily runs, and they are appended run by run as loads append them; in DuckDB every
run ends with a checkpoint, as every package of a load does (its copy of the file is left out). A second world
has very many tokens and two runs: columns of many keys pack differently.

Bytes of a table are those of the blocks that hold its columns in DuckDB, where tables share some, and those
of `pg_total_relation_size` in PostgreSQL. "all of it" is what file or database grew by: in DuckDB with the
blocks that are free for the next checkpoint, in steps of 256 KB. Another real load finds nothing new: its
rows are counted by table, and the files it leaves in the working folder, in the column of the rows.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import dlt
import duckdb
import psycopg2  # type: ignore[import-untyped]
import pyarrow as pa
from pyarrow import csv

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.settings import USERINFO
from dlt_cronofy.source.tables import POLLS
from dlt_cronofy.warehouse.duckdb_file import SETTINGS
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.postgres import credentials, postgres_server

from .daily_runs import LOGS, DailyRuns, Logs
from .server import serving
from .throughput import settings, token

SCALE = float(os.environ.get("CRONOFY_BENCHMARK_SCALE", "1"))
LOADED_TOKENS = 300
DATASET = "cronofy"


def _worlds() -> dict[str, DailyRuns]:
    few, many = (round(SCALE * tokens) for tokens in (300, 20_000))
    return {f"{few:,} tokens, a year": DailyRuns(few, 365), f"{many:,} tokens, 2 runs": DailyRuns(many, 2)}


class Database(Protocol):
    """A warehouse whose tables a load has made."""

    def append(self, runs: Sequence[Logs]) -> None:
        """Write the rows of runs, one run after the other."""
        ...

    def table_bytes(self, table: str) -> int:
        """What one table takes."""
        ...

    def all_bytes(self) -> int:
        """What all of it takes."""
        ...


@dataclass(frozen=True)
class DuckDB:
    """A DuckDB file."""

    file: Path

    def append(self, runs: Sequence[Logs]) -> None:
        with self._connected() as connection:
            for run in runs:
                for table, rows in run.items():
                    connection.register("new_rows", rows)
                    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")
                connection.execute("CHECKPOINT")

    def table_bytes(self, table: str) -> int:
        blocks = f"SELECT count(DISTINCT block_id) FROM pragma_storage_info('{table}') WHERE block_id >= 0"
        used = f"SELECT ({blocks}) * block_size FROM pragma_database_size()"
        with self._connected() as connection:
            return int(connection.execute(used).fetchall()[0][0])

    def all_bytes(self) -> int:
        return self.file.stat().st_size

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(self.file, config=dict(SETTINGS)) as connection:
            connection.execute(f"USE {self.file.stem}.{DATASET}")
            yield connection


@dataclass(frozen=True)
class PostgreSQL:
    """A PostgreSQL server."""

    uri: str

    def append(self, runs: Sequence[Logs]) -> None:
        with closing(psycopg2.connect(self.uri)) as connection, connection.cursor() as cursor:
            for run in runs:
                for table, rows in run.items():
                    cursor.copy_expert(
                        f"COPY {DATASET}.{table} ({', '.join(rows.column_names)}) FROM STDIN CSV HEADER",
                        pa.BufferReader(_as_csv(rows)),
                    )
                connection.commit()

    def table_bytes(self, table: str) -> int:
        return self._number(f"SELECT pg_total_relation_size('{DATASET}.{table}')")

    def all_bytes(self) -> int:
        return self._number("SELECT pg_database_size(current_database())")

    def _number(self, query: str) -> int:
        with closing(psycopg2.connect(self.uri)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return int(cursor.fetchone()[0])


def _as_csv(rows: pa.Table) -> pa.Buffer:
    target = pa.BufferOutputStream()
    csv.write_csv(rows, target)
    return target.getvalue()


@dataclass(frozen=True)
class Place:
    """A warehouse, the pipeline into it and the pipeline's working folder."""

    warehouse: str
    database: Database
    pipeline: dlt.Pipeline
    working_folder: Path
    url: str

    def load(self) -> dict[str, int]:
        """A real load of userinfo; returns the rows by table."""
        tokens = [token(number) for number in range(LOADED_TOKENS)]
        options = LoadOptions(timedelta(0), (USERINFO,))
        return Load(self.pipeline, settings(self.url), tokens, options).run().rows

    def row(self, what: str, rows: int, size: int) -> dict[str, Any]:
        """A row of the answer."""
        return {
            "warehouse": self.warehouse,
            "what": what,
            "rows": rows,
            "bytes": size,
            "bytes a row": round(size / rows) if rows else 0,
        }


def measure() -> list[dict[str, Any]]:
    """One row a warehouse, world and table, and some for a load that finds nothing new."""
    worlds = {name: list(year.logs()) for name, year in _worlds().items()}
    rows: list[dict[str, Any]] = []
    with serving() as (url, _), postgres_server() as uri, patch.dict(os.environ, _configured(uri)):
        for opened in (_duckdb_place, _postgres_place):
            # every world begins with tables of a load of its own
            for position, (name, runs) in enumerate(worlds.items()):
                with tempfile.TemporaryDirectory() as directory:
                    place = opened(url, uri, Path(directory))
                    place.load()
                    unchanged = [] if position else _unchanged(place)
                    rows += [*unchanged, *_year(place, name, runs)]
    return rows


def _configured(uri: str) -> dict[str, str]:
    return {"DESTINATION__POSTGRES__CREDENTIALS": credentials(uri)}


def _duckdb_place(url: str, _uri: str, directory: Path) -> Place:
    file, folder = directory / "cronofy.duckdb", directory / "working"
    pipeline = open_pipeline("duckdb", DATASET, str(file), folder)
    return Place("DuckDB", DuckDB(file), pipeline, folder, url)


def _postgres_place(url: str, uri: str, directory: Path) -> Place:
    with closing(psycopg2.connect(uri)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {DATASET} CASCADE")
        connection.commit()
    folder = directory / "working"
    return Place(
        "PostgreSQL", PostgreSQL(uri), open_pipeline("postgres", DATASET, pipelines_dir=folder), folder, url
    )


def _year(place: Place, world: str, runs: Sequence[Logs]) -> list[dict[str, Any]]:
    """What the runs add to each table and to all of it, without what the load has put there."""
    before = _sizes(place.database)
    place.database.append(runs)
    after = _sizes(place.database)
    counts = {table: sum(run[table].num_rows for run in runs) for table in LOGS}
    counts["all of it"] = sum(counts.values())
    return [place.row(f"{world}: {name}", counts[name], size - before[name]) for name, size in after.items()]


def _sizes(database: Database) -> dict[str, int]:
    return {table: database.table_bytes(table) for table in LOGS} | {"all of it": database.all_bytes()}


def _unchanged(place: Place) -> list[dict[str, Any]]:
    """What another load of the same tokens writes."""
    before, left_before = place.database.all_bytes(), _left(place.working_folder)
    written = place.load()
    grown = place.database.all_bytes() - before
    files, size = (now - then for now, then in zip(_left(place.working_folder), left_before, strict=True))
    polls = written.pop(POLLS.name)
    what = f"a load, {LOADED_TOKENS} tokens, nothing new"
    return [
        place.row(f"{what}: polls", polls, grown),
        place.row(f"{what}: other tables", sum(written.values()), 0),
        place.row(f"{what}: files left in the working folder", files, size),
    ]


def _left(folder: Path) -> tuple[int, int]:
    """Files in a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
