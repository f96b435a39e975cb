"""Pending packages: what an earlier run had polled and not loaded when it ended."""

import logging
import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import dlt
from dlt.common.configuration import configspec, known_sections
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration
from dlt.pipeline.exceptions import PipelineStepFailed

from dlt_cronofy import rebuild
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.warehouse.dataset import sql_client, writer
from dlt_cronofy.warehouse.dlt_workarounds import (
    drop_normalized_twins,
    drop_unfinished_files,
    learn_extracted_columns,
    load_normalized,
)
from dlt_cronofy.warehouse.duckdb_file import tidy
from dlt_cronofy.warehouse.failures import is_terminal, root_cause
from dlt_cronofy.warehouse.locks import WarehouseBusy, sole_user
from dlt_cronofy.warehouse.pipeline import duckdb_file, pipeline_target, reopened
from dlt_cronofy.warehouse.target import Target
from dlt_cronofy.warehouse.working_folders import LOCK, NORMALIZED, QUARANTINE, WorkingFolder, other_folders

if TYPE_CHECKING:
    from .overtaken import PendingRows

logger = logging.getLogger("dlt_cronofy")

Alone = Callable[[], AbstractContextManager[object]]


@configspec
class FailedJobs(BaseConfiguration):
    """What dlt is configured to do with a package of which a job failed; all else would give it up."""

    raise_on_failed_jobs: bool = True
    auto_abort_on_terminal_error: bool = False


@dataclass
class Settled:
    """What became of the pending packages, and of which runs they were."""

    finished: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)  # the folders where they are now
    run_ids: set[str] = field(default_factory=set)


def settle_pending(pipeline: dlt.Pipeline, alone: Alone = nullcontext) -> Settled:
    """Load what an earlier run left behind, so that new polls can be loaded after it.

    dlt loads pending packages before anything else and extracts nothing until they are gone. A package
    that fails for a passing reason stays, and the load fails; so does one that the warehouse takes once a
    right is granted or a constraint dropped. One that can never be loaded is copied to the folder
    `quarantine` of the working directory and taken out of the way, loudly. What waits in other working
    folders for the same warehouse is loaded too. Where newer polls were loaded meanwhile, those that wait are
    logged and tell nothing else.

    Args:
        pipeline: Whose packages they are.
        alone: Entered while they are written, to keep other writers out.

    Raises:
        PipelineStepFailed: the destination refused or was out of reach; everything is kept.
        ConfigurationError: dlt is configured to throw away what fails.
    """
    _refuse_to_lose()
    file = duckdb_file(pipeline)
    if file is not None:
        tidy(file)
    settled = Settled()
    _settle_packages(pipeline, alone, settled)
    with closing(_pending_elsewhere(pipeline)) as found:
        for other in found:
            _settle_packages(other, alone, settled)
    return settled


def _refuse_to_lose() -> None:
    configured = resolve_configuration(FailedJobs(), sections=(known_sections.LOAD,))
    for name, needed in (("raise_on_failed_jobs", True), ("auto_abort_on_terminal_error", False)):
        if getattr(configured, name) is not needed:
            raise ConfigurationError(
                f"{name} in [load] of dlt's configuration gives up what a warehouse refuses once: remove it"
            )


def _settle_packages(pipeline: dlt.Pipeline, alone: Alone, settled: Settled) -> None:
    drop_unfinished_files(Path(pipeline.working_dir))
    if not pipeline.has_pending_data:
        return
    from .overtaken import PendingRows

    drop_normalized_twins(pipeline)
    learn_extracted_columns(pipeline)
    packages = [*pipeline.list_normalized_load_packages(), *pipeline.list_extracted_load_packages()]
    logger.warning(
        "finishing %d package(s) an earlier run left behind: %s", len(packages), ", ".join(packages)
    )
    broken = _unreadable_file(pipeline)
    if broken is not None:
        settled.quarantined += _set_aside(pipeline, f"{broken.name} cannot be read")
        return
    try:
        with alone(), writer(pipeline):
            waiting = PendingRows(pipeline)
            settled.run_ids |= waiting.run_ids
            _load(pipeline, waiting)
        settled.finished += packages
    except PipelineStepFailed as error:
        if not is_terminal(error):
            raise
        settled.quarantined += _set_aside(pipeline, type(root_cause(error)).__name__)


