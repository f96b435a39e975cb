"""Peak resident memory of a whole load, one fresh process each.

The first sweep writes every table, the second finds nothing new.
"""

import json
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from .server import serving

SIZES = (10_000, 50_000)


def measure() -> list[dict[str, Any]]:
    """One row a size: peak MB of both sweeps, and the ratio to the smallest."""
    rows: list[dict[str, Any]] = []
    with serving() as (url, _):
        for tokens in SIZES:
            with tempfile.TemporaryDirectory() as directory:
                first, second = (_run(url, tokens, directory) for _ in range(2))
            smallest = rows[0] if rows else {"first sweep MB": first, "nothing new MB": second}
            rows.append(
                {
                    "tokens": tokens,
                    "first sweep MB": first,
                    "ratio": first / smallest["first sweep MB"],
                    "nothing new MB": second,
                    "ratio ": second / smallest["nothing new MB"],
                }
            )
    return rows


def _run(url: str, tokens: int, directory: str) -> float:
    arguments = [sys.executable, "-m", "benchmarks.memory", url, str(tokens), directory]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return float(json.loads(finished.stdout.splitlines()[-1]))


def _load(url: str, tokens: int, directory: str) -> None:
    """One load in this process; prints its peak memory in MB."""
    from pipelines.load import Load, LoadOptions
    from pipelines.warehouse import open_pipeline

    from .throughput import settings, token

    pipeline = open_pipeline(
        "duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=Path(directory)
    )
    options = LoadOptions(every=timedelta(0))
    Load(pipeline, settings(url), [token(number) for number in range(tokens)], options).run()
    print(_peak_megabytes())


def _peak_megabytes() -> float:
    # getrusage carries the parent's peak over fork and exec; the high-water mark of the memory map does not
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    _load(sys.argv[1], int(sys.argv[2]), sys.argv[3])
