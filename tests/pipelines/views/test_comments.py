"""Every view and column says in the warehouse what it means."""

import pytest
import sqlglot
from sqlglot import exp

from dlt_cronofy import views
from dlt_cronofy.views.headers import COLUMN_MEANINGS, column_meaning, read_header, view_statements
from tests.pipelines.views.test_rendering import DATASETS
from tests.pipelines.views.warehouse import DATASET, Warehouse

VIEW_COMMENTS = {
    "duckdb": f"SELECT view_name, comment FROM duckdb_views() WHERE schema_name = '{DATASET}'",
    "postgres": "SELECT relname, obj_description(oid) FROM pg_class"
    f" WHERE relnamespace = '{DATASET}'::regnamespace AND relkind = 'v'",
}
COLUMN_COMMENTS = {
    "duckdb": "SELECT table_name, column_name, comment FROM duckdb_columns()"
    f" WHERE schema_name = '{DATASET}'",
    "postgres": "SELECT relname, attname, col_description(attrelid, attnum)"
    " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
    f" WHERE relnamespace = '{DATASET}'::regnamespace AND relkind = 'v'",
}


def test_views_carry_grain_and_definition(warehouse: Warehouse) -> None:
    comments = dict(warehouse.query(VIEW_COMMENTS[warehouse.dialect]))
    assert {view: comments[view] for view in views.PUBLIC_VIEWS} == {
        view: read_header(view).description for view in views.PUBLIC_VIEWS
    }
    assert comments["outages"].startswith(
        "One row per profile and maximal run of disconnected samples. Unknown"
    )


def test_columns_carry_their_meanings(warehouse: Warehouse) -> None:
    rows = warehouse.query(COLUMN_COMMENTS[warehouse.dialect])
    found = {(view, column): comment for view, column, comment in rows if view in views.PUBLIC_VIEWS}
    assert found == {
        (view, column): column_meaning(view, column)
        for view in views.PUBLIC_VIEWS
        for column in read_header(view).columns
    }
    assert all(found.values())


def test_comments_survive_that_views_are_created_again(warehouse: Warehouse) -> None:
    views.create_views(warehouse.execute, warehouse.dialect, DATASET, 86_400)
    assert dict(warehouse.query(VIEW_COMMENTS[warehouse.dialect]))["outages"]


@pytest.mark.parametrize("dialect", DATASETS)
@pytest.mark.parametrize("view", views.PUBLIC_VIEWS)
def test_the_comments_are_in_what_a_dialect_is_sent(view: str, dialect: str) -> None:
    name = f"{DATASETS[dialect]}.{view}"
    statements = view_statements(name, view, "SELECT 1", dialect)
    parsed = [sqlglot.parse_one(statement, dialect=dialect) for statement in statements]
    assert isinstance(parsed[0], exp.Create)
    assert not any(isinstance(node, exp.Command) for node in parsed), "sqlglot did not understand it"
    described = read_header(view)
    texts = [node.this for tree in parsed for node in tree.find_all(exp.Literal) if node.is_string]
    for text in (described.description, *(column_meaning(view, column) for column in described.columns)):
        assert text in texts


def test_a_meaning_that_no_header_needs_is_none() -> None:
    needed = {
        column
        for view in views.PUBLIC_VIEWS
        for column, text in read_header(view).columns.items()
        if column_meaning(view, column) != text
    }
    assert needed >= set(COLUMN_MEANINGS)


def test_a_column_without_a_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlt_cronofy.views.headers.COLUMN_MEANINGS", {})
    with pytest.raises(ValueError, match="email of needs_action has no meaning"):
        column_meaning("needs_action", "email")