def _load(pipeline: dlt.Pipeline, waiting: "PendingRows") -> None:
    with sql_client(pipeline) as client:
        # so that the next load heals them, should this one be killed while their rows are written
        rebuild.reopen_runs(client, waiting.run_ids)
    if waiting.are_overtaken():
        logger.warning("newer polls were loaded meanwhile: these are only logged")
        waiting.log_as_late()
    if pipeline.list_extracted_load_packages():
        pipeline.normalize()
    load_normalized(pipeline)


def _unreadable_file(pipeline: dlt.Pipeline) -> Path | None:
    """A file of a normalized package that no warehouse can load; the errors for it differ by warehouse."""
    import pyarrow as pa
    from pyarrow.parquet import read_metadata

    for file in sorted((Path(pipeline.working_dir) / NORMALIZED).glob("*/*_jobs/*.parquet")):
        try:
            read_metadata(file)
        except (pa.ArrowException, OSError):
            return file
    return None


def _set_aside(pipeline: dlt.Pipeline, reason: str) -> list[str]:
    """Copy all pending packages to the quarantine and take them out of dlt's way; returns where they are."""
    folder = WorkingFolder(Path(pipeline.pipelines_dir))
    quarantined = []
    for package in folder.pending():
        target = folder.working_dir / QUARANTINE / package.name
        shutil.copytree(package, target, dirs_exist_ok=True)
        quarantined.append(str(target))
    pipeline.abort_packages()
    logger.error(
        "a package of an earlier run can never be loaded (%s); its files are kept in %s. "
        "What they say is polled again, the polls themselves are in those files only",
        reason,
        ", ".join(quarantined),
    )
    return quarantined


def _pending_elsewhere(pipeline: dlt.Pipeline) -> Generator[dlt.Pipeline]:
    """Pipelines over other folders of this user with packages for the same target, one after the other.

    A run may have had another `pipelines_dir`. Each folder is kept from loads until the next one is asked
    for. What waits and is not known to be the target's is left where it is, and a warning names it.
    """
    target = pipeline_target(pipeline)
    folders, unreadable = other_folders(WorkingFolder(Path(pipeline.pipelines_dir)))
    for place in unreadable:
        logger.warning("%s cannot be read; packages may wait there", place)
    for folder in folders:
        try:
            # what a load in shards leaves comes again from the handoff
            if not folder.is_of_shards and folder.pending():
                yield from _reopened(pipeline, folder, target)
        except WarehouseBusy:
            _warn(folder, "a load is running there")
        except OSError as error:
            why = error.strerror or type(error).__name__
            logger.warning("packages in %s are not loaded: %s", folder.working_dir, why)
        finally:
            pipeline.activate()


def _reopened(pipeline: dlt.Pipeline, folder: WorkingFolder, target: Target) -> Generator[dlt.Pipeline]:
    if why := _why_left(folder, target):
        _warn(folder, why)
    elif folder.is_of(target):
        with sole_user(folder):
            if folder.pending():  # no other load was faster
                yield reopened(pipeline, folder)


def _why_left(folder: WorkingFolder, target: Target) -> str | None:
    """What to say of packages that may be the target's and are not loaded; None of others."""
    owner = folder.owner()
    if owner is not None and owner != target:
        if owner.is_gone():
            return f"they are for {owner}, and that file is not there"
        is_alike = (owner.location, owner.dataset) == (target.location, target.dataset)
        return f"they are for {owner}, of another account or by another access token" if is_alike else None
    if not (folder.path / LOCK).exists():
        return "another program made them"
    return None if folder.is_of(target) else "it is not known which warehouse they are for"


def _warn(folder: WorkingFolder, why: str) -> None:
    _warn_once(len(folder.pending()), folder.working_dir, why)


@cache
def _warn_once(packages: int, working_dir: Path, why: str) -> None:
    """Say it once in a process, however many loads that makes."""
    logger.warning("%d package(s) in %s are not loaded: %s", packages, working_dir, why)
