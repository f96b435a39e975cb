"""The package: committed as it is generated (`UPDATE_DOCS=1` generates it), in every dialect our views."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import sqlglot
import yaml  # type: ignore[import-untyped]
from sqlglot import exp

from dlt_cronofy import views
from docs.generators.dbt_package import (
    DIALECTS,
    GENERATED,
    PACKAGE,
    dbt_package,
    model_name,
    write_dbt_package,
)
from tests.pipelines.dbt.project import MODELS, tables
from tests.pipelines.views.test_rendering import DATASETS
from tests.pipelines.views.warehouse import PostgresWarehouse, create_tables, create_views, fill
from tests.pipelines.views.worlds import crowds

HOLD_US = 86_400_000_000
# not in whole seconds, which our own views would write as such
ODD_HOLD_US = HOLD_US + 1
VIEW_OF_MODEL = {model_name(view): view for view in views.VIEWS}


@cache
def package() -> dict[str, str]:
    return dbt_package()


def committed() -> dict[str, str]:
    files = [path for folder in GENERATED for path in (PACKAGE / folder).rglob("*") if path.is_file()]
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in files}


def rendered(view: str, dialect: str, tables_in: str, models_in: str, hold_us: int = HOLD_US) -> str:
    """What a dialect's macro comes to where dbt finds tables and models under these names."""

    def ref(package: str, model: str) -> str:
        assert package == "cronofy"
        return f"{models_in}{VIEW_OF_MODEL[model]}"

    def source(name: str, table: str) -> str:
        assert name == "cronofy"
        return f"{tables_in}{table}"

    macro = f"{dialect}__{model_name(view)}"
    template = package()[f"macros/views/{dialect}/{model_name(view)}.sql"] + f"{{{{ {macro}() }}}}"
    cronofy = SimpleNamespace(hold_us=lambda: hold_us)
    return template_of(template).render(ref=ref, source=source, cronofy=cronofy).strip()


def template_of(text: str) -> jinja2.Template:
    return jinja2.Environment(undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.do"]).from_string(
        text
    )


def test_the_committed_package_is_up_to_date() -> None:
    if os.environ.get("UPDATE_DOCS"):
        write_dbt_package(PACKAGE)
    assert committed() == package()


def test_writing_removes_what_is_no_longer_generated(tmp_path: Path) -> None:
    stale = [tmp_path / folder / "of_old.sql" for folder in GENERATED]
    by_hand = tmp_path / "macros" / "hold_us.sql"
    for path in (*stale, by_hand):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("SELECT 1")
    write_dbt_package(tmp_path)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {*package(), "macros/hold_us.sql"}


def test_the_dialects_are_those_that_the_views_are_tested_in() -> None:
    assert set(DIALECTS) == set(DATASETS)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("view", views.VIEWS)
def test_a_macro_is_our_own_view(view: str, dialect: str) -> None:
    # in DuckDB our own views read bare names
    prefix = "" if dialect == "duckdb" else f"{DATASETS[dialect]}."
    query = sqlglot.parse_one(rendered(view, dialect, prefix, prefix, ODD_HOLD_US), dialect=dialect)
    text = views.render(view, dialect, ODD_HOLD_US / 1e6, DATASETS[dialect])
    own = sqlglot.parse_one(text, dialect=dialect)
    ctes = {cte.alias for cte in own.find_all(exp.CTE)}
    for table in own.find_all(exp.Table):
        if table.name not in ctes and not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name)))
    assert query == own


def test_on_postgresql_the_models_have_the_rows_of_our_own_views(postgres_uri: str) -> None:
    warehouse = PostgresWarehouse(postgres_uri)
    try:
        create_tables(warehouse)
        fill(warehouse, tables(crowds()[1]))
        create_views(warehouse)
        warehouse.execute(f"CREATE SCHEMA {MODELS}")
        for view in views.VIEWS:
            query = rendered(view, "postgres", "cronofy.", f"{MODELS}.")
            warehouse.execute(f"CREATE VIEW {MODELS}.{view} AS {query}")
        for view in views.PUBLIC_VIEWS:
            own, models = (
                warehouse.query(f"SELECT * FROM {schema}.{view}") for schema in ("cronofy", MODELS)
            )
            assert own
            assert Counter(models) == Counter(own), view
    finally:
        warehouse.close()


def models_described() -> Iterator[tuple[str, dict[str, Any]]]:
    for model in yaml.safe_load(package()["models/_models.yml"])["models"]:
        yield model["name"], model


def test_every_model_is_described_and_every_public_one_has_a_grain() -> None:
    described = dict(models_described())
    assert set(described) == set(VIEW_OF_MODEL)
    for name, model in described.items():
        assert model["description"].startswith("One row")
        assert name not in views.PUBLIC_VIEWS or "cronofy.one_row_per" in model["data_tests"][0]


def test_every_test_is_of_a_column_that_there_is() -> None:
    for name, model in models_described():
        if name not in views.PUBLIC_VIEWS:
            continue
        arguments = model["data_tests"][0]["cronofy.one_row_per"]["arguments"]
        columns = {column["name"] for column in model["columns"]}
        assert {*arguments["columns"], *arguments.get("quoted", [])} <= columns


class CompilerError(Exception):
    """What dbt raises for `exceptions.raise_compiler_error`."""


def run_macro(name: str, variables: dict[str, Any], **names: Any) -> str:
    def fail(message: str) -> None:
        raise CompilerError(message)

    def var(name: str, default: Any = None) -> Any:
        return variables.get(name, default)

    text = (PACKAGE / "macros" / f"{name}.sql").read_text() + f"{{{{ {name}() }}}}"
    exceptions = SimpleNamespace(raise_compiler_error=fail)
    return template_of(text).render(var=var, exceptions=exceptions, **names).strip()


@pytest.mark.parametrize(("seconds", "expected"), [(86_400, "86400000000"), (1.5, "1500000"), (1e-6, "1")])
def test_hold_is_written_in_microseconds(seconds: float, expected: str) -> None:
    assert run_macro("hold_us", {"cronofy_hold_seconds": seconds}) == expected


@pytest.mark.parametrize("seconds", [0, -1, 1e-7, "86400", None])
def test_hold_must_be_a_positive_number(seconds: Any) -> None:
    with pytest.raises(CompilerError, match="must be a positive number"):
        run_macro("hold_us", {"cronofy_hold_seconds": seconds})


def check_schema(schema: str, database: str | None, execute: bool = True, **variables: str) -> str:
    class This(SimpleNamespace):
        def __str__(self) -> str:
            return f"{self.database}.{self.schema}.outages"

    names = {"this": This(schema=schema, database=database), "target": SimpleNamespace(database=database)}
    return run_macro("check_schema", {"cronofy_schema": "cronofy", **variables}, execute=execute, **names)


def test_a_model_does_not_replace_a_view_of_the_load() -> None:
    for database in ("warehouse", None):
        with pytest.raises(CompilerError, match="outages would replace a view of the load"):
            check_schema("Cronofy", database)


def test_a_model_may_be_anywhere_else() -> None:
    assert check_schema("models", "warehouse") == ""
    assert check_schema("cronofy", "warehouse", cronofy_database="raw") == ""
    assert check_schema("cronofy", "warehouse", execute=False) == ""
