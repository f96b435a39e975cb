"""The scenes in which leaks are looked for: loads that go well, fail or are killed, and all they say."""

import copy
import dataclasses
import json
import logging
import pickle
import pprint
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import httpx
import orjson
import psycopg2  # type: ignore[import-untyped]
from rich.pretty import pretty_repr

from dlt_cronofy.load.run import Load
from dlt_cronofy.source.api.client import CronofyClient
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.token_refresh import open_refresher
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.privacy import Mode, PersonalData
from dlt_cronofy.source.records import PollTask
from dlt_cronofy.source.secret import Hidden, Secret
from dlt_cronofy.source.settings import ClientCredentials, CronofyConfiguration, PollingSettings, SecretText
from dlt_cronofy.source.sweep import Sweep
from dlt_cronofy.source.tokens.base import Renewal
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.write_back import WriteBack
from tests.acceptance.server import Reply
from tests.acceptance.threaded import Asked, ThreadedServer

from . import leak_failures
from .canaries import CLIENT_SECRET, NEW_ACCESS, NEW_REFRESH, PASSWORD, PERSONAL_KEY, RELINK, Search
from .leak_stage import CLIENT, FEW, LOUD, MIXED, PLAIN, QUOTED, WAYS, Quoting, Stage, stage, token_rows

ROOT = Path(__file__).parents[2]
QUERY = (
    "SELECT id AS key, token AS access_token, refresh AS refresh_token, center AS data_center"
    " FROM users ORDER BY id"
)
# dlt's own steps, each with a pause in which its working files are searched; then its trace as a table
STAGED = """
import sys, dlt
from dlt_cronofy.warehouse.pipeline import open_pipeline
from dlt_cronofy.source import cronofy_source
from dlt_cronofy.warehouse.dataset import writer
pipeline = open_pipeline("duckdb")
for step in (lambda: pipeline.extract(cronofy_source()), pipeline.normalize, pipeline.load):
    with writer(pipeline):
        step()
    print("done", flush=True)
    sys.stdin.readline()
with writer(pipeline):
    trace = pipeline.run(cronofy_source()) and pipeline.last_trace
    print(trace, trace.asstr(verbosity=2), trace.asdict(), pipeline.state)
    print(pipeline.default_schema.to_pretty_yaml())
    pipeline.run([trace], table_name="_trace")
print(pipeline.last_trace)
"""


def quoting_servers(search: Search, directory: Path, *, commands: bool = True) -> None:
    """Every command, while Cronofy quotes tokens and the client secret at every turn."""
    script = Quoting()
    with ThreadedServer(script) as server:
        play = stage(search, "quoting servers", directory, server.base_url)
        play.write_tokens([*QUOTED, *PLAIN])
        shown = play.run("load", "--json", "--every", "0s", "--max-failure-ratio", "1")
        assert json.loads(shown)["polled_tokens"] == len(QUOTED) + len(PLAIN)
        if commands:
            play.run("load", "--every", "0s", "--max-failure-ratio", "1")
            # as a person sees them
            play.run("status", shows_relink=True)
            play.run("views")
            play.run("query", "SELECT * FROM polls")
            # stays in the place, where every file is searched; the other one may show relink links
            play.run("report", "--anonymous", "-o", "anonymous.html")
            report = directory / "health.html"
            play.run("report", "-o", str(report))
            play.said("health.html", report.read_text(encoding="utf-8"), "", shows_relink=True)
            report.unlink()
            play.run("query", "--json", "SELECT * FROM needs_relink", shows_relink=True)
        play.run("status", "--json", shows_relink=True)
        play.run("check", status=None)
        if commands:
            play.run("erase", "--account", f"acc_{PLAIN[0]}", "--yes", "--json")
            play.run("erase", "--token", f"key{PLAIN[1]}", "--yes")
        play.finish()
    assert {way for endpoint, way in script.seen if endpoint == "userinfo"} == set(WAYS)
    assert {way for endpoint, way in script.seen if endpoint == "token"} == set(WAYS)
    assert NEW_REFRESH.format(f"{FEW[1]}.1").replace('"', '""') in play.place.tokens_file.read_text()
    # the file and its lock are all that is left of writing it
    beside = {path.name for path in play.place.directory.glob("*tokens*")}
    assert beside == {"tokens.csv", "tokens.csv.lock"}, beside


