"""Every fault at every endpoint beside two hundred good tokens: it is that poll's and nobody else's."""

import copy
import gzip
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from dlt_cronofy.source.api.limits.tuning import TRIPS_AFTER
from dlt_cronofy.source.settings import ENDPOINTS
from tests.cronofy.server import Behavior, Server, answer, drip, endless, hang, raw, reset_after

from . import documents
from .documents import Document
from .loading import HURRIED, load
from .place import Place, run
from .world import ATTRIBUTES

HEALTHY = 200
ATTEMPTS = HURRIED.max_attempts
WEB_PAGE = b"<!doctype html><title>Down for maintenance</title>"
HTML = ("Content-Type", "text/html")
FAR = 1 << 40


@cache
def bomb() -> bytes:
    """128 MiB, packed."""
    return gzip.compress(b" " * (1 << 27))


def good_documents(key: str) -> dict[str, Document]:
    """What the endpoints say of a token that is well: one profile up, one down, one for conferencing."""
    up = documents.profile(f"pro_{key}_up", name=f"{key}@example.com", calendars=[])
    down = documents.profile(f"pro_{key}_down", connected=False, service="office365", calendars=[])
    meetings = documents.profile(f"pro_{key}_zoom", service="zoom")
    listed = [
        each | {"profile_calendars": [documents.calendar(f"cal_{each['profile_id']}")]} for each in (up, down)
    ]
    bare = [{name: each[name] for name in each if name != "profile_calendars"} for each in (up, down)]
    return {
        "userinfo": documents.userinfo(f"acc_{key}", listed, [meetings]),
        "account": documents.account(f"acc_{key}"),
        "profiles": {"profiles": bare},
    }


@dataclass(frozen=True)
class Fault:
    """What the server does in place of a good answer, and what the poll is to say of it.

    Attributes:
        behave: what is done, given the document that would have been right.
        says: the document a reader should take from it all the same, for polls that are ok.
    """

    behave: Callable[[Document], Behavior]
    outcome: str
    status: int | None = None
    attempts: int = 1
    says: Callable[[Document], Document] = lambda document: document


def refused(
    status: int, outcome: str, *headers: tuple[str, str], attempts: int = 1, body: bytes = b""
) -> Fault:
    return Fault(lambda _: answer(status, body, *headers), outcome, status, attempts)


def cut_off(behave: Callable[[Document], Behavior], outcome: str, attempts: int) -> Fault:
    return Fault(behave, outcome, None, attempts)


def bad(behave: Callable[[Document], Any], *headers: tuple[str, str]) -> Fault:
    """A 200 that must not be believed; a body, or a document to be sent as JSON."""
    return Fault(lambda document: answer(200, behave(document), *headers), "bad_payload", 200)


def taken(
    behave: Callable[[Document], Any], *headers: tuple[str, str], says: Callable[[Document], Document]
) -> Fault:
    """A 200 that looks odd and is right."""
    return Fault(lambda document: answer(200, behave(document), *headers), "ok", 200, says=says)


def unchanged(document: Document) -> Document:
    return document


def first(document: Document) -> Document:
    """The first object a document is about: its first profile, or the account."""
    listed = document.get("cronofy.data", document).get("profiles")
    found: Document = listed[0] if listed else document["account"]
    return found


def altered(**fields: Any) -> Callable[[Document], Document]:
    """The document with these fields in its first profile (or account); MISSING removes one."""

    def alter(document: Document) -> Document:
        other = copy.deepcopy(document)
        for name, value in fields.items():
            if value is MISSING:
                first(other).pop(name, None)
            else:
                first(other)[name] = value
        return other

    return alter


MISSING = object()


def with_number_for_id(document: Document) -> Document:
    other = copy.deepcopy(document)
    if "sub" in other:
        other["sub"] = 7
    if "account" in other:
        other["account"]["account_id"] = 7
    if "profiles" in other:
        other["profiles"][0]["profile_id"] = 7
    return other


def with_wrong_types(document: Document) -> Document:
    """Objects for lists, and a list for an object."""
    other = copy.deepcopy(document)
    for holder in (other, other.get("cronofy.data", {})):
        if "profiles" in holder:
            holder["profiles"] = {"0": holder["profiles"][0]}
    if "account" in other:
        other["account"] = [other["account"]]
    return other


def with_a_twin(document: Document) -> Document:
    """The first profile once more, down."""
    other = copy.deepcopy(document)
    for holder in (other, other.get("cronofy.data", {})):
        if "profiles" in holder:
            holder["profiles"].append(documents.disconnected(holder["profiles"][0]))
    return other


def with_the_twin_alone(document: Document) -> Document:
    other = with_a_twin(document)
    for holder in (other, other.get("cronofy.data", {})):
        if "profiles" in holder:
            holder["profiles"][0] = holder["profiles"].pop()
    return other


