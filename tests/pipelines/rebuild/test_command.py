"""`rebuild`: evidence in place of what is kept, and `--check`, which only compares."""

import gzip
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import psycopg2  # type: ignore[import-untyped]
import pytest

from dlt_cronofy.rebuild import Difference, differences
from dlt_cronofy.rebuild.command import SHOWN_DIFFERENCES, check_lines
from dlt_cronofy.warehouse.locks import turn
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import Place
from tests.pipelines.cli.test_main import invoke
from tests.pipelines.conftest import Answers
from tests.pipelines.warehouse.writing import Postgres, postgres_for_writers
from tests.releases.test_upgrade import FOLDER, VERSIONS

EVIDENCE = {"coverage": 3, "runs": 1, "token_status": 4}
DATASET = "evidence_command"


@pytest.fixture
def loaded(place: Place, answers: Answers) -> Place:
    """Four tokens, one of which is refused, were polled once."""
    for number in range(3):
        answers.by_token[f"tok_{number}"] = userinfo(f"acc_{number}", [profile("pro_1")])
    place.write_tokens(["tok_0", "tok_1", "tok_2", "revoked"])
    place.load()
    return place


def execute(place: Place, statement: str) -> None:
    with duckdb.connect(str(place.database)) as connection:
        connection.execute(statement)


def test_rebuild_writes_what_check_then_finds_right_and_check_names_differences(loaded: Place) -> None:
    rebuilt = invoke(loaded, "rebuild")
    assert rebuilt.exit_code == 0
    assert rebuilt.stdout.splitlines() == [
        "coverage      3 rows",
        "runs          1 row",
        "token_status  4 rows",
    ]
    checked = invoke(loaded, "rebuild", "--check")
    assert (checked.exit_code, checked.stdout) == (0, "no difference\n")
    assert json.loads(invoke(loaded, "rebuild", "--json").stdout) == EVIDENCE
    assert json.loads(invoke(loaded, "rebuild", "--check", "--json").stdout) == {"differences": []}
    # each difference is named, and the status is 1
    execute(loaded, "UPDATE cronofy.token_status SET last_outcome = 'ok' WHERE last_outcome <> 'ok'")
    execute(loaded, "DELETE FROM cronofy.runs")
    checked = invoke(loaded, "rebuild", "--check")
    assert checked.exit_code == 1
    changed, missing = checked.stdout.splitlines()
    assert changed.startswith("token_status token_key ")
    assert changed.endswith(": last_outcome is ok, worked out token_rejected")
    assert missing.startswith("runs run_id ")
    assert missing.endswith(": missing")
    as_json = invoke(loaded, "rebuild", "--check", "--json")
    assert as_json.exit_code == 1
    assert [each["table"] for each in json.loads(as_json.stdout)["differences"]] == ["token_status", "runs"]
    assert invoke(loaded, "rebuild").exit_code == 0
    assert invoke(loaded, "rebuild", "--check").exit_code == 0


@pytest.mark.long
def test_a_changed_hold_applies_to_the_past(loaded: Place, answers: Answers) -> None:
    later = "SELECT * REPLACE (polled_at + INTERVAL '2 hours' AS polled_at, poll_id || 'x' AS poll_id)"
    execute(loaded, f"INSERT INTO cronofy.polls {later} FROM cronofy.polls")
    for hold, rows in (("3h", 3), ("2h", 3), ("7199s", 6), ("1d", 3)):
        hold_of = {"SOURCES__CRONOFY__HOLD": hold}
        result = invoke(loaded, "rebuild", "--json", **hold_of)
        assert json.loads(result.stdout)["coverage"] == rows
        assert invoke(loaded, "rebuild", "--check", **hold_of).exit_code == 0


def test_there_must_be_something(new_place: Place) -> None:
    for arguments in (["rebuild"], ["rebuild", "--check"]):
        result = invoke(new_place, *arguments)
        assert result.exit_code == 2
        assert "run dlt-cronofy load first" in result.stderr
        assert result.stdout == ""
    assert not new_place.database.exists()


@pytest.mark.long
def test_check_writes_nothing(loaded: Place) -> None:
    assert invoke(loaded, "rebuild").exit_code == 0
    before = loaded.database.read_bytes()
    assert invoke(loaded, "rebuild", "--check").exit_code == 0
    assert loaded.database.read_bytes() == before


