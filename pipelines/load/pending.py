"""Pending packages: what an earlier run had polled and not loaded when it ended."""

import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import dlt
import pyarrow as pa
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
from dlt_cronofy.warehouse.pipeline import duckdb_file
from dlt_cronofy.warehouse.working_folders import EXTRACTED, NORMALIZED, QUARANTINE

from .other_folders import pending_elsewhere
from .overtaken import PendingRows

logger = logging.getLogger("dlt_cronofy")


@configspec
class FailedJobs(BaseConfiguration):
    """What dlt is configured to do with a package of which a job failed; all else would give it up."""

    raise_on_failed_jobs: bool = True
    auto_abort_on_terminal_error: bool = False


@dataclass
class Settled:
    """What became of the pending packages: finished, or set aside in folders; and of which runs they were."""

    finished: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    run_ids: set[str] = field(default_factory=set)

    def add(self, other: "Settled") -> None:
        """What became of packages of another folder."""
        self.finished += other.finished
        self.quarantined += other.quarantined
        self.run_ids |= other.run_ids


def settle_pending(
    pipeline: dlt.Pipeline, alone: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Settled:
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
    settled = _settle_packages(pipeline, alone)
    with closing(pending_elsewhere(pipeline)) as found:
        for other in found:
            settled.add(_settle_packages(other, alone))
    return settled


def _refuse_to_lose() -> None:
    configured = resolve_configuration(FailedJobs(), sections=(known_sections.LOAD,))
    for name, needed in (("raise_on_failed_jobs", True), ("auto_abort_on_terminal_error", False)):
        if getattr(configured, name) is not needed:
            raise ConfigurationError(
                f"{name} in [load] of dlt's configuration gives up what a warehouse refuses once: remove it"
            )


def _settle_packages(pipeline: dlt.Pipeline, alone: Callable[[], AbstractContextManager[object]]) -> Settled:
    settled = Settled()
    drop_unfinished_files(Path(pipeline.working_dir))
    if not pipeline.has_pending_data:
        return settled
    drop_normalized_twins(pipeline)
    learn_extracted_columns(pipeline)
    packages = [*pipeline.list_normalized_load_packages(), *pipeline.list_extracted_load_packages()]
    logger.warning(
        "finishing %d package(s) an earlier run left behind: %s", len(packages), ", ".join(packages)
    )
    broken = _unreadable_file(pipeline)
    if broken is not None:
        _set_aside(pipeline, settled, f"{broken.name} cannot be read")
        return settled
    try:
        with alone(), writer(pipeline):
            waiting = PendingRows.of(pipeline)
            settled.run_ids |= waiting.run_ids
            _reopen(pipeline, waiting.run_ids)
            if waiting.are_overtaken(pipeline):
                logger.warning("newer polls were loaded meanwhile: these are only logged")
                waiting.log_as_late(pipeline)
            if pipeline.list_extracted_load_packages():
                pipeline.normalize()
            load_normalized(pipeline)
        settled.finished = packages
    except PipelineStepFailed as error:
        if not is_terminal(error):
            raise
        _set_aside(pipeline, settled, type(root_cause(error)).__name__)
    return settled


def _reopen(pipeline: dlt.Pipeline, run_ids: set[str]) -> None:
    """Have the runs healed by the next load, should this one be killed while their rows are written."""
    with sql_client(pipeline) as client:
        rebuild.reopen_runs(client, run_ids)


def _unreadable_file(pipeline: dlt.Pipeline) -> Path | None:
    """A file of a normalized package that no warehouse can load; the errors for it differ by warehouse."""
    from pyarrow.parquet import read_metadata

    for file in sorted((Path(pipeline.working_dir) / NORMALIZED).glob("*/*_jobs/*.parquet")):
        try:
            read_metadata(file)
        except (pa.ArrowException, OSError):
            return file
    return None


def _set_aside(pipeline: dlt.Pipeline, settled: Settled, reason: str) -> None:
    """Copy all pending packages to the quarantine and take them out of dlt's way."""
    working_dir = Path(pipeline.working_dir)
    for stage in (NORMALIZED, EXTRACTED):
        for package in sorted((working_dir / stage).glob("*")):
            target = working_dir / QUARANTINE / package.name
            shutil.copytree(package, target, dirs_exist_ok=True)
            settled.quarantined.append(str(target))
    pipeline.abort_packages()
    logger.error(
        "a package of an earlier run can never be loaded (%s); its files are kept in %s. "
        "What they say is polled again, the polls themselves are in those files only",
        reason,
        ", ".join(settled.quarantined),
    )
