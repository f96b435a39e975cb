"""The target of a load: the same whatever spells it, and another one for every other warehouse."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dlt_cronofy.warehouse.dataset import writer
from dlt_cronofy.warehouse.pipeline import default_file, duckdb_file, open_pipeline, pipeline_target
from dlt_cronofy.warehouse.target import Target

PASSWORD = "pass-canary"
URL = "DESTINATION__{}__CREDENTIALS"
SERVER = f"postgresql://loader:{PASSWORD}@db.example.org"

Spelling = tuple[Mapping[str, Any], Mapping[str, str]]


def by(destination: str | None = "duckdb", credentials: str | None = None, **more: Any) -> Spelling:
    """By arguments; those in capitals are variables of the environment."""
    arguments = {name: value for name, value in more.items() if name.islower()}
    environment = {name: value for name, value in more.items() if name.isupper()}
    return {"destination": destination, "credentials": credentials, **arguments}, environment


def fields(destination: str, **values: str) -> dict[str, str]:
    return {f"DESTINATION__{destination}__CREDENTIALS__{name}": value for name, value in values.items()}


# ways to spell one target; the first of each is unlike the first of all others
SAME: dict[str, list[Spelling]] = {
    "the default file": [
        by(),
        by(credentials="connections.duckdb"),
        by(credentials="./sub/../connections.duckdb"),
        by(credentials="{here}/connections.duckdb"),
        by(credentials="duckdb:///connections.duckdb"),
        by(credentials="duckdb:///{here}/connections.duckdb"),
        by(credentials="link.duckdb"),
        by(credentials="linked/connections.duckdb"),
        by(dataset="Cronofy"),
        by(DESTINATION__DUCKDB__CREDENTIALS="connections.duckdb"),
        by(DESTINATION__CREDENTIALS="duckdb:///connections.duckdb"),
        by(CREDENTIALS="connections.duckdb"),
        by(**fields("DUCKDB", DATABASE="connections.duckdb")),
        by(CRONOFY__DESTINATION__DUCKDB__CREDENTIALS="connections.duckdb"),
        by(
            "mine",
            DESTINATION__MINE__DESTINATION_TYPE="duckdb",
            **fields("MINE", DATABASE="connections.duckdb"),
        ),
    ],
    "another file": [by(credentials="test.duckdb"), by(credentials="{here}/test.duckdb")],
    "a file of that name in another case": [by(credentials="Test.duckdb")],
    "a file of that name in another folder": [by(credentials="sub/test.duckdb")],
    "the file of a named destination": [by("mine", DESTINATION__MINE__DESTINATION_TYPE="duckdb")],
    "another dataset": [by(dataset="other"), by(credentials="link.duckdb", dataset="OTHER")],
    "a dataset by its layout": [
        by(DATASET_NAME_LAYOUT="%s_prod"),
        by(dataset="cronofy_prod"),
        by(PIPELINES__CRONOFY__DATASET_NAME_LAYOUT="%s_prod"),
    ],
    "a database": [
        by("postgres", f"{SERVER}/analytics"),
        by("postgres", f"{SERVER}:5432/analytics"),
        by(
            "postgres",
            "postgresql://other:secret@DB.example.org./analytics?sslmode=require&connect_timeout=3",
        ),
        by("postgres", f"{SERVER}/%61nalytics"),
        by("postgres", DESTINATION__POSTGRES__CREDENTIALS=f"{SERVER}/analytics"),
        by(
            "postgres",
            **fields("POSTGRES", HOST="db.example.org", DATABASE="analytics", USERNAME="u", PASSWORD="p"),
        ),
        by(
            "warehouse",
            DESTINATION__WAREHOUSE__DESTINATION_TYPE="postgres",
            DESTINATION__WAREHOUSE__CREDENTIALS=f"{SERVER}/analytics",
        ),
        by(None, DESTINATION_TYPE="postgres", DESTINATION__CREDENTIALS=f"{SERVER}/analytics"),
    ],
    "another database of the server": [by("postgres", f"{SERVER}/test")],
    "a database of that name in another case": [by("postgres", f"{SERVER}/Analytics")],
    "a dataset of that name on another server": [by("postgres", f"{SERVER}.test/analytics")],
    "on another port": [by("postgres", f"{SERVER}:5433/analytics")],
    "by a socket": [
        by("postgres", f"{SERVER}/analytics?host={{here}}"),
        by("postgres", "postgresql://u:p@localhost/analytics?host={here}/linked"),
    ],
    "another dataset of the database": [by("postgres", f"{SERVER}/analytics", dataset="cronofy_test")],
    "Redshift": [
        by("redshift", f"redshift://u:{PASSWORD}@db.example.org/analytics"),
        by("redshift", f"redshift://v:{PASSWORD}@db.example.org:5439/analytics"),
    ],
    "MotherDuck": [
        by("motherduck", f"md:prod?motherduck_token={PASSWORD}"),
        by("motherduck", f"md:///prod?token={PASSWORD}"),
        by("motherduck", "md:prod", MOTHERDUCK_TOKEN=PASSWORD),
        by("motherduck", **fields("MOTHERDUCK", DATABASE="prod", PASSWORD=PASSWORD)),
    ],
    "another database of MotherDuck": [by("motherduck", f"md:test?motherduck_token={PASSWORD}")],
    "another account of MotherDuck": [by("motherduck", "md:prod?motherduck_token=other")],
    "DuckLake": [
        by("ducklake"),
        by("ducklake", **fields("DUCKLAKE", CATALOG="sqlite:///ducklake.sqlite")),
        by("ducklake", **fields("DUCKLAKE", CATALOG="sqlite:///{here}/ducklake.sqlite")),
    ],
    "a DuckLake with another catalog": [
        by("ducklake", **fields("DUCKLAKE", CATALOG="duckdb:///{here}/ducklake.duckdb"))
    ],
    "Snowflake": [
        by("snowflake", f"snowflake://u:{PASSWORD}@ORG-ACCOUNT/PROD?warehouse=small&role=loader"),
        by("snowflake", f"snowflake://v:{PASSWORD}@org-account/prod"),
    ],
    "another database of Snowflake": [by("snowflake", f"snowflake://u:{PASSWORD}@org-account/test")],
    "BigQuery": [
        by("bigquery", **fields("BIGQUERY", PROJECT_ID="prod", PRIVATE_KEY=PASSWORD, CLIENT_EMAIL="a@b")),
        by("bigquery", **fields("BIGQUERY", PROJECT_ID="prod", PRIVATE_KEY="other", CLIENT_EMAIL="c@d")),
    ],
    "another project of BigQuery": [
        by("bigquery", **fields("BIGQUERY", PROJECT_ID="test", PRIVATE_KEY=PASSWORD, CLIENT_EMAIL="a@b"))
    ],
    "another project than that of the credentials": [
        by(
            "bigquery",
            DESTINATION__BIGQUERY__PROJECT_ID="data",
            **fields("BIGQUERY", PROJECT_ID="prod", PRIVATE_KEY=PASSWORD, CLIENT_EMAIL="a@b"),
        )
    ],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links in it, where commands run."""
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "link.duckdb").symlink_to("connections.duckdb")
    return tmp_path


