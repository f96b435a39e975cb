"""Whole commands in child processes, against the benchmark server, and what they take."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND = ("-m", "dlt_cronofy")
LOAD = (*COMMAND, "load", "--endpoints", "userinfo", "--json")
TOKEN_FILE = "tokens.csv"


@dataclass(frozen=True)
class Cost:
    """What one process took: user and system time, time, and its largest resident memory."""

    cpu_seconds: float
    seconds: float
    peak_megabytes: float


def environment(url: str, directory: str) -> dict[str, str]:
    """Variables for commands that read the token file in that directory, without limits."""
    return os.environ | {
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": directory,
        "SOURCES__CRONOFY__TOKENS_FILE": TOKEN_FILE,
        "SOURCES__CRONOFY__BASE_URL": url,
        "SOURCES__CRONOFY__REQUESTS_PER_SECOND": "1e9",
        "SOURCES__CRONOFY__REQUESTS_PER_MINUTE": "1e9",
    }


def run(arguments: tuple[str, ...], directory: str, variables: dict[str, str]) -> Cost:
    """What one run of Python took.

    Its peak is not below that of this process, whose memory it begins with.

    Raises:
        subprocess.CalledProcessError: it ended with another status than 0.
    """
    command = [sys.executable, *arguments]
    output = Path(directory, "output.txt")
    started = time.monotonic()
    with output.open("w") as opened:
        process = subprocess.Popen(
            command, cwd=directory, env=variables, stdout=opened, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output.read_text())
    return Cost(usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss / 1024)
