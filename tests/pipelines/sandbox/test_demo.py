"""The demo, small: the real code path over a few simulated days."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.cli.summary import QUERIES
from dlt_cronofy.sandbox.demo import Demo
from dlt_cronofy.source.errors import ConfigurationError

COUNTS = "SELECT COUNT(*), COUNT(DISTINCT run_id), COUNT(DISTINCT token_key) FROM polls"
HISTORY = """
    SELECT token_key, profile_id, kind, date_trunc('minute', observed_at) FROM profile_changes ORDER BY ALL
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "not here"))
    yield tmp_path / "demo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"], (
        "all files stay in the demo's directory"
    )


def ask(directory: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(str(directory / "connections.duckdb"), read_only=True)) as connection:
        connection.execute("USE cronofy")
        return connection.execute(sql).fetchall()


@pytest.mark.long
def test_it_tells_its_story_and_can_be_played_again(directory: Path) -> None:
    arguments = [
        "demo",
        "--days",
        "3",
        "--accounts",
        "25",
        "--loads-per-day",
        "1",
        "--directory",
        str(directory),
    ]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert first.exit_code == 0, first.stderr
    for part in (
        "Played 3 days: 3 loads",
        "Connection health",
        "By provider",
        "connections.duckdb",
        "SELECT",
    ):
        assert part in first.stdout
    counts, history = ask(directory, COUNTS), ask(directory, HISTORY)
    assert counts[0][1] == 3
    assert counts[0][2] >= 25
    assert len(history) > 25
    for statement in QUERIES.values():
        ask(directory, statement)

    # the same directory, the same seed: the same story, not twice as much of it
    second = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert second.exit_code == 0, second.stderr
    assert ask(directory, COUNTS) == counts
    assert ask(directory, HISTORY) == history


@pytest.mark.long
def test_the_history_is_worth_looking_at(directory: Path) -> None:
    plan = Demo(days=6, accounts=60, seed=1, loads_per_day=1, directory=directory)
    progress: list[int] = []
    result = plan.play(progress.append)
    assert progress == list(range(1, plan.loads + 1))
    assert (result.loads, result.days) == (6, 6)
    assert result.polls <= result.requests
    assert result.database == directory / "connections.duckdb"
    assert result.health.accounts >= 55
    assert result.health.states["connected"] > result.health.states["disconnected"] > 0
    kinds = dict(ask(directory, "SELECT kind, COUNT(*) FROM profile_changes GROUP BY kind"))
    assert kinds.keys() >= {"first_seen", "disconnected", "connected"}
    assert ask(directory, "SELECT COUNT(DISTINCT provider_service) >= 4 FROM profile_changes") == [(True,)]
    # history lies in the simulated past, in order
    assert ask(directory, "SELECT COUNT(*) FROM polls WHERE polled_at < requested_at") == [(0,)]
    assert ask(directory, "SELECT MAX(polled_at) - MIN(polled_at) > INTERVAL 4 DAY FROM polls") == [(True,)]


def test_files_of_others_are_left_alone(directory: Path) -> None:
    directory.mkdir()
    (directory / "tokens.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="holds files that are not a demo's"):
        Demo(days=2, accounts=5, seed=1, loads_per_day=1, directory=directory).play()
    assert [file.name for file in directory.iterdir()] == ["tokens.csv"]
    assert (directory / "tokens.csv").read_text(encoding="utf-8") == "mine"
