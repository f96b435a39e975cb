"""Errors of the machine, of dlt and of drivers: the exit status, and the one line."""

import re
from importlib.metadata import metadata

import duckdb
import pytest
from dlt.common.exceptions import MissingDependencyException
from dlt.destinations.exceptions import DatabaseTransientException, DestinationConnectionError

from dlt_cronofy.cli.errors import DLT_EXTRA, EXTRAS, explain, is_explained


def chained(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


def of_dlt(cause: Exception) -> Exception:
    """What dlt makes of an error of a driver."""
    return chained(DestinationConnectionError("CatalogSqlClient", "cronofy", str(cause), cause), cause)


def missing(caller: str, extra: str, module: str) -> Exception:
    cause = ModuleNotFoundError(f"No module named {module!r}", name=module)
    return chained(MissingDependencyException(caller, [f"dlt[{extra}]"]), cause)


CONFLICT = duckdb.TransactionException(
    "TransactionContext Error: Failed to commit: Failed to commit DuckLake transaction.\n"
    'Transaction conflict - attempting to insert into table with index "13"'
)
ANOTHER = "correct that, or name another file in destination.duckdb.credentials"
INSTALL = "install the extra {0}: pip install 'path/to/the/clone[{0}]'"
CASES: dict[str, tuple[Exception, int, str]] = {
    "permission": (
        of_dlt(duckdb.IOException('IO Error: Cannot open file "/data/c.duckdb": Permission denied')),
        1,
        f"/data/c.duckdb cannot be opened (Permission denied); {ANOTHER}",
    ),
    "a DuckLake that somebody else changed": (
        chained(
            DatabaseTransientException(CONFLICT),
            CONFLICT,
        ),
        1,
        "somebody else changed the same tables of the DuckLake meanwhile; run again",
    ),
    "a folder": (
        of_dlt(duckdb.IOException('IO Error: Could not read from file "/data": Is a directory')),
        1,
        f"/data cannot be opened (Is a directory); {ANOTHER}",
    ),
    "another reason": (
        of_dlt(RuntimeError("the driver's own words\nand more")),
        1,
        "the warehouse cannot be reached: the driver's own words; run again when it can",
    ),
    "a driver of ours": (
        missing("postgres destination", "postgres", "psycopg2"),
        2,
        f"postgres destination: psycopg2 is not installed; {INSTALL.format('postgres')}",
    ),
    "a driver of dlt's": (
        missing("snowflake destination", "snowflake", "snowflake"),
        2,
        f"snowflake destination: snowflake is not installed; {INSTALL.format('snowflake')}",
    ),
    "charts": (
        ModuleNotFoundError("No module named 'pandas'", name="pandas"),
        2,
        f"pandas is not installed; {INSTALL.format('charts')}",
    ),
    "without a module": (
        MissingDependencyException("a helper", ["s3fs", "boto3"]),
        2,
        "a helper needs more packages; install s3fs and boto3",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_to_do(case: str) -> None:
    error, status, line = CASES[case]
    assert explain(error) == (status, line)


def test_every_extra_that_is_advised_is_one_of_ours() -> None:
    names = set(metadata("dlt-cronofy").get_all("Provides-Extra") or ())
    assert set(EXTRAS.values()) | set(re.findall(r"\w+(?=[|)])", DLT_EXTRA.pattern)) <= names


def test_another_module_that_is_missing_is_a_fault_of_ours() -> None:
    assert not is_explained(ModuleNotFoundError("No module named 'orjson'", name="orjson"))
