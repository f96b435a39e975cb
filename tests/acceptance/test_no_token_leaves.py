"""No token appears in any output, log, trace, exception, dlt table or working file, also when things fail."""

import base64
import binascii
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest

from .conftest import Serve
from .documents import account, profile, userinfo
from .place import COMMAND, Place, run
from .server import Reply, Request, ScriptedServer, says

PlaceFor = Callable[[ScriptedServer], Place]
ACCESS, REFRESH = "canary/ACCESS+token{}==", "canary/REFRESH+token{}=="
LOUD = {"RUNTIME__LOG_LEVEL": "DEBUG", "PYTHONASYNCIODEBUG": "1"}
SCRIPT = """
import dlt
from sources.cronofy import cronofy_source
print(dlt.pipeline("plain", destination="duckdb", dataset_name="cronofy").run(cronofy_source()))
"""


def traces_of(secret: str) -> list[bytes]:
    """What a secret looks like when it got out: as it is, escaped, URL-encoded, in base64 or hex."""
    raw = secret.encode()
    found = [raw, json.dumps(secret)[1:-1].encode(), quote(secret, safe="").encode(), quote(secret).encode()]
    found.append(binascii.hexlify(raw))
    for shift in range(3):  # wherever in a longer text it stood; the edges depend on the neighbours
        encoded = base64.b64encode(b"\0" * shift + raw)[4:-4]
        found += [encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")]
    return found


# what all canaries share is what is searched for
TRACES = [*traces_of("canary/ACCESS+token"), *traces_of("canary/REFRESH+token")]


def leaks(content: bytes) -> list[bytes]:
    return [trace for trace in TRACES if trace in content]


def unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def leaking_files(directory: Path, allowed: set[str]) -> dict[str, list[bytes]]:
    """Files below the directory that hold a canary, but for the stores that may."""
    files = {path: unpacked(path) for path in directory.rglob("*") if path.is_file()}
    return {
        str(path.relative_to(directory)): leaks(content)
        for path, content in files.items()
        if path.name not in allowed and leaks(content)
    }


def stored_values(database: Path) -> Iterator[tuple[str, bytes]]:
    """Every value of every table and view definition; dlt keeps its state compressed."""
    with closing(duckdb.connect(str(database), read_only=True)) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        ).fetchall()
        for schema, table in tables:
            for row in connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall():
                for value in row:
                    yield table, str(value).encode()
                    try:
                        yield table, zlib.decompress(base64.b64decode(str(value)))
                    except (ValueError, zlib.error):
                        continue


def echo(request: Request) -> dict[str, Reply]:
    """Servers that quote the token in whatever place they have."""
    token = request.token
    quoting = json.dumps({"error": f"bad token {token}"}).encode()
    header = (
        ("location", f"/elsewhere?access_token={quote(token)}"),
        ("www-authenticate", f"Bearer {token}"),
    )
    return {
        "ok": says(userinfo("acc_1", [profile("pro_1")])),
        "401": Reply(401, quoting, header, reason=f"Bad {token}"),
        "403": Reply(403, quoting, header),
        "500": Reply(500, f"<h1>{token}</h1>".encode(), header),
        "redirect": Reply(302, b"", header),
        "Retry-After": Reply(503, b"", (("retry-after", token),)),
        "broken JSON": Reply(200, b'{"token": "' + token.encode()),
        "wrong shape": Reply(200, json.dumps({"sub": {token: token}, token: 1}).encode()),
        "a list": Reply(200, json.dumps([token]).encode()),
        "bad status line": Reply(raw=f"HTTP/1.1 {token} {token}\r\n\r\n".encode()),
        "bad header": Reply(raw=f"HTTP/1.1 200 OK\r\n{token}\r\nx y: {token}\r\n\r\n".encode()),
        "bad length": Reply(raw=f"HTTP/1.1 200 OK\r\ncontent-length: {token}\r\n\r\n".encode()),
        "bad encoding": Reply(200, b"x", (("content-encoding", token),)),
        "bad charset": Reply(200, b"\xff", (("content-type", f"text/html; charset={token}"),)),
        "cookie": Reply(401, b"", (("set-cookie", f"token={token}; path=/"),)),
        "reset": Reply(cut="reset"),
        "short": Reply(200, quoting, cut="short"),
    }


WAYS = tuple(echo(Request("userinfo", "")))


@pytest.fixture
def server(serve: Serve) -> ScriptedServer:
    def answer(request: Request) -> Reply:
        number = int("".join(filter(str.isdigit, request.token)) or 0)
        if request.endpoint == "account":
            return says(account("acc_1"))
        return echo(request)[WAYS[number % len(WAYS)]]

    return serve(answer)


@pytest.fixture
def place(server: ScriptedServer, place_for: PlaceFor) -> Place:
    place = place_for(server)
    lines = ["key,access_token,refresh_token"]
    lines += [f"key{n},{ACCESS.format(n)},{REFRESH.format(n)}" for n in range(2 * len(WAYS))]
    place.tokens_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def assert_nothing_leaked(place: Place, *outputs: str) -> None:
    assert [leaks(output.encode()) for output in outputs] == [[] for _ in outputs]
    assert leaking_files(place.directory, allowed={"tokens.csv", "secrets.toml"}) == {}
    for database in place.directory.glob("*.duckdb"):
        assert {table for table, value in stored_values(database) if leaks(value)} == set()


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    secret = ACCESS.format(7)
    for text in (f"Bearer {secret}", quote(secret), base64.b64encode(f"xy{secret}".encode()).decode()):
        assert leaks(text.encode())
        (tmp_path / "log.txt").write_text(text, encoding="utf-8")
        assert leaking_files(tmp_path, set())
    assert not leaks(b"Bearer Secret(***)")


