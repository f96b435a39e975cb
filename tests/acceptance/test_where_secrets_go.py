"""Tokens and the client secret go to the configured host, which proves who it is, and nowhere else."""

import csv
import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.checks import check_calls
from dlt_cronofy.cli.main import cli
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import CronofyConfiguration, PollingSettings
from dlt_cronofy.source.tokens.token import Token
from tests.campaign.canaries import ACCESS, CLIENT_SECRET, REFRESH, leaks
from tests.campaign.leak_stage import CLIENT, LOUD, NUMBER

from .documents import userinfo
from .place import Place
from .server import Reply, says
from .threaded import Asked, ThreadedServer

# for localhost, and signed by nobody but itself
KEY_AND_CERTIFICATE = Path(__file__).with_name("test_tls_key_not_secret.pem")
TOKEN = Token("key0", Secret(ACCESS.format(0)), Secret(REFRESH.format(0)), "us")
OTHERS = ("http_proxy", "https_proxy", "all_proxy")
# what a resolver that lies looks like to the program: Cronofy's name, our address
LYING_RESOLVER = """
import socket
honest = socket.getaddrinfo
def getaddrinfo(host, port, *rest, **named):
    if host == "api.cronofy.com":
        host, port = "127.0.0.1", {port}
    return honest(host, port, *rest, **named)
socket.getaddrinfo = getaddrinfo
"""


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(KEY_AND_CERTIFICATE)
    return context


@pytest.fixture
def impostor() -> Iterator[ThreadedServer]:
    """Speaks TLS, and would answer anybody who believed its certificate."""
    with ThreadedServer(lambda _: says(userinfo("acc_1")), server_context()) as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    text = KEY_AND_CERTIFICATE.read_text(encoding="ascii")
    path.write_text(text[text.index("-----BEGIN CERTIFICATE") :], encoding="ascii")
    return path


def response(base_url: str | None) -> tuple[str, str | None]:
    """How a call ends, and its message."""
    settings = PollingSettings(base_url=base_url, timeout_seconds=10)
    [found] = check_calls(settings, [TOKEN])
    return found.response.outcome.value, found.response.message


