"""Explanations: what went wrong outside of this program, in one line that says what to do about it."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlt_cronofy.formatting import program

from .console import BAD_CONFIGURATION, LOAD_FAILED

if TYPE_CHECKING:
    import dlt
    from dlt.common.exceptions import MissingDependencyException

NAMED_FILE = re.compile(r'file "([^"]+)"')
# words of DuckDB, PostgreSQL and their drivers, and what to do; {1} and {2} are what the words name
REMEDIES: Sequence[tuple[str, str]] = (
    (
        r'Could not set lock on file "([^"]+)": Conflicting lock is held in .*?(PID \d+)',
        "{1} is open in another process ({2}); close it there and run again",
    ),
    (
        r"Corrupt (?:database|WAL) file|Failure while replaying WAL",
        (
            "the DuckDB file is damaged ({message}); the next load restores the copy that version 0.2 left,"
            " if there is one; else put a backup in its place"
        ),
    ),
    (
        r"authentication failed|no password supplied|(?:role|database) .* does not exist",
        "the warehouse refuses: {message}; correct its credentials in .dlt/secrets.toml",
    ),
    (
        r'(?:Cannot open|Could not read from) (?:database |file )*"([^"]+)".*?: ([^:]+)$',
        "{1} cannot be opened ({2}); correct that, or name another file in destination.duckdb.credentials",
    ),
    (
        r"Failed to commit DuckLake transaction",
        "somebody else changed the same tables of the DuckLake meanwhile; run again",
    ),
    (
        (
            r"connection to server .* failed|server closed the connection|terminating connection"
            r"|could not connect|Connection refused|connection already closed"
        ),
        "the warehouse cannot be reached: {message}; run again when it can",
    ),
)
# drivers may quote the URL they were given
PASSWORD = re.compile(r"://[^/@\s]*@")
# the extra of ours that brings a module
EXTRAS = {
    "altair": "charts",
    "pandas": "charts",
    "vl_convert": "charts",
    "psycopg": "shared",
    "redis": "shared",
    "psycopg2": "postgres",
    "sqlalchemy": "sql",
}
# what dlt names as the extra of its own that brings a driver; of these ours have the same names
DLT_EXTRA = re.compile(r"dlt\[(bigquery|databricks|ducklake|motherduck|postgres|redshift|snowflake)\]")
# dlt's own words before those of the driver, which name the internet whatever it is
CONNECTION_FAILED = re.compile(r"^Connection with .* The actual reason given is: (?=.)")
# DuckDB's words, then PostgreSQL's
ABSENT = re.compile(r'Table with name (\S+) does not exist|relation "([^"]+)" does not exist')
# libpq finds the folder of a socket in `?host=`, dlt asks for a host before it
SOCKET = "; for a socket write postgresql://user:password@localhost/database?host=/folder"
SET_IT = "set it in .dlt/secrets.toml or .dlt/config.toml"


def is_explained(error: Exception) -> bool:
    """Whether it is of the configuration, the machine, dlt or a warehouse's driver, and no fault of ours."""
    import duckdb
    from dlt.common.exceptions import DltException

    from dlt_cronofy.source.errors import ConfigurationError
    from dlt_cronofy.warehouse.locks import WarehouseBusy

    # only where it was imported by now could it raise
    psycopg2 = sys.modules.get("psycopg2")
    drivers = (duckdb.Error, psycopg2.Error) if psycopg2 else (duckdb.Error,)
    expected = (ConfigurationError, WarehouseBusy, OSError, DltException, *drivers)
    return isinstance(error, expected) or _missing_extra(error) is not None


def explain(error: Exception) -> tuple[int, str]:
    """Exit status and one line for such an error."""
    from dlt.common.configuration.exceptions import ConfigurationException
    from dlt.common.exceptions import MissingDependencyException

    from dlt_cronofy.source.errors import ConfigurationError
    from dlt_cronofy.warehouse.failures import error_chain

    from .refusals import explain_refusal

    if isinstance(error, ConfigurationError):
        return BAD_CONFIGURATION, str(error)
    if extra := _missing_extra(error):
        return BAD_CONFIGURATION, f"{getattr(error, 'name', '')} is not installed; {_install(extra)}"
    chain = error_chain(error)
    for cause in chain:
        if isinstance(cause, ConfigurationException):
            return BAD_CONFIGURATION, f"{_first_line(cause)}; {_where_to_set(cause)}"
        if isinstance(cause, MissingDependencyException):
            return BAD_CONFIGURATION, _explain_missing(cause, chain[-1])
    pipeline = _pipeline(chain)
    working_dir = pipeline.working_dir if pipeline is not None else None
    for cause in reversed(chain):
        message = _first_line(cause)
        if found := (
            _explain_storage(cause, message, working_dir)
            or explain_refusal(cause, message, pipeline)
            or _explain_reach(cause, message)
        ):
            return LOAD_FAILED, f"{found}{_what_is_kept(chain, working_dir)}"
    return LOAD_FAILED, _explain_other(chain[-1])


