"""What the tasks do, without Airflow: the stages as configured where they run, one line for what fails."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dlt_cronofy.airflow.tasks import FinalTaskError, Job, TaskError
from dlt_cronofy.sandbox import MovableClock, build_world, serve
from tests.acceptance.place import query

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
CONFIG = """
[sources.cronofy]
tokens_file = "tokens.csv"
handoff = "handoff"
base_url = "{base_url}"
requests_per_second = 10000
requests_per_minute = 100000
"""


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    world = build_world(accounts=20, seed=3, start=START, days=2)
    world.write_tokens(tmp_path_factory.getbasetemp() / "airflow_tokens.csv")
    with serve(world, clock=MovableClock(START)) as server:
        yield server.base_url


@pytest.fixture
def job(
    base_url: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Job:
    """A job whose project is elsewhere than where the task runs."""
    project = tmp_path / "project"
    (project / ".dlt").mkdir(parents=True)
    (project / ".dlt" / "config.toml").write_text(CONFIG.format(base_url=base_url))
    (project / "tokens.csv").write_bytes((tmp_path_factory.getbasetemp() / "airflow_tokens.csv").read_bytes())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    # a task is a process of its own; in this one dlt has read some settings already
    for line in CONFIG.format(base_url=base_url).strip().splitlines()[1:]:
        name, value = line.split(" = ")
        monkeypatch.setenv(f"SOURCES__CRONOFY__{name.upper()}", value.strip('"'))
    monkeypatch.setenv("PROVIDERS__ENABLE_AIRFLOW_SECRETS", "false")
    return Job(str(project), "duckdb", shards=3, every="0s", endpoints="userinfo")


def _project(job: Job) -> Path:
    assert job.project_dir is not None
    return Path(job.project_dir)


def test_the_tasks_in_their_order_load(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    with (_project(job) / "tokens.csv").open("a", encoding="utf-8") as file:
        file.write("user_x\nuser_y,,\nuser_z,at z\n,,,\n")
    load_run, shards = job.plan()
    assert "2 rows of the token store cannot be used: tokens.csv, line " in caplog.text
    assert shards == [0, 1, 2]
    for shard in shards:
        job.poll(load_run, shard)
    summary = job.load(load_run)
    job.views(summary)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["undelivered_shards"] == []
    # one of those who have not connected is of the sandbox
    assert (summary["unusable_rows"], summary["not_connected"]) == (2, 2)
    assert "unusable" not in summary
    polled = query(_project(job) / "connections.duckdb", "SELECT count(*), count(DISTINCT run_id) FROM polls")
    assert polled == [(summary["polls"], 1)]
    assert query(_project(job) / "connections.duckdb", "SELECT count(*) FROM token_health") == [
        (summary["tokens"] + summary["not_connected"],)
    ]
    assert not list(Path.cwd().iterdir()), "something was left where the task ran"
    # too many failures fail the last task, after everything is loaded
    failed = summary | {"failure_ratio": 1.0}
    with pytest.raises(FinalTaskError, match=r"100% of the tokens failed, .* max_failure_ratio 0\.5 allows"):
        job.views(failed)
    replace(job, max_failure_ratio=1.0).views(failed)


def test_nothing_is_loaded_where_nothing_was_planned(job: Job) -> None:
    with pytest.raises(FinalTaskError, match="nothing was planned"):
        job.load(None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokens.csv", "key,access_token\nuser_1,at secret\n", "line 2: access_token holds characters"),
        ("tokens.csv", "nobody knows\n", "no column access_token"),
    ],
)
def test_a_mistake_of_a_person_is_one_line_and_is_not_tried_again(
    job: Job, name: str, text: str, message: str
) -> None:
    (_project(job) / name).write_text(text)
    with pytest.raises(FinalTaskError, match=message) as raised:
        job.plan()
    assert "at secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_a_handoff_is_needed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES__CRONOFY__HANDOFF", "")
    with pytest.raises(FinalTaskError, match=r"set handoff in \[sources.cronofy\]"):
        job.plan()


def test_a_warehouse_that_is_away_may_be_back_later(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "postgresql://u:hidden_word@127.0.0.1:1/d")
    with pytest.raises(TaskError, match="the warehouse cannot be reached") as raised:
        replace(job, destination="postgres").plan()
    assert "hidden_word" not in str(raised.value)