def with_surrogate(document: Document) -> bytes:
    return orjson.dumps(altered(name="?", profile_name="?")(document)).replace(b'"?"', b'"\\ud800"')


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


def nested(depth: int) -> Any:
    return orjson.loads(b"[" * depth + b"]" * depth)


DEEP = b"[" * 500 + b"]" * 500
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"

FAULTS: dict[str, Fault] = {
    "401": refused(401, "token_rejected"),
    "402": refused(402, "plan_required"),
    "403": refused(403, "forbidden"),
    "404": refused(404, "bad_payload"),
    "423": refused(423, "provider_locked"),
    "429": refused(429, "rate_limited", attempts=ATTEMPTS),
    "429, Retry-After: 1": refused(429, "rate_limited", ("Retry-After", "1"), attempts=ATTEMPTS),
    "429, Retry-After: a date": Fault(
        lambda _: answer(429, b"", ("Retry-After", in_two_seconds())), "rate_limited", 429, ATTEMPTS
    ),
    "500": refused(500, "server_error", attempts=ATTEMPTS),
    "502, a web page": refused(502, "server_error", HTML, attempts=ATTEMPTS, body=WEB_PAGE),
    "503, Retry-After: 1": refused(503, "server_error", ("Retry-After", "1"), attempts=ATTEMPTS),
    "503, Retry-After: an hour": refused(503, "server_error", ("Retry-After", "3600")),
    "408": refused(408, "timeout", attempts=ATTEMPTS),
    # what does not answer in all its time is asked once more
    "hangs": cut_off(lambda _: hang(), "timeout", 2),
    "drips": cut_off(lambda _: drip(0.1), "timeout", 2),
    "hangs up": cut_off(lambda _: raw(b""), "network_error", ATTEMPTS),
    "resets": cut_off(lambda _: reset_after(), "network_error", ATTEMPTS),
    "resets in mid-body": cut_off(
        lambda document: reset_after(HEAD + orjson.dumps(document)[:50]), "network_error", ATTEMPTS
    ),
    "hangs up in mid-body": cut_off(
        lambda document: raw(HEAD + orjson.dumps(document)[:50]), "network_error", ATTEMPTS
    ),
    "an endless body": Fault(lambda _: endless(FAR), "bad_payload", 200),
    "10 MB of JSON": bad(lambda document: document | {"padding": "x" * 10_000_000}),
    "10 MB of blanks": bad(lambda document: orjson.dumps(document) + b" " * 10_000_000),
    "a gzip bomb": bad(lambda _: bomb(), ("Content-Encoding", "gzip")),
    "gzip, unasked": taken(
        lambda document: gzip.compress(orjson.dumps(document)), ("Content-Encoding", "gzip"), says=unchanged
    ),
    "no body": bad(lambda _: b""),
    "JSON that breaks off": bad(lambda document: orjson.dumps(document)[:-5]),
    "JSON called text/html": taken(unchanged, HTML, says=unchanged),
    "JSON called nothing": taken(unchanged, ("Content-Type", ""), says=unchanged),
    "a web page": bad(lambda _: WEB_PAGE, HTML),
    "a web page called JSON": bad(lambda _: WEB_PAGE),
    "null": bad(lambda _: b"null"),
    "wrong types": bad(with_wrong_types),
    "numbers as ids": bad(with_number_for_id),
    "a profile listed twice": taken(with_a_twin, says=with_the_twin_alone),
    "nested 100,000 deep": bad(lambda _: b"[" * 100_000 + b"]" * 100_000),
    "an unknown field, nested 100 deep": taken(altered(tomorrow=nested(100)), says=unchanged),
    "an unknown field, nested 500 deep": bad(
        lambda document: orjson.dumps(altered(tomorrow="?")(document)).replace(b'"?"', DEEP)
    ),
    "a NUL in a name": taken(
        altered(profile_name="a\0b", name="a\0b"), says=altered(profile_name="a\ufffdb", name="a\ufffdb")
    ),
    "half a surrogate pair": bad(with_surrogate),
}  # fmt: skip

# /v1/account lists no profile: there it is one more unknown field
FLAGS: dict[str, Fault] = {
    f"profile_connected {name}": bad(altered(profile_connected=value))
    for name, value in {"'yes'": "yes", "missing": MISSING, "null": None, "1": 1}.items()
}
# the other host is known when the test runs
REDIRECT = "redirected to another host"


