"""Peer: the official SDK and pandas, as a script.

`python pycronofy_script.py URL TOKENS_FILE DUCKDB_FILE [THREADS]`
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pandas as pd
from pycronofy import Client, settings


def fetch(token: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Userinfo, account and profiles of one token."""
    key, access_token = token
    client = Client(access_token=access_token)
    userinfo, account, profiles = client.userinfo(), client.account(), client.list_profiles()
    return userinfo | {"key": key}, account | {"key": key}, [profile | {"key": key} for profile in profiles]


def main() -> None:
    """Fetch everything, make data frames, write them to DuckDB."""
    url, tokens_file, database, *threads = sys.argv[1:]
    settings.API_BASE_URL = url
    frame = pd.read_csv(tokens_file, dtype=str)
    tokens = list(zip(frame["key"], frame["access_token"], strict=True))
    if threads:
        with ThreadPoolExecutor(int(threads[0])) as pool:
            fetched = list(pool.map(fetch, tokens))
    else:
        fetched = [fetch(token) for token in tokens]
    frames = {
        "userinfo": pd.json_normalize([userinfo for userinfo, _, _ in fetched]),
        "account": pd.DataFrame([account for _, account, _ in fetched]),
        "profiles": pd.DataFrame([profile for _, _, profiles in fetched for profile in profiles]),
    }
    with duckdb.connect(database) as connection:
        for name, rows in frames.items():
            connection.register("fetched_rows", rows)
            connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM fetched_rows")


if __name__ == "__main__":
    main()
