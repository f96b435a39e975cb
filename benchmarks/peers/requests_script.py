"""Peer: requests and pandas, as a script with one kept session a thread.

`python requests_script.py URL TOKENS_FILE DUCKDB_FILE [THREADS]`
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pandas as pd
import requests

ENDPOINTS = ("userinfo", "account", "profiles")


class Cronofy:
    """The three endpoints of one host."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = threading.local()

    def fetch(self, access_token: str) -> tuple[dict[str, Any], ...]:
        """The bodies of the three endpoints."""
        return tuple(self._get(endpoint, access_token) for endpoint in ENDPOINTS)

    def _get(self, endpoint: str, access_token: str) -> dict[str, Any]:
        if not hasattr(self._thread, "session"):
            self._thread.session = requests.Session()
        headers = {"Authorization": f"Bearer {access_token}"}
        response = self._thread.session.get(f"{self._url}/v1/{endpoint}", headers=headers, timeout=30)
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body


def main() -> None:
    """Fetch everything, make data frames, write them to DuckDB."""
    url, tokens_file, database, *threads = sys.argv[1:]
    tokens = pd.read_csv(tokens_file, dtype=str)
    cronofy = Cronofy(url)
    if threads:
        with ThreadPoolExecutor(int(threads[0])) as pool:
            fetched = list(pool.map(cronofy.fetch, tokens["access_token"]))
    else:
        fetched = [cronofy.fetch(access_token) for access_token in tokens["access_token"]]
    keyed = list(zip(tokens["key"], fetched, strict=True))
    frames = {
        "userinfo": pd.json_normalize([bodies[0] | {"key": key} for key, bodies in keyed]),
        "account": pd.DataFrame([bodies[1]["account"] | {"key": key} for key, bodies in keyed]),
        "profiles": pd.DataFrame(
            [profile | {"key": key} for key, bodies in keyed for profile in bodies[2]["profiles"]]
        ),
    }
    with duckdb.connect(database) as connection:
        for name, rows in frames.items():
            connection.register("fetched_rows", rows)
            connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM fetched_rows")


if __name__ == "__main__":
    main()
