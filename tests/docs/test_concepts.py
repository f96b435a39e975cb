"""The example of docs/concepts.md: its polls through the real views (`UPDATE_DOCS=1` writes the answers)."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.docs.questions import DOCS, printed
from tests.pipelines.views.histories import MIDNIGHT, history
from tests.pipelines.views.warehouse import DATASET, DuckDBWarehouse, create_tables, create_views, fill

DOCUMENT = DOCS / "concepts.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
STEP_HOURS = 4
SAMPLES = {"connected": "+", "disconnected": "-"}
MARKS = {"connected": "c", "disconnected": "d", "unknown": "?"}

POLL = re.compile(r"^\| (\w{3}) (\d\d):00 \| (\w+) \| (\w*) ?\|$", re.MULTILINE)
QUERY = re.compile(r"```sql\n(.+?)```\n\n```text\n(.*?)```", re.DOTALL)
TIMELINE = re.compile(r"<!-- timeline -->\n```text\n(.*?)```", re.DOTALL)

# hours since Monday, outcome, state
POLLS = [(24 * DAYS.index(found[1]) + int(found[2]), found[3], found[4]) for found in POLL.finditer(TEXT)]


@pytest.fixture(scope="module")
def warehouse() -> Iterator[DuckDBWarehouse]:
    """The warehouse after the polls of the example."""
    lines = [
        f"{hours} ann {outcome} {'a' + SAMPLES[state] if state else ''}" for hours, outcome, state in POLLS
    ]
    with closing(DuckDBWarehouse()) as warehouse:
        create_tables(warehouse)
        create_views(warehouse)
        # once each, as a load writes them
        fill(warehouse, replace(history("\n".join(lines)), mixing_seed=None).tables())
        warehouse.execute(f"USE {DATASET}")
        yield warehouse


def answer(warehouse: DuckDBWarehouse, sql: str) -> str:
    columns = warehouse._connection.sql(sql).columns
    rows = [tuple(_in_words(value) for value in row) for row in warehouse.query(sql)]
    return printed(columns, rows)


def _in_words(value: object) -> object:
    return f"{value:%a %H:%M}" if isinstance(value, datetime) else value


def timeline(warehouse: DuckDBWarehouse) -> str:
    """The example drawn from what the views say."""
    width = len(DAYS) * 24 // STEP_HOURS
    days = "".join(day.ljust(24 // STEP_HOURS) for day in DAYS)
    polls, states = [" "] * width, [" "] * width
    for hours, _, state in POLLS:
        polls[hours // STEP_HOURS] = state[:1].upper() or "x"
    for state, start, end in warehouse.query("SELECT state, start_at, end_at FROM profile_intervals"):
        for place in range(_place(start), _place(end)):
            states[place] = MARKS[state]
    rows = (("day", days), ("poll", "".join(polls)), ("state", "".join(states)))
    return "".join(f"{name:8}{text}".rstrip() + "\n" for name, text in rows)


def _place(instant: datetime) -> int:
    return int((instant - MIDNIGHT) / timedelta(hours=STEP_HOURS))


def test_the_polls_are_found() -> None:
    assert len(POLLS) == 8
    assert TEXT.count("```sql") == len(QUERY.findall(TEXT)) == 5


def test_it_shows_what_the_views_show(warehouse: DuckDBWarehouse) -> None:
    shown = QUERY.sub(
        lambda found: f"```sql\n{found[1]}```\n\n```text\n{answer(warehouse, found[1])}```", TEXT
    )
    shown = TIMELINE.sub(f"<!-- timeline -->\n```text\n{timeline(warehouse)}```", shown)
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(shown, encoding="utf-8")
    else:
        assert shown == TEXT


def test_the_figures_in_the_text_are_those_of_the_views(warehouse: DuckDBWarehouse) -> None:
    ((least, most),) = warehouse.query("SELECT min_seconds / 3600, max_seconds / 3600 FROM outages")
    assert f"for {least:.0f} hours at least and for {most:.0f} at most" in TEXT
    ((observed, everything),) = warehouse.query(
        "SELECT sum(connected_seconds + disconnected_seconds) / 3600,"
        " sum(connected_seconds + disconnected_seconds + unknown_seconds) / 3600 FROM connectivity_daily"
    )
    share = f"{observed / everything:.0%}".replace("%", " %")
    assert f"the {observed:.0f} hours that were observed, coverage says that those are {share} of all" in TEXT
    assert f"{share} of all {everything:.0f}" in TEXT
    ((changes,),) = warehouse.query("SELECT count(*) FROM profile_changes")
    assert (len(POLLS), changes) == (8, 3)