def _explain_other(root: BaseException) -> str:
    """An error of a query, mostly."""
    from dlt_cronofy.views import VIEWS

    message = _first_line(root)
    if "Ambiguous reference" in message:
        return "write the table's name alone, without the dataset before it"
    if absent := ABSENT.search(message):
        name = absent[1] or absent[2]
        # after loads with the source alone there are no views
        is_view = name.rpartition(".")[2].strip('"') in VIEWS
        return f"the view {name} is not there; run {program()} views" if is_view else message
    if isinstance(root, OSError):
        return f"{os.fsdecode(root.filename or 'cannot go on')}: {root.strerror or message}"
    return message


def _explain_missing(cause: "MissingDependencyException", root: BaseException) -> str:
    """What to install, which dlt says in its third line."""
    module = getattr(root, "name", None)
    missing = f": {module} is not installed" if module else " needs more packages"
    ours = [found[1] for each in cause.dependencies if (found := DLT_EXTRA.fullmatch(each))]
    if ours:
        return f"{cause.caller}{missing}; {_install(ours[0])}"
    packages = " and ".join(cause.dependencies)
    return f"{cause.caller}{missing}" + (f"; install {packages}" if packages else "")


def _missing_extra(error: Exception) -> str | None:
    """The extra that brings the module whose import failed; None where it was none of that."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return EXTRAS.get((name or "").partition(".")[0])


def _install(extra: str) -> str:
    """Never a name to look up in a public index: nobody of this project may own it there."""
    return f"install the extra {extra}: pip install 'path/to/the/clone[{extra}]'"


def _where_to_set(cause: Exception) -> str:
    """The place of a missing field by name, where dlt says where it looked."""
    from dlt.common.configuration.exceptions import ConfigFieldMissingException, LookupTrace, LookupTraces

    traces = cause.traces.items() if isinstance(cause, ConfigFieldMissingException) else ()
    for name, trace in ((name, trace) for name, found in traces for trace in found):
        # credentials are a configuration of their own, and may be given as one value
        nested = isinstance(trace, LookupTraces)
        looked = next(iter(trace.traces.values()))[0] if isinstance(trace, LookupTraces) else trace
        if isinstance(looked, LookupTrace) and looked.sections[:1] == ["destination"]:
            path = [*looked.sections] if nested else [*looked.sections, name]
            key, variable = ".".join(path), "__".join(path).upper()
            if isinstance(trace, LookupTraces) and trace.resolved_fields_set:
                # a URL, or some of the fields
                hint = SOCKET if "host" in trace.traces else ""
                return f"{key} is set, but {' and '.join(trace.traces)} is missing in it{hint}"
            return f"set {key} in .dlt/secrets.toml, or {variable} in the environment"
    return SET_IT


def _explain_storage(cause: BaseException, message: str, working_dir: str | None) -> str | None:
    """What to do about a disk that cannot be written; dlt's errors do not always name the folder."""
    from dlt_cronofy.warehouse.failures import DISK_FULL, NO_SPACE, NOT_WRITABLE

    number = cause.errno if isinstance(cause, OSError) else None
    # of a copy it is the second file that does not fit
    named = (cause.filename2 or cause.filename) if isinstance(cause, OSError) else None
    found = NAMED_FILE.search(message)
    place = os.fsdecode(named) if named else found[1] if found else working_dir
    if number in DISK_FULL or NO_SPACE.search(message):
        if place is None or not Path(place).is_absolute():
            return "a disk is full; free space there and run again"
        return f"the disk is full; free space where {place} is and run again"
    if number in NOT_WRITABLE and place is not None:
        return (
            f"{place} cannot be written ({os.strerror(number)}); make it writable or configure another place"
            " (pipelines_dir in .dlt/config.toml), and run again"
        )
    return None


def _explain_reach(cause: BaseException, message: str) -> str | None:
    """What to do about a warehouse that lets nobody in."""
    from dlt.destinations.exceptions import DestinationConnectionError

    for words, remedy in REMEDIES:
        if found := re.search(words, message):
            return remedy.format(*(text.strip() for text in (found[0], *found.groups())), message=message)
    return REMEDIES[-1][1].format(message=message) if isinstance(cause, DestinationConnectionError) else None


def _what_is_kept(chain: Sequence[BaseException], working_dir: str | None) -> str:
    """What becomes of the polls of a load that failed."""
    from dlt.pipeline.exceptions import PipelineStepFailed

    from dlt_cronofy.warehouse.working_folders import EXTRACTED, NORMALIZED

    if working_dir is not None:
        stages = (Path(working_dir) / stage for stage in (EXTRACTED, NORMALIZED))
        if any(True for stage in stages for _ in stage.glob("*")):
            return f"; what was polled is kept in {working_dir}"
    if any(isinstance(cause, PipelineStepFailed) and cause.step == "extract" for cause in chain):
        return "; what was polled is not kept and is polled again"
    return ""


def _pipeline(chain: Sequence[BaseException]) -> "dlt.Pipeline | None":
    """The pipeline whose error it is."""
    import dlt
    from dlt.common.configuration.container import Container
    from dlt.common.pipeline import PipelineContext
    from dlt.pipeline.exceptions import PipelineStepFailed

    active = Container()[PipelineContext]
    failed = [cause.pipeline for cause in chain if isinstance(cause, PipelineStepFailed)]
    found = failed[0] if failed else active.pipeline() if active.is_active() else None
    return found if isinstance(found, dlt.Pipeline) else None


def _first_line(error: BaseException) -> str:
    line = CONNECTION_FAILED.sub("", str(error).strip().split("\n")[0])
    return PASSWORD.sub("://", line)
