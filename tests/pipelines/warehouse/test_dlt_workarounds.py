"""The DuckDB file: of any name, readable by plain dlt and plain DuckDB, under another name too."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import dlt
import duckdb
import pytest
from dlt.common.configuration import resolve
from dlt.common.configuration.specs import ConnectionStringCredentials
from dlt.common.schema.utils import has_table_seen_data
from dlt.common.typing import SecretSentinel, TSecretStrValue

import dlt_cronofy
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse import dataset as warehouse
from dlt_cronofy.warehouse.dlt_workarounds import look_at_types_once
from tests.acceptance.documents import calendar, disconnected, profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.pipelines.conftest import Answers

UP = profile("pro_1", calendars=[calendar("cal_1")])
# with a field that the schema has to learn
DOWN = disconnected(UP) | {"profile_mood": "sad"}
RELATIONS = {*TABLES, *PUBLIC_VIEWS}


def fill(place: Place, answers: Answers, name: str) -> Place:
    """Two loads into a file of that name, the first one of a release whose schema did not name the views."""
    place.database_name = name
    place.write_tokens(["one"])
    for document in (UP, DOWN):
        answers.by_token["one"] = userinfo("acc_1", [document])
        with pytest.MonkeyPatch.context() as patched:
            if document is UP:
                patched.setattr(warehouse, "learn_views", lambda _: None)
            place.load(refresh_views=True)
    return place


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A file that is named like the dataset, for those that only read it."""
    folder, answers = tmp_path_factory.mktemp("filled"), Answers()
    with ScriptedServer(answers) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DLT_DATA_DIR", str(folder / "data"))
        yield fill(Place(folder, server.base_url), answers, "cronofy.duckdb")


@pytest.mark.parametrize(
    ("hint", "is_secret"),
    [
        (str, False),
        (TSecretStrValue, True),
        (TSecretStrValue | None, True),
        (ConnectionStringCredentials, True),
        (Annotated[str, ["cannot be hashed"]], False),
        (Annotated[str, ["cannot be hashed"], SecretSentinel], True),
    ],
)
def test_what_is_known_of_a_type_is_what_dlt_says(hint: Any, is_secret: bool) -> None:
    look_at_types_once()
    # `resolve` has it in its own namespace
    found = vars(resolve)["is_secret_hint"]
    assert [found(hint), found(hint)] == [is_secret, is_secret]


@pytest.mark.long
@pytest.mark.parametrize("name", ["CRONOFY.db", "my file-1.duckdb", "cronofy"])
def test_a_file_of_any_name(name: str, place: Place, answers: Answers) -> None:
    fill(place, answers, name)
    assert place.query("SELECT kind FROM profile_changes ORDER BY observed_at") == [
        ("first_seen",),
        ("disconnected",),
    ]
    assert place.query("SELECT state FROM profiles") == [("disconnected",)]
    assert place.query("SELECT relink_url IS NOT NULL FROM needs_relink") == [(True,)]


def plain(folder: Path) -> dlt.Dataset:
    return dlt.dataset(destination(folder), "cronofy")


def pipeline(folder: Path) -> dlt.Dataset:
    return dlt.pipeline(
        "cronofy", destination=destination(folder), dataset_name="cronofy", pipelines_dir=str(folder / "new")
    ).dataset()


def attached(folder: Path) -> dlt.Dataset:
    """Without the working files: all that is needed to go on stands in the warehouse."""
    found = dlt.attach(
        "cronofy", destination=destination(folder), dataset_name="cronofy", pipelines_dir=str(folder / "gone")
    )
    assert list(found.schemas) == ["cronofy"]
    return found.dataset()


def destination(folder: Path) -> dlt.destinations.duckdb:
    return dlt.destinations.duckdb(str(folder / "attached.duckdb"))


@pytest.mark.parametrize("opened", [plain, pipeline, attached])
def test_plain_dlt_reads_every_table_and_view(
    opened: Callable[[Path], dlt.Dataset], filled: Place, tmp_path: Path
) -> None:
    """Under another file name, where nothing is ambiguous."""
    shutil.copy(filled.database, tmp_path / "attached.duckdb")
    dataset = opened(tmp_path)
    assert set(dataset.tables) >= RELATIONS
    assert "profile_mood" in dataset.profiles.columns
    # dlt drops only tables that have
    assert not [view for view in PUBLIC_VIEWS if has_table_seen_data(dataset.schema.tables[view])]
    assert len(dataset.profile_changes.fetchall()) == 2
    assert dataset("SELECT reason FROM needs_action WHERE profile_id = 'pro_1'").fetchall() == [("relink",)]


@pytest.mark.long
def test_a_file_that_is_named_like_the_dataset_is_read_in_utc(
    filled: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(filled.database))
    monkeypatch.setenv("TZ", "America/St_Johns")
    with dlt_cronofy.dataset() as dataset:
        assert {name for name in RELATIONS if dataset[name].fetchmany(1)} >= {"polls", "profile_health"}
        assert str(dataset.needs_relink.df()["first_seen_at"].dt.tz) == "UTC"
    pipeline = dlt.attach(
        "cronofy",
        destination=dlt_cronofy.destination(),
        dataset_name="cronofy",
        pipelines_dir=str(tmp_path / "working"),
    )
    assert pipeline.dataset().outages.select("end_reason").fetchall() == [("open",)]
    assert len(dlt.dataset(dlt_cronofy.destination("duckdb"), "cronofy").polls.fetchall()) == 3


def test_nothing_to_read_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(tmp_path / "none.duckdb"))
    with pytest.raises(ConfigurationError, match=r"none\.duckdb holds no data yet; run .* load first"):
        dlt_cronofy.dataset()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("relation", ["profile_changes", "needs_relink"])
def test_plain_duckdb_reads_it_attached_under_another_name(filled: Place, relation: str) -> None:
    with closing(duckdb.connect()) as connection:
        connection.execute(f"ATTACH '{filled.database}' AS history (READ_ONLY)")
        rows = connection.execute(f"SELECT COUNT(*) FROM history.cronofy.{relation}").fetchone()
    assert rows is not None
    assert rows[0] > 0