def lie(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Let Cronofy's name be ours."""
    monkeypatch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
    exec(compile(LYING_RESOLVER.format(port=port), "resolver", "exec"), {})


SWITCHES: dict[str, dict[str, str]] = {
    "nothing": {},
    "Python's": {"PYTHONHTTPSVERIFY": "0"},
    "no bundles": {"CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
    "other libraries' bundles": {"CURL_CA_BUNDLE": "{certificate}", "REQUESTS_CA_BUNDLE": "{certificate}"},
    "dlt's": {"SOURCES__CRONOFY__VERIFY": "false", "RUNTIME__VERIFY": "false", "VERIFY": "false"},
}


@pytest.mark.parametrize("host", ["api.cronofy.com", "localhost"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_certificate_nobody_vouches_for(
    host: str, switch: str, impostor: ThreadedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SWITCHES[switch].items():
        monkeypatch.setenv(name, value.format(certificate=certificate))
    lie(monkeypatch, impostor.port)
    outcome, message = response(impostor.base_url if host == "localhost" else None)
    assert outcome == "network_error"
    assert re.fullmatch("ClientConnectorCertificateError: self.signed certificate", str(message))
    assert impostor.connections == 1
    assert (impostor.log, impostor.received) == ([], b"")


@pytest.mark.long
def test_a_load_of_an_impostor(impostor: ThreadedServer, certificate: Path, tmp_path: Path) -> None:
    """End to end, in a process with everything switched off that can be."""
    (tmp_path / "sitecustomize.py").write_text(LYING_RESOLVER.format(port=impostor.port), encoding="utf-8")
    place = Place(tmp_path, "")
    place.write_tokens(["key0"], {"key0": TOKEN.access_token.reveal()})
    switches = {name: value for each in SWITCHES.values() for name, value in each.items()}
    environment = {name: value.format(certificate=certificate) for name, value in switches.items()}
    done = place.run("-v", "load", "--json", PYTHONPATH=str(tmp_path), **LOUD, **environment)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["outcomes"] == {"network_error": 2}
    assert impostor.connections >= 1
    assert (impostor.log, impostor.received) == ([], b"")
    assert leaks((done.stdout + done.stderr).encode()) == set()


def test_who_is_vouched_for_is_believed_for_its_own_name_only(
    impostor: ThreadedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a company's proxy needs: `SSL_CERT_FILE` says whom to trust, not whether to look."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    lie(monkeypatch, impostor.port)
    assert response(impostor.base_url) == ("ok", None)
    assert [asked.token for asked in impostor.log] == [TOKEN.access_token.reveal()]
    impostor.received = b""
    outcome, message = response(None)
    assert outcome == "network_error"
    assert "is not valid for 'api.cronofy.com'" in str(message)
    assert (len(impostor.log), impostor.received) == (1, b"")


def keys_in(path: Path) -> list[str]:
    """Session keys, with which whoever recorded the traffic can read it."""
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def test_session_keys_are_not_written_down(
    impostor: ThreadedServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, anybodys = tmp_path / "ours.log", tmp_path / "anybodys.log"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("SSLKEYLOGFILE", str(ours))
    assert response(impostor.base_url) == ("ok", None)
    assert keys_in(ours) == []
    # where they would be
    monkeypatch.setenv("SSLKEYLOGFILE", str(anybodys))
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", impostor.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass
    assert keys_in(anybodys)


STATUSES = (300, 301, 302, 303, 305, 307, 308)


def test_a_redirect_takes_nothing_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the access token of a GET, and not the refresh token and client secret of a POST."""
    with ExitStack() as servers:
        elsewhere = servers.enter_context(ThreadedServer(lambda _: says(userinfo("acc_1"))))

        def answering(asked: Asked) -> Reply:
            found = NUMBER.search(str(asked.form.get("refresh_token") or asked.token))
            assert found is not None
            number = int(found[1])
            where = (("location", f"{elsewhere.base_url}/{asked.endpoint}"),)
            if asked.endpoint == "token" or number < len(STATUSES):
                return Reply(STATUSES[number % len(STATUSES)], b"{}", where)
            return Reply(401, b"{}", where)

        server = servers.enter_context(ThreadedServer(answering))
        place = Place(tmp_path, server.base_url)
        rows = [(f"key{n}", ACCESS.format(n), REFRESH.format(n)) for n in range(2 * len(STATUSES))]
        with place.tokens_file.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("key", "access_token", "refresh_token"), *rows])
        before = place.tokens_file.read_bytes()
        proxies = {name: elsewhere.base_url for each in OTHERS for name in (each, each.upper())}
        monkeypatch.chdir(tmp_path)
        done = CliRunner().invoke(cli, ["load", "--json"], env=place.environment(**CLIENT, **proxies))
    assert done.exit_code == 1, done.stderr
    assert server.calls["token"] == len(STATUSES)
    assert all(asked.method == "POST" for asked in server.log if asked.endpoint == "token")
    assert CLIENT_SECRET in {asked.form.get("client_secret") for asked in server.log}
    assert (elsewhere.connections, elsewhere.received) == (0, b"")
    assert place.tokens_file.read_bytes() == before
    assert set(place.query("SELECT outcome, message FROM polls WHERE endpoint = 'userinfo'")) == {
        *(("bad_payload", f"HTTP {status}") for status in STATUSES),
        *(("token_rejected", f"HTTP 401; refresh: HTTP {status}") for status in STATUSES),
    }


def configured(base_url: str) -> PollingSettings:
    configuration = CronofyConfiguration()
    configuration.update({"base_url": base_url})
    return PollingSettings.of(configuration)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.cronofy.com",
        "http://api-de.cronofy.com/",
        "http://API.Cronofy.COM:80/v1",
        "http://api.cronofy.com.",
        "http://cronofy.com",
        "http://api\u3002cronofy\uff0ecom",
        "HTTP://api.cronofy.com",
    ],
)
def test_cronofy_is_asked_over_https_only(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"base_url in \[sources\.cronofy\] must be https"):
        configured(base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.cronofy.com",
        "http://127.0.0.1:8765",
        "http://localhost",
        "http://sandbox.example.com",
        "http://notcronofy.com",
        "http://api.cronofy.com.example.com",
    ],
)
def test_a_sandbox_may_be_plain(base_url: str) -> None:
    assert configured(base_url).base_url == base_url


@pytest.mark.parametrize("base_url", ["https://[::1", "https://h:x", f"https://{'a' * 64}.\u00e4"])
def test_a_host_that_is_none(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="must look like"):
        configured(base_url)


def test_the_key_of_the_tests_is_no_secret() -> None:
    """It is in the repository; whoever looks for leaked keys finds the word in its name and its text."""
    text = KEY_AND_CERTIFICATE.read_text(encoding="ascii")
    assert re.search("protect nothing", text)
    assert "not_secret" in KEY_AND_CERTIFICATE.name
