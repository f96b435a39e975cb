"""The DuckDB file: of any name, readable by plain dlt and plain DuckDB, under another name too."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dlt
import duckdb
import pytest

from tests.acceptance.documents import calendar, disconnected, profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.pipelines.conftest import Answers

DOWN = disconnected(profile("pro_1", calendars=[calendar("cal_1")]))


def fill(place: Place, answers: Answers, name: str) -> Place:
    """Two loads into a file of that name, and views after the second."""
    place.database_name = name
    place.write_tokens(["one"])
    for document in (profile("pro_1", calendars=[calendar("cal_1")]), DOWN):
        answers.by_token["one"] = userinfo("acc_1", [document])
        place.load(refresh_views=document is DOWN)
    return place


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A file that is named like the dataset, for those that only read it."""
    folder, answers = tmp_path_factory.mktemp("filled"), Answers()
    with ScriptedServer(answers) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DLT_DATA_DIR", str(folder / "data"))
        yield fill(Place(folder, server.base_url), answers, "cronofy.duckdb")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["CRONOFY.db", "my file-1.duckdb", "cronofy"])
def test_a_file_of_any_name(name: str, place: Place, answers: Answers) -> None:
    fill(place, answers, name)
    assert place.query("SELECT kind FROM profile_changes ORDER BY observed_at") == [
        ("first_seen",),
        ("disconnected",),
    ]
    assert place.query("SELECT state FROM profiles") == [("disconnected",)]
    assert place.query("SELECT relink_url IS NOT NULL FROM needs_relink") == [(True,)]


def test_plain_dlt_reads_it(filled: Place, tmp_path: Path) -> None:
    """Under another file name, where nothing is ambiguous."""
    other = tmp_path / "attached.duckdb"
    shutil.copy(filled.database, other)
    pipeline = dlt.attach(
        "cronofy",
        pipelines_dir=str(filled.data_dir / "pipelines"),
        destination=dlt.destinations.duckdb(str(other)),
        dataset_name="cronofy",
    )
    dataset = pipeline.dataset()
    assert dataset("SELECT state FROM profiles").fetchall() == [("disconnected",)]
    assert len(dataset.polls.fetchall()) == 3


def test_plain_dlt_finds_the_schema_in_the_file(filled: Place, tmp_path: Path) -> None:
    """Without the working files: all that is needed to go on stands in the warehouse."""
    other = tmp_path / "attached.duckdb"
    shutil.copy(filled.database, other)
    pipeline = dlt.pipeline(
        "cronofy",
        destination=dlt.destinations.duckdb(str(other)),
        dataset_name="cronofy",
        pipelines_dir=str(tmp_path / "elsewhere"),
    )
    pipeline.sync_destination()
    assert list(pipeline.schemas) == ["cronofy"]
    assert len(pipeline.dataset().profile_changes.fetchall()) == 2


@pytest.mark.parametrize("relation", ["profile_changes", "needs_relink"])
def test_plain_duckdb_reads_it_attached_under_another_name(filled: Place, relation: str) -> None:
    with closing(duckdb.connect()) as connection:
        connection.execute(f"ATTACH '{filled.database}' AS history (READ_ONLY)")
        rows = connection.execute(f"SELECT COUNT(*) FROM history.cronofy.{relation}").fetchone()
    assert rows is not None
    assert rows[0] > 0
