"""The SQL views: one source text each, created in the warehouse with comments.

They read the evidence, the change log and the current state, never `polls`. Views whose names start with an
underscore are steps towards the others and promise nothing to anybody. What the sources say of themselves is
in `headers`, their queries in other dialects in `rendering`.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlglot import exp

from .headers import header, source, view_statements
from .names import FORMER_VIEWS, MARKER, PUBLIC_VIEWS, TABLES, VIEWS
from .rendering import render, restricted, translate_query

__all__ = [
    "FORMER_VIEWS",
    "MARKER",
    "PUBLIC_VIEWS",
    "TABLES",
    "VIEWS",
    "are_current",
    "create_views",
    "definitions_digest",
    "header",
    "render",
    "restricted",
    "source",
    "translate_query",
]

_LISTS_VIEWS = {"duckdb", "postgres"}
_COLUMNS_CANNOT_CHANGE = {"postgres", "redshift"}


def create_views(
    execute: Callable[[str], object],
    dialect: str,
    dataset: str,
    hold_seconds: float,
    *,
    comments_on_columns: bool = True,
) -> list[str]:
    """Create or replace all views in the dataset of the tables, comments included, and return their names.

    Where columns of views take no comments, that of the view says what they mean.

    PostgreSQL and Redshift do not replace a view whose columns changed. There all views are dropped and
    created once more when replacing fails, so `execute` must leave the connection usable after a failed
    statement.
    """
    statements = list(_statements(dialect, dataset, hold_seconds, comments_on_columns=comments_on_columns))
    try:
        for statement in statements:
            execute(statement)
    except Exception:
        if dialect not in _COLUMNS_CANNOT_CHANGE:
            raise
        # former views read the first ones, which all others are built on
        first = VIEWS.index(PUBLIC_VIEWS[0])
        for view in (MARKER, *reversed(VIEWS[first:]), *FORMER_VIEWS, *reversed(VIEWS[:first])):
            execute(f"DROP VIEW IF EXISTS {dataset}.{view}")
        for statement in statements:
            execute(statement)
    else:
        for view in FORMER_VIEWS:
            # somebody's own view may read it: then it stays
            with contextlib.suppress(Exception):
                execute(f"DROP VIEW IF EXISTS {dataset}.{view}")
    return list(VIEWS)


def _statements(
    dialect: str, dataset: str, hold_seconds: float, *, comments_on_columns: bool
) -> Iterator[str]:
    for view in VIEWS:
        query = render(view, dialect, hold_seconds, dataset)
        name = f"{dataset}.{view}"
        yield from view_statements(name, view, query, dialect, comments_on_columns=comments_on_columns)
    # last: where it is, all the others are
    digest = definitions_digest(dialect, dataset, hold_seconds)
    yield f"CREATE OR REPLACE VIEW {dataset}.{MARKER} AS\nSELECT '{digest}' AS digest"


def are_current(
    fetch: Callable[[str], Sequence[Sequence[object]] | None],
    dialect: str,
    dataset: str,
    schema: str,
    hold_seconds: float,
) -> bool:
    """Whether all views are there and were made from these definitions; False where that is not known.

    `schema` is the plain name of the dataset. An error of `fetch` means that something is missing.
    """
    if dialect not in _LISTS_VIEWS:
        return False
    names = ", ".join(f"'{view}'" for view in VIEWS)
    listed = (
        "SELECT COUNT(*) FROM information_schema.tables"  # noqa: S608 - our own names
        f" WHERE table_schema = {exp.Literal.string(schema)}"
        f" AND table_type = 'VIEW' AND table_name IN ({names})"
    )
    try:
        rows = fetch(f"SELECT digest, ({listed}) FROM {dataset}.{MARKER}")  # noqa: S608
    except Exception:  # noqa: BLE001 - whatever a driver says where there is no such view
        return False
    return [tuple(row) for row in rows or ()] == [
        (definitions_digest(dialect, dataset, hold_seconds), len(VIEWS))
    ]


def definitions_digest(dialect: str, dataset: str, hold_seconds: float) -> str:
    """A digest of all that the views' statements are made from, this package included."""
    programs = (path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))
    made_from = (dialect, dataset, str(hold_seconds), *map(source, VIEWS), *programs)
    return hashlib.blake2b("\0".join(made_from).encode(), digest_size=16).hexdigest()