def test_a_load_of_servers_that_quote_the_token(place: Place, server: ScriptedServer) -> None:
    done = place.run("-v", "load", "--json", **LOUD)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["polled_tokens"] == 2 * len(WAYS)
    assert all(request.token.startswith("canary/ACCESS") for request, _ in server.log)
    assert "DEBUG" in done.stderr
    assert (place.working_dir / "trace.pickle").is_file()
    assert {"_dlt_loads", "_dlt_pipeline_state"} <= {table for table, _ in stored_values(place.database)}
    assert place.counts()["polls"] > 2 * len(WAYS)
    assert_nothing_leaked(place, done.stdout, done.stderr)


def test_a_killed_load_leaves_no_token_in_the_working_files(place: Place, server: ScriptedServer) -> None:
    server.script = lambda request: Reply(delay=30)
    process = place.start("load", **LOUD)
    while not server.log:
        assert process.poll() is None, process.communicate()
    process.kill()
    outputs = process.communicate(timeout=30)
    assert any(place.data_dir.rglob("*.json"))
    assert_nothing_leaked(place, *outputs)


@pytest.mark.parametrize("fails", [False, True], ids=("loads", "fails"))
def test_the_plain_source_with_tokens_from_secrets_toml(place: Place, *, fails: bool) -> None:
    """dlt traces the configuration that sources resolve, secrets among it."""
    settings = place.directory / ".dlt"
    settings.mkdir()
    tokens = [
        {"key": f"key{n}", "access_token": ACCESS.format(n), "refresh_token": REFRESH.format(n)}
        for n in (0, 1)
    ]
    inline = ", ".join("{" + ", ".join(f'{k} = "{v}"' for k, v in token.items()) + "}" for token in tokens)
    (settings / "secrets.toml").write_text(
        f'[sources.cronofy]\ntokens = [{inline}, "{ACCESS.format(2)}"]\n', encoding="utf-8"
    )
    environment = place.environment(**LOUD)
    del environment["SOURCES__CRONOFY__TOKENS_FILE"]
    if fails:
        environment["DESTINATION__DUCKDB__CREDENTIALS"] = str(place.directory)
    done = run([sys.executable, "-c", SCRIPT], place.directory, environment)
    assert (done.returncode != 0) is fails, done.stderr
    assert ("Traceback" in done.stderr) is fails
    trace_files = list(place.data_dir.rglob("trace.pickle"))
    assert trace_files
    assert all(
        b"SOURCES__CRONOFY" in path.read_bytes() or b"cronofy" in path.read_bytes() for path in trace_files
    )
    assert_nothing_leaked(place, done.stdout, done.stderr)


SECRET = ACCESS.format(1)
BROKEN_STORES: dict[str, tuple[str, str]] = {
    "no header line": ("tokens.csv", f"{SECRET}\n{SECRET}2\n"),
    "token under data_center": ("tokens.csv", f"key,data_center,access_token\none,{SECRET},us\n"),
    "space in a token": ("tokens.csv", f"key,access_token\none,{SECRET} x\n"),
    "the same key twice": ("tokens.csv", f"key,access_token\none,{SECRET}\none,{SECRET}\n"),
    "half a JSON line": ("tokens.jsonl", f'{{"key": "one", "access_token": "{SECRET}"'),
    "a list in a JSON line": ("tokens.jsonl", json.dumps([SECRET])),
    "an object for a token": ("tokens.jsonl", json.dumps({"access_token": {"value": SECRET}})),
    "not Parquet": ("tokens.parquet", SECRET),
    "half a TOML list": (".dlt/secrets.toml", f'[sources.cronofy]\ntokens = ["{SECRET}",\n'),
    "a TOML string": (".dlt/secrets.toml", f'[sources.cronofy]\ntokens = "{SECRET}"\n'),
    "a TOML table": (".dlt/secrets.toml", f'[sources.cronofy.tokens]\none = "{SECRET}"\n'),
}


@pytest.mark.parametrize("case", BROKEN_STORES)
def test_a_broken_store_is_refused_without_being_quoted(case: str, place: Place) -> None:
    name, text = BROKEN_STORES[case]
    store = place.directory / name
    store.parent.mkdir(exist_ok=True)
    store.write_text(text, encoding="utf-8")
    environment = place.environment(**LOUD)
    if store.suffix == ".toml":
        del environment["SOURCES__CRONOFY__TOKENS_FILE"]
    else:
        environment["SOURCES__CRONOFY__TOKENS_FILE"] = str(store)
    done = run([str(COMMAND), "-v", "load"], place.directory, environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    allowed = {"tokens.csv", store.name}
    assert leaks(done.stderr.encode()) == []
    assert leaking_files(place.directory, allowed) == {}
