"""Spark, which is what Databricks runs: tables as Parquet files, views in Databricks' SQL."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlt_cronofy.views import VIEWS, render
from tests.pipelines.views.warehouse import DATASET, RAW_TABLES, raw_schema

from .comparing import Rows, Tables, in_utc

# neither UTC, nor that of DuckDB or PostgreSQL
TIME_ZONE = "Australia/Lord_Howe"
# a handful of rows is sooner computed than split up or compiled
SETTINGS = {
    "spark.master": "local[2]",
    "spark.app.name": "views",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    " -XX:ReservedCodeCacheSize=256m",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": TIME_ZONE,
}
# as dlt has them in Databricks
TYPES = {
    "string": "STRING",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP",
}


class SparkWarehouse:
    """A Spark session with the raw tables in files of a folder."""

    dialect = "databricks"

    def __init__(self, folder: Path) -> None:
        from pyspark.sql import SparkSession

        self._folder = folder
        builder = SparkSession.builder
        for name, value in {**SETTINGS, "spark.sql.warehouse.dir": str(folder / "warehouse")}.items():
            builder = builder.config(name, value)
        self._session = builder.getOrCreate()
        self._session.sparkContext.setLogLevel("ERROR")
        self.execute(f"CREATE SCHEMA {DATASET}")
        for table in RAW_TABLES:
            schema = raw_schema(table)
            self._write(table, schema.empty_table())
            columns = ", ".join(f"{field.name} {TYPES[str(field.type)]}" for field in schema)
            place = folder / table
            self.execute(f"CREATE TABLE {DATASET}.{table} ({columns}) USING parquet LOCATION '{place}'")

    def execute(self, statement: str) -> None:
        """Run one statement."""
        self._session.sql(statement)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query, times in UTC."""
        return [in_utc(row.values()) for row in self._arrow(sql).to_pylist()]

    def fill(self, tables: Tables) -> None:
        """Put these rows in the place of all that are there."""
        for table in RAW_TABLES:
            rows = pa.Table.from_pylist(tables.get(table, []), schema=raw_schema(table))
            self._write(table, rows)
            self.execute(f"REFRESH TABLE {DATASET}.{table}")

    def results(self, hold: timedelta) -> dict[str, Rows]:
        """The rows of every view, by its rendered query.

        Each is kept as a table, for those that read it: Spark plans some that nest for half a minute.
        """
        found: dict[str, Rows] = {}
        for view in VIEWS:
            result = self._arrow(render(view, self.dialect, hold.total_seconds(), DATASET))
            found[view] = [in_utc(row.values()) for row in result.to_pylist()]
            self._write(view, result)
            self.execute(f"DROP TABLE IF EXISTS {DATASET}.{view}")
            self.execute(f"CREATE TABLE {DATASET}.{view} USING parquet LOCATION '{self._folder / view}'")
        for view in VIEWS:
            self.execute(f"DROP TABLE {DATASET}.{view}")
        return found

    def close(self) -> None:
        self._session.stop()

    def _arrow(self, sql: str) -> pa.Table:
        return self._session.sql(sql).toArrow()

    def _write(self, table: str, rows: pa.Table) -> None:
        path = self._folder / table / "rows.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)
