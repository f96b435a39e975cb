"""A program that uses the source directly and fails in many places; run by `leaks`, in a process of its own.

stdout: every failure with the locals of all frames but its own, as three kinds of tools show them. stderr:
what Python itself says of it, and the logs. Arguments: the names of the cases to play, else all.
"""

import asyncio
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import dlt
import httpx
import rich.console
import rich.traceback

from dlt_cronofy.source import cronofy_source
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.retries import Retrier
from dlt_cronofy.source.api.transport import open_transport, reading
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import ClientCredentials, PollingSettings
from dlt_cronofy.source.sweep import Sweep
from dlt_cronofy.source.tokens.base import Renewal
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import Token, in_data_centers
from tests.campaign.canaries import ACCESS, CLIENT_SECRET, NEW_ACCESS, NEW_REFRESH, PASSWORD, REFRESH

Case = tuple[str, Callable[[], Any]]
TOKEN = Token("key0", Secret(ACCESS.format(0)), Secret(REFRESH.format(0)), "us")
RENEWAL = Renewal(TOKEN, Secret(NEW_ACCESS.format(0)), Secret(NEW_REFRESH.format(0)))
DATABASE = "sqlite:///application.sqlite"
QUERY = "SELECT key, access_token, refresh_token FROM users"
BAD_ROWS = "SELECT access_token || ' x' AS access_token, refresh_token AS key FROM users"
ROW = f"one,{ACCESS.format(1)},{REFRESH.format(1)}"
HEADER = "key,access_token,refresh_token\n"
QUOTED_PASSWORD = quote(PASSWORD, safe="")

# replaced by what fails; some of it is expected to, and becomes the outcome of a poll
FAULTS = (
    "dlt_cronofy.source.sweep.Capture.add",
    "dlt_cronofy.source.history.parse.parse",
    "dlt_cronofy.source.api.poller.Poller._record",
    "dlt_cronofy.source.api.transport._read_body",
    "dlt_cronofy.source.api.transport.status_outcome",
    "dlt_cronofy.source.api.client.CronofyClient._get",
    "dlt_cronofy.source.api.retries.Retrier._attempt",
    "dlt_cronofy.source.api.token_refresh.refresh_request",
    "dlt_cronofy.source.api.token_refresh.Refresher._keep",
    "dlt_cronofy.source.api.token_refresh.Refresher._refused",
    "dlt_cronofy.source.api.token_refresh.read_renewal",
    "dlt_cronofy.source.api.token_refresh._ended",
    "dlt_cronofy.source.tokens.write_back.WriteBack.save",
    "dlt_cronofy.source.tokens.write_back.WriteBack._judged",
    "dlt_cronofy.source.tokens.file_store.trial_renewals",
    "dlt_cronofy.source.tokens.file_store.is_as_written",
    "dlt_cronofy.source.tokens.file_store.FileStore._rewritten",
    "dlt_cronofy.source.tokens.file_store.FileStore.current",
    "dlt_cronofy.source.api.refresh_journal.digest",
    "httpx.AsyncClient.send",
    "httpx.AsyncClient.build_request",
    "aiohttp.ClientSession._request",
    "aiohttp.TCPConnector.connect",
    "aiohttp.ClientRequest.send",
    "dlt.normalize.normalize.w_normalize_files",
)
FILES = {
    "key twice.csv": f"{HEADER}{ROW}\n{ROW}\n",
    "blank in a token.csv": f"{HEADER}{ROW} x\n",
    "token as data center.csv": f"key,access_token,data_center\n{ROW}\n",
    "no header.csv": f"{ROW}\n",
    "half a line.jsonl": f'{{"access_token": "{REFRESH.format(1)}',
    "text.parquet": ROW,
    "endless cell.csv": f'{HEADER}one,"{ACCESS.format(1)}\n' + "x" * 200_000,
}
URLS = {
    "out of reach": f"postgresql://user:{QUOTED_PASSWORD}@127.0.0.1:1/db",
    "an @ in the password": f"postgresql://user:not@{QUOTED_PASSWORD}@127.0.0.1:1/db",
    "no such dialect": f"nosuch://user:{QUOTED_PASSWORD}@host/db",
    "no such driver": f"mysql+pymysql://user:{QUOTED_PASSWORD}@host/db",
    "no port": f"postgresql://user:{QUOTED_PASSWORD}@host:port/db",
    "no URL": PASSWORD,
}


class FaultError(Exception):
    """What is raised on purpose."""


def fail(*_: Any, **__: Any) -> Any:
    raise FaultError("on purpose")


def disk_full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Failing:
    """A token store of somebody's own, one of whose methods fails."""

    def __init__(self, method: str) -> None:
        self.name, self.folder = "theirs", None
        setattr(self, method, fail)

    def read(self) -> list[Token]:
        return in_data_centers(open_store(tokens_file="tokens.csv").read(), "us")

    def why_not_saved(self) -> str | None:
        return None

    def current(self, token: Token) -> Token | None:
        return None

    def save(self, renewals: list[Renewal]) -> list[Renewal]:
        return []


