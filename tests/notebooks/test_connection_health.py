"""The notebook: runs headless on both warehouses, with every filter, and on warehouses without history."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from marimo import as_html

from dlt_cronofy.report.charts import Drawn
from dlt_cronofy.report.figures import Scope
from dlt_cronofy.report.jupyter import export_executed
from tests.pipelines.report.conftest import FAILED_POLL
from tests.pipelines.views.warehouse import Row
from tests.postgres import credentials

pytestmark = pytest.mark.timeout(300)

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "connection_health.py"


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The notebook as a module, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    spec = importlib.util.spec_from_file_location("connection_health", NOTEBOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown_by(notebook: ModuleType, **definitions: Any) -> str:
    """What all cells show, as text."""
    outputs, _ = notebook.app.run(defs=definitions)
    return "\n".join(
        json.dumps(output.to_dict()) if isinstance(output, Drawn) else as_html(output).text
        for output in outputs
        if output is not None
    )


@pytest.fixture
def warehouse(engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The demo's data on an engine, and what the notebook calls that place."""
    monkeypatch.setenv("DESTINATION_TYPE", engine)
    if engine == "duckdb":
        database = request.getfixturevalue("demo_file")
        monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(database))
        return str(database)
    request.getfixturevalue("postgres_pipeline")
    uri = credentials(request.getfixturevalue("postgres_uri"))
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", uri)
    return "From postgres, dataset cronofy"


# the frames are the same on both engines (report/test_figures.py), so one of them sees all filters
FILTERS = {
    "all": ("duckdb", Scope()),
    "all, on postgres": ("postgres", Scope()),
    "a provider": ("duckdb", Scope(provider="office365")),
    "conferencing": ("duckdb", Scope(provider="zoom")),
    "a period": ("duckdb", Scope(first_day=date(2026, 1, 10), last_day=date(2026, 1, 12))),
    "a day without a poll": ("postgres", Scope(first_day=date(2026, 1, 30), last_day=date(2026, 1, 30))),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("engine", "scope"), FILTERS.values(), ids=FILTERS)
def test_it_shows_every_part(scope: Scope, notebook: ModuleType, warehouse: str) -> None:
    shown = shown_by(notebook, scope=scope)
    assert warehouse in shown
    for heading in ("Connectivity over time", "Open outages", "Unstable connections", "How polling went"):
        assert heading in shown
    assert shown.count("https://vega.github.io/schema/vega-lite") >= 5


@pytest.mark.parametrize("engine", ["duckdb"])
def test_an_account_without_a_profile_is_said_to_have_none(notebook: ModuleType, warehouse: str) -> None:
    assert warehouse
    shown = shown_by(notebook, scope=Scope(account_id="it's nobody's"))
    assert "No profile was seen in this part of the history" in shown


def test_without_a_warehouse_it_says_so(notebook: ModuleType) -> None:
    assert "connections.duckdb holds no data yet" in shown_by(notebook)


@pytest.mark.parametrize(
    ("polls", "expected"),
    [([], "Nothing was polled yet"), ([FAILED_POLL], "No profile was seen in this part of the history")],
    ids=["no poll", "a failed poll"],
)
def test_a_warehouse_without_history_is_no_error(
    polls: list[Row],
    expected: str,
    notebook: ModuleType,
    warehouse_with: Callable[[list[Row]], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(warehouse_with(polls)))
    assert expected in shown_by(notebook)


def test_marimo_finds_nothing_to_complain_about() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", str(NOTEBOOK)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.long
def test_jupyter_gets_it_executed_with_pictures(
    demo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(demo_file))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    output = tmp_path / "connection_health.ipynb"
    export_executed(NOTEBOOK, output)
    document = nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(document)
    outputs = [shown for cell in document.cells for shown in cell.get("outputs", [])]
    assert not [shown for shown in outputs if shown["output_type"] == "error"]
    assert sum("image/png" in shown.get("data", {}) for shown in outputs) >= 6
    assert sum(cell.cell_type == "markdown" for cell in document.cells) >= 6