def own_table(search: Search, directory: Path, postgres_uri: str | None = None) -> None:
    """The application's own token table; with PostgreSQL its password too, and an update that fails."""
    rows = [tuple(row.values()) for row in token_rows(MIXED)]
    create = "CREATE TABLE users (id TEXT PRIMARY KEY, token TEXT, refresh TEXT, center TEXT)"
    with ThreadedServer(Quoting()) as server:
        play = stage(search, "own table", directory, server.base_url)
        if postgres_uri is None:
            file = play.place.directory / "application.sqlite"
            with closing(sqlite3.connect(file)) as connection, connection:
                connection.execute(create)
                connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", rows)
            url = f"sqlite:///{file}"
        else:
            with (
                closing(psycopg2.connect(postgres_uri)) as connection,
                connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(create)
                cursor.executemany("INSERT INTO users VALUES (%s, %s, %s, %s)", rows)
            url = postgres_uri.replace("postgres:@", f"postgres:{quote(PASSWORD, safe='')}@")
            assert url != postgres_uri
        settings = {
            "SOURCES__CRONOFY__TOKENS_FILE": "",
            "SOURCES__CRONOFY__TOKENS_QUERY": QUERY,
            "SOURCES__CRONOFY__TOKENS_DATABASE": url,
        }
        shown = json.loads(play.run("load", "--json", "--max-failure-ratio", "1", settings=settings))
        assert shown["polled_tokens"] == len(rows)
        assert server.calls["token"]
        away = f"postgresql://user:{quote(PASSWORD, safe='')}@127.0.0.1:1/database"
        out_of_reach = settings | {"SOURCES__CRONOFY__TOKENS_DATABASE": away}
        play.run("load", status=2, settings=out_of_reach)
        if postgres_uri is not None:
            _failing_statements(play, settings)
            play.run("check", status=2, settings=out_of_reach)
        play.finish()


def _failing_statements(play: Stage, settings: dict[str, str]) -> None:
    """A database may quote what it was given."""
    fails = "UPDATE users SET id = 'key0', token = :access_token, refresh = :refresh_token"
    update = {"SOURCES__CRONOFY__TOKENS_UPDATE": f"{fails} WHERE refresh = :used_refresh_token"}
    again = ("load", "--every", "0s", "--max-failure-ratio", "1")
    play.run(*again, settings=settings | update)
    play.run("load", status=2, settings=settings | {"SOURCES__CRONOFY__TOKENS_QUERY": "SELECT 1"})


def hashed(search: Search, directory: Path) -> None:
    """With `personal_data = hash` the key goes nowhere, nor does a relink URL."""
    with ThreadedServer(Quoting()) as server:
        play = stage(search, "hashed", directory, server.base_url)
        play.write_tokens(PLAIN)
        key = {"SOURCES__CRONOFY__PERSONAL_DATA": "hash", "SOURCES__CRONOFY__PERSONAL_DATA_KEY": PERSONAL_KEY}
        play.run("load", "--json", settings=key)
        play.run("status", settings=key)
        play.run("load", status=2, settings=key | {"SOURCES__CRONOFY__PERSONAL_DATA": "no"})
        play.finish()
    found = play.place.query("SELECT count(*), count(profile_relink_url) FROM profiles")
    assert found == [(2 * len(PLAIN), len(PLAIN))]
    assert play.place.query(f"SELECT * FROM profiles WHERE profile_relink_url LIKE '{RELINK[:20]}%'") == []


class Slow:
    """Answers as usual until a request for one endpoint comes, which it keeps waiting."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.is_slow = True
        self.waiting = 0
        self._script = Quoting()

    def __call__(self, asked: Asked) -> Reply:
        if self.is_slow and asked.endpoint == self.endpoint:
            self.waiting += 1
            return Reply(delay=60)
        return self._script(asked)


def killed(search: Search, directory: Path, endpoint: str) -> None:
    """kill -9 while a call of an endpoint is under way, and the load after it."""
    slow = Slow(endpoint)
    with ThreadedServer(slow) as server:
        play = stage(search, f"killed at {endpoint}", directory, server.base_url)
        play.write_tokens(FEW)
        process = play.place.start("-v", "load", **LOUD, **CLIENT)
        while not slow.waiting:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.kill()
        play.said("killed load", *process.communicate(timeout=30))
        notes = list(play.place.directory.glob("cronofy-refreshing-*.jsonl"))
        # while other calls wait, a token may be under way to be refreshed or not
        assert endpoint != "token" or any(note.read_bytes() for note in notes)
        play.finish()
        slow.is_slow = False
        play.run("load", "--json", "--max-failure-ratio", "1")
        play.finish()


def stages(search: Search, directory: Path) -> None:
    """dlt's working files after each step, loaded packages, and its traces, as files and as a table."""
    with ThreadedServer(Quoting()) as server:
        play = stage(search, "stages", directory, server.base_url)
        play.write_tokens(MIXED)
        process = subprocess.Popen(
            [sys.executable, "-c", STAGED],
            cwd=play.place.directory,
            env=play.place.environment(**LOUD, **CLIENT, LOAD__DELETE_COMPLETED_JOBS="false"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(play.place.directory / "stderr.txt").open("wb"),
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for folder in ("normalize/extracted", "load/normalized", "load/loaded"):
            assert process.stdout.readline() == "done\n"
            assert any((play.place.working_dir / folder).rglob("profiles.*")), folder
            play.search.look_below(play.scene, play.place.data_dir, frozenset())
            process.stdin.write("\n")
            process.stdin.flush()
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, (play.place.directory / "stderr.txt").read_text(encoding="utf-8")
        play.said("trace, schema and state", out, "")
        play.finish()
    assert (play.place.working_dir / "trace.pickle").is_file()
    assert play.place.query("SELECT count(*) > 0 FROM _trace") == [(True,)]


def failing(search: Search, directory: Path, *cases: str) -> set[str]:
    """A program of somebody's own that shows tracebacks with locals; returns what failed."""
    with ThreadedServer(Quoting()) as server:
        play = stage(search, "tracebacks", directory, server.base_url)
        play.write_tokens(FEW)
        with closing(sqlite3.connect(play.place.directory / "application.sqlite")) as connection, connection:
            connection.execute("CREATE TABLE users (key TEXT, access_token TEXT, refresh_token TEXT)")
            rows = [tuple(row.values())[:3] for row in token_rows(FEW)]
            connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
        done = subprocess.run(
            [sys.executable, leak_failures.__file__, *cases],
            cwd=play.place.directory,
            env=play.place.environment(**LOUD, **CLIENT, PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # what is worked on when a fault comes is rows, and those are in its locals
        play.search.look(play.scene, "locals", "all cases", [done.stdout.encode()], frozenset({"relink URL"}))
        play.said("all cases", "", done.stderr)
        play.finish()
    ends = [line[6:].split(": ") for line in done.stdout.splitlines() if line.startswith("##### ")]
    return {": ".join(names) for *names, end in ends if end != "no error"}


def objects(directory: Path) -> dict[str, Any]:
    """All that holds secrets."""
    row = token_rows([0])[0]
    [token] = open_store(tokens=[row]).read()
    secret = SecretText()
    secret.parse_native_representation(CLIENT_SECRET)
    configuration = CronofyConfiguration()
    configuration.update({"tokens": [row], "client_secret": secret, "tokens_database": secret})
    client = ClientCredentials("client", Secret(CLIENT_SECRET))
    personal_data = PersonalData(Mode.HASH, Secret(PERSONAL_KEY))
    settings = PollingSettings(client=client, personal_data=personal_data)
    file = directory / "tokens.csv"
    file.write_text("\n".join(map(",".join, (row, row.values()))), encoding="utf-8")
    stores = {
        "GivenStore": open_store(tokens=[row]),
        "FileStore": open_store(tokens_file=str(file)),
        "SqlStore": open_store(tokens_query=QUERY, tokens_database=f"postgresql://u:{PASSWORD}/@host/db"),
    }
    for name in ("GivenStore", "FileStore"):
        assert stores[name].read() == [token], name
    refresher = open_refresher(settings, stores["FileStore"], [token], directory, SystemClock())
    policy = RequestPolicy(settings, SystemClock(), [token])
    pipeline = dlt.pipeline("shown", pipelines_dir=str(directory / "pipelines"), destination="duckdb")
    return stores | {
        "Secret": Secret(CLIENT_SECRET),
        "Hidden": Hidden(row),
        "Token": token,
        "PollTask": PollTask(token, ("userinfo",)),
        "Renewal": Renewal(token, Secret(NEW_ACCESS.format(0)), Secret(NEW_REFRESH.format(0))),
        "SecretText": secret,
        "CronofyConfiguration": configuration,
        "ClientCredentials": client,
        "PersonalData": personal_data,
        "PollingSettings": settings,
        "Refresher": refresher,
        "WriteBack": WriteBack(stores["FileStore"]),
        "RequestPolicy": policy,
        "Sweep": Sweep(settings, [token], store=stores["FileStore"]),
        "Load": Load(pipeline, settings, [token], store=stores["FileStore"]),
        "CronofyClient": CronofyClient(
            httpx.AsyncBaseTransport(), settings, policy, SystemClock(), refresher
        ),
    }


def _logged(shown: Any) -> str:
    record = logging.LogRecord("any", logging.INFO, "any", 1, "%s %r", (shown, shown), None)
    return logging.Formatter().format(record)


SHOWINGS: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "wide": lambda shown: f"{shown:>40} {shown!s:>40} {shown!r:>40}",
    "percent": lambda shown: "%s %r" % (shown, shown),  # noqa: UP031
    "log": _logged,
    "pprint": pprint.pformat,
    "rich": pretty_repr,
    "in a list": lambda shown: repr([shown, {"it": shown}]),
    "json": lambda shown: json.dumps(shown, default=str),
    "orjson": lambda shown: orjson.dumps(shown, default=str),
    "asdict": dataclasses.asdict,
    "astuple": dataclasses.astuple,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
}
# dlt's own kind of object, a mapping of what was configured, which dlt itself reads this way
READ_BY_DLT = {"SecretText", "CronofyConfiguration"}
READING = {"asdict", "astuple", "orjson", "pickle"}


def showings(things: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    """What each of the things shows of itself in each way, or why it refuses."""
    for name, thing in things.items():
        for way, show in SHOWINGS.items():
            if name not in READ_BY_DLT or way not in READING:
                yield name, way, _text(show, thing)


def _text(show: Callable[[Any], Any], thing: Any) -> bytes:
    try:
        shown = show(thing)
    except Exception as error:  # noqa: BLE001 - it refuses, in its own words
        shown = repr(error)
    return shown if isinstance(shown, bytes) else str(shown).encode()


def representations(search: Search, directory: Path) -> None:
    """Whatever holds a secret does not show it."""
    folder = directory / "representations"
    folder.mkdir()
    for name, way, text in showings(objects(folder)):
        search.look("representations", way, name, [text])
