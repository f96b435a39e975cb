"""`personal_data`: what is not to be kept is nowhere, and docs/privacy.md does what it says."""

import copy
import io
import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from rich.console import Console

from dlt_cronofy.cli.summary import health_parts
from dlt_cronofy.configuration import read_settings
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.report.health import read_health
from dlt_cronofy.source.privacy import KEEP, Mode, PersonalData
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.token import Token
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.campaign.canaries import stored_values, unpacked
from tests.postgres import postgres_database

from . import documents
from .conftest import Serve
from .documents import Document, calendar, disconnected, profile
from .place import TABLES, Place, Row
from .server import Reply, Request, ScriptedServer, says

PlaceFor = Callable[[ScriptedServer], Place]
GUIDE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
CANARY = "canary"
KEY, OTHER_KEY = "an owl's key, 16 letters", "a crow's key, 16 letters"
DROP = PersonalData(Mode.DROP)
JANE, JANES_PROFILE = "jane.canary@example.com", "jane.canary@example.org"


def hashing(key: str = KEY) -> PersonalData:
    return PersonalData(Mode.HASH, Secret(key))


def snippet(title: str) -> str:
    """The block of the guide below that mark."""
    found = re.search(rf"<!-- {title} -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, title
    return found[1]


def protected(text: str, key: str = KEY) -> str:
    """The digest as the guide computes it."""
    scope: dict[str, Any] = {}
    exec(snippet("digest in Python"), scope)
    return str(scope["protected"](text, key))


def people() -> dict[str, Document]:
    """What userinfo says of each token. Every personal value holds the canary, and so do unknown fields."""
    calendars = [calendar("cal_1", "Canary's calendar"), calendar("cal_2", "Canary's holidays")]
    jane = documents.userinfo(
        "acc_1",
        [
            profile("pro_1", name=JANE, calendars=calendars) | {"owner": {"by": ["Jane Canary"], JANE: 1}},
            disconnected(profile("pro_2", name=JANES_PROFILE, calendars=[calendar("cal_3", "Canary")])),
        ],
        [profile("pro_z", service="zoom", name="canary@zoom.example")],
        email=JANE,
    )
    jane |= {"name": "Jane Canary", "nickname": "Jane Canary (away)", JANE: {"plan": "gold"}, "plan": "gold"}
    # half of it of another type than documented
    joe = documents.userinfo("acc_2", [profile("pro_3") | {"profile_name": ["Joe Canary"]}])
    joe |= {"email": ["joe.canary@example.com"], "name": {"first": "Canary"}}
    return {
        "user1": jane,
        "user2": joe,
        "user3": {
            "sub": "ser_1",
            "cronofy.type": "service_account",
            "cronofy.service_account.domain": "example.com",
            "cronofy.service_account.email": "admin.canary@example.com",
        },
    }


@dataclass
class Stage:
    """A server whose world a test changes, and the place it is loaded into."""

    place: Place
    world: dict[str, Document]
    loads: int = 0

    @property
    def pipeline(self) -> dlt.Pipeline:
        return open_pipeline(
            "duckdb", credentials=str(self.place.database), pipelines_dir=self.place.data_dir / "pipelines"
        )

    def load(self, personal_data: PersonalData, *, views: bool = False) -> LoadResult:
        """Load all tokens, a good day after the load before."""
        self.place.clock.offset = timedelta(hours=25 * self.loads)
        self.loads += 1
        settings = PollingSettings(
            base_url=self.place.base_url,
            requests_per_second=1e6,
            requests_per_minute=1e6,
            max_attempts=1,
            personal_data=personal_data,
        )
        tokens = [Token(key, Secret(key), data_center="us") for key in self.world]
        options = LoadOptions(every=timedelta(0), refresh_views=views)
        return Load(self.pipeline, settings, tokens, options, self.place.clock).run()

    def change(self) -> None:
        """A profile breaks and loses a calendar; another profile is removed, and its calendar with it."""
        data = self.world["user1"]["cronofy.data"]
        first = copy.deepcopy(data["profiles"][0])
        del first["profile_calendars"][1]
        data["profiles"] = [disconnected(first)]

    def kinds(self) -> Counter[str]:
        return Counter(row["kind"] for row in self.place.rows("profile_changes"))

    def row(self, table: str, **wanted: str) -> Row:
        """The one row with these values."""
        [found] = [row for row in self.place.rows(table) if row.items() >= wanted.items()]
        return found

    def execute(self, sql: str) -> None:
        """What a person runs in the warehouse by hand."""
        with closing(duckdb.connect(str(self.place.database))) as connection:
            connection.execute("USE warehouse.cronofy")
            connection.execute(sql)

    def found(self, text: str = CANARY) -> set[str]:
        """Tables that hold a text in a value; the names of columns are values of dlt's own tables."""
        wanted = text.encode()
        return {table for table, value in stored_values(self.place.database) if wanted in value.lower()}

    def found_in_files(self, text: str = CANARY) -> set[str]:
        """Files that hold it, the database's own included."""
        files = [path for path in self.place.directory.rglob("*") if path.is_file()]
        return {path.name for path in files if text.encode() in unpacked(path).lower()}


@pytest.fixture
def stage(serve: Serve, place_for: PlaceFor) -> Stage:
    world = people()

    def answer(request: Request) -> Reply:
        document = world[request.token]
        if request.endpoint == "userinfo":
            return says(document)
        named = documents.account(document["sub"])["account"]
        named |= {name: document.get(name) for name in ("email", "name")}
        return says({"account": named, "sub": document["sub"], "contact": document.get("email")})

    return Stage(place_for(serve(answer)), world)


def test_hashed_from_the_first_load_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES__CRONOFY__PERSONAL_DATA", "hash")
    monkeypatch.setenv("SOURCES__CRONOFY__PERSONAL_DATA_KEY", KEY)
    configured = read_settings()[1].personal_data
    stage.load(configured)
    stage.change()
    stage.load(configured, views=True)
    for text in (CANARY, KEY):
        assert (stage.found(text), stage.found_in_files(text)) == (set(), set())
    assert stage.kinds() == {"first_seen": 4, "disconnected": 1, "removed": 1}
    assert stage.row("userinfo", token_key="user1")["plan"] == "gold"
    assert stage.row("userinfo", token_key="user2")["api_email"] == protected('["joe.canary@example.com"]')

    # the guide's digests join
    [asked] = stage.place.query("SELECT email, name, profile_name FROM needs_relink")
    assert asked == (protected(JANE), protected("Jane Canary"), protected(JANE))
    joined = "SELECT a.token_key, p.profile_id FROM account a JOIN profiles p ON p.profile_name = a.email"
    assert stage.place.query(joined) == [("user1", "pro_1")]
    with sql_client(stage.pipeline) as client:
        shown = health_parts(read_health(client))
    console = Console(file=io.StringIO(), width=200)
    console.print(*shown)
    assert isinstance(console.file, io.StringIO)
    assert f" {protected(JANE)[:13]}… " in console.file.getvalue()
    assert protected(JANE) not in console.file.getvalue()

    # another key: one row for each listed profile with a name; what was removed keeps its old digest
    assert stage.load(hashing(OTHER_KEY)).changes == {"attributes": 2}
    assert stage.row("userinfo", token_key="user1")["email"] == protected(JANE, OTHER_KEY)
    assert stage.found(protected(JANES_PROFILE)) == {"profiles", "profile_changes"}
    [[changed]] = stage.place.query("SELECT max(observed_at) FROM profile_changes")
    instant = f"{changed - timedelta(minutes=5):%Y-%m-%d %H:%M:%S}"
    stage.execute(snippet("clearing old digests").replace("2026-03-01 00:00:00", instant))
    assert [stage.found(protected(text)) for text in (JANE, JANES_PROFILE)] == [set(), set()]


@pytest.mark.long
def test_from_keep_to_hash(stage: Stage) -> None:
    stage.load(KEEP)
    assert stage.found() >= {*TABLES} - {"polls"}
    assert stage.found_in_files() >= {stage.place.database.name}
    written = stage.load(hashing()).rows
    assert written == {"polls": 6, "userinfo": 3, "account": 2, "profiles": 4, "calendars": 3}
    assert stage.kinds() == {"first_seen": 4}, "the switch is no change"

    code = snippet("digesting in DuckDB").replace('"connections.duckdb"', repr(str(stage.place.database)))
    exec(code, {"protected": protected, "KEY": KEY})
    stage.execute(snippet("dropping what was staged"))
    stage.change()
    stage.load(hashing())
    assert stage.kinds() == {"first_seen": 4, "disconnected": 1, "removed": 1}, "history goes on"
    assert stage.row("profile_changes", kind="removed")["profile_name"] == protected(JANES_PROFILE)
    # the field whose name held an address had become a column
    assert stage.found() == {"_dlt_version"}


@pytest.mark.long
def test_from_drop_to_keep_and_back(stage: Stage) -> None:
    stage.load(DROP)
    assert (stage.found(), stage.found_in_files()) == (set(), set())
    assert stage.row("userinfo", token_key="user1")["plan"] == "gold"
    assert stage.load(KEEP).changes == {"attributes": 3}
    stage.change()
    assert stage.load(DROP).changes == {"disconnected": 1, "removed": 1}
    for table, wanted in (("profiles", {"profile_id": "pro_2"}), ("calendars", {"calendar_id": "cal_2"})):
        removed = stage.row(table, **wanted)
        assert CANARY not in repr(removed).lower()
        assert removed["content_hash"] is None, "it was a digest of what is not to be stored"
    assert stage.row("profile_changes", kind="removed")["profile_name"] is None
    assert "profile_changes" in stage.found(), "history is as it was until it is cleared"
    stage.execute(snippet("clearing"))
    stage.execute(snippet("dropping what was staged"))
    assert stage.found() == {"_dlt_version"}


# The extension as RFC 2104 has it, for servers that come without.
PGCRYPTO = """
CREATE FUNCTION hmac(message BYTEA, key BYTEA, hash TEXT) RETURNS BYTEA LANGUAGE plpgsql AS $$
DECLARE
    inner_key BYTEA := decode(repeat('36', 64), 'hex');
    outer_key BYTEA := decode(repeat('5c', 64), 'hex');
BEGIN
    ASSERT hash = 'sha256' AND length(key) <= 64;
    FOR i IN 0 .. length(key) - 1 LOOP
        inner_key := set_byte(inner_key, i, get_byte(key, i) # 54);
        outer_key := set_byte(outer_key, i, get_byte(key, i) # 92);
    END LOOP;
    RETURN sha256(outer_key || sha256(inner_key || message));
END $$
"""


def test_the_statements_for_postgres() -> None:
    import psycopg2  # type: ignore[import-untyped]

    names = (JANE, "Zoë 李明", protected("kept"), None)
    with (
        postgres_database() as uri,
        closing(psycopg2.connect(uri)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgcrypto'")
        cursor.execute("CREATE EXTENSION pgcrypto" if cursor.fetchone() == (1,) else PGCRYPTO)
        cursor.execute("CREATE TABLE profile_changes (profile_name TEXT, profile_relink_url TEXT)")
        cursor.executemany("INSERT INTO profile_changes VALUES (%s, %s)", [(name, name) for name in names])
        cursor.execute(snippet("digesting in PostgreSQL").replace("the key", KEY.replace("'", "''")))
        cursor.execute("SELECT profile_name, profile_relink_url FROM profile_changes")
        digests = [protected(JANE), protected("Zoë 李明"), protected("kept"), None]
        assert sorted(cursor.fetchall(), key=str) == sorted(((each, each) for each in digests), key=str)

        cursor.execute("CREATE TABLE users (id INT, email TEXT)")
        cursor.execute("INSERT INTO users VALUES (1, 'somebody'), (2, %s)", [JANE])
        cursor.execute("CREATE TABLE needs_relink (email TEXT, provider_name TEXT, days_down FLOAT)")
        cursor.execute("INSERT INTO needs_relink VALUES (%s, 'google', 2.5)", [protected(JANE, "the key")])
        cursor.execute(snippet("digest in PostgreSQL"))
        assert cursor.fetchall() == [(2, "google", 2.5)]
