"""No secret appears in any output, log, trace, exception, dlt table or working file, also when things fail.

`make leaks` plays more scenes of the same kind.
"""

import base64
import gzip
import html
import json
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.campaign import leak_scenes
from tests.campaign.canaries import ACCESS, FORMS, RELINK, SECRETS, Search, leaks
from tests.campaign.leak_failures import FAULTS
from tests.campaign.leak_stage import LOUD, STORES, Quoting, token_rows

from .place import COMMAND, Place, run
from .threaded import ThreadedServer

SCRIPT = """
import dlt
from dlt_cronofy.source import cronofy_source
print(dlt.pipeline("plain", destination="duckdb", dataset_name="cronofy").run(cronofy_source()))
"""
ONCE = json.dumps(ACCESS.format(7))[1:-1]
WRITTEN: dict[str, list[str]] = {
    "plain": [f"Bearer {ACCESS.format(7)}", repr({"token": ACCESS.format(7)})],
    "JSON": [ONCE, ONCE.replace("/", "\\/"), repr(json.dumps([ACCESS.format(7)]))],
    "JSON in JSON": [json.dumps(json.dumps({"token": ACCESS.format(7)}))],
    "URL": [quote(ACCESS.format(7)), quote(ACCESS.format(7), safe="")],
    "HTML": [html.escape(ACCESS.format(7))],
    "hex": [ACCESS.format(7).encode().hex()],
    "base64": [base64.b64encode(f"{'x' * n}{ACCESS.format(7)}".encode()).decode() for n in range(4)],
}


@pytest.fixture
def search() -> Search:
    return Search()


def test_the_search_knows_every_form() -> None:
    assert tuple(WRITTEN) == FORMS
    for form, texts in WRITTEN.items():
        assert [form in {found for _, found in leaks(text.encode())} for text in texts] == [True] * len(texts)
    assert len(SECRETS) == 8
    assert leaks(b"Bearer Secret(***)") == set()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "log.txt": lambda text: text,
    "rows.gz": gzip.compress,
    "state.json": lambda text: json.dumps(
        {"state": base64.b64encode(zlib.compress(text * 9)).decode()}
    ).encode(),
}


@pytest.mark.parametrize("name", PACKED)
def test_the_search_opens_what_is_packed(name: str, search: Search, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKED[name](f"Bearer {ACCESS.format(7)}".encode()))
    search.look_below("here", tmp_path, frozenset())
    assert [key for key, found in search.hits.items() if ("access token", "plain") in found] == [
        ("here", "working files", name)
    ]
    assert f"{search.summary()}".endswith("8 secrets in 7 forms: 1 hits")


@pytest.mark.parametrize(("table", "hits"), [("profiles", 0), ("profile_changes", 0), ("polls", 1)])
def test_relink_urls_have_their_tables(table: str, hits: int, search: Search, tmp_path: Path) -> None:
    package = tmp_path / "load" / "normalized" / "1" / "new_jobs"
    package.mkdir(parents=True)
    pyarrow.parquet.write_table(pa.table({"x": [RELINK.format(1)]}), package / f"{table}.1.0.parquet")
    with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"))) as connection:
        connection.execute(f"CREATE TABLE {table} AS SELECT '{RELINK.format(1)}' AS x")
    search.look_below("here", tmp_path, frozenset())
    assert len(search.hits) == 2 * hits


def assert_nothing_leaked(search: Search) -> None:
    assert search.hits == {}
    assert search.places


@pytest.mark.long
def test_commands_and_servers_that_quote_secrets(search: Search, tmp_path: Path) -> None:
    """Access tokens, refresh tokens before and after a refresh, the client secret, relink URLs."""
    leak_scenes.quoting_servers(search, tmp_path, commands=False)
    assert_nothing_leaked(search)


@pytest.mark.long
def test_an_applications_own_table(search: Search, tmp_path: Path) -> None:
    leak_scenes.own_table(search, tmp_path)
    assert_nothing_leaked(search)


@pytest.mark.long
def test_a_load_killed_in_mid_refresh_and_the_next_one(search: Search, tmp_path: Path) -> None:
    leak_scenes.killed(search, tmp_path, "token")
    assert_nothing_leaked(search)


FAILURES = (
    "dlt_cronofy.source.sweep.Capture.add",
    "dlt_cronofy.source.api.transport.status_outcome",
    "dlt_cronofy.source.api.token_refresh.Refresher._keep",
    "dlt.normalize.normalize.w_normalize_files",
    "destination",
    "cancelled",
    "their store: current",
    "token file: blank in a token.csv",
    "token file: half a line.jsonl",
    "database: an @ in the password",
    "query of bad rows",
    "update of no column",
)


@pytest.mark.long
def test_tracebacks_with_locals(search: Search, tmp_path: Path) -> None:
    """As the standard library and rich show them, whatever fails."""
    assert leak_scenes.failing(search, tmp_path, *FAILURES) == set(FAILURES)
    assert search.sizes["tracebacks", "locals"] > 1_000_000
    assert_nothing_leaked(search)
    assert set(FAILURES) & set(FAULTS)


