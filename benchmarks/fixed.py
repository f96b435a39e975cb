"""What a run costs in which nothing is due, in imports of dlt.

Whole processes, side by side, user and system time of each: importing dlt; what dlt itself takes to open a
pipeline on the same DuckDB file and sync with it; `dlt-cronofy --help`; and a load of a store whose tokens
were all polled a short while ago.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .server import serving, write_tokens

TOKENS, ROUNDS = 1_000, 3

STOCK = """
import dlt
pipeline = dlt.pipeline(
    "stock", destination=dlt.destinations.duckdb("stock.duckdb"), dataset_name="data", pipelines_dir="stock"
)
{}
pipeline.sync_destination()
with pipeline.sql_client() as client:
    client.execute_sql("SELECT 1")
"""
FILL = 'pipeline.run([{"a": 1}], table_name="a")'
LOAD = ("-m", "dlt_cronofy", "load", "--endpoints", "userinfo", "--json")


def measure() -> list[dict[str, Any]]:
    """One row a program: CPU and wall seconds, and the ratio of CPU time to that of `import dlt`."""
    programs: dict[str, tuple[str, ...]] = {
        "import dlt": ("-c", "import dlt"),
        "a stock dlt pipeline that syncs": ("-c", STOCK.format("")),
        "dlt-cronofy --help": ("-m", "dlt_cronofy", "--help"),
        "dlt-cronofy load, nothing due": LOAD,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    with serving() as (url, _), tempfile.TemporaryDirectory() as directory:
        write_tokens(Path(directory, "tokens.csv"), TOKENS)
        environment = _environment(url, directory)
        for first in (("-c", STOCK.format(FILL)), LOAD):
            _run(first, directory, environment)
        for _round in range(ROUNDS):
            for name, arguments in programs.items():
                found[name].append(_run(arguments, directory, environment))
    cpu = {name: statistics.median(each[0] for each in times) for name, times in found.items()}
    return [
        {
            "program": name,
            "CPU seconds": cpu[name],
            "ratio to import dlt": cpu[name] / cpu["import dlt"],
            "wall seconds": statistics.median(each[1] for each in times),
        }
        for name, times in found.items()
    ]


def _environment(url: str, directory: str) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": directory,
        "SOURCES__CRONOFY__TOKENS_FILE": "tokens.csv",
        "SOURCES__CRONOFY__BASE_URL": url,
        "SOURCES__CRONOFY__REQUESTS_PER_SECOND": "1e9",
        "SOURCES__CRONOFY__REQUESTS_PER_MINUTE": "1e9",
    }


def _run(arguments: tuple[str, ...], directory: str, environment: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, check=True, capture_output=True
    )
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds
