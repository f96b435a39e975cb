"""Failures of loads: which pass, which somebody can repair in the warehouse, and which are for good."""

import errno
import re

import duckdb
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.load.exceptions import LoadClientJobException, LoadClientJobFailed, LoadClientJobTerminalRetry
from dlt.pipeline.exceptions import PipelineStepFailed

# what a machine may refuse now and grant later
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
PASSING = DISK_FULL | NOT_WRITABLE | {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")

# Values that do not fit: the class of data exceptions, but for texts and numbers longer than somebody's
# column, and types that cannot be converted.
UNFIT_STATES = re.compile(r"22(?!001|003)|42804|42846")
# a constraint, a right, room, or a table or column that somebody dropped
REPAIRABLE_IN_DUCKDB = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConstraintException,
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.PermissionException,
    duckdb.TransactionException,
)
# whose errors are none of a warehouse's
NO_DRIVERS = {"builtins", "dlt", "pyarrow", __name__.partition(".")[0]}
# some drivers have no field for it
STATE_IN_TEXT = re.compile(r"SQLSTATE:?\s*=?\s*\(?([0-9A-Z]{5})\b")
# BigQuery has no SQLSTATE at all
REFUSED_IN_WORDS = re.compile(
    r"permission|privilege|access.?denied|not authorized|must be owner|read.?only|constraint|cannot be null"
    r"|quota|billing|rate.?limit|timed? ?out|too many",
    re.IGNORECASE,
)


def is_terminal(error: BaseException) -> bool:
    """Whether trying the same package again must end the same way, whatever is changed in the warehouse."""
    chain = list(error_chain(error))
    if any(_is_passing(cause) or is_repairable(cause) for cause in chain):
        return False
    if isinstance(error, PipelineStepFailed) and error.step == "normalize":
        return True
    return any(
        isinstance(cause, (DestinationTerminalException, LoadClientJobFailed, LoadClientJobTerminalRetry))
        for cause in chain
    )


def _is_passing(cause: BaseException) -> bool:
    """Whether the machine failed, not the package."""
    if isinstance(cause, OSError) and cause.errno in PASSING:
        return True
    return isinstance(cause, MemoryError) or NO_SPACE.search(str(cause)) is not None


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain."""
    return list(error_chain(error))[-1]


def error_chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        if isinstance(current, LoadClientJobException) and current.client_exception is not None:
            current = current.client_exception
        else:
            current = current.__cause__ or current.__context__
    return chain


def is_repairable(cause: BaseException) -> bool:
    """Whether the warehouse would take the same rows after a right, a constraint or a setting was changed."""
    state = sqlstate(cause)
    if state is not None:
        return UNFIT_STATES.match(state) is None
    if isinstance(cause, duckdb.Error):
        return isinstance(cause, REPAIRABLE_IN_DUCKDB)
    return is_of_a_driver(cause) and REFUSED_IN_WORDS.search(str(cause)) is not None


def sqlstate(cause: BaseException) -> str | None:
    """The five characters by which a warehouse classes its errors; None where there are none."""
    for name in ("pgcode", "sqlstate"):
        state = getattr(cause, name, None)
        if isinstance(state, str) and state:
            return state
    if not is_of_a_driver(cause):
        return None
    found = STATE_IN_TEXT.search(str(cause))
    return found[1] if found else None


def is_of_a_driver(cause: BaseException) -> bool:
    """Whether the driver of a warehouse raised it."""
    return type(cause).__module__.partition(".")[0] not in NO_DRIVERS
