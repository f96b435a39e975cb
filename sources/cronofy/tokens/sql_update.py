"""From the query that reads tokens, the statement that writes one back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, build_scope

# SQLAlchemy's name of a database, where sqlglot has another one
DIALECTS = {"postgresql": "postgres", "cockroachdb": "postgres", "mariadb": "mysql", "mssql": "tsql"}
# what a SELECT may have without hiding where a column comes from
SELECT_PARTS = {
    "expressions", "from", "from_", "joins", "where", "order", "limit", "offset", "distinct", "locks", "hint",
    "with", "with_",
}  # fmt: skip
TABLE_PARTS = {"this", "db", "catalog", "alias", "sample", "hints", "only"}


class NotDerivedError(Exception):
    """The query does not show which columns of which table the tokens come from."""


class Target(NamedTuple):
    """The table that holds the tokens, and what its columns are called, quoted as in the query.

    Attributes:
        statement: the UPDATE, with named parameters.
        table_name: the bare name.
        schema_name: None where the query names none.
        expiry_column: None where the query has no expires_at.
        right: what of a GRANT statement stands before the role.
    """

    statement: str
    table_name: str
    schema_name: str | None
    expiry_column: str | None
    right: str


class Origin(NamedTuple):
    """The table and column that a column of a query comes from, and the sources on the way to the table."""

    path: tuple[str, ...]
    table: exp.Table
    column: exp.Identifier


def derive_target(query: str, backend: str, names: Sequence[str]) -> Target:
    """The table and columns that the query reads tokens from.

    Args:
        query: a SELECT; its columns are those of the table, with no expression, UNION or GROUP BY between.
        backend: SQLAlchemy's name of the database.
        names: the columns of the query's result, which say what a `*` stands for.

    Raises:
        NotDerivedError: the query is not as plain as that.
    """
    dialect = DIALECTS.get(backend, backend)
    dialect = dialect if dialect in sqlglot.Dialect.classes else ""
    written = {name.lower(): name for name in names}
    wanted = [name for name in ("access_token", "refresh_token", "expires_at") if name in written]
    if "refresh_token" not in wanted:
        raise NotDerivedError
    try:
        [tree] = [tree for tree in sqlglot.parse(query, read=dialect) if tree is not None]
        scope = build_scope(tree)
        found = {
            name: _origin(scope, exp.to_identifier(written[name], quoted=written[name] != name))
            for name in wanted
        }
    except (SqlglotError, ValueError):
        raise NotDerivedError from None
    if len({origin.path for origin in found.values()}) != 1:
        raise NotDerivedError
    table = found["refresh_token"].table
    bare = exp.Table(this=table.this, db=table.args.get("db"), catalog=table.args.get("catalog"))
    columns = {name: _sql(origin.column, dialect) for name, origin in found.items()}
    assigned = ", ".join(f"{column} = :{name}" for name, column in columns.items())
    guard = f"{columns['refresh_token']} = :used_refresh_token"
    statement = f"UPDATE {_sql(bare, dialect)} SET {assigned} WHERE {guard}"  # noqa: S608 - from the query
    right = f"UPDATE ({', '.join(columns.values())}) ON {_sql(bare, dialect)}".replace("\\:", ":")
    return Target(statement, table.name, table.db or None, columns.get("expires_at"), right)


def _origin(scope: Scope | None, wanted: exp.Identifier) -> Origin:
    """Where a column of a SELECT comes from, however many others are between it and the table."""
    select = None if scope is None else scope.expression
    if scope is None or not isinstance(select, exp.Select) or _parts(select) - SELECT_PARTS:
        raise NotDerivedError
    projection = _projection(select, wanted.name)
    sources = {name.lower(): source for name, (_, source) in scope.selected_sources.items()}
    qualifier = projection.table.lower() if isinstance(projection, exp.Column) else ""
    if (qualifier not in sources) if qualifier else len(sources) != 1:
        raise NotDerivedError
    name = qualifier or next(iter(sources))
    column = wanted if projection.is_star else projection.this
    source = sources[name]
    if isinstance(source, Scope):
        origin = _origin(source, column)
        return origin._replace(path=(name, *origin.path))
    named = isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
    if not named or _parts(source) - TABLE_PARTS or source.alias_column_names:
        raise NotDerivedError
    return Origin((name,), source, column)


def _projection(select: exp.Select, name: str) -> Any:
    """What the SELECT has for this column: a column, or the only `*`."""
    named = [each for each in select.expressions if each.alias_or_name.lower() == name.lower()]
    stars = [each for each in select.expressions if each.is_star]
    if named and isinstance(column := named[0].unalias(), exp.Column):
        return column
    if named or len(stars) != 1:
        raise NotDerivedError
    [star] = stars
    if _parts(star.this if isinstance(star, exp.Column) else star):  # it has exceptions
        raise NotDerivedError
    return star


def _parts(node: exp.Expression) -> set[str]:
    return {name for name, value in node.args.items() if value}


def _sql(node: exp.Expression, dialect: str) -> str:
    """As it is written in a statement with named parameters, where a colon begins one."""
    return node.sql(dialect=dialect).replace(":", "\\:")
