"""The dlt pipeline: which warehouse it loads, with which settings, over which working files."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import dlt
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import UnknownDestinationModule

from dlt_cronofy.source.destinations import is_supported, what_to_choose
from dlt_cronofy.source.errors import ConfigurationError

from .dlt_workarounds import (
    MERGES_AT_ONCE,
    catalog_duckdb,
    is_worth_a_line,
    leave_no_telemetry_id,
    look_at_types_once,
    own_staging,
    read_schemas_once,
    resolve_configuration_once,
)
from .lake import check_catalog, shared_lake
from .target import PIPELINE_NAME, Target, bind_files, digest, target_of
from .working_folders import WorkingFolder, configured_base, default_folder, folder_for

DEFAULT_DESTINATION = "duckdb"
DEFAULT_DATASET = "cronofy"
# a file named like its schema cannot be read as `cronofy.polls`
DEFAULT_FILE, EARLIER_FILE = "connections.duckdb", "cronofy.duckdb"

# where dlt looks for credentials of DuckDB
DUCKDB_CREDENTIALS = ("destination.duckdb.credentials", "destination.credentials", "credentials")

# what every DuckDB file has behind a checksum
DUCKDB_MAGIC, DUCKDB_MAGIC_AT = b"DUCK", 8


@dataclass(frozen=True)
class Opening:
    """What a pipeline was opened with, the target that this came to, and its DuckDB file if it has one."""

    destination: str
    dataset: str
    credentials: str | None
    target: Target
    file: Path | None = None


_openings: "WeakKeyDictionary[dlt.Pipeline, Opening]" = WeakKeyDictionary()


def open_pipeline(
    destination: str | None = None,
    dataset: str | None = None,
    credentials: str | None = None,
    pipelines_dir: Path | None = None,
) -> dlt.Pipeline:
    """The dlt pipeline of a destination, dataset and credentials; what is None is as configured.

    Args:
        destination: dlt's name of it.
        dataset: the schema to load into.
        credentials: such as those of the demo's own file.
        pipelines_dir: dlt's working files; a folder within it where packages of another target wait there.

    Raises:
        ConfigurationError: the destination is not supported, or its DuckDB file can be none.
    """
    name, dataset = destination or configured_destination(), dataset or DEFAULT_DATASET
    target = _target(name, dataset, credentials)
    folder = folder_for(target, pipelines_dir) if pipelines_dir else _folder(target)
    pipeline = _open(Opening(name, dataset, credentials, target), folder)
    if (file := duckdb_file(pipeline)) is not None:
        _check_duckdb_file(file, f"destination.{name}.credentials")
    return pipeline


def reopened(pipeline: dlt.Pipeline, folder: WorkingFolder) -> dlt.Pipeline:
    """The same target as that pipeline's, over other working files; dlt takes it for the active one."""
    return _open(_openings[pipeline], folder)


def _open(opening: Opening, folder: WorkingFolder) -> dlt.Pipeline:
    destination = _destination(opening.destination, opening.credentials)
    is_duckdb = isinstance(destination, dlt.destinations.duckdb)
    if not is_duckdb:
        own_staging(destination, folder.path)
    resolve_configuration_once(destination)
    pipeline: dlt.Pipeline = dlt.pipeline(
        PIPELINE_NAME, destination=destination, dataset_name=opening.dataset, pipelines_dir=str(folder.path)
    )
    read_schemas_once(pipeline)
    file = Path(str(pipeline.sql_client().credentials.database)) if is_duckdb else None
    if isinstance(destination, shared_lake):
        check_catalog(pipeline.sql_client().credentials)
    _openings[pipeline] = replace(opening, file=file)
    return pipeline


def pipeline_target(pipeline: dlt.Pipeline) -> Target:
    """What a pipeline of `open_pipeline` loads into."""
    return _openings[pipeline].target


def duckdb_file(pipeline: dlt.Pipeline) -> Path | None:
    """The DuckDB file of a pipeline of `open_pipeline`; None for another warehouse."""
    return _openings[pipeline].file


def location(pipeline: dlt.Pipeline) -> str:
    """Where the data is, for people: the DuckDB file, else the destination's name. Never credentials."""
    path = duckdb_file(pipeline)
    if path is not None:
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return str(pipeline.destination.destination_name) if pipeline.destination else DEFAULT_DESTINATION


def _target(name: str, dataset: str, credentials: str | None = None) -> Target:
    _configure_dlt()
    return target_of(_destination(name, credentials), dataset)


