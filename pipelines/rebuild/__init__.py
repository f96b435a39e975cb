"""Evidence worked out from the log: `token_status`, `coverage` and `runs` from `polls` and `profile_changes`.

Loads keep the evidence poll by poll and read the log for nothing. This package says in SQL what the evidence
is. It makes the tables for a warehouse of an earlier release, works out again what a killed run left half
done, applies a changed `hold` to the past, and compares.
"""

from .comparison import Difference, differences
from .healing import KILLED, heal, is_needed, recount_run, unfinished_runs, void_after
from .replacement import rebuild
from .upkeep import (
    analyze,
    create_missing,
    drop_old_polls,
    incomplete_tables,
    lacks_indexes,
    newest_poll_at,
    prepare_postgres,
    reopen_runs,
    write_run,
)

__all__ = [
    "KILLED",
    "Difference",
    "analyze",
    "create_missing",
    "differences",
    "drop_old_polls",
    "heal",
    "incomplete_tables",
    "is_needed",
    "lacks_indexes",
    "newest_poll_at",
    "prepare_postgres",
    "rebuild",
    "recount_run",
    "reopen_runs",
    "unfinished_runs",
    "void_after",
    "write_run",
]