def test_nothing_that_holds_a_secret_shows_it(search: Search, tmp_path: Path) -> None:
    leak_scenes.representations(search, tmp_path)
    assert_nothing_leaked(search)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "http://127.0.0.1:1")


@pytest.mark.long
@pytest.mark.parametrize("fails", [False, True], ids=("loads", "fails"))
def test_the_plain_source_with_tokens_from_secrets_toml(
    search: Search, tmp_path: Path, *, fails: bool
) -> None:
    """dlt traces the configuration that sources resolve, secrets among it."""
    with ThreadedServer(Quoting()) as server:
        place = Place(tmp_path, server.base_url)
        settings = place.directory / ".dlt"
        settings.mkdir()
        inline = ", ".join(
            "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in row.items()) + "}"
            for row in token_rows((0, 1))
        )
        (settings / "secrets.toml").write_text(
            f"[sources.cronofy]\ntokens = [{inline}, {json.dumps(ACCESS.format(2))}]\n", encoding="utf-8"
        )
        environment = place.environment(**LOUD)
        del environment["SOURCES__CRONOFY__TOKENS_FILE"]
        if fails:
            environment["DESTINATION__DUCKDB__CREDENTIALS"] = str(place.directory)
        done = run([sys.executable, "-c", SCRIPT], place.directory, environment)
    assert (done.returncode != 0) is fails, done.stderr
    assert ("Traceback" in done.stderr) is fails
    assert any(b"cronofy" in path.read_bytes() for path in place.data_dir.rglob("trace.pickle"))
    for output in (done.stdout, done.stderr):
        search.look("plain source", "outputs", "all", [output.encode()])
    search.look_below("plain source", tmp_path, STORES)
    assert_nothing_leaked(search)


SECRET = ACCESS.format(1)
BROKEN_FILES: dict[str, tuple[str, str]] = {
    "no header line": ("csv", f"{SECRET}\n{SECRET}2\n"),
    "token under data_center": ("csv", f"key,data_center,access_token\none,{SECRET},us\n"),
    "space in a token": ("csv", f"key,access_token\none,{SECRET} x\n"),
    "the same key thrice": ("csv", f"key,access_token\none,{SECRET}\none,{SECRET}2\none,{SECRET}3\n"),
    "semicolons": ("csv", f"key;access_token\none;{SECRET}\n"),
    "quotation marks": ("csv", f"key,access_token\none,'{SECRET}'\n"),
    "too many cells": ("csv", f"key,access_token\none,more,{SECRET}\n"),
    "too few cells": ("csv", f"key,access_token\n{SECRET}\n"),
    "half a JSON line": ("jsonl", '{"key": "one", "access_token": ' + json.dumps(SECRET)),
    "a list in a JSON line": ("jsonl", json.dumps([SECRET])),
    "an object for a token": ("jsonl", json.dumps({"access_token": {"value": SECRET}})),
    "not Parquet": ("parquet", SECRET),
}
# one process for all, as each takes longer to start than to refuse its store
REFUSALS = """
import os, sys
from dlt_cronofy.cli.main import main
files, sys.argv[1:] = sys.argv[1:], ["-v", "load"]
for file in files:
    os.environ["SOURCES__CRONOFY__TOKENS_FILE"] = file
    try:
        main()
    except SystemExit as ended:
        print(ended.code, file)
"""


@pytest.mark.long
def test_a_broken_token_file_is_refused_without_being_quoted(place: Place, search: Search) -> None:
    files = []
    for case, (suffix, text) in BROKEN_FILES.items():
        file = place.directory / f"{case}.{suffix}"
        file.write_text(text, encoding="utf-8")
        files.append(file)
    command = [sys.executable, "-c", REFUSALS, *map(str, files)]
    done = run(command, place.directory, place.environment(**LOUD))
    assert done.stdout.splitlines() == [f"2 {file}" for file in files], done.stderr
    assert [file.name for file in files if file.name not in done.stderr] == []
    search.look("broken file", "stderr", "all", [done.stderr.encode()])
    search.look_below("broken file", place.directory, frozenset(file.name for file in files))
    assert_nothing_leaked(search)


BROKEN_TOML: dict[str, str] = {
    "half a list": f"[sources.cronofy]\ntokens = [{json.dumps(SECRET)},\n",
    "a string": f"[sources.cronofy]\ntokens = {json.dumps(SECRET)}\n",
    "a table": f"[dlt_cronofy.source.tokens.token]\none = {json.dumps(SECRET)}\n",
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("case", BROKEN_TOML)
def test_broken_secrets_are_refused_without_being_quoted(case: str, place: Place, search: Search) -> None:
    settings = place.directory / ".dlt"
    settings.mkdir()
    (settings / "secrets.toml").write_text(BROKEN_TOML[case], encoding="utf-8")
    environment = place.environment(**LOUD)
    del environment["SOURCES__CRONOFY__TOKENS_FILE"]
    done = run([str(COMMAND), "-v", "load"], place.directory, environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    search.look("broken secrets", "stderr", case, [done.stderr.encode()])
    search.look_below("broken secrets", place.directory, frozenset({"secrets.toml"}))
    assert_nothing_leaked(search)
