"""From the query that reads tokens, the statement that writes one back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

# SQLAlchemy's name of a database, where sqlglot has another one
DIALECTS = {"postgresql": "postgres", "cockroachdb": "postgres", "mariadb": "mysql", "mssql": "tsql"}
# what a SELECT may have without hiding where a column comes from
SELECT_PARTS = {
    "expressions", "from", "from_", "joins", "where", "order", "limit", "offset", "distinct", "locks", "hint",
}  # fmt: skip
TABLE_PARTS = {"this", "db", "catalog", "alias", "sample", "hints", "only"}


class NotDerivedError(Exception):
    """The query does not show where a column comes from; the message says why, in our own words."""


@dataclass(frozen=True, slots=True)
class Target:
    """The table that holds the tokens, and what its columns are called, quoted as in the query.

    Attributes:
        columns: by what they are called in the query's result: access_token, refresh_token and, where the
            query has it, expires_at.
        table_name: the table's bare name.
        schema_name: its schema; None where the query names none.
    """

    table: str
    columns: dict[str, str]
    table_name: str
    schema_name: str | None

    @property
    def statement(self) -> str:
        """The UPDATE, with named parameters."""
        assigned = ", ".join(f"{_escaped(column)} = :{name}" for name, column in self.columns.items())
        guard = f"{_escaped(self.columns['refresh_token'])} = :used_refresh_token"
        return f"UPDATE {_escaped(self.table)} SET {assigned} WHERE {guard}"  # noqa: S608 - from the query


def _escaped(identifier: str) -> str:
    return identifier.replace(":", "\\:")


def derive_target(query: str, backend: str, names: Sequence[str]) -> Target:
    """The table and columns that the query reads tokens from.

    Args:
        query: a plain SELECT.
        backend: SQLAlchemy's name of the database.
        names: the columns of the query's result, which say what a `*` stands for.

    Raises:
        NotDerivedError: the query is not as plain as that.
    """
    dialect = DIALECTS.get(backend, backend)
    if dialect not in sqlglot.Dialect.classes:
        dialect = ""
    select = _select(query, dialect)
    sources = _sources(select)
    wanted = [name for name in ("access_token", "refresh_token", "expires_at") if name in _lower(names)]
    if "refresh_token" not in wanted:
        raise NotDerivedError("it has no column refresh_token")
    found = {name: _column(select, sources, name, names) for name in wanted}
    tables = {source for source, _ in found.values()}
    if len(tables) != 1:
        raise NotDerivedError("its token columns come from more than one table")
    table = sources[tables.pop()]
    bare = exp.Table(this=table.this, db=table.args.get("db"), catalog=table.args.get("catalog"))
    return Target(
        table=bare.sql(dialect=dialect),
        columns={name: column.sql(dialect=dialect) for name, (_, column) in found.items()},
        table_name=table.name,
        schema_name=table.db or None,
    )


def _lower(names: Sequence[str]) -> list[str]:
    return [name.lower() for name in names]


def _select(query: str, dialect: str) -> exp.Select:
    try:
        trees = [tree for tree in sqlglot.parse(query, read=dialect) if tree is not None]
    except SqlglotError:
        raise NotDerivedError("it is not understood") from None
    select = trees[0] if len(trees) == 1 else None
    if not isinstance(select, exp.Select) or _parts(select) - SELECT_PARTS:
        raise NotDerivedError("it is no plain SELECT")
    return select


def _parts(node: exp.Expression) -> set[str]:
    return {name for name, value in node.args.items() if value}


def _sources(select: exp.Select) -> dict[str, exp.Table]:
    """The tables of the query by the name that its columns have them under, in lower case."""
    start = select.args.get("from_") or select.args.get("from")
    tables = [each.this for each in (start, *(select.args.get("joins") or ())) if each is not None]
    sources: dict[str, exp.Table] = {}
    for table in tables:
        named = isinstance(table, exp.Table) and isinstance(table.this, exp.Identifier)
        if not named or _parts(table) - TABLE_PARTS or table.alias_column_names:
            raise NotDerivedError("it reads from more than plain tables")
        sources[table.alias_or_name.lower()] = table
    if len(sources) != len(tables) or not tables:
        raise NotDerivedError("it does not name its tables apart")
    return sources


def _column(
    select: exp.Select, sources: dict[str, exp.Table], name: str, names: Sequence[str]
) -> tuple[str, exp.Identifier]:
    """The source of a column of the result, and what it is called there."""
    stars: list[exp.Expression] = []
    for each in select.expressions:
        star = each.this if isinstance(each, exp.Column) else each
        if isinstance(star, exp.Star):
            if _parts(star):
                raise NotDerivedError("its * has exceptions")
            stars.append(each)
        elif each.alias_or_name.lower() == name:
            column = each.unalias()
            if not isinstance(column, exp.Column) or not isinstance(column.this, exp.Identifier):
                raise NotDerivedError(f"its {name} is an expression")
            return _source(column, sources, name), column.this
    if len(stars) != 1:
        raise NotDerivedError(f"it does not show where {name} comes from")
    written = names[_lower(names).index(name)]
    return _source(stars[0], sources, name), exp.to_identifier(written, quoted=written != name)


def _source(column: Any, sources: dict[str, exp.Table], name: str) -> str:
    qualifier = column.args.get("table") if isinstance(column, exp.Column) else None
    source = qualifier.name.lower() if qualifier is not None else next(iter(sources))
    if (qualifier is None and len(sources) > 1) or source not in sources:
        raise NotDerivedError(f"it does not say which table {name} comes from")
    return source
