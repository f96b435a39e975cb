"""The package: committed as it is generated (`UPDATE_DOCS=1` generates it), in every dialect our views."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml  # type: ignore[import-untyped]

from dlt_cronofy import views
from docs.generators.dbt_package import PACKAGE, dbt_package, model_name, write_dbt_package
from tests.pipelines.views.test_rendering import DATASETS

VIEW_OF_MODEL = {model_name(view): view for view in views.VIEWS}
# whose macros dbt takes where an adapter has none of its own
PARENTS = {"redshift": "postgres", "databricks": "spark"}
# not in whole seconds, which our own views would write as such
HOLD_SECONDS = 86_400.000_001


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    return dbt_package()


def committed() -> dict[str, str]:
    files = [path for path in (PACKAGE / "models").rglob("*") if path.is_file()]
    files.append(PACKAGE / "macros" / "idioms.sql")
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_the_committed_package_is_up_to_date(package: dict[str, str]) -> None:
    if os.environ.get("UPDATE_DOCS"):
        write_dbt_package(PACKAGE)
    assert committed() == package


def test_writing_removes_models_that_are_no_longer_generated(tmp_path: Path, package: dict[str, str]) -> None:
    by_hand = tmp_path / "macros" / "hold.sql"
    for path in (tmp_path / "models" / "internal" / "of_old.sql", by_hand):
        path.parent.mkdir(parents=True)
        path.write_text("SELECT 1")
    write_dbt_package(tmp_path)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {*package, "macros/hold.sql"}


class CompilerError(Exception):
    """What dbt raises for `exceptions.raise_compiler_error`."""


def environment(dialect: str, variables: dict[str, Any], **names: Any) -> jinja2.Environment:
    """Templates that find the package's macros, and of dbt's own names those that it uses."""

    def fail(message: str) -> None:
        raise CompilerError(message)

    def dispatch(name: str, package: str) -> Callable[..., str]:
        prefixes = (dialect, PARENTS.get(dialect), "default")
        found = (getattr(cronofy, f"{prefix}__{name}", None) for prefix in prefixes)
        macro: Callable[..., str] = next(filter(None, found))
        return macro

    cronofy = SimpleNamespace()
    found = jinja2.Environment(undefined=jinja2.StrictUndefined)
    found.globals |= names | {
        "cronofy": cronofy,
        "adapter": SimpleNamespace(dispatch=dispatch),
        "exceptions": SimpleNamespace(raise_compiler_error=fail),
        "var": lambda name, default=None: variables.get(name, default),
    }
    for path in (PACKAGE / "macros").glob("*.sql"):
        vars(cronofy).update(vars(found.from_string(path.read_text()).module))
    return found


@pytest.mark.parametrize("dialect", DATASETS)
def test_a_model_is_the_text_of_our_own_view(dialect: str, package: dict[str, str]) -> None:
    # in DuckDB our own views read bare names
    prefix = "" if dialect == "duckdb" else f"{DATASETS[dialect]}."
    dbt = environment(
        dialect,
        {"cronofy_hold_seconds": HOLD_SECONDS},
        ref=lambda package, model: f"{prefix}{VIEW_OF_MODEL[model]}",
        source=lambda name, table: f"{prefix}{table}",
    )
    for model, view in VIEW_OF_MODEL.items():
        folder = "models" if view in views.PUBLIC_VIEWS else "models/internal"
        text = dbt.from_string(package[f"{folder}/{model}.sql"]).render()
        assert text.strip() == views.render(view, dialect, HOLD_SECONDS, DATASETS[dialect]).strip()


def models_described(package: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for model in yaml.safe_load(package["models/_models.yml"])["models"]:
        yield model["name"], model


def test_every_model_is_described_and_every_public_one_has_a_grain(package: dict[str, str]) -> None:
    described = dict(models_described(package))
    assert set(described) == set(VIEW_OF_MODEL)
    for name, model in described.items():
        assert model["description"].startswith("One row")
        assert name not in views.PUBLIC_VIEWS or "cronofy.one_row_per" in model["data_tests"][0]


def test_every_grain_is_of_columns_that_there_are(package: dict[str, str]) -> None:
    for name, model in models_described(package):
        if name not in views.PUBLIC_VIEWS:
            continue
        arguments = model["data_tests"][0]["cronofy.one_row_per"]["arguments"]
        assert {*arguments["columns"]} <= {column["name"] for column in model["columns"]}


def hold(seconds: Any) -> str:
    return (
        environment("postgres", {"cronofy_hold_seconds": seconds})
        .from_string("{{ cronofy.plus_hold('read_at') }}")
        .render()
    )


@pytest.mark.parametrize(("seconds", "expected"), [(86_400, 86_400_000_000), (1.5, 1_500_000), (1e-6, 1)])
def test_hold_is_written_in_microseconds(seconds: float, expected: int) -> None:
    assert hold(seconds) == f"read_at + INTERVAL '{expected} microsecond'"


@pytest.mark.parametrize("seconds", [0, -1, 1e-7, "86400", None])
def test_hold_must_be_a_positive_number(seconds: Any) -> None:
    with pytest.raises(CompilerError, match="must be a positive number"):
        hold(seconds)


def check_schema(schema: str, database: str | None, execute: bool = True, **variables: str) -> str:
    class This(SimpleNamespace):
        def __str__(self) -> str:
            return f"{self.database}.{self.schema}.outages"

    names = {"this": This(schema=schema, database=database), "target": SimpleNamespace(database=database)}
    dbt = environment("duckdb", {"cronofy_schema": "cronofy", **variables}, execute=execute, **names)
    return dbt.from_string("{{ cronofy.check_schema() }}").render().strip()


def test_a_model_does_not_replace_a_view_of_the_load() -> None:
    for database in ("warehouse", None):
        with pytest.raises(CompilerError, match="outages would replace a view of the load"):
            check_schema("Cronofy", database)


def test_a_model_may_be_anywhere_else() -> None:
    assert check_schema("models", "warehouse") == ""
    assert check_schema("cronofy", "warehouse", cronofy_database="raw") == ""
    assert check_schema("cronofy", "warehouse", execute=False) == ""
