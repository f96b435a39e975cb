"""The notebook: runs headless on both warehouses, with every filter, and on warehouses without history."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import urlopen

import nbformat
import pytest
from marimo import as_html

from dlt_cronofy.report.charts import Drawn
from dlt_cronofy.report.figures import Scope
from dlt_cronofy.report.frames import Read
from dlt_cronofy.report.jupyter import export_executed
from tests.pipelines.report.browser import running_browser
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
    "a search": ("postgres", Scope(search="Adatum")),
    "a period": ("duckdb", Scope(first_day=date(2026, 1, 10), last_day=date(2026, 1, 12))),
    "a day without a poll": ("postgres", Scope(first_day=date(2026, 1, 30), last_day=date(2026, 1, 30))),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("engine", "scope"), FILTERS.values(), ids=FILTERS)
def test_it_shows_every_part(scope: Scope, notebook: ModuleType, warehouse: str) -> None:
    shown = shown_by(notebook, scope=scope)
    assert warehouse in shown
    for heading in ("Who needs action", "Connectivity over time", "Unstable connections", "How polling went"):
        assert heading in shown
    assert shown.count("https://vega.github.io/schema/vega-lite") >= 5


@pytest.mark.long
@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_every_open_outage_is_listed_where_nobody_can_turn_pages(
    notebook: ModuleType, warehouse: str, demo_read: Read
) -> None:
    assert warehouse
    shown = shown_by(notebook)
    open_outages = demo_read("SELECT email, profile_id FROM needs_relink")
    assert len(open_outages) > 15
    assert [profile for profile in open_outages["profile_id"] if profile not in shown] == []
    assert "marimo-table" not in shown


@pytest.mark.long
@pytest.mark.parametrize("engine", ["duckdb"])
def test_tables_of_the_app_can_be_sorted_and_searched(
    notebook: ModuleType, warehouse: str, demo_read: Read
) -> None:
    assert warehouse
    shown = shown_by(notebook, interactive=True, width=290)
    # the worklist, the outages, tokens that cannot be read, and unstable connections, if there are any
    unstable = not demo_read("SELECT profile_id FROM flapping_profiles").empty
    assert shown.count("<marimo-table") == 3 + unstable
    assert '"width": "container"' in shown


@pytest.mark.long
@pytest.mark.parametrize("engine", ["duckdb"])
def test_a_search_shows_the_outages_of_whom_it_finds(
    notebook: ModuleType, warehouse: str, demo_read: Read
) -> None:
    assert warehouse
    row = demo_read(
        "SELECT account_id, name FROM needs_relink WHERE name IS NOT NULL ORDER BY account_id"
    ).iloc[0]
    outputs, _ = notebook.app.run(defs={"scope": Scope(search=row["name"].upper())})
    tables = [as_html(output).text for output in outputs if "<table" in as_html(output).text]
    assert all(row["account_id"] in table for table in tables[:2]), "the worklist and the outages"
    assert all(set(re.findall("acc_[0-9a-f]+", table)) == {row["account_id"]} for table in tables[:2])


@pytest.mark.long
@pytest.mark.parametrize("engine", ["duckdb"])
def test_a_phone_in_the_dark_finds_somebody(warehouse: str, demo_read: Read, tmp_path: Path) -> None:
    """Nothing is wider than the screen, and a search by e-mail address leaves one person's rows."""
    assert warehouse
    email = demo_read("SELECT email FROM needs_relink WHERE email IS NOT NULL ORDER BY email")["email"][0]
    command = [sys.executable, "-m", "marimo", "run", str(NOTEBOOK), "--headless", "--no-token"]
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "DLT_DATA_DIR": str(tmp_path / "dlt")}
    with (
        subprocess.Popen([*command, "--port", str(port)], cwd=tmp_path, env=environment) as server,
        running_browser() as browser,
    ):
        try:
            page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="dark")
            page.goto(_served(f"http://127.0.0.1:{port}"))
            page.get_by_role("heading", name="How polling went").wait_for(timeout=60_000)
            page.locator("marimo-table").nth(2).wait_for(state="attached", timeout=60_000)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
            assert int(red) < 64, "dark"
            field = page.get_by_placeholder("e-mail, name or customer")
            field.fill(email)
            field.press("Enter")
            page.get_by_text("1 row,").first.wait_for(timeout=20_000)
            assert page.get_by_text(email).count() > 0
        finally:
            server.terminate()


def _served(url: str) -> str:
    """The address, once it answers."""
    for _ in range(100):
        with suppress(OSError), urlopen(url):
            return url
        time.sleep(0.2)
    pytest.fail(f"{url} does not answer")


@pytest.mark.long
@pytest.mark.parametrize("engine", ["duckdb"])
def test_an_account_without_a_profile_is_said_to_have_none(notebook: ModuleType, warehouse: str) -> None:
    assert warehouse
    shown = shown_by(notebook, scope=Scope(search="it's nobody's"))
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
    demo_file: Path, demo_read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(demo_file))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    output = tmp_path / "connection_health.ipynb"
    export_executed(NOTEBOOK, output)
    document = nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(document)
    outputs = [shown for cell in document.cells for shown in cell.get("outputs", [])]
    assert not [shown for shown in outputs if shown["output_type"] == "error"]
    tables = "".join(str(shown.get("data", {}).get("text/html", "")) for shown in outputs)
    assert all(
        profile in tables for profile in demo_read("SELECT profile_id FROM needs_relink")["profile_id"]
    )
    assert "marimo-table" not in tables
    assert sum("image/png" in shown.get("data", {}) for shown in outputs) >= 6
    assert sum(cell.cell_type == "markdown" for cell in document.cells) >= 6
