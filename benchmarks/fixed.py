"""What a command costs on a small warehouse, in imports of dlt.

Whole processes, side by side, user and system time of each: importing dlt; what dlt itself takes to open a
pipeline on a DuckDB file and sync with it; `dlt-cronofy --help`; a load of 250 tokens that were all polled a
short while ago; and `status` and a query of what they showed.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from .commands import COMMAND, LOAD, TOKEN_FILE, Cost, environment, run
from .server import serving, write_tokens

TOKENS, ROUNDS = 250, 5

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


def measure() -> list[dict[str, Any]]:
    """One row a program: CPU and wall seconds, and the ratio of CPU time to that of `import dlt`."""
    programs: dict[str, tuple[str, ...]] = {
        "import dlt": ("-c", "import dlt"),
        "a stock dlt pipeline that syncs": ("-c", STOCK.format("")),
        "dlt-cronofy --help": (*COMMAND, "--help"),
        "dlt-cronofy load, nothing due": LOAD,
        "dlt-cronofy status": (*COMMAND, "status"),
        "dlt-cronofy query": (*COMMAND, "query", "SELECT * FROM needs_action"),
    }
    found: dict[str, list[Cost]] = {name: [] for name in programs}
    with serving() as (url, _), tempfile.TemporaryDirectory() as directory:
        write_tokens(Path(directory, TOKEN_FILE), TOKENS)
        variables = environment(url, directory)
        for first in (("-c", STOCK.format(FILL)), LOAD):
            run(first, directory, variables)
        for _round in range(ROUNDS):
            for name, arguments in programs.items():
                found[name].append(run(arguments, directory, variables))
    cpu = {name: statistics.median(each.cpu_seconds for each in times) for name, times in found.items()}
    return [
        {
            "program": name,
            "CPU seconds": cpu[name],
            "ratio to import dlt": cpu[name] / cpu["import dlt"],
            "wall seconds": statistics.median(each.seconds for each in times),
        }
        for name, times in found.items()
    ]