class Program:
    """What somebody's script does with the source."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.runs = 0

    @property
    def settings(self) -> PollingSettings:
        client = ClientCredentials("client", Secret(CLIENT_SECRET))
        return PollingSettings(base_url=self.base_url, max_attempts=1, timeout_seconds=5.0, client=client)

    def load(self, credentials: str | None = None, **options: Any) -> None:
        self.runs += 1
        name = f"failing{self.runs}"
        destination = dlt.destinations.duckdb(credentials or f"{name}.duckdb")
        dlt.pipeline(name, destination=destination, dataset_name="cronofy").run(cronofy_source(**options))

    def load_from(self, store: Any) -> None:
        tokens = in_data_centers(store.read(), "us")
        self.load(sweep=Sweep(self.settings, tokens=tokens, store=store))

    def load_with(self, patched: str, effect: Callable[..., Any] = fail) -> None:
        with patch(patched, effect):
            self.load()

    def read_file(self, name: str) -> None:
        Path(name).write_text(FILES[name], encoding="utf-8")
        try:
            self.load(tokens_file=name)
        finally:
            Path(name).unlink()

    def read_database(self, url: str, query: str = QUERY, tokens_file: str = "") -> None:
        names = {"TOKENS_DATABASE": url, "TOKENS_QUERY": query, "TOKENS_FILE": tokens_file}
        with patch.dict(os.environ, {f"SOURCES__CRONOFY__{name}": value for name, value in names.items()}):
            self.load()

    def save_to_database(self, table: str) -> None:
        update = f"UPDATE {table} SET access_token = :access_token, a = :refresh_token OR :used_refresh_token"
        open_store(tokens_query=QUERY, tokens_database=DATABASE, tokens_update=update).save([RENEWAL])

    def cancelled(self) -> None:
        """A request that is given up while it is under way."""

        async def ask() -> None:
            policy = RequestPolicy(self.settings, SystemClock(), [TOKEN])
            async with open_transport() as transport:
                retrier = Retrier(transport, self.settings, policy, SystemClock())
                build = partial(reading, httpx.URL(f"{self.base_url}/v1/hang"), TOKEN.access_token)
                await asyncio.wait_for(retrier.send("us", build), 0.3)

        asyncio.run(ask())


def cases(program: Program) -> Iterator[Case]:
    """What fails, by name."""
    for patched in FAULTS:
        yield patched, partial(program.load_with, patched)
    yield "disk full at a note", partial(program.load_with, "os.fsync", disk_full)
    yield "disk full after a refresh", partial(program.load_with, "os.ftruncate", disk_full)
    yield "destination", partial(program.load, str(Path.cwd()))
    yield "cancelled", program.cancelled
    for method in ("read", "why_not_saved", "current"):
        yield f"their store: {method}", partial(program.load_from, Failing(method))
    for name in FILES:
        yield f"token file: {name}", partial(program.read_file, name)
    for name, url in URLS.items():
        yield f"database: {name}", partial(program.read_database, url)
    yield "two stores", partial(program.read_database, URLS["out of reach"], QUERY, "tokens.csv")
    yield "query of no column", partial(program.read_database, DATABASE, "SELECT access_token, x FROM users")
    yield "query of bad rows", partial(program.read_database, DATABASE, BAD_ROWS)
    yield "update of no table", partial(program.save_to_database, "nobody")
    yield "update of no column", partial(program.save_to_database, "users")


def chain(error: BaseException) -> Iterator[BaseException]:
    """The errors that a traceback shows."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def with_locals(error: BaseException) -> Iterator[str]:
    """One failure, as the standard library, a walk over all frames, and rich show it."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    part: traceback.TracebackException | None = whole
    while part is not None:
        part.stack[:] = [frame for frame in part.stack if frame.filename != __file__]
        part = part.__cause__ or part.__context__
    yield from whole.format()
    for each in chain(error):
        for frame, line in traceback.walk_tb(each.__traceback__):
            if frame.f_code.co_filename != __file__:
                yield f"--- {frame.f_code.co_filename}:{line} {frame.f_code.co_name}\n"
                yield from map(_shown, frame.f_locals.items())
    console = rich.console.Console(file=io.StringIO(), width=5000, record=True)
    shown = rich.traceback.Traceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        width=5000,
        extra_lines=0,
        max_frames=200,
        show_locals=True,
        locals_max_length=1000,
        locals_max_string=100_000,
        # its frames are shown above; rich takes its time for them
        suppress=[dlt, __file__],
    )
    console.print(shown)
    yield re.sub(" {3,}", "  ", console.export_text())


def _shown(variable: tuple[str, Any]) -> str:
    name, value = variable
    try:
        return f"    {name} = {value!r} {value}\n"
    except Exception as problem:  # noqa: BLE001 - somebody else's repr
        return f"    {name}: {type(problem).__name__}\n"


def main() -> None:
    """Play the cases."""
    program = Program(os.environ["SOURCES__CRONOFY__BASE_URL"])
    tokens = Path("tokens.csv").read_bytes()
    for name, case in cases(program):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        Path("tokens.csv").write_bytes(tokens)  # as if nothing had been refreshed yet
        try:
            case()
        except Exception as error:  # noqa: BLE001 - that is what this program is for
            print(f"##### {name}: {type(error).__name__}\n{''.join(with_locals(error))}")  # noqa: T201
            sys.stderr.write(f"##### {name}\n{''.join(traceback.format_exception(error))}")
        else:
            print(f"##### {name}: no error")  # noqa: T201


if __name__ == "__main__":
    main()
