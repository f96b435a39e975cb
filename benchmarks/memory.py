"""Peak resident memory of whole loads, each in a fresh process, in MB.

The goal for a first sweep, which writes every table: ten times as many tokens take at most 1.2 times as much.
The other rows are of a warehouse that knows a million profiles of 500,000 tokens, all of them in its token
file: a plan alone, which reads the tokens and when each was polled last; a load that may send 2,000 requests,
the first that compares all tokens with the store and writes what it says of them; and the load after it. The
ratio is to the smallest first sweep; what importing costs is part of all of them.
`CRONOFY_BENCHMARK_SCALE=0.01` makes everything a hundred times smaller.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .server import serving

SCALE = float(os.environ.get("CRONOFY_BENCHMARK_SCALE", "1"))
SIZES = tuple(round(SCALE * size) for size in (10_000, 100_000))
KNOWN_TOKENS = round(SCALE * 500_000)
MAX_REQUESTS = round(SCALE * 2_000)
TOKEN_FILE = "tokens.csv"
# what else a process may do than load so many tokens
PLAN, ALL_KNOWN = "plan", "all known"


def measure() -> list[dict[str, Any]]:
    """One row a load: its peak, what of it is more than importing takes, the ratio, its seconds."""
    rows: list[dict[str, Any]] = []
    with serving() as (url, _):
        for tokens in SIZES:
            with tempfile.TemporaryDirectory() as directory:
                rows.append(_row(f"first sweep, {tokens:,} tokens", _run(url, directory, str(tokens))))
        with tempfile.TemporaryDirectory() as directory:
            _make_known(url, directory)
            known = f"{2 * KNOWN_TOKENS:,} profiles known"
            rows.append(_row(f"plan, {known}", _run(url, directory, PLAN)))
            rows.append(_row(f"{MAX_REQUESTS:,} requests, {known}", _run(url, directory, ALL_KNOWN)))
            rows.append(_row("the same again", _run(url, directory, ALL_KNOWN)))
    return [row | {"ratio": row["peak MB"] / rows[0]["peak MB"]} for row in rows]


def _row(load: str, figures: dict[str, float]) -> dict[str, Any]:
    peak = figures["peak"]
    return {
        "load": load,
        "peak MB": round(peak),
        "more than importing": round(peak - figures["imported"]),
        "seconds": round(figures["seconds"], 1),
    }


def _run(url: str, directory: str, work: str) -> dict[str, float]:
    """Work in a process of its own: a load of so many tokens or of all that are known, or a plan of these."""
    arguments = [sys.executable, "-m", "benchmarks.memory", url, directory, work]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def _make_known(url: str, directory: str) -> None:
    """A warehouse as the last load finds it; the tokens that load polls are those a real load has read."""
    from .known import know

    # with /v1/account a token takes two requests
    know(url, KNOWN_TOKENS, MAX_REQUESTS // 2, Path(directory), TOKEN_FILE)


def _work(url: str, directory: str, work: str) -> None:
    """One load or plan in this process; prints its peak memory in MB and its seconds."""
    from dlt_cronofy.load.run import Load
    from dlt_cronofy.load.steps import LoadOptions, make_plan
    from dlt_cronofy.source.settings import DEFAULT_ENDPOINTS, USERINFO
    from dlt_cronofy.source.tokens.store import open_store
    from dlt_cronofy.source.tokens.token import Token, in_data_centers
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    from .throughput import settings, token

    figures = {"imported": _peak_megabytes()}
    started = time.perf_counter()
    read: list[Token]
    if work in (PLAN, ALL_KNOWN):
        read = in_data_centers(open_store(tokens_file=f"{directory}/{TOKEN_FILE}").read(), "us")
        options = LoadOptions(timedelta(0), DEFAULT_ENDPOINTS, max_requests=MAX_REQUESTS)
    else:
        read = [token(number) for number in range(int(work))]
        options = LoadOptions(timedelta(0), (USERINFO,))
    pipeline = open_pipeline(
        "duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=Path(directory)
    )
    if work == PLAN:
        make_plan(pipeline, read, options, datetime.now(UTC))
    else:
        Load(pipeline, settings(url), read, options).run()
    figures |= {"peak": _peak_megabytes(), "seconds": time.perf_counter() - started}
    print(json.dumps(figures))


def _peak_megabytes() -> float:
    # getrusage carries the parent's peak over fork and exec; the high-water mark of the memory map does not
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], sys.argv[3])
