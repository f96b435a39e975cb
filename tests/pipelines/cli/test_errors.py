"""Errors of the machine, of dlt and of drivers: the exit status, and the one line."""

import duckdb
import pytest
from dlt.common.exceptions import MissingDependencyException
from dlt.destinations.exceptions import DestinationConnectionError

from dlt_cronofy.cli.errors import explain


def chained(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


def of_dlt(cause: Exception) -> Exception:
    """What dlt makes of an error of a driver."""
    return chained(DestinationConnectionError("CatalogSqlClient", "cronofy", str(cause), cause), cause)


def missing(caller: str, extra: str, module: str) -> Exception:
    cause = ModuleNotFoundError(f"No module named {module!r}", name=module)
    return chained(MissingDependencyException(caller, [f"dlt[{extra}]"]), cause)


ANOTHER = "correct that, or name another file in destination.duckdb.credentials"
INSTALL = "install the extra postgres of dlt-cronofy, or psycopg2-binary"
CASES: dict[str, tuple[Exception, int, str]] = {
    "permission": (
        of_dlt(duckdb.IOException('IO Error: Cannot open file "/data/c.duckdb": Permission denied')),
        1,
        f"/data/c.duckdb cannot be opened (Permission denied); {ANOTHER}",
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
        f"postgres destination: psycopg2 is not installed; {INSTALL}",
    ),
    "a driver of dlt's": (
        missing("snowflake destination", "snowflake", "snowflake"),
        2,
        "snowflake destination: snowflake is not installed; install dlt[snowflake]",
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
