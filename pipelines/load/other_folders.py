"""Packages that wait for a warehouse in other working folders of the same user.

A run may have had another `pipelines_dir`, or an older release, which named a folder after where one stood.
"""

import logging
from collections.abc import Generator
from functools import cache
from pathlib import Path

import dlt

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.state import LOADS
from dlt_cronofy.warehouse.dataset import loaded_dataset, read
from dlt_cronofy.warehouse.locks import WarehouseBusy, sole_user
from dlt_cronofy.warehouse.pipeline import pipeline_target, reopened
from dlt_cronofy.warehouse.target import Target
from dlt_cronofy.warehouse.working_folders import LOADED, LOCK, WorkingFolder, other_folders

logger = logging.getLogger("dlt_cronofy")


def pending_elsewhere(pipeline: dlt.Pipeline) -> Generator[dlt.Pipeline]:
    """Pipelines over other folders with packages for the same target, one after the other.

    Each folder is kept from loads until the next one is asked for. What waits and is not known to be the
    target's is left where it is, and a warning names it.
    """
    target = pipeline_target(pipeline)
    folders, unreadable = other_folders(WorkingFolder(Path(pipeline.pipelines_dir)))
    for place in unreadable:
        logger.warning("%s cannot be read; packages may wait there", place)
    for folder in folders:
        # what a load in shards leaves comes again from the handoff
        if folder.is_of_shards:
            continue
        try:
            if folder.pending() and _is_asked(folder, target):
                yield from _held(pipeline, folder, target)
        except OSError as error:
            logger.warning(
                "packages in %s are not loaded: %s",
                folder.working_dir,
                error.strerror or type(error).__name__,
            )
        finally:
            pipeline.activate()


def _is_asked(folder: WorkingFolder, target: Target) -> bool:
    """Whether the packages may be the target's; warns where they are of one that is gone."""
    owner = folder.owner()
    if owner is None or owner == target:
        return True
    if owner.is_gone():
        _warn(folder, f"they are for {owner}, and that file is not there")
    elif (owner.location, owner.dataset) == (target.location, target.dataset):
        _warn(folder, f"they are for {owner}, of another account or by another access token")
    return False


def _held(pipeline: dlt.Pipeline, folder: WorkingFolder, target: Target) -> Generator[dlt.Pipeline]:
    if not (folder.path / LOCK).exists():
        _warn(folder, "another program made them")
        return
    try:
        with sole_user(folder):
            if not folder.pending():
                return  # another load was faster
            if not folder.is_of(target):
                if not _has_loaded_all(pipeline, folder):
                    _warn(folder, "it is not known which warehouse they are for")
                    return
                folder.give_to(target)
            yield reopened(pipeline, folder)
    except WarehouseBusy:
        _warn(folder, "a load is running there")


def _warn(folder: WorkingFolder, why: str) -> None:
    _warn_once(len(folder.pending()), folder.working_dir, why)


@cache
def _warn_once(packages: int, working_dir: Path, why: str) -> None:
    """Say it once in a process, however many loads that makes."""
    logger.warning("%d package(s) in %s are not loaded: %s", packages, working_dir, why)


def _has_loaded_all(pipeline: dlt.Pipeline, folder: WorkingFolder) -> bool:
    """Whether all packages that were loaded from the folder, by dlt's records, are in this warehouse."""
    records = [path.name for path in sorted((folder.working_dir / LOADED).glob("*"))]
    if not records:
        return False
    marks = ", ".join(["%s"] * len(records))
    try:
        with loaded_dataset(pipeline) as client:
            sql = f"SELECT COUNT(*) AS found FROM {{{LOADS}}} WHERE load_id IN ({marks})"  # noqa: S608 - dlt's own
            rows = read(client, sql, *records)
    except ConfigurationError:
        return False
    return bool(rows[0]["found"] == len(records))