@dataclass
class Matrix:
    """Cells and healthy tokens: one token each.

    Attributes:
        said: the document to be taken from each poll that is ok.
        polls: outcome, status and attempts of each poll there must be.
    """

    order: list[str] = field(default_factory=list)
    said: dict[tuple[str, str], Document] = field(default_factory=dict)
    polls: dict[tuple[str, str], tuple[str, int | None, int]] = field(default_factory=dict)

    def add(self, server: Server, key: str, faults: Mapping[str, Fault]) -> None:
        """A token that has these faults, by endpoint, and is well otherwise."""
        self.order.append(key)
        ended = False
        for endpoint, document in good_documents(key).items():
            fault = faults.get(endpoint)
            behavior = fault.behave(document) if fault else answer(200, document)
            server.on(endpoint, key, behavior)
            if ended:
                continue
            expected = (fault.outcome, fault.status, fault.attempts) if fault else ("ok", 200, 1)
            self.polls[key, endpoint] = expected
            if expected[0] == "ok":
                self.said[key, endpoint] = fault.says(document) if fault else document
            # the credential or the application was refused: another call would be wasted
            ended = expected[0] in ("token_rejected", "rate_limited")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another host, where no token may go."""
    with Server() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    return Place(tmp_path, server.url)


def cells(elsewhere: Server) -> Iterator[tuple[str, str, Fault]]:
    """All faults at all endpoints."""
    location = ("Location", f"{elsewhere.url}/v1/userinfo")
    faults = FAULTS | FLAGS | {REDIRECT: refused(302, "bad_payload", location)}
    for name, fault in faults.items():
        for endpoint in ENDPOINTS:
            harmless = endpoint == "account" and name in FLAGS
            yield name, endpoint, Fault(fault.behave, "ok", 200) if harmless else fault


def test_every_fault_at_every_endpoint_is_one_polls_and_nobody_elses(
    place: Place, server: Server, elsewhere: Server
) -> None:
    """A third of the faults comes first, a third in the middle and a third at the end."""
    matrix = Matrix()
    parts: list[list[tuple[str, dict[str, Fault]]]] = [[], [], []]
    for number, (name, endpoint, fault) in enumerate(cells(elsewhere)):
        parts[(number + number // 3) % 3].append((f"{name} at {endpoint}", {endpoint: fault}))
    well: list[tuple[str, dict[str, Fault]]] = [(f"well {number}", {}) for number in range(HEALTHY)]
    parts.insert(1, well[: HEALTHY // 2])
    parts.insert(3, well[HEALTHY // 2 :])
    for name, faults in itertools.chain(*parts):
        matrix.add(server, re.sub("[^0-9A-Za-z_]+", "-", name), faults)
    place.write_tokens(matrix.order)

    # ten megabytes are to arrive in time on a busy machine too
    result = load(place, replace(HURRIED, timeout_seconds=3.0), endpoints=ENDPOINTS)

    assert (result.stopped_by, result.polled_tokens) == (None, len(matrix.order))
    assert_tables_say_what_was_said(place, matrix)
    assert elsewhere.opened == 0


def assert_tables_say_what_was_said(place: Place, matrix: Matrix) -> None:
    """Every table, row by row, against the documents the server sent."""
    rows = {
        (row["token_key"], row["endpoint"]): (row["outcome"], row["http_status"], row["attempts"])
        for row in place.rows("polls")
    }
    wrong = {key: rows.get(key) for key in matrix.polls | rows if rows.get(key) != matrix.polls.get(key)}
    assert wrong == {}
    assert len(place.rows("polls")) == len(matrix.polls)
    expected = Tables()
    for (key, endpoint), document in matrix.said.items():
        expected.take(key, endpoint, document)
    written = read_tables(place)
    assert written.identities == expected.identities
    assert written.profiles == expected.profiles
    assert written.calendars == expected.calendars
    assert written.changes == expected.changes


@dataclass
class Tables:
    """The content of the warehouse, as the documents say it and as the tables do."""

    identities: dict[tuple[str, str], tuple[str, str | None, str | None]] = field(default_factory=dict)
    profiles: dict[tuple[str, str, str], tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    calendars: dict[tuple[str, str], tuple[str, str, bool]] = field(default_factory=dict)
    changes: dict[tuple[str, str, str], list[tuple[str, tuple[Any, ...]]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def take(self, key: str, endpoint: str, document: Document) -> None:
        """What one document adds; those of one token come in the order of its calls."""
        data = document.get("cronofy.data", document)
        sub = f"acc_{key}"
        if endpoint != "profiles":
            person = document if endpoint == "userinfo" else document["account"]
            self.identities[endpoint, key] = (sub, person["email"], person["name"])
        for profile_type, name in (("calendar", "profiles"), ("conferencing", "conferencing_profiles")):
            for entry in data.get(name, ()):
                content = (
                    "connected" if entry["profile_connected"] else "disconnected",
                    tuple(entry.get(each) for each in ATTRIBUTES),
                )
                self.profiles[key, profile_type, entry["profile_id"]] = content
                changes = self.changes[sub, profile_type, entry["profile_id"]]
                if changes[-1:] != [content]:
                    changes.append(content)
                for calendar in entry.get("profile_calendars", ()):
                    said = (entry["profile_id"], calendar["calendar_name"], True)
                    self.calendars[key, calendar["calendar_id"]] = said


def read_tables(place: Place) -> Tables:
    """The same from the warehouse."""
    tables = Tables()
    for name in ("userinfo", "account"):
        for row in place.rows(name):
            tables.identities[name, row["token_key"]] = (row["account_id"], row["email"], row["name"])
    for row in place.rows("profiles"):
        content = (row["state"], tuple(row[name] for name in ATTRIBUTES))
        tables.profiles[row["token_key"], row["profile_type"], row["profile_id"]] = content
    for row in place.rows("calendars"):
        said = (row["profile_id"], row["calendar_name"], row["removed_at"] is None)
        tables.calendars[row["token_key"], row["calendar_id"]] = said
    for row in sorted(place.rows("profile_changes"), key=lambda row: row["observed_at"]):
        content = (row["state"], tuple(row[name] for name in ATTRIBUTES))
        tables.changes[row["account_id"], row["profile_type"], row["profile_id"]].append(content)
    return tables


@pytest.mark.long
def test_a_long_retry_after_ends_the_run_and_the_next_one_goes_on(place: Place, server: Server) -> None:
    matrix = Matrix()
    for number in range(HEALTHY):
        matrix.add(server, f"well-{number}", {})
    server.on("userinfo", "well-0", answer(429, b"", ("Retry-After", "3600")))
    place.write_tokens(matrix.order)

    result = load(place, endpoints=ENDPOINTS)

    # what was under way is kept, what was not sent is no poll
    assert result.stopped_by == "retry_after"
    polls = {row["token_key"]: row for row in place.rows("polls") if row["endpoint"] == "userinfo"}
    assert (polls["well-0"]["outcome"], polls["well-0"]["attempts"]) == ("rate_limited", 1)
    assert {row["outcome"] for key, row in polls.items() if key != "well-0"} <= {"ok"}
    assert len(server.arrivals) == result.requests < HEALTHY

    server.on("userinfo", "well-0", answer(200, matrix.said["well-0", "userinfo"]))
    place.clock.offset = timedelta(hours=2)
    load(place, endpoints=ENDPOINTS, every=timedelta(days=1))
    written = place.query("SELECT count(*) FROM profiles WHERE profile_type = 'conferencing'")
    assert written == [(HEALTHY,)]


@pytest.mark.long
def test_many_failing_tokens_in_a_row_are_no_outage(place: Place, server: Server) -> None:
    """Three times as many as trip a breaker, before the first that is well."""
    matrix = Matrix()
    failing = {"userinfo": refused(503, "server_error")}
    for number in range(3 * TRIPS_AFTER):
        matrix.add(server, f"failing-{number}", failing)
    for number in range(HEALTHY):
        matrix.add(server, f"well-{number}", {})
    place.write_tokens(matrix.order)

    result = load(place, endpoints=("userinfo",))

    assert result.outcomes == {"ok": HEALTHY, "server_error": 3 * TRIPS_AFTER}


# as the command, then the most memory the process ever held
MEASURED = """
from pathlib import Path
from dlt_cronofy.cli.main import cli
cli(["load", "--endpoints", "userinfo", "--max-failure-ratio", "1"], standalone_mode=False)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
HOSTILE = ("an endless body", "10 MB of JSON", "10 MB of blanks", "a gzip bomb", "nested 100,000 deep")