@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
def test_a_warehouse_of_a_release_gets_its_evidence_and_loads_go_on(
    version: str, place: Place, answers: Answers
) -> None:
    with gzip.open(FOLDER / f"{version}.duckdb.gz") as packed, place.database.open("wb") as file:
        shutil.copyfileobj(packed, file)
    assert invoke(place, "rebuild", "--check").exit_code == 1
    rows = json.loads(invoke(place, "rebuild", "--json").stdout)
    named = place.query("SELECT count(DISTINCT run_id), count(DISTINCT token_key) FROM polls")
    assert [(rows["runs"], rows["token_status"])] == named
    assert rows["coverage"] > 8
    assert invoke(place, "rebuild", "--check").stdout == "no difference\n"
    answers.by_token["tok_new"] = userinfo("acc_new", [profile("pro_1")])
    place.write_tokens(["tok_new"])
    loaded = invoke(place, "load")
    assert loaded.exit_code == 0, loaded.stderr
    for table, number in rows.items():
        assert place.query(f"SELECT count(*) >= {number} FROM {table}") == [(True,)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_for_writers() as server:
        yield server


@pytest.fixture
def on_postgres(loaded: Place, postgres: Postgres) -> dict[str, str]:
    """The environment of commands; the tokens were polled into PostgreSQL as well."""
    with psycopg2.connect(postgres.credentials) as connection:
        connection.cursor().execute(f"DROP SCHEMA IF EXISTS {DATASET} CASCADE")
    postgres.load(loaded, DATASET)
    return {"DESTINATION__POSTGRES__CREDENTIALS": postgres.credentials}


def on_dataset(place: Place, environment: dict[str, str], *arguments: str) -> Any:
    target = ("--destination", "postgres", "--dataset", DATASET)
    return invoke(place, "rebuild", *arguments, *target, **environment)


@pytest.mark.long
def test_it_works_on_postgres(loaded: Place, postgres: Postgres, on_postgres: dict[str, str]) -> None:
    rebuilt = on_dataset(loaded, on_postgres, "--json")
    assert json.loads(rebuilt.stdout) == EVIDENCE
    assert on_dataset(loaded, on_postgres, "--check").stdout == "no difference\n"
    analyzed = f"SELECT count(*) FROM pg_stats WHERE schemaname = '{DATASET}' AND tablename = 'coverage'"
    assert postgres.query(analyzed)[0][0] > 0
    with psycopg2.connect(postgres.credentials) as connection:
        connection.cursor().execute(f"UPDATE {DATASET}.coverage SET samples = 17")
    checked = on_dataset(loaded, on_postgres, "--check")
    assert checked.exit_code == 1
    assert checked.stdout.count("samples is 17, worked out 1") == 3


@pytest.mark.long
def test_check_leaves_the_turn_to_others_while_it_compares(
    loaded: Place, postgres: Postgres, on_postgres: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not see what they write meanwhile."""
    assert on_dataset(loaded, on_postgres).exit_code == 0

    def while_others_write(*arguments: Any) -> list[Difference]:
        pipeline = open_pipeline("postgres", DATASET, postgres.credentials, loaded.data_dir / "other")
        with turn(pipeline), psycopg2.connect(postgres.credentials) as connection:
            connection.cursor().execute(f"DELETE FROM {DATASET}.coverage")
        return differences(*arguments)

    monkeypatch.setattr("dlt_cronofy.rebuild.command.differences", while_others_write)
    assert on_dataset(loaded, on_postgres, "--check").stdout == "no difference\n"
    monkeypatch.undo()
    assert on_dataset(loaded, on_postgres, "--check").exit_code == 1


def test_the_terminal_lists_so_many() -> None:
    key = (("run_id", "r"),)
    found = [Difference("runs", key, "ok", number, number + 1) for number in range(SHOWN_DIFFERENCES + 2)]
    lines = list(check_lines(found))
    assert len(lines) == SHOWN_DIFFERENCES + 1
    assert lines[-1] == "and 2 more differences; --json lists them"
    assert list(check_lines([])) == ["no difference"]


def test_times_are_shown_as_exactly_as_they_differ() -> None:
    key = (("token_key", "t"),)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = Difference("token_status", key, "last_ok_at", at, at + timedelta(microseconds=1))
    assert str(found).endswith("last_ok_at is 2026-01-02 03:04:05, worked out 2026-01-02 03:04:05.000001")
    assert found.as_dict()["kept"] == "2026-01-02T03:04:05+00:00"
