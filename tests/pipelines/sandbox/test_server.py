import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from dlt_cronofy.sandbox import SandboxServer, SandboxToken, World, serve
from tests.peaks import peak
from tests.pipelines.sandbox.conftest import START, bearer

RUN = """
import signal
# a shell without job control has what it starts in the background ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
from datetime import UTC, datetime
from dlt_cronofy.sandbox import build_world, serve
server = serve(build_world(accounts=1, seed=1, start=datetime(2025, 3, 1, tzinfo=UTC), days=2))
server.faults.add("status", status=418, endpoint="account")
server.run_forever(lambda url: print(url, flush=True))
print("ended", flush=True)
"""


def test_it_listens_on_loopback_and_stops(small_world: World) -> None:
    others = set(threading.enumerate())
    with serve(small_world) as server:
        assert {thread.name for thread in threading.enumerate()} >= {"cronofy-sandbox"}
        assert server.base_url.startswith("http://127.0.0.1:")
        assert (
            httpx.get(f"{server.base_url}/sandbox/clock", trust_env=False).json()["now"] == START.isoformat()
        )
        assert server.world is small_world
    assert not any(thread.name == "cronofy-sandbox" for thread in set(threading.enumerate()) - others)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.base_url, trust_env=False)


def test_two_run_side_by_side(small_world: World, token: SandboxToken) -> None:
    with serve(small_world) as one, serve(small_world) as other:
        one.faults.add("status", status=500)
        statuses = [
            httpx.get(f"{each.base_url}/v1/userinfo", headers=bearer(token), trust_env=False).status_code
            for each in (one, other)
        ]
    assert statuses == [500, 200]


def test_a_taken_port_is_an_error(small_world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(small_world, port=taken.getsockname()[1]).__enter__()


def test_it_ends_with_connections_open(small_world: World, token: SandboxToken) -> None:
    with httpx.Client(trust_env=False) as http, serve(small_world) as server:
        assert http.get(f"{server.base_url}/v1/userinfo", headers=bearer(token)).status_code == 200


def test_an_error_inside_the_block_gets_out(small_world: World) -> None:
    with pytest.raises(ZeroDivisionError), serve(small_world):
        _ = 1 / 0


def test_revoking_by_key(server: SandboxServer, http: httpx.Client, token: SandboxToken) -> None:
    server.app.grants.revoke_key(token.key)
    assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 401
    with pytest.raises(KeyError):
        server.app.grants.revoke_key("nobody")


def test_many_clients_at_once(server: SandboxServer, small_world: World, token: SandboxToken) -> None:
    def read_often(_: int) -> set[int]:
        with httpx.Client(base_url=server.base_url, trust_env=False) as http:
            return {http.get("/v1/userinfo", headers=bearer(token)).status_code for _ in range(20)}

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(read_often, range(8))) == {200}
    assert server.traffic.total == 160
    assert peak(server.traffic.arrivals, 60) == 160


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_server_runs_until_interrupted(sent: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/sandbox/clock", trust_env=False).json()["running"] is False
        assert httpx.get(f"{url}/v1/account", trust_env=False).status_code == 418
        process.send_signal(sent)
        rest = process.stdout.read()
    if sent is signal.SIGINT:
        assert (process.returncode, rest) == (0, "ended\n")
    else:
        assert process.returncode == -signal.SIGTERM
