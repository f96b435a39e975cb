"""Peer: PyAirbyte reads the low-code source `airbyte_manifest.yaml` into its DuckDB cache.

`python airbyte_script.py URL TOKENS_FILE DUCKDB_FILE [WORKERS]`
"""

import csv
import sys
from pathlib import Path

import airbyte  # type: ignore[import-not-found]
from airbyte.caches import DuckDBCache  # type: ignore[import-not-found]

MANIFEST = Path(__file__).with_name("airbyte_manifest.yaml")


def main() -> None:
    """Read all streams."""
    url, tokens_file, database, *workers = sys.argv[1:]
    with Path(tokens_file).open(newline="") as file:
        tokens = {row["key"]: row["access_token"] for row in csv.DictReader(file)}
    config = {"base_url": url, "tokens": tokens} | ({"num_workers": int(workers[0])} if workers else {})
    source = airbyte.get_source("source-cronofy", source_manifest=MANIFEST, config=config, streams="*")
    print(source.read(cache=DuckDBCache(db_path=database)).processed_records)


if __name__ == "__main__":
    main()
