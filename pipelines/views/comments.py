"""Comments in the warehouse: grain and definition of each view, and what its columns mean."""

from sqlglot import exp

from .headers import column_meaning, read_header

_BESIDE_THE_QUERY = {"bigquery", "databricks"}


def view_statements(name: str, view: str, query: str, dialect: str) -> list[str]:
    """The statements that create or replace a view with its comments.

    Args:
        name: the view's name in the warehouse, as that dialect writes it.
        view: one of `PUBLIC_VIEWS`, or one that has no comments.
        query: what it selects, in that dialect.
        dialect: a sqlglot dialect.
    """
    if view.startswith("_"):
        return [f"CREATE OR REPLACE VIEW {name} AS\n{query}"]
    if dialect in _BESIDE_THE_QUERY:
        return [f"CREATE OR REPLACE VIEW {name} {_clauses(view, dialect)} AS\n{query}"]
    return [f"CREATE OR REPLACE VIEW {name} AS\n{query}", *_comments(name, view, dialect)]


def _comments(name: str, view: str, dialect: str) -> list[str]:
    """`COMMENT ON` for the view and each of its columns."""
    described = read_header(view)
    return [
        f"COMMENT ON VIEW {name} IS {_text(described.description, dialect)}",
        *(
            f"COMMENT ON COLUMN {name}.{_name(column, dialect)}"
            f" IS {_text(column_meaning(view, column), dialect)}"
            for column in described.columns
        ),
    ]


def _clauses(view: str, dialect: str) -> str:
    """The list of columns and what follows it, for warehouses that take comments nowhere else."""
    comment = "OPTIONS (description = {})" if dialect == "bigquery" else "COMMENT {}"
    described = read_header(view)
    columns = ", ".join(
        f"{_name(column, dialect)} {comment.format(_text(column_meaning(view, column), dialect))}"
        for column in described.columns
    )
    return f"({columns}) {comment.format(_text(described.description, dialect))}"


def _name(column: str, dialect: str) -> str:
    return exp.to_identifier(column, quoted=True).sql(dialect=dialect)


def _text(text: str, dialect: str) -> str:
    return exp.Literal.string(text).sql(dialect=dialect)
