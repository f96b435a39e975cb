"""Who loads the same tokens, and how each is called."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .environments import PEERS, environment

Command = list[str]

THREADS = 8
# target-duckdb 0.8.0 lets DuckDB guess whether its CSV files have a header, and where all columns are text it
# guesses wrong: https://github.com/jwills/target-duckdb/pull/58 fixes it and is in no release yet
TAKEN_FOR_A_HEADER = {"account": 1}


@dataclass(frozen=True)
class Job:
    """What every contender is given: where to ask, for which tokens, and a folder of its own to load in."""

    url: str
    tokens_file: Path
    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "loaded.duckdb"

    def variables(self) -> dict[str, str]:
        """Environment variables: nothing is sent anywhere, and nothing is left outside the folder."""
        folder = str(self.folder)
        return {
            "DO_NOT_TRACK": "1",
            "AIRBYTE_OFFLINE_MODE": "1",
            "AIRBYTE_LOGGING_ROOT": folder,
            "TAP_CRONOFY_LOGLEVEL": "WARNING",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "DLT_DATA_DIR": folder,
            "HOME": folder,
            "TMPDIR": folder,
            "XDG_CACHE_HOME": folder,
            "XDG_CONFIG_HOME": folder,
            "XDG_DATA_HOME": folder,
            "DESTINATION__DUCKDB__CREDENTIALS": str(self.database),
            "SOURCES__CRONOFY__BASE_URL": self.url,
            "SOURCES__CRONOFY__TOKENS_FILE": str(self.tokens_file),
            "SOURCES__CRONOFY__REQUESTS_PER_SECOND": "1e9",
            "SOURCES__CRONOFY__REQUESTS_PER_MINUTE": "1e9",
        }


SLOW_SHARE = 0.3


@dataclass(frozen=True)
class Contender:
    """One way of loading the tokens.

    Attributes:
        name: as the table has it.
        calls: requests a token.
        variants: ways to run it that its users choose between; the fastest is shown.
        loses: rows of a table that it is known to lose.
        share: of the tokens, for those that would take minutes with all.
    """

    name: str
    calls: int
    variants: dict[str, Callable[[Job], Command]]
    loses: dict[str, int] = field(default_factory=dict)
    share: float = 1.0


def contenders() -> list[Contender]:
    """Ours first, then the peers; what they need is installed when this returns."""
    airbyte, singer = environment("airbyte"), environment("singer")
    own = Path(sys.executable)
    threads = f"{THREADS} threads"
    return [
        Contender("dlt-cronofy load, userinfo", 1, {"": _load("userinfo")}),
        Contender("dlt-cronofy load, three endpoints", 3, {"": _load("userinfo,account,profiles")}),
        Contender(
            "dlt rest_api",
            3,
            {
                "default": _script(own, "rest_api_pipeline.py"),
                "parallelized": _script(own, "rest_api_pipeline.py", "parallelized"),
            },
            share=SLOW_SHARE,
        ),
        Contender(
            "PyAirbyte, low-code source",
            3,
            {"": _script(airbyte / "python", "airbyte_script.py")},
            share=SLOW_SHARE,
        ),
        Contender("Singer SDK tap, target-duckdb", 3, {"": _singer(singer)}, TAKEN_FOR_A_HEADER),
        Contender(
            "pycronofy and pandas",
            3,
            {
                "loop": _script(own, "pycronofy_script.py"),
                threads: _script(own, "pycronofy_script.py", str(THREADS)),
            },
        ),
        Contender(
            "requests and pandas",
            3,
            {
                "loop": _script(own, "requests_script.py"),
                threads: _script(own, "requests_script.py", str(THREADS)),
            },
        ),
    ]


def _load(endpoints: str) -> Callable[[Job], Command]:
    return lambda _: [sys.executable, "-m", "dlt_cronofy", "load", "--endpoints", endpoints]


def _script(python: Path, script: str, *variant: str) -> Callable[[Job], Command]:
    program = [str(python), str(PEERS / script)]
    return lambda job: [*program, job.url, str(job.tokens_file), str(job.database), *variant]


def _singer(programs: Path) -> Callable[[Job], Command]:
    def command(job: Job) -> Command:
        tap = job.folder / "tap.json"
        tap.write_text(json.dumps({"base_url": job.url, "tokens_file": str(job.tokens_file)}))
        target = job.folder / "target.json"
        target.write_text(json.dumps({"path": str(job.database), "default_target_schema": "main"}))
        return _piped(
            [programs / "python", PEERS / "tap_cronofy.py", "--config", tap],
            [programs / "target-duckdb", "--config", target],
        )

    return command


def _piped(*commands: Iterable[str | Path]) -> Command:
    """A shell that pipes one command into the next, and fails when one of them does."""
    line = " | ".join(shlex.join(map(str, command)) for command in commands)
    return ["bash", "-o", "pipefail", "-c", line]
