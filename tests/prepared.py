"""A DuckDB warehouse with all tables and views and no row, made once a run, because that takes long."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import fasteners

from dlt_cronofy.load.maintenance import Upkeep
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.warehouse.dataset import refresh_views
from dlt_cronofy.warehouse.locks import turn
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.postgres import FOLDER


def prepare(database: Path) -> None:
    """Put it there, unless there is a file already; dlt's working files are missing, as on a new machine."""
    if not database.exists():
        shutil.copyfile(_prepared(), database)


@cache
def _prepared() -> Path:
    folder = Path(os.environ[FOLDER])
    prepared = folder / "prepared.duckdb"
    with fasteners.InterProcessLock(folder / "prepared.lock"):
        if not prepared.exists():
            with tempfile.TemporaryDirectory(dir=folder) as making:
                _make(Path(making) / prepared.name, Path(making))
                (Path(making) / prepared.name).rename(prepared)
    return prepared


def _make(database: Path, working_files: Path) -> None:
    pipeline = open_pipeline("duckdb", credentials=str(database), pipelines_dir=working_files / "pipelines")
    settings = PollingSettings()
    Upkeep(pipeline, settings, SystemClock(), lambda: turn(pipeline)).prepare()
    refresh_views(pipeline, settings.hold.total_seconds())