def spelled(spelling: Spelling, here: Path) -> tuple[Target, Path]:
    """The target of a pipeline that is opened so, and its working folder."""
    arguments, environment = spelling
    given: dict[str, Any] = {
        name: value.format(here=here) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value.format(here=here))
        pipeline = open_pipeline(**given)
        target, file = pipeline_target(pipeline), duckdb_file(pipeline)
    assert target is not None
    if target.destination == "duckdb":
        assert file is not None
        assert target.file == file.resolve()
    return target, Path(pipeline.pipelines_dir)


@pytest.mark.parametrize("name", SAME)
def test_one_target_has_one_folder(name: str, here: Path) -> None:
    found = [spelled(spelling, here) for spelling in SAME[name]]
    assert len(set(found)) == 1, found


def test_two_targets_have_two_folders(here: Path) -> None:
    found = {name: spelled(spellings[0], here) for name, spellings in SAME.items()}
    assert len({folder for _, folder in found.values()}) == len(SAME), found
    for target, folder in found.values():
        assert target.location
        assert PASSWORD not in repr(asdict(target))
        assert folder.parent == here / "data" / "pipelines"


@pytest.mark.parametrize(
    "spelling",
    [
        by("postgres"),
        by("postgres", "postgresql://only-a-host"),
        by("postgres", "no URL at all"),
        by("snowflake"),
    ],
    ids=["nothing", "a host", "nonsense", "Snowflake"],
)
def test_what_cannot_be_reached_is_opened_and_says_so_later(spelling: Spelling, here: Path) -> None:
    assert spelled(spelling, here)[0].location == ""


def test_a_file_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    assert default_file(tmp_path).name == "connections.duckdb"
    (tmp_path / "cronofy.duckdb").touch()
    assert default_file(tmp_path).name == "cronofy.duckdb"
    (tmp_path / "connections.duckdb").touch()
    assert default_file(tmp_path).name == "connections.duckdb"


def test_a_file_in_the_working_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_pipeline(credentials=":pipeline:")
    file = duckdb_file(first)
    assert file == Path(first.working_dir) / "cronofy.duckdb"
    monkeypatch.chdir(here / "sub")
    assert open_pipeline(credentials=":pipeline:").pipelines_dir != first.pipelines_dir


def test_a_relative_path_begins_where_one_stands(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the first run with the same working files stood."""
    for folder in (here, here / "sub"):
        monkeypatch.chdir(folder)
        pipeline = open_pipeline(credentials="x.duckdb", pipelines_dir=here / "shared")
        assert duckdb_file(pipeline) == folder / "x.duckdb"
        with writer(pipeline):
            pass
        assert (folder / "x.duckdb").is_file()
        pipeline.sync_destination()
        assert pipeline.pipelines_dir == str(here / "shared")
