"""Writes token files in the formats that the loader reads."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from .records import SandboxToken

COLUMNS = ("key", "access_token", "refresh_token", "data_center")


def write_token_file(path: Path, tokens: Sequence[SandboxToken]) -> Path:
    """Writes `tokens` to `path` as Parquet, JSON Lines or CSV, by suffix, and returns `path`."""
    rows = [{column: getattr(token, column) for column in COLUMNS} for token in tokens]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        _write_parquet(path, rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return path


def _write_parquet(path: Path, rows: list[dict[str, str | None]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column, pa.string()) for column in COLUMNS])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
