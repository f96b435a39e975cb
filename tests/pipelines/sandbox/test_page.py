"""docs/sandbox.md and `sandbox --help`: every command and every endpoint they name works."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import pytest
from starlette.routing import Mount, Route, Router

from dlt_cronofy.cli.load import load
from dlt_cronofy.cli.sandbox import EPILOG, sandbox
from dlt_cronofy.sandbox import MovableClock, OAuth, SandboxServer
from dlt_cronofy.sandbox.faults import FAULTY_ENDPOINTS, KINDS, Fault
from tests.pipelines.sandbox.conftest import START

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
IN_HELP = re.findall(r"^  (GET|POST|DELETE) +/sandbox(/\S+) +(.*)$", EPILOG, re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """What a line with curl asks for."""

    method: str
    path: str
    content: str | None


def _call(line: str) -> Call:
    _, *arguments = shlex.split(line)
    options = dict(zip(arguments[:-1:2], arguments[1:-1:2], strict=True))
    assert options.keys() <= {"-X", "-d"}
    path = arguments[-1].removeprefix("http://127.0.0.1:8765")
    return Call(options.get("-X", "GET"), path, options.get("-d"))


def test_the_calls_of_the_page_do_what_it_says(
    http: httpx.Client, clock: MovableClock, server: SandboxServer
) -> None:
    calls = [_call(line) for line in LINES if line.startswith("curl ")]
    assert len(calls) == 8
    answers = [http.request(call.method, call.path, content=call.content) for call in calls]
    assert [answer.status_code for answer in answers] == [200, 200, 201, 201, 200, 204, 204, 200]
    assert (clock.now() - START).days == 7
    listed = answers[4].json()["faults"]
    assert [(fault["kind"], fault["count"]) for fault in listed.values()] == [
        ("status", 3),
        ("truncated", None),
    ]
    assert len(server.faults) == 0
    assert server.app.grants.find(server.world.tokens[0].access_token).revoked  # type: ignore[union-attr]


def test_the_other_commands_of_the_page_are_commands() -> None:
    served = [shlex.split(line)[2:] for line in LINES if line.startswith("dlt-cronofy sandbox")]
    assert len(served) == 2
    for arguments in served:
        sandbox.parse_args(click.Context(sandbox), list(arguments))
    exported = dict(
        word.split("=") for line in LINES if line.startswith("export") for word in line.split()[1:]
    )
    assert sorted(exported.values()) == [OAuth().client_id, OAuth().client_secret]


def test_the_help_names_every_endpoint_and_its_bodies_are_good(
    http: httpx.Client, server: SandboxServer
) -> None:
    [mount] = [each for each in server_routes(server) if isinstance(each, Mount)]
    named = {(method, path.replace("KEY", "{key}")) for method, path, _ in IN_HELP}
    routes = {
        (method, route.path)
        for route in mount.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert routes - named == {("DELETE", "/requests")}
    assert named <= routes
    for method, path, meaning in IN_HELP:
        for body in re.findall(r"\{.*?\}", meaning) or [""]:
            answer = http.request(method, f"/sandbox{path.replace('KEY', 'user_1001')}", content=body)
            assert answer.is_success, answer.text


def server_routes(server: SandboxServer) -> list[object]:
    router = server.router
    assert isinstance(router, Router)
    return list(router.routes)


def test_the_help_names_the_client_and_the_faults() -> None:
    assert {OAuth().client_id, OAuth().client_secret} <= set(EPILOG.split())
    kinds = re.search(r"Faults: (.*)\.", EPILOG)
    assert kinds
    assert kinds[1].split(", ") == list(KINDS)
    fields = set(Fault.__dataclass_fields__) - {"kind"}
    assert {each for each in fields if not re.search(rf"\b{each}\b", EPILOG)} == set()
    assert f"({', '.join(FAULTY_ENDPOINTS)})" in EPILOG


@pytest.mark.parametrize("line", re.findall(r"`(dlt-cronofy load .*?)`", PAGE))
def test_what_the_text_suggests_is_a_command(line: str) -> None:
    arguments = shlex.split(line)[2:]
    assert load.parse_args(click.Context(load), list(arguments)) == []