def peak_megabytes(place: Place, environment: Mapping[str, str]) -> float:
    finished = run([sys.executable, "-c", MEASURED], place.directory, environment)
    assert finished.returncode == 0, finished.stderr
    return int(finished.stdout.split()[-1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.long
def test_hostile_bodies_take_no_more_memory_than_good_ones(tmp_path: Path, server: Server) -> None:
    """Sixty tokens, all at once; each may hold what a good body may, no more and not for long."""
    peaks = []
    kinds: dict[str, list[Fault | None]] = {"good": [None], "hostile": [FAULTS[name] for name in HOSTILE]}
    for name, faults in kinds.items():
        directory = tmp_path / name
        directory.mkdir()
        place = Place(directory, server.url)
        matrix = Matrix()
        for number in range(60):
            fault = faults[number % len(faults)]
            matrix.add(server, f"{name}-{number}", {"userinfo": fault} if fault else {})
        place.write_tokens(matrix.order)
        peaks.append(peak_megabytes(place, place.environment()))
        expected = {key: poll for key, poll in matrix.polls.items() if key[1] == "userinfo"}
        outcomes = {row["token_key"]: row["outcome"] for row in place.rows("polls")}
        assert outcomes == {key: outcome for (key, _), (outcome, *_) in expected.items()}
    good, hostile = peaks
    assert hostile <= good + 120