def _destination(name: str, credentials: str | None) -> Destination[Any, Any]:
    target: Destination[Any, Any] | None
    try:
        target = Destination.from_reference(name, credentials=credentials)
    except UnknownDestinationModule:
        raise ConfigurationError(
            f"--destination {name}: dlt knows no such destination; {what_to_choose()}"
        ) from None
    assert target is not None
    if not is_supported(target):
        raise ConfigurationError(f"--destination {name}: {what_to_choose(target)}")
    if type(target) is dlt.destinations.duckdb:
        target = _duckdb(target.destination_name, credentials)
    elif type(target) is dlt.destinations.ducklake:
        named = None if name == "ducklake" else target.destination_name
        target = _lake(named, credentials)
    elif target.capabilities().supports_ddl_transactions:
        target.caps_params |= MERGES_AT_ONCE
    bind_files(target)
    return target


def _lake(name: str | None, credentials: str | None) -> Destination[Any, Any]:
    options: dict[str, Any] = {**MERGES_AT_ONCE}
    if name is not None:
        options["destination_name"] = name
    # dlt resolves a URL as it does elsewhere
    return shared_lake(cast("Any", credentials), **options)


def _duckdb(name: str, credentials: str | None) -> Destination[Any, Any]:
    options: dict[str, Any] = {**MERGES_AT_ONCE}
    if name != DEFAULT_DESTINATION:
        # dlt names the file after a destination that is named, else after the pipeline
        options["destination_name"] = name
    elif credentials is None and not _has_credentials():
        # dlt would remember the folder of the first run for all later ones
        credentials = str(default_file(Path.cwd()))
    if credentials is not None:
        options["credentials"] = credentials
    return catalog_duckdb(**options)


def default_file(folder: Path) -> Path:
    """The DuckDB file of a folder where none is configured; that of an earlier release goes on."""
    new, earlier = folder / DEFAULT_FILE, folder / EARLIER_FILE
    return earlier if earlier.exists() and not new.exists() else new


def _has_credentials() -> bool:
    """Whether a DuckDB file is configured: as one value or as a field, for this pipeline or for all."""
    keys = product(("", f"{PIPELINE_NAME}."), DUCKDB_CREDENTIALS, ("", ".database"))
    return any(dlt.secrets.get("".join(key)) for key in keys)


def _check_duckdb_file(file: Path, setting: str) -> None:
    """Refuse what can never be a DuckDB file; DuckDB says so late, and dlt then names the internet."""
    if str(file).startswith((":", "md:")):
        return  # in memory, or MotherDuck
    if file.is_dir():
        raise ConfigurationError(f"{setting}: {file} is a folder, not a DuckDB file")
    if not file.parent.is_dir():
        raise ConfigurationError(
            f"{setting}: there is no folder {file.parent}; make it, or name another file"
        )
    # one that cannot be read is explained when it is opened
    with suppress(OSError), file.open("rb") as content:
        magic = content.read(DUCKDB_MAGIC_AT + len(DUCKDB_MAGIC))[DUCKDB_MAGIC_AT:]
        # one that was just made is empty, or zeros
        if magic.strip(b"\0") and magic != DUCKDB_MAGIC:
            raise ConfigurationError(f"{setting}: {file} is not a DuckDB file; name another one")


def working_place(destination: str | None = None, dataset: str | None = None, application: str = "") -> Path:
    """The folder of dlt's working files: the configured one, else one for each target.

    Pending packages belong to the target they were polled for, so targets do not share a folder; nor do
    applications that load at the same time.
    """
    target = _target(destination or configured_destination(), dataset or DEFAULT_DATASET)
    return _folder(target, application).path


def _folder(target: Target, application: str = "") -> WorkingFolder:
    base = configured_base()
    if base is None:
        return default_folder(target, digest(application) if application else "")
    return WorkingFolder(base) if application else folder_for(target, base)


def configured_destination() -> str:
    """Dlt's `destination_type` where one is configured, else duckdb."""
    configured: str | None = dlt.config.get("destination_type")
    return configured or DEFAULT_DESTINATION


def _configure_dlt() -> None:
    """Defaults of ours for dlt, which its own configuration overrides."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    if os.environ["RUNTIME__DLTHUB_TELEMETRY"].lower() in ("false", "0", "no"):
        leave_no_telemetry_id()
    look_at_types_once()
    logging.getLogger("dlt").addFilter(is_worth_a_line)
    if dlt.config.get("load.delete_completed_jobs") is None:
        # loaded packages hold what people's tables hold; they are not kept on disk
        dlt.config["load.delete_completed_jobs"] = True
