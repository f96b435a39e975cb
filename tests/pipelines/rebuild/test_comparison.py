"""What is changed by hand is found, and named."""

from datetime import timedelta
from typing import Any

import pytest

from dlt_cronofy.rebuild import Difference, differences, rebuild
from dlt_cronofy.source.tables import TABLES
from tests.pipelines.rebuild.test_walk import HOLD, rows_of
from tests.pipelines.rebuild.warehouse import Tables
from tests.pipelines.views.worlds import START, crowd

# columns that polls do not tell, or that only say where the others come from
NOT_COMPARED = {
    "token_status": {
        "token_key",
        "application",
        "data_center",
        "customer",
        "left_at",
        "has_token",
        "userinfo_digest",
        "account_digest",
        "profiles_digest",
        "run_id",
        "_dlt_load_id",
    },
    "coverage": {"account_id", "profile_type", "first_sample_at", "run_id", "_dlt_load_id"},
    "runs": {
        "run_id",
        "started_at",
        "finished_at",
        "stopped_by",
        "tokens",
        "due",
        "version",
        "oldest_evidence_at",
        "oldest_evidence_age_seconds",
        "_dlt_load_id",
    },
}


@pytest.fixture(scope="module")
def rebuilt(tables: Tables) -> Tables:
    """Evidence that is right; each test puts back what it changes."""
    tables.fill(rows_of(crowd(2)))
    rebuild(tables.client, HOLD)
    return tables


@pytest.mark.sampled(1)
@pytest.mark.parametrize("table", NOT_COMPARED)
def test_a_value_that_was_changed_is_named(rebuilt: Tables, table: str) -> None:
    row = next(
        row for row in rebuilt.rows(table) if None not in (row.get("last_polled_at", 0), row["run_id"])
    )
    for column in row.keys() - NOT_COMPARED[table]:
        changed = _changed(row[column], column)
        _set(rebuilt, table, row, column, changed)
        (found,) = differences(rebuilt.client, HOLD)
        assert (found.table, found.column, found.kept, found.worked_out) == (
            table,
            column,
            changed,
            row[column],
        )
        assert dict(found.key).items() <= row.items()
        _set(rebuilt, table, row, column, row[column])
    assert differences(rebuilt.client, HOLD) == []


@pytest.mark.parametrize("table", NOT_COMPARED)
def test_rows_that_are_missing_or_there_without_polls_are_named(rebuilt: Tables, table: str) -> None:
    row = rebuilt.rows(table)[0]
    key = TABLES[table].key
    # another account's row, or another run's
    _set(rebuilt, table, row, key[0], "someone_else")
    found = differences(rebuilt.client, HOLD)
    problems = {(dict(each.key)[key[0]], each.problem) for each in found if each.problem}
    assert (row[key[0]], "missing") in problems
    if table == "coverage":
        assert ("someone_else", "not explained by polls") in problems
    else:
        assert {dict(each.key)[key[0]] for each in found if each.problem is None} == {"someone_else"}
    _set(rebuilt, table, row | {key[0]: "someone_else"}, key[0], row[key[0]])
    assert differences(rebuilt.client, HOLD) == []


@pytest.mark.parametrize("table", NOT_COMPARED)
def test_a_row_that_is_there_twice_is_named_and_then_once(rebuilt: Tables, table: str) -> None:
    before = rebuilt.rows(table)
    rebuilt.insert(table, before[:1])
    (found,) = differences(rebuilt.client, HOLD)
    assert (found.table, found.problem) == (table, "there more than once")
    rebuild(rebuilt.client, HOLD)
    assert rebuilt.rows(table) == before


def test_columns_that_polls_do_not_tell_are_not_compared_and_stay(rebuilt: Tables) -> None:
    rebuilt.execute(
        f"UPDATE {rebuilt.name('token_status')} SET customer = 'c', application = 'a', has_token = FALSE,"
        " left_at = last_polled_at, userinfo_digest = 'd', _dlt_load_id = '17'"
    )
    rebuilt.execute(
        f"UPDATE {rebuilt.name('runs')} SET tokens = 5, due = 3, version = 'v', finished_at = NULL,"
        " stopped_by = 's', oldest_evidence_at = NULL, oldest_evidence_age_seconds = NULL"
    )
    assert differences(rebuilt.client, HOLD) == []
    rebuild(rebuilt.client, HOLD)
    for row in rebuilt.rows("token_status"):
        assert (row["customer"], row["application"], row["has_token"]) == ("c", "a", False)
        assert (row["left_at"], row["_dlt_load_id"]) == (row["last_polled_at"], "17")
        assert row["userinfo_digest"] is None
    for row in rebuilt.rows("runs"):
        assert (row["tokens"], row["due"], row["version"]) == (5, 3, "v")
        assert (row["finished_at"], row["stopped_by"]) == (None, "s")
    assert any(row["oldest_evidence_at"] for row in rebuilt.rows("runs"))


def test_a_difference_reads_as_a_sentence() -> None:
    key = (("token_key", "tok_1"),)
    changed = Difference("token_status", key, "last_outcome", None, "ok")
    assert str(changed) == "token_status token_key tok_1: last_outcome is null, worked out ok"
    assert str(Difference("runs", (("run_id", "r"),), problem="missing")) == "runs run_id r: missing"
    assert changed.as_dict() == {
        "table": "token_status",
        "key": {"token_key": "tok_1"},
        "column": "last_outcome",
        "kept": None,
        "worked_out": "ok",
    }


def _changed(value: Any, column: str) -> Any:
    if column in ("account_id", "endpoint", "last_outcome"):
        return "something else"
    if column.endswith(("_at", "_since")):
        return (value or START) - timedelta(microseconds=1)
    return (value or 0) + 1


def _set(tables: Tables, table: str, row: dict[str, Any], column: str, value: Any) -> None:
    key = TABLES[table].key
    condition = " AND ".join(f"{name} = %s" for name in key)
    statement = f"UPDATE {tables.name(table)} SET {column} = %s WHERE {condition}"
    tables.execute(statement, value, *(row[name] for name in key))
