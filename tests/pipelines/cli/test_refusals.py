"""What a warehouse refuses and takes once somebody changes something there, and what it can never take."""

from typing import Any

import duckdb
import pytest
from dlt.destinations.exceptions import DatabaseTerminalException
from dlt.load.exceptions import LoadClientJobTerminalRetry

from dlt_cronofy.cli.refusals import explain_refusal
from dlt_cronofy.warehouse.failures import is_repairable, is_terminal, sqlstate


class DriverError(Exception):
    """As a driver raises it, with or without a field for the SQLSTATE."""

    def __init__(self, message: str = "no", **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)


class Diagnosis:
    """What PostgreSQL says of a constraint."""

    def __init__(self, **fields: str) -> None:
        self.schema_name, self.table_name = "cronofy", "polls"
        self.column_name = self.constraint_name = None
        self.__dict__.update(fields)


REPAIRABLE = {
    "a right": "42501",
    "not null": "23502",
    "a foreign key": "23503",
    "unique": "23505",
    "a check": "23514",
    "exclusion": "23P01",
    "a view's check": "44000",
    "read only": "25006",
    "disk full": "53100",
    "too many connections": "53300",
    "a limit": "53400",
    "locked": "55P03",
    "in use": "55006",
    "cancelled": "57014",
    "shut down": "57P01",
    "input and output": "58030",
    "a trigger": "P0001",
    "a table that somebody dropped": "42P01",
    "a column that somebody dropped": "42703",
    "a schema that somebody dropped": "3F000",
    "a text longer than somebody's column": "22001",
    "a number larger than somebody's column": "22003",
}
NEVER = {
    "not of that type": "22P02",
    "a torn file": "22P04",
    "not UTF-8": "22021",
    "no time": "22007",
    "another type": "42804",
    "cannot be cast": "42846",
}


@pytest.mark.parametrize("field", ["pgcode", "sqlstate"])
@pytest.mark.parametrize(
    ("state", "repairable"),
    [(state, True) for state in REPAIRABLE.values()] + [(state, False) for state in NEVER.values()],
    ids=[*REPAIRABLE, *NEVER],
)
def test_the_state_decides(state: str, repairable: bool, field: str) -> None:
    assert is_repairable(DriverError(**{field: state})) == repairable


@pytest.mark.parametrize(
    ("error", "repairable"),
    [
        (duckdb.ConstraintException("NOT NULL constraint failed: polls.team"), True),
        (duckdb.PermissionException("no"), True),
        (duckdb.IOException("no"), True),
        (duckdb.BinderException("no such column"), True),
        (duckdb.ConversionException("no"), False),
        (duckdb.OutOfRangeException("no"), False),
        (duckdb.NotImplementedException("Unimplemented type for cast"), False),
        # Databricks has no field for the state
        (DriverError("[INSUFFICIENT_PERMISSIONS] Insufficient privileges. SQLSTATE: 42501"), True),
        (DriverError("[DELTA_VIOLATE_CONSTRAINT_WITH_VALUES] CHECK constraint SQLSTATE: 23001"), True),
        (DriverError("[CAST_INVALID_INPUT] The value cannot be cast. SQLSTATE: 22018"), False),
        # BigQuery has no state
        (
            DriverError("403 Access Denied: Table a:b.polls: Permission bigquery.tables.updateData denied"),
            True,
        ),
        (DriverError("403 Quota exceeded: Your project exceeded quota for imports"), True),
        (DriverError("400 Required field team cannot be null"), True),
        (DriverError("400 Provided Schema does not match Table. Field n has changed type"), False),
        # an error of this program's, or of dlt's, is none of a warehouse's
        (ValueError("permission"), False),
        (DatabaseTerminalException(DriverError("no")), False),
    ],
)
def test_other_warehouses(error: Exception, repairable: bool) -> None:
    assert is_repairable(error) == repairable


@pytest.mark.parametrize(("state", "terminal"), [("42501", False), ("23514", False), ("22P02", True)])
def test_a_package_is_given_up_only_for_what_nobody_can_repair(state: str, terminal: bool) -> None:
    driver = DriverError(pgcode=state)
    wrapped = DatabaseTerminalException(driver)
    wrapped.__cause__ = driver
    assert is_terminal(LoadClientJobTerminalRetry("1.1", "polls.1.sql", "Traceback", wrapped)) == terminal


def test_a_state_is_not_taken_from_what_a_person_wrote() -> None:
    assert sqlstate(ValueError("SQLSTATE: 42501")) is None
    assert sqlstate(DriverError("SQLSTATE=57014")) == "57014"


INSERT: dict[str, Any] = {
    "cursor": type("Cursor", (), {"query": b'INSERT INTO "cronofy"."polls"("a") SELECT "a" FROM "s"."polls"'})
}


@pytest.mark.parametrize(
    ("error", "repair"),
    [
        (
            DriverError(pgcode="23502", diag=Diagnosis(column_name="team")),
            "run ALTER TABLE cronofy.polls ALTER COLUMN team DROP NOT NULL;",
        ),
        (
            DriverError(pgcode="23514", diag=Diagnosis(constraint_name="Ours only")),
            'run ALTER TABLE cronofy.polls DROP CONSTRAINT "Ours only";',
        ),
        (DriverError(pgcode="P0001", **INSERT), "run ALTER TABLE cronofy.polls DISABLE TRIGGER USER"),
        (DriverError(pgcode="22001", **INSERT), "run ALTER TABLE cronofy.polls ALTER COLUMN … TYPE text"),
        (DriverError(pgcode="25006"), "default_transaction_read_only = off"),
        (DriverError(pgcode="57014"), "statement_timeout"),
        (DriverError(pgcode="55P03"), "lock_timeout"),
        (DriverError('FATAL:  too many connections for role "loader"'), "CONNECTION LIMIT"),
        (DriverError("FATAL:  sorry, too many clients already"), "max_connections"),
        # whom to ask is not known
        (DriverError(sqlstate="42501"), "have that right granted;"),
        (duckdb.ConstraintException("Constraint Error: NOT NULL constraint failed: polls.team"), "drop that"),
    ],
)
def test_the_line_says_what_repairs_it(error: Exception, repair: str) -> None:
    line = explain_refusal(error, str(error), None)
    assert line is not None
    assert line.startswith(f"the warehouse refuses: {error}; ")
    assert repair in line
    assert line.endswith("run again")


def test_a_row_is_not_quoted() -> None:
    error = duckdb.ConstraintException('Duplicate key "email: ann@example.com" violates unique constraint')
    assert "ann@example.com" not in str(explain_refusal(error, str(error), None))


@pytest.mark.parametrize(
    "error", [DriverError("gone"), DriverError(pgcode="57P01"), OSError("no"), ValueError()]
)
def test_what_is_no_refusal_is_left_to_others(error: Exception) -> None:
    assert explain_refusal(error, str(error), None) is None
