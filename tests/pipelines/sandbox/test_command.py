"""`dlt-cronofy sandbox`: serves, says how to load from it, and ends when asked to."""

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from tests.acceptance.place import COMMAND, Place, run


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [
            str(COMMAND),
            "sandbox",
            "--port",
            "0",
            "--accounts",
            "20",
            "--no-limits",
            "--tokens",
            "here/tokens.jsonl",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell without job control has what it starts in the background ignore it
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


@pytest.mark.long
def test_the_printed_commands_load_from_it(sandbox: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert sandbox.stdout is not None
    lines = []
    for line in sandbox.stdout:
        lines.append(line.strip())
        if "Ctrl-C" in line:
            break
    assert "20 simulated accounts" in lines[0]
    exports = [line for line in lines if line.startswith("export ")]
    settings = dict(each.split("=", 1) for export in exports for each in export.split()[1:])
    environment = Place(tmp_path, settings["SOURCES__CRONOFY__BASE_URL"]).environment(**settings)
    done = run([str(COMMAND), "load", "--max-requests", "30"], tmp_path, environment)
    assert done.returncode == 0, done.stderr
    # a token takes one or two
    assert re.search("with (29|30) requests", done.stdout)

    sandbox.send_signal(signal.SIGINT)
    assert sandbox.wait(10) == 0
    assert sandbox.stderr is not None
    assert "Traceback" not in sandbox.stderr.read()
    with pytest.raises(httpx.ConnectError):
        httpx.get(settings["SOURCES__CRONOFY__BASE_URL"], trust_env=False)


REFUSED = {
    "unknown fault": (("--fault", "gremlins"), ("--fault gremlins", "unknown kind")),
    "probability above 1": (("--fault", "reset:2"), ("--fault reset:2", "between 0 and 1")),
    "probability of words": (("--fault", "reset:often"), ("--fault reset:often",)),
    "a file where a folder should be": (("--tokens", "file/tokens.csv"), ("--tokens", "file/tokens.csv")),
    "no accounts": (("--accounts", "0"), ("--accounts", "0")),
    "no such port": (("--port", "70000"), ("--port", "70000")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_2(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    arguments, expected = REFUSED[case]
    result = CliRunner().invoke(cli, ["sandbox", "--accounts", "3", "--port", "0", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert [part for part in expected if part not in result.stderr.strip().splitlines()[-1]] == []


def test_a_port_that_is_taken_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(cli, ["sandbox", "--accounts", "3", "--port", port])
    assert result.exit_code == 2
    assert f"--port {port}" in result.stderr
