"""Spark, which is what Databricks runs: tables as Parquet files, views in Databricks' SQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipelines.views.warehouse import DATASET, RAW_TABLES, Row, raw_schema

# neither UTC, nor that of DuckDB or PostgreSQL
TIME_ZONE = "Australia/Lord_Howe"
# a handful of rows is sooner computed than split up or compiled
SETTINGS = {
    "spark.master": "local[2]",
    "spark.app.name": "views",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.ui.enabled": "false",
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
            self._write(table, ())
            columns = ", ".join(f"{field.name} {TYPES[str(field.type)]}" for field in raw_schema(table))
            self.execute(
                f"CREATE TABLE {DATASET}.{table} ({columns}) USING parquet LOCATION '{folder / table}'"
            )

    def execute(self, statement: str) -> None:
        self._session.sql(statement)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        rows = self._session.sql(sql).toArrow().to_pylist()
        return [tuple(map(_in_utc, row.values())) for row in rows]

    def replace(self, table: str, rows: Sequence[Row]) -> None:
        """Put rows in the place of those that are there."""
        self._write(table, rows)
        self.execute(f"REFRESH TABLE {DATASET}.{table}")

    def close(self) -> None:
        self._session.stop()

    def _write(self, table: str, rows: Sequence[Row]) -> None:
        path = self._folder / table / "rows.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=raw_schema(table)), path)


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
